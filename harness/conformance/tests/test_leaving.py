"""Tests of the section Leaving of PROTOCOL.md."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable
from math import inf

import pytest

from harness.clients.client import Client
from harness.clients.room import Room, expect
from harness.conformance.evidence import OBSERVED, PROVED
from harness.errors import JoinError
from harness.target.target import Target, part_used

GUESTS = 40
"""Number of clients in a batch, which join and leave one after another."""
MOST_GUESTS = 5 * GUESTS
"""Maximum number of guests. The batches end when a batch adds little memory: a leak grows in every
batch, but memory that an allocator keeps in reserve does not."""
SPARE_DESCRIPTORS = 8
"""Maximum growth of the server's number of open descriptors, once all guests have left."""
SPARE_MEMORY = GUESTS * (128 << 10)
"""Bytes by which the server's memory may grow in each batch: garbage that is not collected yet."""
SPARE_THREADS = GUESTS // 2
"""Number of threads that the server may add in each batch. A pool of threads grows only up to its
maximum size."""
IDLE = 0.1
"""Share of a processor that an idle server may use."""


def leave(client: Client, way: str) -> None:
    {"close": client.close, "reset": client.reset, "half-close": client.finish}[way]()


@pytest.mark.clause("LEAVE-1", PROVED)
@pytest.mark.parametrize("way", ["close", "reset", "half-close"])
async def test_the_other_members_still_talk_after_a_leave(room: Room, way: str) -> None:
    """Four of six members leave, one after another. After each leave, the remaining members still
    receive each other's messages."""
    members = await room.join(6)
    while len(members) > 2:
        leaver = members.pop(len(members) // 2)
        room.count_out(leaver)
        leave(leaver, way)
        for _ in range(2):
            for speaker in members:
                others = [member for member in members if member is not speaker]
                await room.barrier(speaker, *others)


@pytest.mark.clause("LEAVE-1", PROVED)
@pytest.mark.parametrize("way", ["close", "reset", "half-close"])
async def test_a_leave_during_delivery_loses_nothing_for_others(room: Room, way: str) -> None:
    """The last of 16 members sends a line. The first member leaves as soon as it has received the
    line, perhaps before others have received it. All others receive the line, too. This is repeated
    until two members are left."""
    members = await room.join(16)
    speaker = members[-1]
    while len(members) > 2:
        word = room.token()
        await speaker.say(word + b"\n")
        first = members.pop(0)
        room.count_out(first)
        await first.hears_line(word)
        leave(first, way)
        for member in members[:-1]:
            await member.hears_line(word)


@pytest.mark.clause("LEAVE-1", PROVED)
@pytest.mark.parametrize("way", ["close", "reset"])
async def test_a_message_to_a_member_that_has_gone_harms_nobody(room: Room, way: str) -> None:
    """The server's processes are stopped (SIGSTOP). Four members send a line each, and a fifth
    member leaves between the second and the third line. When the server continues, it may send to
    the fifth member before it notices the leave. The four members receive each line, and still
    receive each other's messages."""
    members = await room.join(5)
    leaver = members.pop(2)
    room.count_out(leaver)
    tokens = {member: room.token() for member in members}
    with room.target.suspended():
        for number, (speaker, token) in enumerate(tokens.items()):
            if number == 2:
                leave(leaver, way)
            await speaker.say(token + b"\n")
    heard = await room.mutual_barrier(members)
    for listener, speaker in itertools.permutations(members, 2):
        token = tokens[speaker]
        expect(token in heard[listener], f"{listener} missed a line of {speaker}", token)


@pytest.mark.clause("LEAVE-1", PROVED)
async def test_the_room_goes_on_when_all_have_left(room: Room) -> None:
    """Three times, two members join a server started for this test, exchange a message and
    leave."""
    server = room.own_server()
    for _ in range(3):
        speaker, other = [await room.enter(target=server) for _ in range(2)]
        await room.greet(speaker, other)
        for member in (speaker, other):
            member.finish()
        for member in (speaker, other):
            await member.ends(room.window)
            member.close()


@pytest.mark.clause("LEAVE-2", PROVED)
@pytest.mark.parametrize("end", [b"\n", b""], ids=["finished", "unfinished"])
async def test_the_last_line_is_delivered(room: Room, end: bytes) -> None:
    """A member sends two lines, the second with or without LF, and closes at once. Both lines are
    received. This is repeated ten times. If a line is not received, the test checks whether the
    other members still receive each other's messages. If they do not, LEAVE-1 is broken, and the
    verdict of this clause is unknown."""
    listener, other = await room.join(2)
    for _ in range(10):
        guest = await room.enter()
        await room.meet(guest, listener)
        first, last = room.tokens(2)
        await guest.say(first + b"\n" + last + end)
        guest.finish()
        async with room.undecided_if_deaf(listener, other):
            await listener.hears(first)
            await listener.hears_line(last)


@pytest.mark.clause("LEAVE-3", OBSERVED)
async def test_resources_of_members_that_left_are_released(room: Room) -> None:
    """Batches of 40 guests join a server started for this test, and leave; some guests send
    messages. After a few batches, the server's memory and number of threads stop growing. After
    each batch, the server has about as many open descriptors as before. When all have left, the
    server is idle."""
    server = room.own_server()
    listener = await room.enter(target=server)
    await _guests(room, server, listener, GUESTS // 2, 0)
    begin = server.costs()
    held = begin.memory, len(server.times())
    guests, memory, threads = 0, inf, inf  # memory, threads: the least growth in one batch
    while guests < MOST_GUESTS and (memory > SPARE_MEMORY or threads > SPARE_THREADS):
        await _guests(room, server, listener, GUESTS, GUESTS // 2 + guests)
        guests += GUESTS
        descriptors = await _released(
            room, lambda: server.costs().descriptors - begin.descriptors, SPARE_DESCRIPTORS
        )
        expect(
            descriptors <= SPARE_DESCRIPTORS,
            f"after {guests} guests, the server has {descriptors} more descriptors",
        )
        await room.quiet()
        before, held = held, (server.costs().memory, len(server.times()))
        memory = min(memory, held[0] - before[0])
        threads = min(threads, held[1] - before[1])
    if memory > SPARE_MEMORY:  # a server may free memory late
        grown = await _released(
            room, lambda: (server.costs().memory - begin.memory) // guests, SPARE_MEMORY // GUESTS
        )
        expect(
            grown <= SPARE_MEMORY // GUESTS,
            f"after {guests} guests, the server uses {grown >> 10} KiB more memory for each",
        )
    expect(
        threads <= SPARE_THREADS,
        f"after {guests} guests, the server runs {held[1]} threads",
    )
    listener.close()
    used = await _use(server)
    expect(used <= IDLE, f"an empty server uses {used:.0%} of a processor")


async def _guests(room: Room, server: Target, listener: Client, count: int, left: int) -> None:
    """Have guests join and leave; `left` guests have left before.

    Raise Violation if a guest can't join, and the server uses a processor although all clients are
    silent: then guests that have left still cost it processor time.
    """
    for number in range(count):
        try:
            guest = await room.enter(target=server)
            if number % 10 == 0:
                await room.meet(guest, listener)
        except JoinError:
            used = await _use(server)
            expect(
                used <= IDLE or not left + number,
                f"after {left + number} guests, the server uses {used:.0%} of a processor, and no"
                " client can join",
            )
            raise
        guest.finish()


async def _released(room: Room, held: Callable[[], int], spare: int) -> int:
    """Wait until `held` returns `spare` or less, up to a timeout; return its last result."""
    deadline = time.monotonic() + room.clock.patience
    while (left := held()) > spare and time.monotonic() < deadline:
        await asyncio.sleep(room.window)
    return left


async def _use(server: Target) -> float:
    """Return the number of processors that a server uses: the minimum of up to six measurements of
    0.5 s."""
    least = inf
    for _ in range(6):
        before, began = server.times(), time.monotonic()
        await asyncio.sleep(0.5)
        least = min(least, part_used(before, server.times(), time.monotonic() - began))
        if least <= IDLE:
            break
    return least


@pytest.mark.clause("LEAVE-4", OBSERVED)
async def test_the_server_closes_its_own_side(room: Room) -> None:
    """A member closes its sending side. The server closes the connection."""
    member = (await room.join(2))[0]
    member.finish()
    await member.hears_end()


@pytest.mark.clause("LEAVE-5", PROVED)
async def test_a_member_may_come_back(room: Room) -> None:
    """A client joins from the same address four times, and leaves each time. Each time, the client
    receives a message of a member, and this member receives a message of the client. If a message
    does not arrive, the test checks whether the other members still receive each other's messages.
    If they do not, LEAVE-1 is broken, and the verdict of this clause is unknown."""
    listener, other = await room.join(2)
    source, name = room.address(), room.login_name()
    for _ in range(4):
        guest = await room.enter(source, login_name=name)
        async with room.undecided_if_deaf(listener, other):
            await room.greet(guest, listener)
            await room.greet(listener, guest)
        guest.finish()
        if room.profile.login:  # the name may be in use until the server closes the connection
            await guest.ends()
