"""Tests of framing: input in arbitrary pieces becomes whole messages."""

from collections.abc import Iterator
from itertools import combinations, pairwise

import pytest
from hypothesis import example, given
from hypothesis.strategies import binary, integers, lists, none, sampled_from, text

from chatroom.protocol import telnet
from chatroom.protocol.framing import (
    CR_NUL,
    CRLF,
    LF,
    LONGEST_CHARACTER,
    MAX_COMMANDS,
    MAX_GAPS,
    Framer,
)

LIMIT = 8
EURO = "€".encode()
SMILE = "😀".encode()

NOP = b"\xff\xf1"
DO_TIMING_MARK = b"\xff\xfd\x06"

#: Pieces at whose borders a framer may make errors: line ends, characters, telnet commands and
#: others.
TRICKY = [b"\r", b"\n", b"\r\n", b"\r\0", b"a", b"bc", "é".encode(), EURO, SMILE]
TRICKY += [NOP, DO_TIMING_MARK, b"\xff\xff", b"\xff\xfa\n", b"\xff\xf0", *b"\xff\xe2\x82\xf0\x9f\0"]
streams = lists(
    sampled_from([part if isinstance(part, bytes) else bytes([part]) for part in TRICKY])
).map(b"".join)
limits = integers(LONGEST_CHARACTER, 12)


def whole(stream: bytes, limit: int = LIMIT) -> bytes:
    """Return the messages of a stream that arrives in one piece and then ends."""
    return in_pieces([stream], limit)


def in_pieces(pieces: list[bytes], limit: int = LIMIT) -> bytes:
    framer = Framer(limit)
    framed = b"".join([*map(framer.feed, pieces), framer.close()])
    assert framer.framed == sum(map(len, pieces))
    return framed


def cut(stream: bytes, *places: int) -> list[bytes]:
    bounds = [0, *places, len(stream)]
    return [stream[begin:end] for begin, end in pairwise(bounds)]


def without_commands(stream: bytes) -> bytes:
    """Return a member's input without telnet commands. A single 0xFF at its end is text."""
    parsed = telnet.parse(stream)
    return parsed.text + (telnet.LITERAL if parsed.incomplete == telnet.IAC else b"")


def letters(stream: bytes) -> bytes:
    """Return a member's input without telnet commands and line ends."""
    return without_commands(stream).replace(CRLF, b"").replace(CR_NUL, b"").replace(LF, b"")


def framed_letters(framed: bytes) -> bytes:
    """Return a framer's output without line ends. A CR before an LF is text in this output."""
    return framed.replace(LF, b"")


