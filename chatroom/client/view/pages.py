"""The rows of a conversation that are on the screen.

prompt_toolkit's windows can wrap lines too, but they compute the number of rows as the length
divided by the width. A wide character may not fit at the right edge. Then a line needs more rows
than computed, and its end would be lost below the screen. Also, this module breaks lines between
words.
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from itertools import islice
from typing import NamedTuple

from prompt_toolkit.utils import get_cwidth

from chatroom.client.view.cells import FILLER, settled
from chatroom.client.view.conversation import Conversation, Line

#: Indentation (cells) of the second and later rows of a line; less on a very narrow screen.
INDENT = 2


# A web address, in the characters that RFC 3986 allows (`<` and `>` are not among them).
_URL = re.compile(r"https?://[!#-;=?-Z\[\]_a-z~]*[#-&*+/-9=?-Z_a-z~-]")


class UrlPart(NamedTuple):
    """A part of a row that belongs to a URL, which may continue in other rows."""

    start: int
    end: int
    url: str


class Wrapped(NamedTuple):
    text: str
    urls: tuple[UrlPart, ...] = ()


@lru_cache(4096)
def wrap(text: str, width: int, head: int = 0, *, rest: bool = False) -> tuple[Wrapped, ...]:
    """Split `text` into rows of at most `width` cells, after spaces if possible.

    The first `head` characters, which are the time and the sender, are kept together with the next
    word. Every row except the first is indented. If the line is the `rest` of another line, the
    first row is indented, too. Without the indentation, a sender could write a text whose second
    row looks like another sender's message. If the room's prefixes have brackets, a row that
    continues a URL is not indented, so that the URL can be copied. Such a row does not begin with a
    bracket, so it does not look like a message.
    """
    text = settled(text)
    urls = [found.span() for found in _URL.finditer(text)]
    bracketed = text[:head].endswith(">")
    if not text.isascii():
        # The last column stays free: there, terminals misplace an accent.
        width = max(1, width - 1)
    indent = " " * min(INDENT, width // 4)
    margin = indent if rest else ""
    rows = []
    start = index = 0
    used = len(margin)
    space = -1  # Index after the last space: the row may end there.
    while index < len(text):
        char = text[index]
        cells = get_cwidth(char)
        # A row holds at least one character. A space may lie beyond the right edge, where it is not
        # visible. A filler may lie in the free last column.
        if cells and used + cells > width and index > start and char not in (" ", FILLER):
            end = space if space > start else index
            rows.append(_row(text, start, end, margin, urls))
            cut = any(first < end < last for first, last in urls)
            margin = "" if cut and bracketed else indent
            start = index = end
            used = len(margin)
            continue
        used += cells
        index += 1
        if char == " " and index > head:
            space = index
    rows.append(_row(text, start, len(text), margin, urls, strip=False))
    return tuple(rows)


def _row(
    text: str, start: int, end: int, margin: str, urls: list[tuple[int, int]], *, strip: bool = True
) -> Wrapped:
    shown = text[start:end].rstrip(" ") if strip else text[start:end]
    left = len(margin) - start
    parts = [
        UrlPart(max(first, start) + left, min(last, end) + left, text[first:last])
        for first, last in urls
        if first < end and last > start
    ]
    return Wrapped(margin + shown, tuple(parts))


#: A number greater than the number of rows of any line.
WHOLE = 1 << 30


class Place(NamedTuple):
    """Place of a row: the number of its line (dropped lines count), and its number in the line."""

    line: int
    row: int


class Row(NamedTuple):
    place: Place
    text: str
    line: Line
    urls: tuple[UrlPart, ...]
    found: bool
    """True if a search has found the line."""


class Pages:
    """The visible part of a conversation: its end, unless the user has scrolled."""

    def __init__(self, conversation: Conversation, *, clock: bool = False) -> None:
        self._conversation = conversation
        self._clock = clock
        self._last: Place | None = None  # The lowest visible row; None: the last row.
        self._seen = 0  # Number of lines seen so far, including dropped lines.
        self._width, self._height = 80, 24
        self.found: int | None = None
        """Number of the line that a search has found (dropped lines count)."""
        self._sought = ""

    @property
    def unread(self) -> int:
        """Number of lines that have not been visible yet."""
        return self._conversation.total - self._seen

    @property
    def scrolled(self) -> bool:
        return self._last is not None

    def show(self, width: int, height: int) -> list[Row]:
        """Return the rows on a screen of this size, and count them as seen."""
        self._width, self._height = max(width, 1), height
        rows = list(islice(self._above(), height))
        if rows:
            self._seen = max(self._seen, rows[0].place.line + 1)
        return rows[::-1]

    def end(self) -> None:
        """Scroll to the end, and follow it."""
        self._last = self.found = None

    def page(self, direction: int) -> None:
        """Scroll a screen up (-1) or down (1), less one row."""
        self.scroll(direction * max(self._height - 1, 1))

    def scroll(self, by: int) -> None:
        """Scroll down by some rows, or up if `by` is negative."""
        if by < 0:
            rows = list(islice(self._above(), self._height - by))
            if len(rows) > self._height:  # Otherwise the first row is on the screen already.
                self._last = rows[-self._height].place
        elif self._last:
            places = [self._lowest(), *islice(self._below(), by + 1)]
            self._last = places[by] if len(places) > by + 1 else None

    def find(self, text: str) -> bool:
        """Scroll to the last line that contains `text`; if repeated, to the previous such line.

        Return False if there is no such line; the next search begins at the end again.
        """
        found = self.found if text == self._sought else None
        self._sought, self.found = text, None
        dropped = self._conversation.dropped
        end = self._conversation.total if found is None else found
        for number in reversed(range(dropped, end)):
            line = self._conversation.lines[number - dropped]
            if text and text.casefold() in line.shown.casefold():
                self._last, self.found = Place(number, WHOLE), number
                # If the line is one of the first lines, keep the screen full.
                self.scroll(self._height - len(list(islice(self._above(), self._height))))
                return True
        return False

    def _lowest(self) -> Place:
        """Return the place of the lowest visible row.

        If the screen has become wider, the row number may be higher than the last row of the line.
        """
        if self._last is None:
            return Place(self._conversation.total - 1, WHOLE)
        return max(self._last, Place(self._conversation.dropped, 0))  # the line may be dropped

    def _above(self) -> Iterator[Row]:
        """Yield the lowest visible row and the rows above it, upwards."""
        lowest = self._lowest()
        dropped = self._conversation.dropped
        for number in range(lowest.line, dropped - 1, -1):
            line = self._conversation.lines[number - dropped]
            for row, (text, urls) in reversed([*enumerate(self._rows(line))]):
                if (place := Place(number, row)) <= lowest:
                    yield Row(place, text, line, urls, number == self.found)

    def _below(self) -> Iterator[Place]:
        """Yield the places of the rows below the lowest visible row, downwards."""
        lowest = self._lowest()
        dropped = self._conversation.dropped
        for number in range(lowest.line, self._conversation.total):
            for row in range(len(self._rows(self._conversation.lines[number - dropped]))):
                if (place := Place(number, row)) > lowest:
                    yield place

    def _rows(self, line: Line) -> tuple[Wrapped, ...]:
        clock = line.clock() if self._clock and not line.rest else ""
        head = len(clock) + len(line.head)
        return wrap(clock + line.shown, self._width, head, rest=line.rest)
