"""The first difference between the expected bytes and those that arrived. Pure."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from harness.wording import as_text

SHOWN = 96
"""Maximum number of bytes of two texts that are shown whole."""
AROUND = 24
"""Bytes shown before the difference and after it, in a longer text."""
IN_HEX = 8
"""Bytes of the difference that are shown in hexadecimal, too."""


@dataclass(frozen=True)
class Side:
    """One of the two texts, escaped, in three parts: the second is what differs."""

    name: str
    before: str
    differs: str
    after: str
    hex: str

    @property
    def text(self) -> str:
        return f'"{self.before}{self.differs}{self.after}"'


@dataclass(frozen=True)
class Difference:
    """The first difference, at byte `at` (from 0) of both texts, which have `sizes` bytes."""

    at: int
    sizes: tuple[int, int]
    expected: Side
    actual: Side

    @property
    def place(self) -> str:
        one, other = self.sizes
        sizes = f"{one:,} bytes" if one == other else f"{one:,} bytes expected, {other:,} received"
        return f"from byte {self.at + 1:,} on ({sizes})"


def difference(expected: bytes, actual: bytes) -> Difference | None:
    """Return the first difference of two texts; None if they have too little in common.

    Then the one is not the other with an error, but something else.
    """
    at = _common(expected, actual)
    end = _common(expected[at:][::-1], actual[at:][::-1])
    if expected == actual or at + end < max(1, min(4, len(expected), len(actual))):
        return None
    while end and expected[len(expected) - end] & 0xC0 == 0x80:
        end -= 1
    while at and expected[at : at + 1] and expected[at] & 0xC0 == 0x80:  # inside a character
        at -= 1
    whole = max(len(expected), len(actual)) <= SHOWN
    sides = [
        _side(name, text, at, max(at, len(text) - end), whole=whole)
        for name, text in (("expected", expected), ("received", actual))
    ]
    return Difference(at, (len(expected), len(actual)), *sides)


def _common(one: bytes, other: bytes) -> int:
    """Return the number of bytes that two texts have in common at their beginning."""
    for number, (here, there) in enumerate(zip(one, other, strict=False)):
        if here != there:
            return number
    return min(len(one), len(other))


def _side(name: str, text: bytes, begin: int, end: int, *, whole: bool) -> Side:
    before, differs, after = text[:begin], text[begin:end], text[end:]
    cut = not whole and len(differs) > AROUND
    return Side(
        name,
        as_text(before) if whole else _last(before),
        as_text(differs[:AROUND]) + "…" if cut else as_text(differs),
        as_text(after) if whole else "" if cut else _first(after),
        differs[:IN_HEX].hex(" ") + (" …" if len(differs) > IN_HEX else ""),
    )


def _last(text: bytes) -> str:
    """Return the last bytes of a text, from the beginning of a character on."""
    if len(text) <= AROUND:
        return as_text(text)
    shown = text[-AROUND:]
    while shown and shown[0] & 0xC0 == 0x80:
        shown = shown[1:]
    return "…" + as_text(shown)


def _first(text: bytes) -> str:
    """Return the first bytes of a text, up to the end of a character."""
    size = AROUND
    while size < len(text) and text[size] & 0xC0 == 0x80:
        size += 1
    return as_text(text[:size]) + ("…" if size < len(text) else "")


def columns(text: str) -> int:
    """Return the number of columns that a text takes on a terminal."""
    return sum(
        0 if unicodedata.combining(char) else 2 if unicodedata.east_asian_width(char) in "WF" else 1
        for char in text
    )
