"""A cursor in the log that holds up nobody: it never takes the log's lock.

A process that is stopped while it has the lock stops the room, so this one goes
without. It reads, and then looks whether what it has read was still there: all
that lies less than `Geometry.kept` behind the head is, for no append, done or
begun, may overwrite that.
"""

from bisect import bisect_right
from typing import NamedTuple

from chatroom.config.sizes import KIB
from chatroom.log.ring import Log

CHUNK = 256 * KIB
"""Bytes of the log, at most, that are read at once; but one entry at least."""
SMALL_CHUNK = 4 * KIB
"""The same, where more can't be written."""
MAX_ENTRIES = 2048
"""The same, in entries."""


class Run(NamedTuple):
    """Messages that one member has said at once."""

    sender: int
    first: int
    """The number of its first message."""
    skip: int
    """Of its messages, how many are accounted for."""
    text: bytes


class Missed(NamedTuple):
    """Messages that the log has no more."""

    first: int
    last: int


class LogTail(NamedTuple):
    """What lies before the reader. It goes on when it is told that this is `done`."""

    position: int
    offset: int
    messages: int
    more: bool
    """Whether there is more than that."""
    missed: Missed | None
    runs: list[Run]


class Reader:
    """`number`: of the last message that is accounted for; it begins at the next one."""

    def __init__(self, log: Log, number: int) -> None:
        self._log = log
        self.number = number
        self._position = self._offset = self._messages = 0
        self._sought = False

    def look(self, chunk: int = CHUNK) -> LogTail | None:
        """What comes next, as far as one chunk goes; None: look again in a moment.

        Nothing (`LogTail` without runs) where all is done.
        """
        log = self._log
        head = log.try_head()
        if head is None:
            return None
        if not self._sought:
            self._seek(head)
        if not log.still_valid(self._position, self._offset):
            return self._skip(head)
        stop = log.position(min(self._offset + chunk, log.offset(head)), self._position, head)
        stop = min(max(stop, self._position + 1), self._position + MAX_ENTRIES, head)
        entries = log.entries(self._position, stop)
        end = log.offset(stop)
        text = b"".join(log.views(self._offset, end))
        if not log.still_valid(self._position, self._offset):
            return None  # while it was read
        return self._found(stop, head, entries, text)

    def done(self, found: LogTail) -> None:
        """What was found is accounted for."""
        self._position, self._offset, self._messages = found[:3]
        self.number = max(self.number, found.messages)

    @property
    def position(self) -> int:
        """Entries before this one are accounted for."""
        return self._position

    def _found(
        self, stop: int, head: int, entries: list[tuple[int, int, int]], text: bytes
    ) -> LogTail:
        runs = []
        begin, before = self._offset, self._messages
        for run_end, sender, messages in entries:
            skip = max(0, self.number - before)
            if messages - before > skip:  # a LF that ends a line is no message (LINE-6)
                block = text[begin - self._offset : run_end - self._offset]
                runs.append(Run(sender, before + 1, skip, block))
            begin, before = run_end, messages
        return LogTail(stop, begin, before, stop < head, None, runs)

    def _seek(self, head: int) -> None:
        """Stand before the first message that is not accounted for, if the log still has it."""
        log = self._log
        first = max(1, head + 1 - log.geometry.kept_entries)
        self.number = min(self.number, log.messages(head))
        ahead = bisect_right(range(first, head + 1), self.number, key=log.messages)
        if ahead:
            self._stand(first + ahead - 1)
            self._sought = log.still_valid(self._position, self._offset)
        if not self._sought:
            self._position = self._offset = 0
            self._sought = True

    def _skip(self, head: int) -> LogTail | None:
        """It was lapped: go on in the middle of what is kept."""
        log, kept = self._log, self._log.geometry.kept
        first = max(1, head - log.geometry.kept_entries // 2)
        middle = log.offset(head) - kept // 2
        position = max(first, log.position(middle, first, head))
        if log.offset(position) < middle:
            position = min(position + 1, head)  # in between is an entry that may not be kept whole
        offset, messages = log.offset(position), log.messages(position)
        if not log.still_valid(position, offset):
            return None
        missed = Missed(self.number + 1, messages) if messages > self.number else None
        return LogTail(position, offset, messages, True, missed, [])

    def _stand(self, position: int) -> None:
        self._position = position
        self._offset = self._log.offset(position)
        self._messages = self._log.messages(position)
