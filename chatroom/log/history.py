"""Places in the log where earlier messages begin, for newcomers (--history).

The log keeps messages for a while; see ring.py. A newcomer begins as a member whose cursor lies in
the past, and receives earlier messages before new ones, in the same stream.
"""

from bisect import bisect_right
from typing import NamedTuple

from chatroom.log.ring import LF, Log


class Start(NamedTuple):
    """A place where a message begins."""

    offset: int
    position: int
    """Position of an entry that does not begin beyond the offset."""


def count_kept(log: Log, most: int, max_size: int) -> int:
    """Return the number of the last messages, at most `most`, that take at most `max_size` bytes.

    Takes no lock, because the main process calls it. So it may read an entry while the entry is
    overwritten. This does no harm, because `find_start` looks at the log again.
    """
    head = log.head
    first = max(1, head - log.geometry.kept_entries // 4)
    end = log.offset(head)
    if end - log.offset(first) > max_size:
        # Leave out the entry in which the limit lies.
        first = min(head, log.position(end - max_size, first, head) + 1)
    return max(0, min(most, log.messages(head) - log.messages(first)))


def find_start(log: Log, number: int, head: int) -> Start:
    """Return the place behind the first `number` messages of the room, at most that of `head`.

    If the log has overwritten it, return the first place that is safe.
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
