"""The rate limit of each member's input (LOAD-3).

A member may send messages that cost `burst` bytes at once, and `rate` bytes a second in the long
run. The cost (`cost`) is the number of bytes that a message adds to the log. A member that sends
more is throttled: the worker reads from it later. TCP backpressure then slows the member down, and
nothing is lost.
"""

import heapq

from chatroom.config.limits import MIN_COST
from chatroom.worker.member import Member

COMMAND_COST = MIN_COST // 8
"""Cost of a telnet command in bytes. A command adds nothing to the log, but takes the worker's
time. The default --room-rate permits 49,152 commands a second, which take less than a tenth of a
second."""


def cost(text: bytes, messages: int) -> int:
    """Return the cost in bytes of messages that are rendered as `text`.

    Each message costs at least MIN_COST bytes. An unfinished message costs at least twice as much,
    because the LF that will end it may need a separate entry (LINE-6).
    """
    return max(len(text), MIN_COST * (messages + (not text.endswith(b"\n"))))


class Allowance:
    """The throttled members, and the times at which to read from them again. If `rate` is 0, no
    member is throttled."""

    def __init__(self, rate: int, burst: int) -> None:
        """`rate`: bytes a second; `burst`: bytes."""
        self._rate = rate
        self._ahead = burst / rate if rate else 0.0
        """Time (s) after which a member that has used its whole burst has its full burst again."""
        self._throttled: set[Member] = set()
        self._times: list[tuple[float, int, Member]] = []
        """Heap of the times (s, monotonic) at which throttled members may be read from again.
        Members that have left may remain in the heap."""

    def spend(self, member: Member, size: int, now: float) -> bool:
        """Count `size` bytes for a member; return True if it may be read from at once.

        Otherwise the member is throttled until `release` returns it.
        """
        if not self._rate:
            return True
        self.add(member, size, now)
        spent = member.spent_until
        if spent - now <= self._ahead:
            return True
        heapq.heappush(self._times, (spent - self._ahead, member.id, member))
        self._throttled.add(member)
        return False

    def add(self, member: Member, size: int, now: float) -> None:
        """Count `size` bytes for a member; only the next `spend` throttles it."""
        if self._rate:
            member.spent_until = max(member.spent_until, now) + size / self._rate

    def resume(self, member: Member, until: float, now: float, most: int) -> None:
        """Set `spent_until` from `until`, the value that an earlier worker has noted for the
        member.

        That worker may have had a lower rate, with which the member would have to wait longer. So
        at most `burst` and one read count as used. `most`: maximum cost of a read (bytes).
        """
        if self._rate:
            member.spent_until = min(until, now + self._ahead + most / self._rate)

    def forget(self, member: Member) -> bool:
        """Drop a member, so that `release` will not return it; return True if it was throttled."""
        throttled = member in self._throttled
        self._throttled.discard(member)
        return throttled

    def release(self, now: float) -> list[Member]:
        """Release the members whose throttling has ended by `now`, and return them."""
        found = []
        while self._times and self._times[0][0] <= now:
            member = heapq.heappop(self._times)[2]
            if member in self._throttled:
                self._throttled.remove(member)
                found.append(member)
        return found

    @property
    def next_release(self) -> float | None:
        """Time at which `release` has a member to return, or None."""
        return self._times[0][0] if self._times else None
