"""How much of the screen text takes. Pure.

Terminals disagree about some characters (joined emoji, the newest ones); where they do, a line
that wraps at such a character is drawn a cell off until the next one is typed.
"""

import unicodedata
from typing import NamedTuple

TAB = 8


class Place(NamedTuple):
    """Where the cursor is after text: rows below where it began, and cells from the left edge.

    A column equal to the width of the screen is no mistake: the row is full, and a terminal goes
    to the next row only when another character comes.
    """

    row: int
    column: int


def cells(char: str) -> int:
    """How many cells `char` takes: 2 (CJK, emoji), 1, or 0 (it joins what stands before it)."""
    if char < "\u0300":
        return 1
    # The second and third parts of a decomposed Hangul syllable join the first.
    if unicodedata.category(char) in ("Mn", "Me", "Cf") or "\u1160" <= char <= "\u11ff":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def place(text: str, columns: int, column: int = 0) -> Place:
    """Where the cursor is after `text` was written from `column` on a screen of `columns`."""
    row = 0
    for char in text:
        if char == "\t":
            # A tab stops at the right edge: it never wraps.
            column = max(column, min(column // TAB * TAB + TAB, columns - 1))
            continue
        width = cells(char)
        if column + width > columns:
            row, column = row + 1, 0
        column += width
    return Place(row, column)


def tail(text: str, room: int) -> str:
    """The end of `text` that surely fits into `room` cells; all of it, if it does."""
    for index in range(len(text) - 1, -1, -1):
        room -= TAB if text[index] == "\t" else cells(text[index])
        if room < 0:
            return text[index + 1 :]
    return text
