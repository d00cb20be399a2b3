"""Which workers, or other processes, make no progress: stopped, or in an endless loop.

What counts is progress, not time. A worker is looked at again and again, and
called stuck when it has done no turn between several looks in a row. One that
has much to do does turns; one that has nothing to do is woken by each look. A
look that is late itself says nothing: the machine was asleep, or so busy that
the workers got no time either.
"""

from collections.abc import Mapping

LOOKS = 4
"""In a row, without progress between them: then a worker is stuck."""


class Watchdog:
    """`within`: seconds without progress; 0: nobody is ever stuck. Its caller has the clock."""

    def __init__(self, within: float, now: float) -> None:
        self._pause = within / LOOKS
        self.due: float | None = now + self._pause if within else None
        """When to look next."""
        self._seen: dict[int, tuple[int, int]] = {}
        """For each worker: its turns, and how many looks in a row have found it there."""

    def look(self, now: float, turns: Mapping[int, int]) -> list[int]:
        """Return the workers that are stuck; `turns`: a number for each that changes with progress.

        Call it when it is `due`, and wake the workers afterwards.
        """
        if self.due is None or now < self.due:
            return []
        late = now - self.due > self._pause
        self.due = now + self._pause
        before, self._seen = self._seen, {}
        for number, count in turns.items():
            then, looks = before.get(number, (None, 0))
            self._seen[number] = count, looks + 1 if count == then and not late else 0
        return [number for number, (_, looks) in self._seen.items() if looks >= LOOKS]

    def stands_still(self, number: int) -> bool:
        """Whether it has done nothing since the last look but one."""
        _, looks = self._seen.get(number, (0, 0))
        return looks > 0

    def forgive(self) -> None:
        """Forget the looks so far: the process that held up the others has been found."""
        self._seen.clear()
