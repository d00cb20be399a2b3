"""A cursor in the log that delays nobody: on Linux, it never takes the log's lock.

A process that is stopped while it holds the lock blocks the room, so readers (the console, the
transcript) do not take the lock. A follower reads first, and then checks that the text was not
overwritten meanwhile. Text is safe while it is less than `Geometry.kept` bytes behind the head: no
append overwrites it, not even an append in progress.

No worker waits for a follower, so a slow follower may be *lapped*: text that it has not read is
overwritten. Messages are numbered, so it can count the messages that it missed. A new follower can
begin after any message.
"""

from bisect import bisect_right
from collections.abc import Iterator
from typing import NamedTuple

from chatroom.config.sizes import KIB
from chatroom.log.ring import Entry, Log

CHUNK = 256 * KIB
"""Maximum size (bytes) of a read, unless a single entry is larger."""
MAX_ENTRIES = 2048
"""Maximum number of entries in a read."""
READ_AGAIN = 0.005
"""Pause (s) before reading again if another process was appending."""


class Place(NamedTuple):
    """A place between two entries."""

    position: int
    offset: int
    number: int
    """Number of the last message before this place."""


class Run(NamedTuple):
    """Messages of one member that were appended as one entry."""

    sender: int
    origin: bytes
    first: int
    """Number of the first of these messages."""
    skip: int
    """Number of these messages, from the first on, that were read before."""
    text: bytes


class Chunk(NamedTuple):
    """Whole entries of the log. There are none if everything was read, or if messages were
    missed."""

    begin: Place
    end: Place
    more: bool
    """True if the log holds more entries after these."""
    missed: range
    """Numbers of messages that were left out: the log no longer has them, or the follower lagged
    too much."""
    text: bytes
    entries: list[Entry]

    def runs(self, number: int) -> Iterator[Run]:
        """Yield the runs that hold messages after `number`; earlier messages were read before."""
        _, begin, before = self.begin
        for end, sender, _, messages, origin in self.entries:
            skip = max(0, number - before)
            if messages - before > skip:  # an entry of only a LF holds no message (LINE-6)
                text = self.text[begin - self.begin.offset : end - self.begin.offset]
                yield Run(sender, origin, before + 1, skip, text)
            begin, before = end, messages


class Follower:
    """A cursor that reads the log's entries in order, and counts the messages it missed."""

    def __init__(
        self, log: Log, after: int, max_behind: int | None = None, skip_to: int | None = None
    ) -> None:
        """`after`: number of the message after which the follower begins. A follower that was
        lapped, or is more than `max_behind` bytes behind the head, skips to `skip_to` bytes behind
        the head. By default, `max_behind` is `Geometry.kept`, and `skip_to` half of that."""
        self._log = log
        kept = log.geometry.kept
        self._max_behind = kept if max_behind is None else max_behind
        self._skip_to = kept // 2 if skip_to is None else skip_to
        self._place = Place(0, 0, 0)
        """Place up to which everything was read. Until the message `after` is found, this place is
        before the log's first entry. If the log no longer has that message, the follower counts as
        lapped."""
        self.number = after
        """Number of the last message that was read or missed. A caller that has used only a part of
        a chunk sets this number to the last message of that part. Then `read` returns the chunk
        again, and `Chunk.runs` yields the rest of it."""

    @property
    def position(self) -> int:
        """Position before which everything was read."""
        return self._place.position

    def read(self, size: int = CHUNK, stop: int | None = None) -> Chunk | None:
        """Return the next entries, up to the position `stop`. Only `advance` moves past these
        entries.

        None means that another process was appending: read again after READ_AGAIN.
        """
        log = self._log
        head = log.try_head()
        if head is None:
            return None
        if not self._place.position:
            self._seek(head)
        begin, end = self._place, log.offset(head)
        if end - begin.offset > self._max_behind or not self._is_kept(begin):
            return self._skip(head)
        last = log.position(min(begin.offset + size, end), begin.position, head)
        last = min(max(last, begin.position + 1), begin.position + MAX_ENTRIES, head)
        if stop is not None:
            last = min(last, max(stop, begin.position))
        entries = log.entries(begin.position, last)
        place = self._at(last)
        text = b"".join(log.views(begin.offset, place.offset))
        if not self._is_kept(begin):
            return None  # the text was overwritten while it was read
        return Chunk(begin, place, last < head, range(0), text, entries)

    def advance(self, chunk: Chunk) -> None:
        """Move to the end of a chunk."""
        self._place = chunk.end
        self.number = max(self.number, chunk.end.number)

    def _seek(self, head: int) -> None:
        """Move to the end of message `number`, if the log still has the message after it."""
        log = self._log
        first = max(1, head + 1 - log.geometry.kept_entries)
        self.number = min(self.number, log.messages(head))
        ahead = bisect_right(range(first, head + 1), self.number, key=log.messages)
        if ahead and self._is_kept(place := self._at(first + ahead - 1)):
            self._place = place

    def _skip(self, head: int) -> Chunk | None:
        """Return an empty chunk in place of messages that are overwritten or too far behind."""
        log, begin = self._log, self._place
        first = max(1, head - log.geometry.kept_entries // 2)
        middle = log.offset(head) - self._skip_to
        position = max(first, log.position(middle, first, head))
        if log.offset(position) < middle:
            position = min(position + 1, head)  # the entry at `middle` may be overwritten in part
        place = self._at(position)
        if not self._is_kept(place):
            return None
        missed = range(self.number + 1, place.number + 1)
        return Chunk(begin, place, position < head, missed, b"", [])

    def _at(self, position: int) -> Place:
        log = self._log
        return Place(position, log.offset(position), log.messages(position))

    def _is_kept(self, place: Place) -> bool:
        return self._log.still_valid(place.position, place.offset)
