"""What was said, line by line. Pure: text in, lines out.

Text arrives cut anywhere; a line that has yet to end grows where it stands, whatever came below it.
Nothing here is trusted: what is kept is `printable`.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from chatroom.protocol.text import printable

YOU = "<You>"
#: Before what the client itself has to say.
NOTICE = "── "

#: Lines that are kept; when there are as many again by a tenth, the oldest go.
KEPT = 10_000
#: Characters after which a line that does not end is ended all the same.
LONGEST = 16 * 1024
#: People who are told apart; when there are more, it begins anew.
PEOPLE = 1000

TAB = 8

# What stands before a message (PREFIX-1): an address, of IPv4 or IPv6, or another room's word for
# who it is, as <room>, <192.0.2.10#7>. Of other prefixes nobody can tell where they end.
_SENDER = re.compile(r"<[^<>\s]{1,64}>")

# What joins emoji, or alters the one before it: terminals disagree on how many cells that takes,
# and where they do, what stands beside it goes astray. So each emoji is shown by itself. (Tags, the
# last ones, make flags of regions, and are good for nothing else but text that nobody sees.)
_ALTERS_EMOJI = re.compile(
    "[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff\U000e0000-\U000e007f]"
    "|(?<=[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d"
)

Kind = Literal["said", "own", "notice"]


@dataclass(slots=True)
class Line:
    """`head` is whose it is: a sender's prefix, one's own, or nothing; `person` tells which.

    `rest`: it goes on with the line before, which was too long, and is nobody else's.
    """

    kind: Kind
    at: float
    text: str = ""
    head: str = ""
    person: int = 0
    rest: bool = False

    def clock(self) -> str:
        return time.strftime("%H:%M ", time.localtime(self.at))

    @property
    def shown(self) -> str:
        """As one character a column, or two, or none, for all terminals alike."""
        return (self.head + _ALTERS_EMOJI.sub("", self.text)).expandtabs(TAB)


class Conversation:
    """The lines, oldest first. `dropped`: how many there were before them."""

    def __init__(self, now: Callable[[], float] = time.time) -> None:
        self.lines: list[Line] = []
        self.dropped = 0
        self._now = now
        self._open: Line | None = None  # It arrived, and has yet to end.
        self._greeted = False  # The first line since the connection was made is there.
        self._people: dict[str, int] = {}

    @property
    def total(self) -> int:
        """How many lines there have been, ever."""
        return self.dropped + len(self.lines)

    def arrived(self, text: str) -> bool:
        """The room sent `text`. Returns whether a line began that is not its greeting.

        (A prefix does not tell: a room may have any.)
        """
        said = False
        *ended, rest = printable(text).split("\n")
        for piece in ended:
            said |= self._grow(piece)
            self._open = None
        if rest:
            said |= self._grow(rest)
        return said

    def ended(self) -> None:
        """The connection is gone: what comes next belongs to no line that is there."""
        self._open = None
        self._greeted = False

    def own(self, text: str) -> None:
        """The user sent `text`."""
        self._add(Line("own", self._now(), printable(text), YOU))

    def note(self, words: str) -> None:
        """The client itself has something to say."""
        self._add(Line("notice", self._now(), printable(words), NOTICE))

    def _grow(self, piece: str) -> bool:
        """Returns whether this begins a line, after the first."""
        said = self._open is None and self._greeted
        if self._open is None:
            self._open = self._add(Line("said", self._now()))
            self._greeted = True
        line = self._open
        line.text += piece
        if not (line.head or line.rest) and (sender := _SENDER.match(line.text)):
            line.head = sender[0]
            line.text = line.text[sender.end() :]
            line.person = self._person(line.head)
        while len(line.text) > LONGEST:
            rest = line.text[LONGEST:]
            line.text = line.text[:LONGEST]
            line = self._open = self._add(Line("said", self._now(), rest, rest=True))
        return said

    def _person(self, head: str) -> int:
        """Whose line it is: 0, 1 … in the order in which they first spoke."""
        if len(self._people) >= PEOPLE:
            self._people.clear()
        return self._people.setdefault(head, len(self._people))

    def _add(self, line: Line) -> Line:
        self.lines.append(line)
        if len(self.lines) > KEPT + KEPT // 10:
            gone = len(self.lines) - KEPT
            del self.lines[:gone]
            self.dropped += gone
        return line
