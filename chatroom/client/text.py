"""Pure functions that make text safe to show at a terminal, even if the room did not sanitise it.

`printable` (TEXT-3) replaces control characters by visible characters. The client also replaces a
few characters that terminals show in different ways, and keeps the direction of each line.
"""

import re
from collections.abc import Callable

from chatroom.protocol.text import REPLACEMENT, printable

LEFT_TO_RIGHT = "\N{LEFT-TO-RIGHT MARK}"

# Noncharacters. The window uses one of them itself (FILLER).
_NONCHARACTER = "[\ufdd0-\ufdef]"
# Tags are invisible, so a sequence of them may be hidden text. Tags after a black flag name a
# region.
_HIDDEN = "(?<![\U0001f3f4\U000e0000-\U000e007f])[\U000e0000-\U000e007f]+"
_DISPUTED = re.compile(f"{_NONCHARACTER}|{_HIDDEN}")

# The blocks of the scripts that run from right to left (Bidi_Class R and AL), and their digits.
_RIGHT_TO_LEFT = re.compile(
    "[\u0590-\u08ff\ufb1d-\ufdcf\ufdf0-\ufdff\ufe70-\ufefe\U00010800-\U00010fff\U0001e800-\U0001efff]"
)


def visible(text: str) -> str:
    """Return `printable(text)`, with U+FFFD in place of noncharacters and hidden text."""
    shown = printable(text)
    return shown if shown.isascii() else _DISPUTED.sub(REPLACEMENT, shown)


class LeftToRight:
    """A mark in each line that has right-to-left letters, so that the line runs left to right.

    Some terminals show a line in the direction of its first letter. If a message begins with a
    Hebrew letter, such a terminal shows the prefix after the text, and the text may look like
    another prefix. The mark U+200E counts as a left-to-right letter and has no width. It is
    inserted before the line's first right-to-left letter.
    """

    def __init__(self) -> None:
        self._marked = False  # True if the current line has its mark already.

    def mark(self, text: str) -> str:
        """Return `text`, which continues the text of earlier calls, with its marks."""
        if text.isascii() and not self._marked:
            return text
        return "".join(map(self._mark, re.split("(?<=\\n)", text)))

    def _mark(self, part: str) -> str:
        if not self._marked and (found := _RIGHT_TO_LEFT.search(part)):
            part = part[: found.start()] + LEFT_TO_RIGHT + part[found.start() :]
            self._marked = True
        if part.endswith("\n"):
            self._marked = False
        return part


def at_terminal() -> Callable[[str], str]:
    """Return a function that makes the parts of a text, in order, safe to show at a terminal."""
    marks = LeftToRight()
    return lambda text: marks.mark(visible(text))


def left_to_right(row: str) -> str:
    """Return a row with its mark: see `LeftToRight`."""
    return LeftToRight().mark(row)
