"""Tests of the section Messages of PROTOCOL.md."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from itertools import pairwise

import pytest

from harness.clients.client import Client
from harness.clients.room import Room, expect, expect_equal
from harness.conformance.evidence import ABSENT, PROVED
from harness.errors import Undecided

PAUSE = 0.02
"""Seconds between the pieces of a line: long enough that a server reads each piece separately."""
LONGEST_PAUSE = 0.1
"""Maximum length (s) of such a pause on a busy machine: half of the silence of LINE-5."""
CUTS = 10
"""Number of cut points that are drawn at random."""
ATTEMPTS = 10
"""Maximum number of attempts to send a line without a longer pause."""

LINE = 2048
"""Bytes of a line that must arrive whole, with its LF."""
LONG = 20_000
"""Bytes of a line that may arrive in pieces, without its tokens and LF."""


@pytest.mark.clause("LINE-1", PROVED)
@pytest.mark.parametrize("end", [b"\n", b"\r\n"], ids=["LF", "CR LF"])
async def test_a_line_keeps_its_end(room: Room, end: bytes) -> None:
    """Two lines are sent, the second when the first has arrived. Between their texts, the listener
    receives one line end, as the profile says, and perhaps a prefix."""
    speaker, listener = await room.join(2)
    bare = listener.bare_line_ends
    for _ in range(3):
        first, second = room.tokens(2)
        await speaker.say(first + end)
        await listener.hears(first)
        await speaker.say(second + end)
        between = (await listener.hears_line(second)).removesuffix(second)
        between = room.plain(between.replace(b"\r\n", b"\n"))
        expect(between.startswith(b"\n"), "the line lost its end", b"\n", between)
        rest = between[1:]
        prefix = room.profile.prefix.match(rest)
        expect(
            rest == (prefix[0] if prefix else b""),
            "there is more than a line end and a prefix between two lines",
            b"\n",
            between,
        )
    expect(listener.bare_line_ends == bare, "a line ended with LF, not with CR LF", b"\r\n", b"\n")


@pytest.mark.clause("LINE-2", PROVED)
async def test_a_line_in_pieces_is_one_message(room: Room) -> None:
    """A line is sent in pieces, with pauses shorter than the silence of LINE-5. It is cut after
    every third byte, after every fifth byte, and at random places, also inside characters. Between
    two of the pieces, another member sends a line. The text of the line in pieces arrives whole,
    with one prefix."""
    speaker, other, listener = await room.join(3)
    size = len(_line(*room.tokens(2)))
    drawn = [sorted(room.random.sample(range(1, size), CUTS)) for _ in range(2)]
    for cuts in (range(3, size, 3), range(5, size, 5), *drawn):
        for _ in range(ATTEMPTS):
            begin, end, word = room.tokens(3)
            line = _line(begin, end)
            pieces = [line[start:stop] for start, stop in pairwise([0, *cuts, size])]
            if await _say_in_pieces(speaker, pieces, other, word, listener) < LONGEST_PAUSE:
                break  # after a longer pause, the server may have cut the line, even in a token
        else:
            raise Undecided("the machine is too busy to send the pieces of a line in time")
        await listener.hears(begin)
        heard = await listener.hears_line(end)
        expect_equal("a line in pieces did not arrive as one", line.strip()[len(begin) :], heard)


async def _say_in_pieces(
    speaker: Client, pieces: Sequence[bytes], other: Client, word: bytes, listener: Client
) -> float:
    """Send pieces with pauses between them; in the middle, another member sends a line, `word`.

    Return the longest pause, in seconds.
    """
    longest, before = 0.0, time.monotonic()
    for number, piece in enumerate(pieces):
        await speaker.say(piece)
        now = time.monotonic()
        longest, before = max(longest, now - before), now
        await asyncio.sleep(PAUSE)
        if number == len(pieces) // 2:
            await _interrupt(other, word, listener)
    return longest


async def _interrupt(other: Client, word: bytes, listener: Client) -> None:
    """Have `other` send the line `word` while another member's line is incomplete. Wait up to PAUSE
    seconds for the line, and continue even if it has not arrived."""
    await other.say(word + b"\n")
    await listener.comes(word, PAUSE)


def _line(begin: bytes, end: bytes) -> bytes:
    return begin + " ¡añ€👋".encode() + end + b"\n"


@pytest.mark.clause("LINE-3", PROVED)
async def test_several_lines_in_one_piece_are_several_messages(room: Room) -> None:
    """Five lines and the beginning of a sixth line are sent in one piece. Then another member sends
    a line, and the sixth line is completed. Each of the five lines and the other member's line
    arrives on a line of its own, with the prefix of its sender."""
    speaker, other, listener = await room.join(3)
    for _ in range(3):
        for _ in range(ATTEMPTS):
            *tokens, sixth, word = room.tokens(7)
            began = time.monotonic()
            await speaker.say(b"".join(token + b"\n" for token in tokens) + sixth[:1])
            await listener.comes(tokens[-1], PAUSE)
            await _interrupt(other, word, listener)
            await speaker.say(sixth[1:] + b"\n")
            if time.monotonic() - began < LONGEST_PAUSE:
                break  # after a longer time, the sixth line's beginning may be a message (LINE-5)
            await room.barrier(speaker, listener)
        else:
            raise Undecided("the machine is too busy to complete a line in time")
        [heard] = await room.barrier(speaker, listener)
        if word not in heard:  # messages of different senders may overtake each other
            heard += await listener.hears_line(word) + b"\n"
        lines = [line for line in room.lines(heard) if line.text != b"\n"]
        own = [line for line in lines if word not in line.text][: len(tokens)]
        expect_equal(
            "the lines did not arrive as they were sent",
            b"".join(token + b"\n" for token in tokens),
            b"".join(line.text for line in own),
        )
        first = own[0].prefix
        senders = {line.prefix and room.profile.sender(line.prefix) for line in own}
        expect(
            len(senders) == 1,
            "not every line has the first line's prefix",
            first,
            heard,
        )
        expect_equal(
            f"the line of {other} does not stand alone",
            word + b"\n",
            b"".join(line.text for line in lines if word in line.text),
        )


@pytest.mark.clause("LINE-4", PROVED)
async def test_an_empty_line_is_a_message(room: Room) -> None:
    """Three empty lines are sent one by one between two tokens. All three arrive between the
    tokens."""
    speaker, listener = await room.join(2)
    begin, end = room.tokens(2)
    await speaker.say(begin + b"\n")
    await listener.hears_line(begin)
    for number in range(3):
        await speaker.say(b"\n")
        expect(
            await listener.waits(lambda: listener.heard.count(b"\n") > number),  # noqa: B023
            "an empty line was not delivered",
            b"\n",
            bytes(listener.heard),
        )
    await speaker.say(end + b"\n")
    heard = (await listener.hears_line(end)).removesuffix(end)
    texts = room.texts(heard[: heard.rfind(b"\n") + 1])
    expect(texts.count(b"\n") >= 3, "empty lines were lost", b"\n\n\n", b"".join(texts))


@pytest.mark.clause("LINE-5", ABSENT)
async def test_text_without_line_end_is_delivered(room: Room) -> None:
    """A text is sent without LF. The text arrives nevertheless. Then the harness watches for at
    least 0.3 s, and nothing more arrives."""
    speaker, listener = await room.join(2)
    for text in (b"", b" and some more"):
        token = room.token()
        await speaker.say(token + text)
        await listener.hears(token + text)
        await room.quiet()
        rest = room.plain(bytes(listener.heard))
        expect(not rest, "something was added to text without LF", b"", rest)
        await speaker.say(b"\n")
        await room.barrier(speaker, listener)


@pytest.mark.clause("LINE-6", PROVED)
async def test_unfinished_text_is_ended_before_the_next_message(room: Room) -> None:
    """A member sends text without LF, and another member sends a line. A third member receives a
    LF between the text and the line. The first member does not receive this LF."""
    speaker, other, third = await room.join(3)
    for _ in range(3):
        unfinished, word, last = room.tokens(3)
        await speaker.say(unfinished)
        await third.hears(unfinished)
        await other.hears(unfinished)
        before = bytes(speaker.heard)
        await other.say(word + b"\n")
        heard = room.plain((await third.hears_line(word)).removesuffix(word))
        expect(heard.startswith(b"\n"), "the unfinished line was not ended", b"\n", heard)
        own = room.plain((await speaker.hears_line(word)).removesuffix(word))
        expect(
            b"\n" not in own[len(before) :],
            "the sender of the unfinished line received its line end",
            b"",
            own,
        )
        await other.say(last + b"\n")
        for listener in (speaker, third):
            await listener.hears_line(last)


@pytest.mark.clause("LINE-6", PROVED)
async def test_unfinished_text_is_ended_before_its_sender_s_next_line(room: Room) -> None:
    """A text without LF is delivered; then its sender sends a line. Another member receives a LF
    between the text and the line."""
    speaker, third = await room.join(2)
    unfinished, word = room.tokens(2)
    await speaker.say(unfinished)
    await third.hears(unfinished)
    await speaker.say(word + b"\n")
    heard = room.plain((await third.hears_line(word)).removesuffix(word))
    expect(heard.startswith(b"\n"), "the unfinished line was not ended", b"\n", heard)


@pytest.mark.clause("LINE-7", PROVED)
async def test_a_line_of_2048_bytes_arrives_whole(room: Room) -> None:
    """A line of 2,048 bytes, LF included, arrives as it was sent, with nothing inside it."""
    speaker, listener = await room.join(2)
    begin, end = room.tokens(2)
    middle = _digits(LINE - 1 - len(begin) - len(end))
    await speaker.say(begin + middle + end + b"\n")
    await listener.hears(begin)
    heard = await listener.hears_line(end)
    expect_equal("the line did not arrive whole", middle, heard.removesuffix(end))


@pytest.mark.clause("LINE-7", PROVED)
async def test_a_line_of_20000_bytes_loses_nothing(room: Room) -> None:
    """A line of 20,000 bytes arrives whole or in pieces. Without the line ends and prefixes
    between the pieces, the text is as it was sent."""
    speaker, listener = await room.join(2)
    begin, end = room.tokens(2)
    middle = _digits(LONG)
    await speaker.say(begin + middle + end + b"\n")
    heard = (await room.hears_through(listener, end)).partition(begin)[2].removesuffix(end)
    expect_equal("a long line did not arrive as it was sent", middle, heard)


def _digits(size: int) -> bytes:
    """Return `size` bytes of ascending numbers, so that a loss can be located."""
    text = b"".join(b"%d," % number for number in range(size))
    return text[:size]
