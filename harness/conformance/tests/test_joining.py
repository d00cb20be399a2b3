"""Tests of the section Joining of PROTOCOL.md."""

from __future__ import annotations

import asyncio
import itertools

import pytest

from harness.clients.room import Room, applies, expect, needs_ipv6
from harness.conformance.evidence import OBSERVED, PROVED
from harness.errors import StartError, Violation
from harness.target.target import Target

CROWD = 100
RESETS = 20


@pytest.mark.clause("JOIN-1", PROVED)
async def test_a_crowd_joins_at_once(room: Room) -> None:
    """100 clients connect at once. Each client receives a message of an earlier member, and this
    member receives a message of each client."""
    listener = (await room.join(1))[0]
    crowd = await asyncio.gather(*[room.enter() for _ in range(CROWD)])
    room.count_in(*crowd)
    await room.settle()
    tokens = {client: room.token() for client in crowd}
    for client, token in tokens.items():
        await client.say(token + b"\n")
    for client, token in tokens.items():
        expect(
            await listener.comes(token),
            f"the message of {client}, one of {CROWD}, did not arrive",
            token,
        )


@pytest.mark.clause("JOIN-2", PROVED)
async def test_a_silent_client_disturbs_nobody(room: Room) -> None:
    """Clients connect, and neither send nor close. Meanwhile, other clients join and exchange
    messages."""
    for _ in range(3):
        await room.connect()
    await _two_talk(room)


@pytest.mark.clause("JOIN-2", PROVED)
async def test_reset_connections_disturb_nobody(room: Room) -> None:
    """Clients reset their connections, some of them at once, perhaps before the server accepts
    them, and some after the welcome. Members still exchange messages, and others can join."""
    members = await room.join(2)
    for number in range(RESETS):
        client = await (room.enter() if number % 2 else room.connect())
        client.reset()
        await room.tell(*members)
    await _two_talk(room)


@pytest.mark.clause("JOIN-2", PROVED)
async def test_a_connection_reset_before_its_welcome_disturbs_nobody(room: Room) -> None:
    """The server's processes are stopped (SIGSTOP). A client connects and resets its connection,
    and three members send a line each. When the server continues, it may send the welcome and the
    lines to the client before it notices the reset. The members receive the lines, and others can
    join."""
    members = await room.join(3)
    tokens = {member: room.token() for member in members}
    with room.target.suspended():
        (await room.connect()).reset()
        for speaker, token in tokens.items():
            await speaker.say(token + b"\n")
    heard = await room.mutual_barrier(members)
    for listener, speaker in itertools.permutations(members, 2):
        token = tokens[speaker]
        expect(token in heard[listener], f"{listener} missed a line of {speaker}", token)
    await _two_talk(room)


async def _two_talk(room: Room) -> None:
    """Have two clients join and exchange messages."""
    member, other = await room.join(2)
    await room.tell(member, other)
    await room.tell(other, member)


@pytest.mark.clause("JOIN-3", OBSERVED)
async def test_a_server_restarts_on_the_same_port(room: Room) -> None:
    """A server is stopped while clients are connected, and starts again on the same port."""
    server = room.another()
    clients = [await room.enter(target=server) for _ in range(3)]
    await clients[0].say(room.token() + b"\n")
    server.stop()
    for client in clients:
        # Read the end of the connection first: after unread input, close would send a RST, and the
        # server's port would be free at once.
        await client.ends(room.window)
        client.close()
    try:
        server.start()
    except StartError as error:
        raise Violation(
            f"after a stop with clients connected, the server does not start again: {error}"
        ) from None
    await room.enter(target=server)


@pytest.mark.clause("JOIN-4", PROVED)
async def test_ipv6_is_served_like_ipv4(room: Room) -> None:
    """A server is started at ::1. Two clients join it and receive each other's messages."""
    needs_ipv6()
    try:
        server = room.another(host="::1")
    except StartError as error:
        raise Violation(f"the server does not start at ::1: {error}") from None
    member, other = [await room.enter(target=server) for _ in range(2)]
    await room.greet(member, other)
    await room.greet(other, member)


@pytest.mark.clause("JOIN-5", OBSERVED)
async def test_a_full_room_refuses_a_client_with_one_line(room: Room) -> None:
    """A room is filled. The next client receives one line and is disconnected; the members still
    exchange messages. When a member has left, another client can join."""
    profile = room.profile
    applies(profile.full_clients, "the profile has no `full_options` to fill a room")
    server = room.another(profile.full_options)
    server = Target(*server.address)  # each node of a room may have a limit of its own
    members = [await room.enter(target=server) for _ in range(profile.full_clients)]
    for speaker, other in itertools.pairwise(members):
        await room.greet(speaker, other)
    refused = await room.connect(target=server)
    if profile.login and not await refused.ends(room.window):
        await refused.log_in()
    heard = await refused.hears_end()
    expect(
        heard.count(b"\n") == 1 and heard.endswith(b"\n"),
        "the refused client did not receive exactly one line",
        None,
        heard,
    )
    welcome = profile.welcome
    expect(
        not (welcome and welcome.search(heard)),
        "the refused client was welcomed first",
        None,
        heard,
    )
    await room.greet(members[0], members[-1])
    members.pop().finish()
    for _ in range(int(room.clock.patience / room.window)):  # the server may notice a leave late
        newcomer = await room.connect(target=server)
        await newcomer.waits(lambda: bool(newcomer.heard))  # noqa: B023  (welcome or refusal)
        if not await newcomer.ends(room.window):
            await newcomer.log_in()
            await room.welcomed(newcomer, room.window)
            break
        await room.quiet()
    await room.greet(members[0], newcomer)
