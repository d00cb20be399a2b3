"""Tests of the section Load of PROTOCOL.md."""

from __future__ import annotations

import itertools
import os
import signal
import time

import pytest

from harness.clients.client import Client
from harness.clients.room import Room, applies, expect, expect_equal
from harness.clients.stream import sequence
from harness.conformance.evidence import OBSERVED, PROVED
from harness.errors import JoinError, Undecided, Violation
from harness.target.target import Target
from harness.wording import counted

MIB = 1 << 20

SPEECH = 128 << 10
"""Bytes that one guest sends: less than any server's allowance."""
LINE = 1000
"""Bytes of a line, with its LF."""

KERNEL = 8 * MIB
"""Maximum number of bytes that the kernels of both sides buffer for a member that does not read."""
UNKNOWN_LAG = 24 * MIB
"""Assumed limit of the lag, in bytes, if the profile gives none: a generous bound."""
SPARE_MEMORY = 24 * MIB
"""Bytes by which the growth of the server's memory may exceed the limit of the lag."""

FLOOD = 2.0
"""Minimum time (s) that a correct server takes for a flood; more if the rate is very low."""
READ = 64 << 10
"""Bytes by which most correct servers may exceed the allowance once: the size of one read, which a
server knows only after the read."""
LARGE_READ = 256 << 10
"""Bytes by which a correct server may exceed the allowance: the largest read of common
libraries."""
UNKNOWN_FLOOD = 2 * MIB
"""Bytes of a flood if the profile gives no rate."""


