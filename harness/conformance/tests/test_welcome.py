"""Tests of the section Welcome of PROTOCOL.md."""

from __future__ import annotations

import pytest

from harness.clients.room import Room, applies, expect
from harness.conformance.evidence import ABSENT, OBSERVED, PROVED

JOINS = 20


@pytest.mark.clause("WELCOME-1", PROVED)
async def test_the_welcome_comes_first_and_once(room: Room) -> None:
    """20 clients join one after another while a member sends lines. Each client receives the
    welcome first. It does not receive the welcome again before a line that was sent after it
    joined."""
    welcome = room.profile.welcome
    applies(welcome, "the profile has no welcome")
    assert welcome is not None
    talker, listener = await room.join(2)
    for _ in range(JOINS):
        await talker.say(room.token() + b"\n")
        newcomer = await room.connect()
        await newcomer.log_in()
        await talker.say(room.token() + b"\n")  # perhaps before the server sends the welcome
        first = await room.welcomed(newcomer)
        expect(first, f"{newcomer} was not welcomed", None, bytes(newcomer.heard))
        expect(
            welcome.fullmatch(first), f"{newcomer} received text before the welcome", None, first
        )
        room.count_in(newcomer)
        async with room.undecided_if_deaf(talker, listener):
            later = (await room.settle())[newcomer]
            later += (await room.barrier(talker, newcomer))[0]
        expect(not welcome.search(later), f"{newcomer} was welcomed twice", None, later)
        room.count_out(newcomer)
        newcomer.finish()


@pytest.mark.clause("WELCOME-2", ABSENT)
async def test_a_welcome_reaches_no_other_member(room: Room) -> None:
    """20 clients join. Meanwhile, two earlier members receive no welcome."""
    welcome = room.profile.welcome
    applies(welcome, "the profile has no welcome")
    assert welcome is not None
    talker, listener = await room.join(2)
    newcomers = [await room.enter() for _ in range(JOINS)]
    await room.quiet()
    heard = (await room.barrier(talker, listener))[0] + bytes(listener.heard)
    heard += bytes(talker.heard)
    expect(not welcome.search(heard), "a member received a welcome when others joined", None, heard)
    for newcomer in newcomers:
        newcomer.finish()


@pytest.mark.clause("WELCOME-3", PROVED)
async def test_a_welcomed_client_receives_later_messages(room: Room) -> None:
    """A member sends a line once a new client has received the whole welcome. The client receives
    the line."""
    applies(room.profile.welcome, "the profile has no welcome to wait for")
    talker, listener = await room.join(2)
    for _ in range(JOINS):
        newcomer = await room.connect()
        await newcomer.log_in()
        greeted = await room.welcomed(newcomer)
        expect(greeted, f"{newcomer} was not welcomed", None, bytes(newcomer.heard))
        token, later = room.tokens(2)
        await talker.say(token + b"\n")
        if not await newcomer.comes(token, room.window):  # the line may only be late
            async with room.undecided_if_deaf(talker, listener):
                await talker.say(later + b"\n")
                heard = await newcomer.hears(later)
            expect(token in heard, f"{newcomer} missed a message after its welcome", token, heard)
        newcomer.finish()


@pytest.mark.clause("WELCOME-4", OBSERVED)
async def test_the_welcome_ends_with_a_line_end(room: Room) -> None:
    """A client connects, and no client sends a message. The text that the client receives ends with
    LF (CR LF, if the profile says so)."""
    applies(room.profile.welcome, "the profile has no welcome")
    newcomer = await room.connect()
    await newcomer.log_in()
    await newcomer.waits(lambda: bool(newcomer.heard))
    await room.quiet()
    heard = bytes(newcomer.heard)
    expect(heard.endswith(b"\n"), "the welcome does not end its line", b"\n", heard)
    expect(not newcomer.bare_line_ends, "the welcome ends with LF, not with CR LF", b"\r\n", heard)
