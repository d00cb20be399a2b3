"""How much a worker reads from each member (LOAD-3).

Each may say `burst` bytes at once, and `rate` bytes a second in the long run.
Who says more is read from later: it feels that as TCP backpressure, and nothing
of it is lost.
"""

import heapq

from chatroom.worker.member import Member


class Allowance:
    """Who is to be read from later, and when. `rate` 0: nobody ever is."""

    def __init__(self, rate: int, burst: int) -> None:
        """`rate`: bytes a second; `burst`: bytes."""
        self._rate = rate
        self._ahead = burst / rate if rate else 0.0
        """Seconds of its rate that a member may have used up before they are over."""
        self._waiting: list[tuple[float, int, Member]] = []
        """When each who waits may be read from again, the soonest first; and its id."""

    def spend(self, member: Member, size: int, now: float) -> bool:
        """`size` bytes were read from `member`; return whether more may be read at once.

        If not, it waits, and is in what `over` returns one day.
        """
        if not self._rate:
            return True
        spent = max(member.spent_until, now) + size / self._rate
        member.spent_until = spent
        if spent - now <= self._ahead:
            return True
        heapq.heappush(self._waiting, (spent - self._ahead, member.id, member))
        return False

    def resume(self, member: Member, until: float, now: float, read_size: int) -> None:
        """Continue with the `spent_until` of the worker that served `member` before.

        Its rate may have been another one. No more than `burst` and one read of `read_size` bytes
        count as used: after a higher rate is set, nobody waits for as long as the lower one took.
        """
        if self._rate:
            member.spent_until = min(until, now + self._ahead + read_size / self._rate)

    def over(self, now: float) -> list[Member]:
        """Those who need not wait any more; some of them may be gone."""
        found = []
        while self._waiting and self._waiting[0][0] <= now:
            found.append(heapq.heappop(self._waiting)[2])
        return found

    @property
    def next(self) -> float | None:
        """When the next one need not wait any more."""
        return self._waiting[0][0] if self._waiting else None
