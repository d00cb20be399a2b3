"""Tests of the section Broadcast of PROTOCOL.md."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections import Counter

import pytest

from harness.clients.client import Client
from harness.clients.room import Room, expect
from harness.clients.stream import sequence
from harness.conformance.evidence import ABSENT, OBSERVED, PROVED
from harness.errors import JoinError, Violation

MEMBERS = 12
LINES = 50

TEXTS = (
    b"hello, world",
    b"  two spaces before, two behind  ",
    b"tab\there",
    b"MiXeD CaSe 0123456789",
    b"!\"#$%&'()*+,-./:;=?@[\\]^_`{|}~",
    b"a  b   c    d",
    b"<not a prefix",
    b"%s %d {0} ${x} \\n \\x41",
    b"/quit",
    b"x" * 500,
)


async def speak(client: Client, tokens: list[bytes]) -> None:
    """Send each token as a line, with one send for each line."""
    for token in tokens:
        await client.say(token + b"\n")
        await asyncio.sleep(0)


async def conversation(room: Room) -> tuple[dict[Client, list[bytes]], dict[Client, list[bytes]]]:
    """Have all members send at once; return the tokens that each member sent, and the tokens that
    each member received."""
    members = await room.join(MEMBERS)
    said = {member: room.tokens(LINES) for member in members}
    await asyncio.gather(*[speak(speaker, tokens) for speaker, tokens in said.items()])
    every = {token for tokens in said.values() for token in tokens}
    heard = await room.mutual_barrier(members)
    return said, {member: sequence(heard[member], every) for member in members}


def expect_each_once(
    listener: Client, heard: list[bytes], speaker: Client, tokens: list[bytes]
) -> None:
    """Raise Violation unless each token of the speaker was received once."""
    times = Counter(heard)
    for number, token in enumerate(tokens):
        expect(
            times[token] == 1,
            f"{listener} received line {number} of {speaker}'s {len(tokens)} {times[token]} times,"
            " instead of once",
            token,
        )


@pytest.mark.clause("CAST-1", PROVED)
async def test_a_line_reaches_every_other_member_once(room: Room) -> None:
    """12 members send 50 lines each, all at once, and then a last line. When the last lines have
    arrived, each line has arrived exactly once at every other member."""
    said, heard = await conversation(room)
    for listener, words in heard.items():
        for speaker, tokens in said.items():
            if speaker is not listener:
                expect_each_once(listener, words, speaker, tokens)


@pytest.mark.clause("CAST-1", PROVED)
async def test_every_one_of_1200_lines_arrives_once(room: Room) -> None:
    """One member sends 1,200 lines, a hundred at once. Two other members receive each line exactly
    once."""
    speaker, *listeners = await room.join(3)
    tokens = room.tokens(1200)
    heard = dict.fromkeys(listeners, b"")
    for first in range(0, len(tokens), 100):
        await speaker.say(b"".join(token + b"\n" for token in tokens[first : first + 100]))
        for listener, before in zip(
            listeners, await room.barrier(speaker, *listeners), strict=True
        ):
            heard[listener] += before
    for listener in listeners:
        expect_each_once(listener, sequence(heard[listener], set(tokens)), speaker, tokens)


@pytest.mark.clause("CAST-2", ABSENT)
async def test_a_sender_does_not_hear_itself(room: Room) -> None:
    """A member sends five lines. After each line, another member receives the line and answers. The
    first member receives the answers, but does not receive its own lines. In a dialect with echo,
    it receives each of its own lines once, with the declared prefix."""
    speaker, other = await room.join(2)
    own = room.tokens(5)
    heard = b""
    for token in own:
        await speaker.say(token + b"\n")
        await other.hears_line(token)
        heard += (await room.barrier(other, speaker))[0]
    await room.quiet()
    heard += bytes(speaker.heard)
    for token in own:
        expect(token not in heard, f"{speaker} received its own message", None, heard)
        if speaker.echoes:
            times = speaker.echoes.returned[token]
            expect(times, f"the own message of {speaker} did not come back", token, heard)


@pytest.mark.clause("CAST-3", PROVED)
async def test_text_arrives_as_it_was_sent(room: Room) -> None:
    """A member sends spaces, a tab, punctuation, commands and 500 letters, each in a line that ends
    with a token. Exactly this text is received before the token."""
    speaker, listener = await room.join(2)
    commands = tuple(room.profile.commands)
    for text in TEXTS:
        if text.decode().startswith(commands):
            continue
        token = room.token()
        await speaker.say(text + token + b"\n")
        heard = (await listener.hears_line(token)).removesuffix(token)
        expect(heard.endswith(text), "the text arrived changed", text, heard)


@pytest.mark.clause("CAST-3", PROVED)
async def test_the_end_of_a_text_arrives_as_it_was_sent(room: Room) -> None:
    """A member sends lines that begin with a token, and end with spaces, a tab or words. Exactly
    this end is received after the token."""
    speaker, listener = await room.join(2)
    for text in (b"  ", b"\t", b" .", b"  two   words  "):
        first, second = room.tokens(2)
        await speaker.say(first + text + b"\n")
        await listener.hears(first)
        await speaker.say(second + b"\n")
        heard = room.plain(await listener.hears_line(second))
        expect(heard.startswith(text), "the end of the text arrived changed", text, heard)


@pytest.mark.clause("CAST-4", PROVED)
async def test_lines_of_one_sender_arrive_in_order(room: Room) -> None:
    """12 members send 50 lines each, all at once. The lines of one sender arrive at each other
    member in the order in which they were sent."""
    said, heard = await conversation(room)
    for listener, words in heard.items():
        for speaker, tokens in said.items():
            if speaker is listener:
                continue
            place = {token: number for number, token in enumerate(tokens)}
            numbers = [place[word] for word in dict.fromkeys(words) if word in place]
            if numbers != sorted(numbers):
                raise Violation(
                    f"{listener} received the lines of {speaker} in the order {_order(numbers)}"
                )


def _order(numbers: list[int]) -> str:
    """Return, as text, a list of the numbers around the first one that is out of order."""
    late = next(at for at in range(1, len(numbers)) if numbers[at] < numbers[at - 1])
    return "…, " + ", ".join(map(str, numbers[max(0, late - 3) : late + 3])) + ", …"


@pytest.mark.clause("CAST-5", PROVED)
async def test_all_members_hear_all_lines_in_the_same_order(room: Room) -> None:
    """12 members send 50 lines each, all at once. Any two members receive the lines of the others
    in the same order (except for the order within one sender's lines, which CAST-4 judges)."""
    said, heard = await conversation(room)
    speaker_of = {token: speaker for speaker, tokens in said.items() for token in tokens}
    rank = {member: {token: n for n, token in enumerate(tokens)} for member, tokens in said.items()}
    orders = {
        member: _by_sender(list(dict.fromkeys(words)), speaker_of, rank)
        for member, words in heard.items()
    }
    first, *rest = orders
    for other in rest:
        both = set(orders[first]) & set(orders[other])
        mine = [token for token in orders[first] if token in both]
        theirs = [token for token in orders[other] if token in both]
        for number, (here, there) in enumerate(zip(mine, theirs, strict=True)):
            expect(
                here == there,
                f"line {number} of {len(mine)} is from {speaker_of[here]} for {first},"
                f" but from {speaker_of[there]} for {other}",
            )


def _by_sender(
    words: list[bytes],
    speaker_of: dict[bytes, Client],
    rank: dict[Client, dict[bytes, int]],
) -> list[bytes]:
    """Sort the words of each sender into the order in which they were sent.

    The sequence of senders stays the same: each word is replaced by a word of the same sender.
    """
    own: dict[Client, list[bytes]] = {}
    for word in words:
        own.setdefault(speaker_of[word], []).append(word)
    turns = {
        speaker: iter(sorted(said, key=rank[speaker].__getitem__)) for speaker, said in own.items()
    }
    return [next(turns[speaker_of[word]]) for word in words]


@pytest.mark.clause("CAST-6", PROVED)
async def test_members_at_one_address_hear_each_other(room: Room) -> None:
    """Three members connect from one address, and another member from another address. Each of the
    four receives messages of the three others."""
    far, first = await room.join(2)
    members = [first, *[await room.enter(first.address) for _ in range(2)]]
    for member in members[1:]:
        await room.greet(first, member)
    for speaker, listener in itertools.permutations([far, *members], 2):
        await room.tell(speaker, listener)


@pytest.mark.clause("CAST-6", PROVED)
async def test_a_leave_does_not_affect_others_at_the_same_address(room: Room) -> None:
    """Three members connect from one address, and the last of them leaves. The two others still
    receive each other's messages. This is not required if two members at other addresses no longer
    receive each other's messages either: then LEAVE-1 is broken."""
    far, other, first = await room.join(3)
    second, leaver = [await room.enter(first.address) for _ in range(2)]
    for member in (second, leaver):
        await room.greet(first, member)
    leaver.finish()
    await leaver.ends(room.window)
    with contextlib.suppress(JoinError):
        await room.meet(far, other)
        await room.greet(first, second)
        await room.greet(second, first)


@pytest.mark.clause("CAST-7", OBSERVED)
async def test_a_member_alone_in_the_room_can_talk(room: Room) -> None:
    """A member sends lines while it is alone, in a server started for this test if the harness can
    start one. Then another member joins, and the two receive each other's messages."""
    server = room.own_server()
    alone = await room.enter(target=server)
    for _ in range(3):
        await alone.say(room.token() + b"\n")
        await room.quiet()
    expect(not alone.ended, f"the connection of {alone} was {alone.ended}{room.fate()}")
    other = await room.enter(target=server)
    await room.greet(alone, other)
    await room.greet(other, alone)