# --- by example ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("stream", "block"),
    [
        pytest.param(b"hello\n", b"hello\n", id="LINE-1: a line"),
        pytest.param(b"hello\r\n", b"hello\n", id="LINE-1: CR LF counts as LF"),
        pytest.param(b"a\nb\nc\n", b"a\nb\nc\n", id="LINE-3: lines"),
        pytest.param(b"a\r\nb\nc\r\n", b"a\nb\nc\n", id="LINE-3: lines of both kinds"),
        pytest.param(b"\n", b"\n", id="LINE-4: an empty line"),
        pytest.param(b"\r\n\n\r\n", b"\n\n\n", id="LINE-4: empty lines"),
        pytest.param(b"", b"", id="nothing"),
        pytest.param(b"he", b"", id="no line yet"),
        pytest.param(b"a\nhe", b"a\n", id="a line, and no other yet"),
        pytest.param(b"a\rb\n", b"a\rb\n", id="CR alone is no line end"),
        pytest.param(b"a\r\r\n", b"a\r\n", id="one CR is the line end's"),
        pytest.param(b"a\n\rb\n", b"a\n\rb\n", id="LF CR is not CR LF"),
        pytest.param(b"a\r\0", b"a\n", id="LINE-1: CR NUL counts as LF"),
        pytest.param(b"a\r\0b\r\n\r\0c\n", b"a\nb\n\nc\n", id="LINE-3: lines of all kinds"),
        pytest.param(b"a\0b\n\0", b"a\0b\n", id="NUL alone is no line end"),
        pytest.param(b"a\r\r\0\n", b"a\r\n\n", id="NUL takes one CR"),
        pytest.param(NOP + b"hi" + DO_TIMING_MARK + b"\n" + NOP, b"hi\n", id="telnet commands"),
        pytest.param(b"\xff\xfa\nx\n\xff\xf0a\n", b"a\n", id="LF in a telnet command"),
        pytest.param(b"\xff\n", b"\xfe\n", id="TEXT-2: 0xFF alone"),
        pytest.param(b"12345678\n", b"12345678\n", id="LINE-7: the maximum length"),
        pytest.param(b"12345678\r\n", b"12345678\n", id="LINE-7: CR LF does not count"),
        pytest.param(b"123456789\n", b"12345678\n9\n", id="LINE-7: too long"),
        pytest.param(b"12345678" * 2 + b"\n", b"12345678\n" * 2, id="LINE-7: twice as long"),
        pytest.param(b"123456789", b"12345678\n", id="LINE-7: too long, no end yet"),
        pytest.param(b"1234567" + EURO + b"\n", b"1234567\n" + EURO + b"\n", id="TEXT-1"),
        pytest.param(b"a\n" + b"x" * 9 + b"\nb\n", b"a\n" + b"x" * 8 + b"\nx\nb\n", id="one of 3"),
    ],
)
def test_a_block_holds_the_complete_messages(stream: bytes, block: bytes) -> None:
    assert Framer(LIMIT).feed(stream) == block


def test_line_7_a_line_of_2048_bytes_arrives_whole() -> None:
    line = b"x" * 2048 + LF
    assert Framer(8192).feed(line) == line


def test_line_2_a_line_in_pieces_is_one_message() -> None:
    framer = Framer(LIMIT)
    assert [framer.feed(piece) for piece in (b"h", b"el", b"lo", b"\n")] == [
        b"",
        b"",
        b"",
        b"hello\n",
    ]


@pytest.mark.parametrize(
    ("fed", "flushed", "waits"),
    [
        pytest.param(b"", b"", b"", id="nothing"),
        pytest.param(b"a\n", b"", b"", id="nothing after a line"),
        pytest.param(b"hel", b"hel", b"", id="text"),
        pytest.param(b"a\nhel", b"hel", b"", id="text after a line"),
        pytest.param(b"hel\r", b"hel", b"\r", id="a CR waits for its LF"),
        pytest.param(b"\r", b"", b"\r", id="a CR alone waits"),
        pytest.param(b"\r\r", b"\r", b"\r", id="the last CR waits"),
        pytest.param(b"a" + EURO, b"a" + EURO, b"", id="a character"),
        pytest.param(b"a" + EURO[:1], b"a", EURO[:1], id="a third of a character"),
        pytest.param(b"a" + EURO[:2], b"a", EURO[:2], id="two thirds of a character"),
        pytest.param(SMILE[:3], b"", SMILE[:3], id="three quarters of a character"),
        pytest.param(b"a\xfe", b"a\xfe", b"", id="a byte that begins no character"),
        pytest.param(EURO[:2] + b"a", EURO[:2] + b"a", b"", id="an interrupted character"),
        pytest.param(EURO[1:], EURO[1:], b"", id="a character's end"),
        pytest.param(b"12345678\r", b"12345678", b"\r", id="full line, CR"),
    ],
)
def test_line_5_silence_ends_text_that_waits_for_no_more_bytes(
    fed: bytes, flushed: bytes, waits: bytes
) -> None:
    framer = Framer(LIMIT)
    framer.feed(fed)
    assert framer.unfinished == bool(flushed)
    assert framer.flush() == flushed
    assert not framer.unfinished
    assert framer.framed == len(fed) - len(waits)
    assert framer.flush() == b""
    assert framer.close() == waits


def test_line_5_a_character_cut_by_silence_arrives_whole() -> None:
    framer = Framer(LIMIT)
    assert framer.feed(b"a" + SMILE[:2]) == b""
    assert framer.flush() == b"a"
    assert framer.feed(SMILE[2:] + LF) == SMILE + LF


