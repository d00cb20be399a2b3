"""The lines of the conversation, made from the text that arrives.

Text may be cut anywhere. An unfinished line grows in place, even after other lines were added below
it. No text is trusted: all text passes through `visible`.
"""

import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from chatroom.client.text import left_to_right, visible
from chatroom.protocol.message import ROOM_PREFIX

YOU = "<You>"
#: Prefix of the client's own notices.
NOTICE = "── "

#: Number of lines to keep. The oldest lines are dropped once there are 10 % more.
KEPT = 10_000
#: Maximum length of a line in characters; a longer line is split.
LONGEST = 16 * 1024
#: Number of senders to distinguish; after that, numbering starts again.
PEOPLE = 1000

TAB = 8

# The prefix of a message (PREFIX-1): an IPv4 or IPv6 address, or another form that the room uses,
# such as <room> or <192.0.2.10#7>. If a prefix has no brackets, its end can't be found.
_SENDER = re.compile(r"<[^<>\s]{1,64}>")

# The room's line before earlier messages (HIST-1), without its prefix.
_EARLIER = re.compile(r"([0-9][0-9,]{0,9}) earlier messages?:")
NOW = "earlier messages end here"

Kind = Literal["said", "own", "notice"]


@dataclass(slots=True)
class Line:
    """A line. `head` is the sender's prefix, YOU, NOTICE, or empty; `person` is the sender's
    number.

    `rest`: True if the line continues the previous line, which was too long.
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
    def logged(self) -> str:
        """The line in a log, with its date and time."""
        at = time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(self.at))
        return left_to_right(f"{at} {'  ' if self.rest else self.head}{self.text}")

    @property
    def shown(self) -> str:
        return (self.head + self.text).expandtabs(TAB)


class Conversation:
    """The lines, oldest first. `dropped`: number of earlier lines that were dropped."""

    def __init__(
        self,
        now: Callable[[], float] = time.time,
        finished: Callable[[Line], None] = lambda _line: None,
    ) -> None:
        """`finished`: called with each line once it is complete."""
        self.lines: list[Line] = []
        self.dropped = 0
        self._now = now
        self._finished = finished
        self._open: Line | None = None  # Unfinished line from the room.
        self._greeted = False  # True once a line has arrived on this connection.
        self._earlier: int | None = None
        """Number of earlier messages that follow; None: the next line may contain this number."""
        self._people: dict[str, int] = {}

    @property
    def total(self) -> int:
        """Number of lines so far, including dropped lines."""
        return self.dropped + len(self.lines)

    def arrived(self, text: str) -> bool:
        """Add text from the room. Return True if a line that is not the greeting began.

        The first line of a connection counts as the greeting: the greeting can't be recognised by
        its prefix, because a room may use any prefix.
        """
        said = False
        *ended, rest = visible(text).split("\n")
        for piece in ended:
            said |= self._grow(piece)
            self._finish()
        if rest:
            said |= self._grow(rest)
        return said

    def ended(self) -> None:
        """Note the end of the connection: later text begins a new line."""
        self._finish()
        self._greeted = False
        self._earlier = None

    def own(self, text: str) -> None:
        """Add a line that the user has sent."""
        self._finished(self._add(Line("own", self._now(), visible(text), YOU)))

    def note(self, text: str) -> None:
        """Add a notice of the client."""
        self._finished(self._add(Line("notice", self._now(), visible(text), NOTICE)))

    def clear(self) -> None:
        """Drop all lines except an unfinished line: the rest of that line must follow its sender's
        prefix."""
        kept = [self._open] if self._open else []
        self.dropped += len(self.lines) - len(kept)
        self.lines[:] = kept

    @property
    def senders(self) -> list[str]:
        """The most recent senders, at most PEOPLE, without the brackets of their prefixes."""
        return [head[1:-1] for head in self._people if head != ROOM_PREFIX]

    def _grow(self, piece: str) -> bool:
        """Add text to the unfinished line. Return True if a line that is not the greeting began."""
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
            self._finished(line)
            line = self._open = self._add(Line("said", self._now(), rest, rest=True))
        return said

    def _finish(self) -> None:
        """End the unfinished line, if there is one."""
        line, self._open = self._open, None
        if line:
            self._finished(line)
            self._count_earlier(line)

    def _count_earlier(self, line: Line) -> None:
        """Add a notice after the last of the earlier messages that the room sends at a join.

        The room sends their number in the line after the greeting. Lines without a prefix belong to
        the greeting.
        """
        if self._earlier:
            self._earlier -= 1
            if not self._earlier:
                self.note(NOW)
        elif self._earlier is None and line.head:
            found = _EARLIER.fullmatch(line.text) if line.head == ROOM_PREFIX else None
            self._earlier = int(found[1].replace(",", "")) if found else 0

    def _person(self, head: str) -> int:
        """Return the number of a sender: 0, 1 … in the order of their first lines."""
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
