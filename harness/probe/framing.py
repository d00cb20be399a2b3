"""Refuse a server that frames messages by their length: the harness can't judge it, because the
clients of the harness send lines."""

from __future__ import annotations

import asyncio
import contextlib
import struct
from collections.abc import Callable

from harness.clients.client import Client, Clock, Log
from harness.clients.room import Room
from harness.errors import CannotJudge, Undecided, Violation
from harness.profile import Profile
from harness.target.target import Target

MOST_OUTPUT = 1 << 16
"""Maximum number of bytes that a client may receive while no client sends."""

LENGTH_FRAMES: dict[str, Callable[[bytes], bytes]] = {
    "4 bytes, big-endian": lambda text: struct.pack("!I", len(text)) + text,
    "4 bytes, little-endian": lambda text: struct.pack("<I", len(text)) + text,
    "2 bytes, big-endian": lambda text: struct.pack("!H", len(text)) + text,
    "1 byte": lambda text: struct.pack("B", len(text)) + text,
    "10 decimal digits": lambda text: b"%-10d" % len(text) + text,
    "64 decimal digits": lambda text: b"%-64d" % len(text) + text,
}
"""Framings in which the length of a message precedes the message. The last two, padded with spaces,
are from tutorials."""


def require_lines(target: Target, profile: Profile, scale: float) -> None:
    """Raise CannotJudge if the server frames messages by their length.

    Two clients join as the profile says. If one receives a line of the other, the server reads
    lines. Otherwise, clients try the framings by length; after that, the server is restarted if the
    harness can do this. scale: factor of the timeouts.
    """
    asyncio.run(_require_lines(Room(target, profile, Clock(scale), Log())))


async def _require_lines(room: Room) -> None:
    if await _reads_lines(room) or room.target.death():
        return
    with contextlib.suppress(Undecided):
        await refuse_length_framing(room)
    room.target.fresh()


async def _reads_lines(room: Room) -> bool:
    """Return whether a client receives a line of another, or data without end."""
    clients: list[Client] = []
    try:
        for _ in range(2):
            clients.append(await _connect(room))
            await clients[-1].log_in()
        await room.greet(clients[1], clients[0])
        return True
    except (Undecided, Violation):
        return any(len(client.heard) > MOST_OUTPUT for client in clients)
    finally:
        for client in clients:
            client.close()


async def refuse_length_framing(room: Room) -> None:
    """Try the framings by length. Raise CannotJudge if a client receives the message of another."""
    for kind, frame in LENGTH_FRAMES.items():
        if await _is_heard(room, frame):
            raise CannotJudge(
                f"the server frames messages by their length ({kind}), but the clients of the"
                " harness send lines"
            )


async def _is_heard(room: Room, frame: Callable[[bytes], bytes]) -> bool:
    """Return whether a client receives the message of another in this framing."""
    clients: list[Client] = []
    try:
        for _ in range(2):
            client = await _connect(room)
            clients.append(client)
            await client.say(frame(client.login_name.encode()))  # to some servers, this is the name
        await room.quiet()
        token = room.token()
        await clients[0].say(frame(token))
        return await clients[1].comes(token, 2 * room.window)
    except Violation:
        return False
    finally:
        for client in clients:
            client.close()


async def _connect(room: Room) -> Client:
    """Connect a client to the first endpoint. The endpoints may belong to different rooms."""
    return await room.connect(target=Target(*room.target.address))
