"""Which rows of a conversation are on the screen. Pure.

Rows are made here, and not by prompt_toolkit's windows: those take a row's cells for a line's
length divided by the width, so that of wide characters, which do not fit at every right edge, the
last ones are lost below the screen. And a line is broken between words.
"""

from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from prompt_toolkit.utils import get_cwidth

from chatroom.client.view.conversation import Conversation, Line
from chatroom.protocol.text import REPLACEMENT

#: Characters without a width of their own, accents above all, that one cell holds. Writing systems
#: need four or so; prompt_toolkit takes time and memory for the square of their number.
ACCENTS = 8
#: Cells before a row in which a line goes on, on a screen that is not too narrow for it.
INDENT = 2


def calm(text: str) -> str:
    """`text`, where each accent that is one too many for its cell is made visible."""
    if text.isascii():
        return text
    shown = []
    accents = 0
    for char in text:
        accents = 0 if get_cwidth(char) else accents + 1
        shown.append(char if accents <= ACCENTS else REPLACEMENT)
    return "".join(shown)


@lru_cache(4096)
def wrap(text: str, width: int, head: int = 0, *, rest: bool = False) -> tuple[str, ...]:
    """`text` as rows of at most `width` cells, broken behind a space where that can be.

    Its first `head` characters, which say when it came and whose it is, are one word with the next.
    Every row but the first is indented, and of a line's `rest` this one too: else what somebody
    says could be broken so that it looked like what another says.
    """
    text = calm(text)
    indent = " " * min(INDENT, width // 4)
    margin = indent if rest else ""
    rows = []
    start = index = 0
    used = len(margin)
    space = -1  # Behind it the row may end.
    while index < len(text):
        char = text[index]
        cells = get_cwidth(char)
        # A row holds one character at least; a space may hang over its edge, unseen.
        if cells and used + cells > width and index > start and char != " ":
            end = space if space > start else index
            rows.append(margin + text[start:end].rstrip(" "))
            margin = indent
            start = index = end
            used = len(margin)
            continue
        used += cells
        index += 1
        if char == " " and index > head:
            space = index
    rows.append(margin + text[start:])
    return tuple(rows)


#: More rows than any line has.
WHOLE = 1 << 30


class Place(NamedTuple):
    """A row: of which line, counted from the first that there ever was, and which of its rows."""

    line: int
    row: int


class Row(NamedTuple):
    place: Place
    text: str
    line: Line


class Pages:
    """What is seen of a conversation: its end, until one scrolls away from it."""

    def __init__(self, conversation: Conversation, *, clock: bool = False) -> None:
        self._conversation = conversation
        self._clock = clock
        self._last: Place | None = None  # The lowest row that is seen; None: the last there is.
        self._seen = 0  # How many lines, of all that there have been.
        self._width, self._height = 80, 24

    @property
    def unread(self) -> int:
        """Lines below what has been seen."""
        return self._conversation.total - self._seen

    @property
    def scrolled(self) -> bool:
        return self._last is not None

    def show(self, width: int, height: int) -> list[Row]:
        """The rows that are on a screen of this size; they have been seen now."""
        self._width, self._height = max(width, 1), height
        rows = list(islice(self._above(), height))
        if rows:
            self._seen = max(self._seen, rows[0].place.line + 1)
        return rows[::-1]

    def end(self) -> None:
        """Go to the end, and stay there."""
        self._last = None

    def page(self, direction: int) -> None:
        """Up (-1) or down (1), and one row of what was seen stays."""
        self.scroll(direction * max(self._height - 1, 1))

    def scroll(self, by: int) -> None:
        """So many rows down, or up where it is less than 0."""
        if by < 0:
            rows = list(islice(self._above(), self._height - by))
            if len(rows) > self._height:  # Else all that is above is on the screen.
                self._last = rows[-self._height].place
        elif self._last:
            places = [self._lowest(), *islice(self._below(), by + 1)]
            self._last = places[by] if len(places) > by + 1 else None

    def _lowest(self) -> Place:
        """Return the lowest row that is seen; on a wider screen its line may have fewer rows."""
        if self._last is None:
            return Place(self._conversation.total - 1, WHOLE)
        return max(self._last, Place(self._conversation.dropped, 0))  # Its line may have gone.

    def _above(self) -> Iterator[Row]:
        """Yield the lowest row that is seen, and those above it, upwards."""
        lowest = self._lowest()
        dropped = self._conversation.dropped
        for number in range(lowest.line, dropped - 1, -1):
            line = self._conversation.lines[number - dropped]
            for row, text in reversed([*enumerate(self._rows(line))]):
                if (place := Place(number, row)) <= lowest:
                    yield Row(place, text, line)

    def _below(self) -> Iterator[Place]:
        """Yield the rows below the lowest that is seen, downwards."""
        lowest = self._lowest()
        dropped = self._conversation.dropped
        for number in range(lowest.line, self._conversation.total):
            for row in range(len(self._rows(self._conversation.lines[number - dropped]))):
                if (place := Place(number, row)) > lowest:
                    yield place

    def _rows(self, line: Line) -> tuple[str, ...]:
        clock = line.clock() if self._clock and not line.rest else ""
        head = len(clock) + len(line.head)
        return wrap(clock + line.shown, self._width, head, rest=line.rest)
