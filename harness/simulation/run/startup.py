"""The target's start-up: a run begins when a first client is in.

A server may open its port before it serves. Its first clients would then measure its start.
"""

from __future__ import annotations

import asyncio
import time

from harness.clients.client import Clock, Log
from harness.clients.room import Room
from harness.errors import Undecided, Violation
from harness.profile import Profile
from harness.target.target import Target


def await_first_client(target: Target, profile: Profile, scale: float) -> float | None:
    """Have a client join, and leave again. Return the seconds from its connection until it was in.

    It is in when it has received the welcome or, without a welcome, when another client receives
    its line. Return None if this does not happen in time: the run will show why. `scale`
    multiplies the timeouts. Raise CannotJudge if the harness lacks a resource.
    """
    return asyncio.run(_first_client(target, profile, Clock(scale)))


async def _first_client(target: Target, profile: Profile, clock: Clock) -> float | None:
    room = Room(target, profile, clock, Log())
    clients = []
    began = time.monotonic()
    try:
        for _ in range(2 if profile.welcome is None else 1):
            clients.append(await room.connect())
            await clients[-1].log_in()
        if profile.welcome is None:
            await room.greet(clients[1], clients[0])
        elif not await room.welcomed(clients[0]):
            return None
        return time.monotonic() - began
    except (Undecided, Violation):
        return None
    finally:
        for client in clients:
            client.close()
