"""How much a worker reads from each member (LOAD-3).

Each may say `burst` bytes at once, and `rate` bytes a second in the long run. A
member that says more is throttled: it is read from later, feels that as TCP
backpressure, and loses nothing.
"""

import heapq

from chatroom.worker.member import Member


class Allowance:
    """The throttled members, and when to read from each again. `rate` 0: there are none, ever."""

    def __init__(self, rate: int, burst: int) -> None:
        """`rate`: bytes a second; `burst`: bytes."""
        self._rate = rate
        self._ahead = burst / rate if rate else 0.0
        """Seconds of its rate that a member may have used up before they are over."""
        self._throttled: set[Member] = set()
        self._times: list[tuple[float, int, Member]] = []
        """When each of them, or one that is gone, may be read from again, the soonest first; and
        its id."""

    def spend(self, member: Member, size: int, now: float) -> bool:
        """Count `size` bytes that were read from a member; return whether more may be read at once.

        If not, it is throttled until `over` returns it.
        """
        if not self._rate:
            return True
        spent = max(member.spent_until, now) + size / self._rate
        member.spent_until = spent
        if spent - now <= self._ahead:
            return True
        heapq.heappush(self._times, (spent - self._ahead, member.id, member))
        self._throttled.add(member)
        return False

    def resume(self, member: Member, until: float, now: float, read_size: int) -> None:
        """Continue with the `spent_until` of the worker that served `member` before.

        Its rate may have been another one. No more than `burst` and one read of `read_size` bytes
        count as used: after a higher rate is set, nobody waits for as long as the lower one took.
        """
        if self._rate:
            member.spent_until = min(until, now + self._ahead + read_size / self._rate)

    def forget(self, member: Member) -> None:
        """Do not return a member from `over`: it is not read from any more."""
        self._throttled.discard(member)

    def over(self, now: float) -> list[Member]:
        """Return the members that are throttled no longer."""
        found = []
        while self._times and self._times[0][0] <= now:
            member = heapq.heappop(self._times)[2]
            if member in self._throttled:
                self._throttled.remove(member)
                found.append(member)
        return found

    @property
    def next(self) -> float | None:
        """The time at which `over` has something to return, or None."""
        return self._times[0][0] if self._times else None
