"""Find workers, or other processes, that make no progress: stopped, or in an endless loop.

The watchdog looks at each worker's count of turns at regular intervals. A worker is stuck if
several looks in a row find the same count. A busy worker does turns; an idle one is woken by each
look, and so does one. A late look is not counted: the machine was asleep, or so busy that the
workers got no processor time either.
"""

from collections.abc import Callable, Mapping

from chatroom.system.event_loop import EventLoop

LOOKS = 4
"""Looks in a row, without progress between them, after which a worker is stuck."""


class Watchdog:
    """Calls `on_look` when it is time to `look`, until it is stopped."""

    def __init__(self, loop: EventLoop, within: float, on_look: Callable[[], None]) -> None:
        """`within`: seconds without progress after which a worker is stuck; 0 disables it."""
        self._loop = loop
        self._timer = loop.timer(on_look)
        self._within = 0.0
        self._due = 0.0
        """Time (s) of the next look."""
        self._seen: dict[int, tuple[int, int]] = {}
        """Count of turns of each worker, and the looks in a row that have found the same count."""
        self.renew(within)

    def renew(self, within: float) -> None:
        """Restart with another `within` (s). No effect if it is the same."""
        if within == self._within:
            return
        self._within = within
        self.forgive()
        self.stop()
        if within:
            self._set()

    def stop(self) -> None:
        """Cancel the next look."""
        self._timer.cancel()

    def look(self, turns: Mapping[int, int]) -> list[int]:
        """Return the stuck workers. `turns`: a number for each worker that changes with progress.

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
        """Return whether a worker made no progress between the last two looks."""
        _, looks = self._seen.get(number, (0, 0))
        return looks > 0

    def forgive(self) -> None:
        """Forget the looks so far: the process that blocked the others has been found."""
        self._seen.clear()

    def _set(self) -> None:
        self._due = self._loop.now() + self._within / LOOKS
        self._timer.set(self._due)