def test_line_1_a_cr_lf_cut_by_silence_ends_one_line() -> None:
    framer = Framer(LIMIT)
    assert framer.feed(b"a\r") == b""
    assert framer.flush() == b"a"
    assert framer.feed(b"\nb\n") == b"\nb\n"


def test_line_7_the_limit_counts_from_the_last_silence() -> None:
    framer = Framer(LIMIT)
    framer.feed(b"12345")
    assert framer.flush() == b"12345"
    assert framer.feed(b"12345678\n") == b"12345678\n"


def test_text_after_a_silence_covers_the_telnet_commands_before_its_end() -> None:
    framer = Framer(LIMIT)
    framer.feed(NOP + b"a" + NOP + b"b" + EURO[:1] + NOP + EURO[1:2] + NOP)
    assert framer.framed == len(NOP)
    assert framer.flush() == b"ab"
    assert framer.framed == len(NOP + b"a" + NOP + b"b")
    assert framer.feed(EURO[2:] + LF) == EURO + LF
    assert framer.framed == framer.fed


def test_line_5_a_silence_inside_a_telnet_command() -> None:
    framer = Framer(LIMIT)
    assert framer.feed(b"a" + DO_TIMING_MARK[:1]) == b""
    assert framer.flush() == b"a"
    assert not framer.unfinished
    assert framer.feed(DO_TIMING_MARK[1:]) == b""
    assert framer.answers == b"\xff\xfb\x06"
    assert framer.framed == framer.fed


def test_telnet_commands_without_an_answer_are_noted() -> None:
    framer = Framer(LIMIT)
    framer.feed(NOP)
    assert framer.answers == b""
    framer.feed(DO_TIMING_MARK)
    framer.feed(DO_TIMING_MARK)
    assert framer.answers == b"\xff\xfb\x06" * 2


def test_leave_2_an_incomplete_telnet_command_is_no_last_word() -> None:
    framer = Framer(LIMIT)
    framer.feed(b"bye" + DO_TIMING_MARK[:2])
    assert framer.close() == b"bye"
    assert framer.framed == framer.fed
    framer.feed(b"bye\xff")
    assert framer.close() == b"bye\xfe"


def test_few_telnet_commands_wait_with_an_unfinished_line() -> None:
    """The limit makes the waiting input fit into a slot (Settings.input_size)."""
    framer = Framer(LIMIT)
    framed = b""
    for _ in range(MAX_COMMANDS):
        framed += framer.feed(b"a" + NOP * 7)
        assert framer.fed - framer.framed <= LIMIT + MAX_COMMANDS
    assert framed.replace(LF, b"") + framer.close() == b"a" * MAX_COMMANDS
    assert framer.feed(b"a" + NOP * MAX_COMMANDS) == b"a\n"


def test_a_line_with_many_telnet_commands_is_split() -> None:
    """Each waiting telnet command occupies memory, so their number is limited."""
    framer = Framer(2 * MAX_GAPS)
    assert framer.feed((b"a" + NOP) * MAX_GAPS) == b""
    assert framer.feed(b"a" + NOP) == b"a" * (MAX_GAPS + 1) + LF


@pytest.mark.parametrize("waits", [b"hel", b"a\r", EURO[:2], b"12345678\r"])
def test_leave_2_the_end_of_input_ends_waiting_text(waits: bytes) -> None:
    framer = Framer(LIMIT)
    assert framer.feed(waits) == b""
    assert framer.framed == 0
    assert framer.close() == waits
    assert framer.framed == len(waits)
    assert framer.close() == b""


# --- cut anywhere --------------------------------------------------------------------------------

SHORT_AND_TRICKY = (
    b"a\r\n\r\r\n"
    + "é€😀\n".encode()
    + b"1234567"
    + SMILE
    + b"\r\n\n12345678\r\n12345678\r\r\n\xe2\x82x\xf0\x9fe"
    + DO_TIMING_MARK
    + b"nd\r\0\xff\xfa\n\xff\xf0\xff\xff\xff\r"
)


