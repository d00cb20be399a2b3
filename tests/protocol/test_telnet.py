"""Tests of how telnet commands are separated from text."""

import pytest
from hypothesis import given
from hypothesis.strategies import binary, lists, sampled_from

from chatroom.protocol.telnet import MAX_ANSWERS, MAX_PARAMETER, parse

IAC, SE, NOP, IP, SB = 0xFF, 0xF0, 0xF1, 0xF4, 0xFA
WILL, WONT, DO, DONT = 0xFB, 0xFC, 0xFD, 0xFE
ECHO, TIMING_MARK, WINDOW_SIZE = 1, 6, 31


def iac(*codes: int) -> bytes:
    return bytes([IAC, *codes])


@pytest.mark.parametrize(
    ("sent", "text"),
    [
        pytest.param(b"hello\n", b"hello\n", id="plain text"),
        pytest.param("é€😀".encode(), "é€😀".encode(), id="UTF-8"),
        pytest.param(b"a" + iac(NOP) + b"b", b"ab", id="a command"),
        pytest.param(iac(IP) + iac(DO, TIMING_MARK) + b"a", b"a", id="Ctrl-C"),
        pytest.param(b"a" + iac(0xED) + iac(0xEE) + b"b", b"ab", id="SUSP and ABORT (RFC 1184)"),
        pytest.param(b"a" + iac(WILL, 0x0A) + b"b", b"ab", id="an option may have the code of LF"),
        pytest.param(iac(SB, 24, 0) + b"xterm\n" + iac(SE) + b"b", b"b", id="a parameter"),
        pytest.param(iac(SB, 31, 0) + iac(IAC) + iac(SE) + b"b", b"b", id="0xFF in a parameter"),
        pytest.param(iac(SB, 24) + iac(NOP) + b"b", b"b", id="a parameter without an end"),
        pytest.param(b"a" + iac(IAC) + b"b", b"a\xfeb", id="0xFF as text"),
        pytest.param(b"\xff\n", b"\xfe\n", id="Latin-1: a letter, and a line end"),
        pytest.param(b"\xffa\xef\xffb", b"\xfea\xef\xfeb", id="Latin-1: letters"),
        pytest.param(
            iac(SB) + b"x" * (MAX_PARAMETER + 1) + iac(SE),
            b"\xfe\xfa" + b"x" * (MAX_PARAMETER + 1),
            id="a parameter that is too long is text; SE alone is a command",
        ),
    ],
)
def test_commands_are_not_text(sent: bytes, text: bytes) -> None:
    parsed = parse(sent)
    assert (parsed.text, parsed.incomplete) == (text, b"")
    assert len(parsed.text) + sum(size for _, size in parsed.gaps) == len(sent)


@pytest.mark.parametrize(
    "incomplete",
    [iac(), iac(DO), iac(SB), iac(SB, 24, 0), iac(SB, 24, IAC), iac(SB, 24, IAC, IAC, IAC)],
)
def test_an_incomplete_command_waits(incomplete: bytes) -> None:
    assert parse(b"a" + incomplete) == (b"a", [], incomplete, b"", 0)


def test_gaps_are_where_bytes_were_removed() -> None:
    parsed = parse(b"a" + iac(NOP) + b"bc" + iac(IAC) + iac(DO, ECHO) + b"d")
    # The gap of a doubled 0xFF is after the byte that replaces it.
    assert (parsed.text, parsed.gaps) == (b"abc\xfed", [(1, 2), (4, 1), (4, 3)])


@pytest.mark.parametrize(
    ("sent", "answers"),
    [
        pytest.param(iac(DO, TIMING_MARK), iac(WILL, TIMING_MARK), id="Ctrl-C waits for it"),
        pytest.param(iac(DO, ECHO), iac(WONT, ECHO), id="DO"),
        pytest.param(iac(WILL, WINDOW_SIZE), iac(DONT, WINDOW_SIZE), id="WILL"),
        pytest.param(iac(DO, 0xFF), iac(WONT, 0xFF), id="the option 255"),
        pytest.param(iac(WONT, ECHO) + iac(DONT, ECHO), b"", id="answers are not answered"),
        pytest.param(iac(NOP) + iac(0xF6), b"", id="commands"),
        pytest.param(iac(SB, 24, 0) + iac(SE), b"", id="a parameter"),
        pytest.param(
            iac(WILL, 31) + b"x" + iac(DO, 3) + iac(WILL, 24),
            iac(DONT, 31) + iac(WONT, 3) + iac(DONT, 24),
            id="in order",
        ),
        pytest.param(
            iac(DO, ECHO) * 1000, iac(WONT, ECHO) * MAX_ANSWERS, id="a flood gets few answers"
        ),
    ],
)
def test_all_requests_but_a_timing_mark_are_refused(sent: bytes, answers: bytes) -> None:
    assert parse(sent).answers == answers


CODES = bytes([*b"a\n\x06", SE, NOP, SB, WILL, WONT, DO, DONT, IAC, IAC, IAC])
streams = lists(sampled_from(CODES), max_size=24).map(bytes)


@given(streams | binary())
def test_no_iac_is_left_and_nothing_is_lost(sent: bytes) -> None:
    parsed = parse(sent)
    assert IAC not in parsed.text
    removed = sum(size for _, size in parsed.gaps)
    assert len(parsed.text) + removed + len(parsed.incomplete) == len(sent)
    assert sent.endswith(parsed.incomplete)


@given(streams | binary(), streams | binary())
def test_the_result_does_not_depend_on_pieces(first: bytes, second: bytes) -> None:
    before = parse(first)
    after = parse(before.incomplete + second)
    whole = parse(first + second)
    assert whole.text == before.text + after.text
    assert whole.incomplete == after.incomplete
    assert whole.answers == (before.answers + after.answers)[: len(whole.answers)]
