"""Find the first difference between the expected bytes and the received bytes. Pure."""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass

from harness.wording import as_text

SHOWN = 96
"""Maximum size (bytes) of each text if both are shown whole."""
AROUND = 24
"""Maximum number of bytes to show before the difference, of the difference, and after it, if the
texts are not shown whole."""
IN_HEX = 8
"""Maximum number of bytes of the difference that are also shown in hexadecimal."""


@dataclass(frozen=True)
class Side:
    """One of the two texts, escaped, in three parts: before the difference, the different part, and
    after it. hex: the first bytes of the different part."""

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
    """The first difference between two texts. at: index of its first byte in both texts. sizes:
    number of bytes of the expected and of the received text."""

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
    """Return the first difference of two texts; None if they are equal, or too different.

    Two texts are too different if they have fewer than four bytes in common at the beginning and at
    the end together. Then the received text is probably another text, and not the expected text
    with an error.
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
    """Return the number of equal bytes at the beginning of two texts."""
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
    """Return the last bytes of a text, starting at the beginning of a character."""
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