def every_cut(pieces: int) -> Iterator[list[bytes]]:
    for places in combinations(range(len(SHORT_AND_TRICKY) + 1), pieces - 1):
        yield cut(SHORT_AND_TRICKY, *places)


@pytest.mark.parametrize("pieces", [2, 3])
def test_line_2_every_cut_gives_the_same_messages(pieces: int) -> None:
    expected = whole(SHORT_AND_TRICKY)
    for piece in every_cut(pieces):
        assert in_pieces(piece) == expected, piece


def test_line_2_byte_by_byte_gives_the_same_messages() -> None:
    stream = SHORT_AND_TRICKY
    assert in_pieces([stream[at : at + 1] for at in range(len(stream))]) == whole(stream)


@given(streams | binary(), lists(integers(0, 60), max_size=6).map(sorted), limits)
@example(b"1234\r\r\n", [6], 4)
def test_line_2_no_cut_changes_the_messages(stream: bytes, places: list[int], limit: int) -> None:
    assert in_pieces(cut(stream, *places), limit) == whole(stream, limit)


# --- nothing is lost or added --------------------------------------------------------------------


@given(streams | binary())
def test_cast_3_short_lines_change_only_in_cr_lf(stream: bytes) -> None:
    """CAST-3: only CR LF, CR NUL and telnet commands change."""
    assert whole(stream, 1 << 20) == without_commands(stream).replace(CRLF, LF).replace(CR_NUL, LF)


@given(streams | binary(), limits)
def test_line_7_line_ends_are_added_and_nothing_is_lost(stream: bytes, limit: int) -> None:
    assert framed_letters(whole(stream, limit)) == letters(stream)


@given(text(alphabet="aé€😀", min_size=1), limits)
def test_line_7_a_long_line_is_cut_at_the_last_possible_character(line: str, limit: int) -> None:
    framer = Framer(limit)
    pieces = [piece.decode() for piece in framer.feed(line.encode() + LF).splitlines()]
    assert "".join(pieces) == line
    for piece, following in pairwise(pieces):
        assert len(piece.encode()) <= limit < len((piece + following[0]).encode())
    assert len(pieces[-1].encode()) <= limit


@given(binary(min_size=40), limits)
def test_line_7_no_message_is_longer_than_the_limit(stream: bytes, limit: int) -> None:
    lines = whole(stream, limit).split(LF)
    # A CR or 0xFF at the end does not count, because it waits for an LF or for the rest of a
    # command.
    last = lines[-1].removesuffix(telnet.LITERAL).removesuffix(b"\r")
    assert max(map(len, [*lines[:-1], last])) <= limit


# --- `framed` ------------------------------------------------------------------------------------

#: Steps of a worker: feed input to the framer, or flush the framer after a silence (None).
histories = lists(none() | streams | binary(max_size=20), max_size=8)


def run(framer: Framer, history: list[bytes | None]) -> list[bytes]:
    return [framer.flush() if piece is None else framer.feed(piece) for piece in history]


@given(histories, limits)
def test_all_input_is_either_returned_or_waiting(history: list[bytes | None], limit: int) -> None:
    framer = Framer(limit)
    framed, fed = b"", b""
    for piece in history:
        framed += b"".join(run(framer, [piece]))
        fed += piece or b""
        waits = fed[framer.framed :]
        assert framed_letters(framed) + without_commands(waits) == letters(fed)
        text = telnet.parse(waits).text
        assert len(text.removesuffix(b"\r")) <= limit
        assert LF not in text


@given(histories, histories, limits)
def test_a_new_framer_continues_at_the_framed_offset_of_the_old_one(
    before: list[bytes | None], after: list[bytes | None], limit: int
) -> None:
    old = Framer(limit)
    run(old, before)
    fed = b"".join(piece for piece in before if piece is not None)
    new = Framer(limit)
    assert new.feed(fed[old.framed :]) == b"", "waiting text is a message only later"
    assert new.unfinished == old.unfinished
    assert run(new, after) == run(old, after)
    assert new.close() == old.close()
