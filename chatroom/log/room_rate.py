"""The rate limit of the room as a whole, and each sender's share of it.

The limit is a token bucket. Each message has a *cost* in bytes (`cost` in worker/allowance.py), and
the room may append `burst` bytes at once and `rate` bytes a second in the long run. The *debt* is
the part of the burst that is used up. So a member that reads at least `rate` bytes a second never
lags by more than `burst`.

The shares follow start-time fair queueing (Goyal, Vin and Cheng, 1996). Each *source* has a share:
an IPv4 address, an IPv6 network of 64 bits, or all Unix sockets (supervisor/sources.py). Each
source has a *tag*, a position in virtual time. A message adds its cost to the tag of its source.
The virtual time is the lowest tag of the sources that wait to be read from. So:

- of the waiting sources, the one with the lowest tag is the next;
- a source that sends less than its share has a tag below the virtual time;
- a source gains nothing while it is idle: its next message starts at the virtual time;
- a sender that reconnects gains nothing: it has the same source, and so the same tag.

Tags and the virtual time are in bytes of cost. When the room has no debt, the virtual time moves to
the highest tag.

The state is an array of words in memory that all workers share. A process that writes a word holds
the log's lock, except for the lowest waiting tag of a worker, which only that worker writes. If a
worker is killed between two stores, some of its reads are not counted.
"""

import mmap
from collections.abc import Iterable

from chatroom.config.limits import SEATS, Limits
from chatroom.config.sizes import whole_pages

_WORD = 8
_NANOSECONDS = 1_000_000_000

NONE = 2**64 - 1
"""Stored as the lowest waiting tag of a worker while none of its sources waits."""

# Indexes of words: the time (ns, monotonic) at which the debt is paid off; the virtual time; the
# highest tag; the lowest waiting tag of each seat; the tag of each source.
_PAID_AT = 0
_VIRTUAL = 1
_HIGHEST = 2
_BY_SEAT = 8
_BY_SOURCE = _BY_SEAT + SEATS


class RoomRate:
    """A process' view of the words in the file `fd`. If `rate` is 0, there is no limit, and only
    `publish` may be called."""

    def __init__(self, fd: int, limits: Limits) -> None:
        """`fd`: an anonymous file of `RoomRate.file_size(limits)`."""
        self.fd = fd
        self.rate = limits.room_rate
        """Bytes a second."""
        self.burst = limits.max_debt
        """Bytes."""
        self._words = memoryview(mmap.mmap(fd, self.file_size(limits))).cast("Q")
        self._seats = self._words[_BY_SEAT : _BY_SEAT + limits.seats]
        self._tags = self._words[_BY_SOURCE:]

    @staticmethod
    def file_size(limits: Limits) -> int:
        """Return the size of the file in bytes."""
        return whole_pages((_BY_SOURCE + limits.sources) * _WORD)

    def format(self) -> None:
        """Prepare a zeroed file. Call once, before another process maps the file."""
        for seat in range(len(self._seats)):
            self._seats[seat] = NONE

    # --- the room ------------------------------------------------------------

    def debt(self, now: float) -> int:
        """Return the part of the burst (bytes) that is used up at `now` (s, monotonic).

        The result is at most the burst, even if the rate was raised after the last append.
        """
        ahead = self._words[_PAID_AT] - int(now * _NANOSECONDS)
        return min(ahead * self.rate // _NANOSECONDS, self.burst) if ahead > 0 else 0

    def wait(self, cost: int, now: float) -> float:
        """Return the seconds until messages of this cost may be appended; 0.0: at once.

        A cost above the burst counts as the burst.
        """
        excess = self.debt(now) + min(cost, self.burst) - self.burst
        return max(0.0, excess / self.rate)

    def charge(self, cost: int, now: float) -> None:
        """Count messages that were appended. The caller must hold the log's lock."""
        at = int(now * _NANOSECONDS)
        longest = at + self.burst * _NANOSECONDS // self.rate
        start = min(max(self._words[_PAID_AT], at), longest)
        self._words[_PAID_AT] = start + cost * _NANOSECONDS // self.rate

    # --- the shares ----------------------------------------------------------

    def charge_sources(self, reads: Iterable[tuple[int, int]], now: float) -> None:
        """Count the costs of reads, as pairs of source and cost (bytes).

        The caller must hold the log's lock. An unfinished line counts when it is read, so that a
        source can't get far ahead with unfinished lines.
        """
        words, tags = self._words, self._tags
        virtual, highest = self.virtual_time(), words[_HIGHEST]
        if words[_PAID_AT] <= int(now * _NANOSECONDS):
            virtual = max(virtual, highest)
        for source, cost in reads:
            tags[source] = tag = max(tags[source], virtual) + cost
            highest = max(highest, tag)
        words[_VIRTUAL] = virtual
        words[_HIGHEST] = highest

    def tag(self, source: int) -> int:
        """Return the tag of a source."""
        return self._tags[source]

    def virtual_time(self) -> int:
        """Return the virtual time. It never decreases."""
        lowest = min(self._seats)
        return self._words[_VIRTUAL] if lowest == NONE else max(self._words[_VIRTUAL], lowest)

    def publish(self, worker: int, lowest: int) -> None:
        """Store the lowest tag of a source that waits in `worker`, or NONE.

        Called only by that worker, and by the main process after the worker's end.
        """
        self._seats[worker] = lowest
