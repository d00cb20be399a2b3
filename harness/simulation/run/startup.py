"""The target's start-up: a run begins only after a first client has joined.

A server may open its port before it can serve clients. Without this wait, the latencies of the
first clients would include the rest of the server's start.
"""

from __future__ import annotations

import asyncio
import time

from harness.clients.client import Clock, Log
from harness.clients.room import Room
from harness.errors import Undecided, Violation
from harness.probe.framing import require_lines
from harness.profile import Profile
from harness.target.target import Target


def await_first_client(target: Target, profile: Profile, scale: float) -> float | None:
    """Have a client join and leave again. Return the seconds that the join took.

    The client has joined when it has received the welcome. If the profile has no welcome, it has
    joined when another client receives its line. Return None if it does not join in time; the run
    itself will show the cause. `scale`: factor of the timeouts. Raise CannotJudge if this machine
    lacks a resource, or if the server's messages are not lines.
    """
    took = asyncio.run(_first_client(target, profile, Clock(scale)))
    if took is None:
        require_lines(target, profile, scale)
    return took


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
