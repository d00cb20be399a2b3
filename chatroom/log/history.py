"""Places in the log at which earlier messages begin, for new members (--history).

The log keeps messages after their delivery, until the space is needed (ring.py). A new member's
cursor may begin at such a place. Then delivery sends it the earlier messages, and after them the
new messages, as it does for any member that lags.
"""

from bisect import bisect_right
from typing import NamedTuple

from chatroom.log.ring import LF, Log


class Start(NamedTuple):
    """A place at which a message begins."""

    offset: int
    position: int
    """Position of an entry that begins at or before the offset."""


def count_kept(log: Log, most: int, max_size: int) -> int:
    """Return how many of the last messages together take at most `max_size` bytes.

    `most`: maximum of the result. The main process calls this function, so it takes no lock, and
    may read an entry that is being overwritten. This does no harm, because `find_start` reads the
    log again.
    """
    head = log.head
    first = max(1, head - log.geometry.kept_entries // 4)
    end = log.offset(head)
    if end - log.offset(first) > max_size:
        # Begin after the entry in which the limit lies.
        first = min(head, log.position(end - max_size, first, head) + 1)
    return max(0, min(most, log.messages(head) - log.messages(first)))


def find_start(log: Log, number: int, head: int) -> Start:
    """Return the place after the first `number` messages of the room, but not after `head`.

    If that place may be overwritten, return the first place that is not.
    """
    first = max(1, head + 1 - log.geometry.kept_entries)
    number = min(number, log.messages(head))
    at = first - 1 + bisect_right(range(first, head + 1), number, key=log.messages)
    position = max(at, first)
    start = log.offset(position)
    skip = number - log.messages(position)
    if skip > 0 and position < head:
        text = b"".join(log.views(start, log.offset(position + 1)))
        begin = 0
        for _ in range(skip):
            begin = text.index(LF, begin) + 1
        start += begin
    return Start(start, position)
