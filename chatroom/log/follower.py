"""A cursor in the log that delays nobody: it never takes the log's lock.

A process that is stopped while it has the lock stops the room, so processes that only read the
log (the console, the transcript) do without it. A follower reads first, and then checks that the
text was not overwritten meanwhile. No append, done or begun, overwrites text that lies less than
`Geometry.kept` behind the head.

No worker waits for a follower. Messages are numbered, so a follower that was lapped knows how
many it has missed, and a new one can begin behind any message.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from chatroom.config.sizes import KIB
from chatroom.log.ring import Entry, Log

CHUNK = 256 * KIB
"""Bytes of the log to read at once, at most; but one entry at least."""
MAX_ENTRIES = 2048
"""Entries to read at once, at most."""
READ_AGAIN = 0.005
"""Seconds after which to read again if another process was just appending."""


class Place(NamedTuple):
    """A place between two entries."""

    position: int
    offset: int
    number: int
    """Number of the last message before it."""


class Run(NamedTuple):
    """Messages of one member that were appended as one entry."""

    sender: int
    origin: bytes
    first: int
    """Number of its first message."""
    skip: int
    """Number of its messages that were read before."""
    text: bytes


class Chunk(NamedTuple):
    """Whole entries of the log. There are none if all was read, or messages were missed."""

    begin: Place
    end: Place
    more: bool
    """True if the log holds more entries behind these."""
    missed: range
    """Numbers of messages that were left out: the log no longer has them, or too many waited."""
    text: bytes
    entries: list[Entry]

    def runs(self, number: int) -> Iterator[Run]:
        """Yield the runs that hold messages beyond `number`; those up to it were read before."""
        _, begin, before = self.begin
        for end, sender, _, messages, origin in self.entries:
            skip = max(0, number - before)
            if messages - before > skip:  # an entry of a LF alone holds no message (LINE-6)
                text = self.text[begin - self.begin.offset : end - self.begin.offset]
                yield Run(sender, origin, before + 1, skip, text)
            begin, before = end, messages


class Follower:
    """A cursor that reads what was appended, in order, and counts the messages it missed."""

    def __init__(
        self, log: Log, after: int, max_behind: int | None = None, rest: int | None = None
    ) -> None:
        """`after`: number of the message behind which the follower begins. If it was lapped, or is
        more than `max_behind` bytes behind the head, it goes on `rest` bytes behind the head. By
        default `max_behind` is all that the log keeps, and `rest` half of that."""
        self._log = log
        kept = log.geometry.kept
        self._max_behind = kept if max_behind is None else max_behind
        self._rest = kept // 2 if rest is None else rest
        self._place = Place(0, 0, 0)
        """Place up to which all was read. It is before the log's first entry until `after` was
        found; if the log no longer has that message, the follower counts as lapped."""
        self.number = after
        """Number of the last message that was read or missed."""

    @property
    def position(self) -> int:
        """Position before which all was read."""
        return self._place.position

    def read(self, size: int = CHUNK, stop: int | None = None) -> Chunk | None:
        """Return the next entries, up to the position `stop`, without moving: see `advance`.

        None means that another process was appending: read again after READ_AGAIN.
        """
        log = self._log
        head = log.try_head()
        if head is None:
            return None
        if not self._place.position:
            self._seek(head)
        begin, end = self._place, log.offset(head)
        if end - begin.offset > self._max_behind or not self._is_there(begin):
            return self._skip(head)
        last = log.position(min(begin.offset + size, end), begin.position, head)
        last = min(max(last, begin.position + 1), begin.position + MAX_ENTRIES, head)
        if stop is not None:
            last = min(last, max(stop, begin.position))
        entries = log.entries(begin.position, last)
        place = self._at(last)
        text = b"".join(log.views(begin.offset, place.offset))
        if not self._is_there(begin):
            return None  # it was overwritten while it was read
        return Chunk(begin, place, last < head, range(0), text, entries)

    def advance(self, chunk: Chunk) -> None:
        """Move behind a chunk."""
        self._place = chunk.end
        self.number = max(self.number, chunk.end.number)

    def _seek(self, head: int) -> None:
        """Move behind message `number`, if the log still has the message after it."""
        log = self._log
        first = max(1, head + 1 - log.geometry.kept_entries)
        self.number = min(self.number, log.messages(head))
        ahead = bisect_right(range(first, head + 1), self.number, key=log.messages)
        if ahead and self._is_there(place := self._at(first + ahead - 1)):
            self._place = place

    def _skip(self, head: int) -> Chunk | None:
        """Return an empty chunk that leaves out messages: they are lapped, or too far behind."""
        log, begin = self._log, self._place
        first = max(1, head - log.geometry.kept_entries // 2)
        middle = log.offset(head) - self._rest
        position = max(first, log.position(middle, first, head))
        if log.offset(position) < middle:
            position = min(position + 1, head)  # the entry between them may not be kept whole
        place = self._at(position)
        if not self._is_there(place):
            return None
        missed = range(self.number + 1, place.number + 1)
        return Chunk(begin, place, position < head, missed, b"", [])

    def _at(self, position: int) -> Place:
        log = self._log
        return Place(position, log.offset(position), log.messages(position))

    def _is_there(self, place: Place) -> bool:
        return self._log.still_valid(place.position, place.offset)
