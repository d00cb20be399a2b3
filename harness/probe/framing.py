"""Refuse a server whose messages are not lines: the harness can't judge it, because the clients of
the harness send lines."""

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

SIZES = (32, 256, 1024, 4096)
"""Sizes to which a text is padded, in ascending order. A server that reads messages of a fixed size
takes the beginning of a longer text for a message, but may need much time for the rest."""


def _padded_to(size: int) -> Callable[[bytes], bytes]:
    """Return a function that appends NULs to a text up to this size."""
    return lambda text: text.ljust(size, b"\0")


FRAMES: dict[str, Callable[[bytes], bytes]] = {
    "frames messages by their length (4 bytes, big-endian)": (
        lambda text: struct.pack("!I", len(text)) + text
    ),
    "frames messages by their length (4 bytes, little-endian)": (
        lambda text: struct.pack("<I", len(text)) + text
    ),
    "frames messages by their length (2 bytes, big-endian)": (
        lambda text: struct.pack("!H", len(text)) + text
    ),
    "frames messages by their length (1 byte)": lambda text: struct.pack("B", len(text)) + text,
    "frames messages by their length (10 decimal digits)": lambda text: b"%-10d" % len(text) + text,
    "frames messages by their length (64 decimal digits)": lambda text: b"%-64d" % len(text) + text,
    "expects a NUL after each message": lambda text: text + b"\0",
    **{
        f"reads messages of a fixed size (at most {size:,} bytes)": _padded_to(size)
        for size in SIZES
    },
}
"""Framings of messages that are not lines, each with the words for it. The decimal digits, padded
with spaces, and the fixed sizes are from tutorials."""


def require_lines(target: Target, profile: Profile, scale: float) -> None:
    """Raise CannotJudge if the server's messages are not lines.

    Two clients join as the profile says. If one receives a line of the other, the server reads
    lines. Otherwise, clients try other framings; after that, the server is restarted if the
    harness can do this. scale: factor of the timeouts.
    """
    asyncio.run(_require_lines(Room(target, profile, Clock(scale), Log())))


async def _require_lines(room: Room) -> None:
    if await _reads_lines(room) or room.target.death():
        return
    with contextlib.suppress(Undecided):
        await refuse_other_framings(room)
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


async def refuse_other_framings(room: Room) -> None:
    """Try the other framings. Raise CannotJudge if a client receives the message of another."""
    for what, frame in FRAMES.items():
        if await _is_heard(room, frame):
            raise CannotJudge(f"the server {what}, but the clients of the harness send lines")


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
