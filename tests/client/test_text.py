"""Tests of text at a terminal: characters that are replaced, and the direction of a line."""

import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatroom.client.text import LEFT_TO_RIGHT, LeftToRight, left_to_right, visible


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("hello\tyou\n", "hello\tyou\n"),
        ("\x1b[2J\u202e", "␛[2J\ufffd"),
        ("a\u3164\u115f\u1160\uffa0b", "a\ufffd\ufffd\ufffd\ufffdb"),
        ("\u206a\u206f\ufff9\ufffb\ufdd0\ufdef", "\ufffd" * 6),
        ("hidden\U000e0068\U000e0069 text", "hidden\ufffd text"),
        ("🏴\U000e0067\U000e0062\U000e007f", "🏴\U000e0067\U000e0062\U000e007f"),
        ("나니 க்ஷ नमस्ते ﷽ 👩‍🔬", "나니 க்ஷ नमस्ते ﷽ 👩‍🔬"),
    ],
)
def test_disputed_characters_are_visible(text: str, seen: str) -> None:
    assert visible(text) == seen


def direction(line: str) -> str:
    """Return the direction that a terminal detects (rules P2 and P3 of Unicode's UAX #9)."""
    strong = (unicodedata.bidirectional(char) for char in line)
    return next(
        ("R" if found != "L" else "L" for found in strong if found in ("L", "R", "AL")), "L"
    )


#: Lines that a terminal would show from right to left, so that another prefix seems to be first.
TURNING = [
    "<127.0.0.5>\u05d0 <10.0.0.1>hello there",
    "<127.0.0.5>\u0661\u0627 <10.0.0.1>hello",
    "<127.0.0.5>\U0001e900 <10.0.0.1>hello",
    "<127.0.0.5>\ufe8d <10.0.0.1>hello",
    "  \u05d0 a further row",
    "\u05d0",
]


@pytest.mark.parametrize("line", TURNING)
def test_a_line_runs_from_left_to_right(line: str) -> None:
    """Prove PREFIX-4 for a terminal that detects the direction of each line."""
    assert direction(line) == "R"
    assert direction(left_to_right(line)) == "L"
    assert left_to_right(line).replace(LEFT_TO_RIGHT, "") == line


@pytest.mark.parametrize("line", ["<127.0.0.5>hello", "<::1>你好 é", ""])
def test_a_left_to_right_line_is_not_changed(line: str) -> None:
    assert left_to_right(line) == line


def test_every_right_to_left_letter_is_known() -> None:
    for char in map(chr, range(0x110000)):
        if unicodedata.bidirectional(char) in ("R", "AL") and visible(char) == char:
            assert LEFT_TO_RIGHT in left_to_right(char), f"U+{ord(char):04X}"


@given(st.lists(st.text("a \u05d0\u0627\n\u2029<1.0>")))
def test_each_line_is_marked_once_however_it_is_cut(parts: list[str]) -> None:
    marks = LeftToRight()
    cut = "".join(map(marks.mark, parts))
    whole = "".join(parts)
    assert cut == "\n".join(map(left_to_right, whole.split("\n")))
    assert all(line.count(LEFT_TO_RIGHT) <= 1 for line in cut.split("\n"))
