"""The division of the room's bytes into lines."""

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatroom.sidecars.web import stream
from chatroom.sidecars.web.stream import LineStream

TEXT = "Welcome\n<192.0.2.1>grüße 🎉\r\n\n<::1>x".encode()
LINES = ["Welcome", "<192.0.2.1>grüße 🎉", ""]


def test_lines_arrive_whole() -> None:
    lines = LineStream()
    assert lines.feed(TEXT) == LINES
    assert lines.unfinished == "<::1>x"
    assert lines.feed(b"y\n") == ["<::1>xy"]
    assert lines.unfinished == ""


def test_lines_arrive_byte_by_byte() -> None:
    lines = LineStream()
    assert [line for byte in TEXT for line in lines.feed(bytes([byte]))] == LINES


@given(st.lists(st.integers(0, len(TEXT)), max_size=8))
def test_lines_arrive_in_any_pieces(cuts: list[int]) -> None:
    lines, edges = LineStream(), [0, *sorted(cuts), len(TEXT)]
    pieces = [TEXT[start:end] for start, end in itertools.pairwise(edges)]
    assert [line for piece in pieces for line in lines.feed(piece)] == LINES
    assert lines.unfinished == "<::1>x"


def test_an_incomplete_character_is_not_shown() -> None:
    lines = LineStream()
    lines.feed("ü".encode()[:1])
    assert lines.unfinished == ""
    lines.feed("ü".encode()[1:] + b"\r")
    assert lines.unfinished == "ü"


def test_bytes_that_are_not_utf_8_become_replacement_characters() -> None:
    assert LineStream().feed(b"a\xffb\n") == ["a\ufffdb"]


def test_a_room_that_never_ends_a_line_does_not_fill_the_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(stream, "LONGEST", 10)
    lines = LineStream()
    assert lines.feed(b"0123456789") == []
    assert lines.feed(b"a") == ["0123456789a"]
    assert lines.unfinished == ""