async def pump(room: Room, server: Target, listener: Client, size: int, mute: Client) -> None:
    """Have guests join one after another, and send at least `size` bytes in total to the listener.

    Each guest sends so little that it does not exceed its allowance. Raise Violation if a guest can
    join only when the member that does not read, `mute`, reads again.
    """
    line = b"." * (LINE - 1) + b"\n"
    while size > 0:
        try:
            guest = await _joined(room, server, listener)
        except JoinError as error:
            mute.resume()
            await _joined(room, server, listener)
            raise Violation(error.what, error.expected, error.actual) from None
        token = room.token()
        await guest.say(line * (min(size, SPEECH) // LINE) + token + b"\n")
        await room.waits_through(listener, token)
        listener.take(len(listener.heard))
        guest.finish()
        size -= SPEECH


async def _joined(room: Room, server: Target, listener: Client) -> Client:
    guest = await room.enter(target=server)
    await room.meet(guest, listener)
    return guest


@pytest.mark.clause("LOAD-1", PROVED)
async def test_a_member_that_does_not_read_delays_nobody(room: Room) -> None:
    """A member with small buffers stops reading. Others send more than the buffers of the kernels
    hold for this member. Another member receives all their messages in time."""
    server = room.own_server()
    listener = await room.enter(target=server)
    mute = await room.enter(receive_buffer=4096, target=server)
    await room.meet(listener, mute)
    mute.pause()
    await pump(room, server, listener, KERNEL + 2 * MIB, mute)


@pytest.mark.clause("LOAD-2", OBSERVED)
async def test_a_member_that_lags_too_far_is_disconnected(room: Room) -> None:
    """A member stops reading. While its lag is within the limit, it stays connected. When its lag
    exceeds the limit by more than the size of the kernels' buffers, it is disconnected. The growth
    of the server's memory is bounded."""
    server = room.own_server()
    listener = await room.enter(target=server)
    mute = await room.enter(receive_buffer=4096, target=server)
    await room.meet(listener, mute)
    lag = room.profile.lag_limit
    if lag:
        mute.pause()
        await pump(room, server, listener, lag // 2, mute)
        mute.resume()
        await room.greet(listener, mute)
    # An engine stores all messages, so its memory also grows if all members read.
    before = server.costs(engines=False).memory if server.ours else 0
    mute.pause()
    total = (lag or UNKNOWN_LAG) + KERNEL
    await pump(room, server, listener, total, mute)
    grown = server.costs(engines=False).memory - before if server.ours else 0
    mute.resume()
    late = room.token()
    await listener.say(late + b"\n")
    await mute.waits(lambda: late in mute.heard[-2 * LINE :])
    expect(mute.ended, f"{mute} left {total >> 20} MiB unread, and was not disconnected")
    bound = (lag or UNKNOWN_LAG) + SPARE_MEMORY
    expect(
        grown <= bound,
        f"for a member that did not read, the server's memory has grown by {grown >> 20} MiB",
    )


@pytest.mark.clause("LOAD-3", PROVED)
async def test_a_flood_is_throttled_and_loses_nothing(room: Room) -> None:
    """A member sends more than its allowance, as fast as it can. All lines arrive, in order, and
    not sooner than the allowance and one read of 64 KiB permit. If they arrive sooner, the server
    may have made one larger read, which is allowed. So the member sends more lines, and the time
    for all lines is checked again. Afterwards, the member can still send."""
    profile = room.profile
    flooder, listener = await room.join(2)
    rate = profile.rate
    if not rate:
        await _flood(room, flooder, listener, UNKNOWN_FLOOD, FLOOD)
        await room.greet(flooder, listener)
        raise Undecided(
            "nothing is lost, but the profile has no `rate` by which to judge the speed"
        )
    # If `slow` were less than twice READ, a server with twice the rate would pass.
    slow = max(int(FLOOD * rate), 2 * READ)
    size = profile.burst + READ + slow
    began = time.monotonic()
    sent = await _flood(room, flooder, listener, size, (READ + slow) / rate)
    took, excess = time.monotonic() - began, READ
    if took < (sent - profile.burst - READ) / rate:
        more, excess = 2 * LARGE_READ, LARGE_READ
        sent += await _flood(room, flooder, listener, more, (more + LARGE_READ) / rate)
        took = time.monotonic() - began
    least = (sent - profile.burst - excess) / rate
    expect(
        took >= least,
        f"the server read {sent >> 10} KiB in {took:.2f} s, but must take {least:.2f} s or more",
    )
    last = room.token()
    await flooder.say(last + b"\n")
    await listener.hears_line(last, room.clock.patience + 2 * excess / rate)


async def _flood(room: Room, flooder: Client, listener: Client, size: int, longest: float) -> int:
    """Send about `size` bytes at once, and wait until the listener has received all of them. Return
    the number of sent bytes.

    longest: time (s) that a correct server takes at most.
    """
    tokens = room.tokens(size // LINE)
    flood = b"".join(b"." * (LINE - 1 - len(token)) + token + b"\n" for token in tokens)
    await flooder.say(flood)
    heard = await room.hears_through(listener, tokens[-1], room.clock.patience + 2 * longest)
    expect_equal("the flood did not arrive as it was sent", flood.replace(b"\n", b""), heard)
    return len(flood)


@pytest.mark.clause("LOAD-4", PROVED)
async def test_the_death_of_a_worker_disconnects_nobody(room: Room) -> None:
    """Members send lines. Meanwhile, all processes that serve them, except the main process, are
    killed one after another. No member is disconnected. Each member receives every line of every
    other member exactly once, in order."""
    server = room.own_server()
    members = [await room.enter(target=server) for _ in range(8)]
    await room.meet(*members)
    workers = server.holders({member.port for member in members})
    applies(workers, "no process except the main process has connections")
    said: dict[Client, list[bytes]] = {member: [] for member in members}
    for victim in [*workers, None]:
        for speaker in members:
            words = room.tokens(5)
            said[speaker] += words
            for word in words:
                await speaker.say(word + b"\n")
        if victim:
            os.kill(victim, signal.SIGKILL)
    heard = await room.mutual_barrier(members)
    for listener, speaker in itertools.permutations(members, 2):
        words = sequence(heard[listener], set(said[speaker]))
        expect(
            words == said[speaker],
            f"{listener} received {counted(len(words), 'line')} of {speaker}, instead of"
            f" its {len(said[speaker])} lines in order",
        )
