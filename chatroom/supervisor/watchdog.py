"""Which workers, or other processes, make no progress: stopped, or in an endless loop.

What counts is progress, not time. A worker is looked at again and again, and
called stuck when it has done no turn between several looks in a row. One that
has much to do does turns; one that has nothing to do is woken by each look. A
look that is late itself says nothing: the machine was asleep, or so busy that
the workers got no time either.
"""

from collections.abc import Callable, Mapping

from chatroom.system.event_loop import EventLoop

LOOKS = 4
"""In a row, without progress between them: then a worker is stuck."""


class Watchdog:
    """Calls `on_look` when it is time to `look`, until it is stopped."""

    def __init__(self, loop: EventLoop, within: float, on_look: Callable[[], None]) -> None:
        """`within`: seconds without progress; 0: nobody is ever stuck."""
        self._loop = loop
        self._timer = loop.timer(on_look)
        self._within = 0.0
        self._due = 0.0
        """Time (s) of the next look."""
        self._seen: dict[int, tuple[int, int]] = {}
        """For each worker: its turns, and how many looks in a row have found it there."""
        self.renew(within)

    def renew(self, within: float) -> None:
        """Begin anew with another number of seconds; with the same, go on."""
        if within == self._within:
            return
        self._within = within
        self.forgive()
        self.stop()
        if within:
            self._set()

    def stop(self) -> None:
        """Look no more."""
        self._timer.cancel()

    def look(self, turns: Mapping[int, int]) -> list[int]:
        """Return the workers that are stuck; `turns`: a number for each that changes with progress.

        Call it in `on_look`, and wake the workers afterwards.
        """
        late = self._loop.now() - self._due > self._within / LOOKS
        self._set()
        before, self._seen = self._seen, {}
        for number, count in turns.items():
            then, looks = before.get(number, (None, 0))
            self._seen[number] = count, looks + 1 if count == then and not late else 0
        return [number for number, (_, looks) in self._seen.items() if looks >= LOOKS]

    def stands_still(self, number: int) -> bool:
        """Tell whether a worker has done nothing since the last look but one."""
        _, looks = self._seen.get(number, (0, 0))
        return looks > 0

    def forgive(self) -> None:
        """Forget the looks so far: the process that held up the others has been found."""
        self._seen.clear()

    def _set(self) -> None:
        self._due = self._loop.now() + self._within / LOOKS
        self._timer.set(self._due)
