"""Find workers, or other processes, that make no progress: stopped, or in an endless loop.

The watchdog checks each worker's count of turns at regular intervals. A worker is stuck if several
checks in a row find the same count. A busy worker completes turns. An idle worker completes a turn
when it is woken after each check. A late check does not count: the machine was asleep, or so busy
that the workers may have got no processor time.
"""

from collections.abc import Callable, Mapping

from chatroom.system.event_loop import EventLoop

CHECKS = 4
"""Number of checks in a row without progress after which a worker is stuck."""


class Watchdog:
    """Calls `on_check` when it is time to `check`, until it is stopped."""

    def __init__(self, loop: EventLoop, within: float, on_check: Callable[[], None]) -> None:
        """`within`: seconds without progress after which a worker is stuck; 0: no checks."""
        self._loop = loop
        self._timer = loop.timer(on_check)
        self._within = 0.0
        self._due = 0.0
        """Time (s) of the next check."""
        self._seen: dict[int, tuple[int, int]] = {}
        """Count of turns of each worker, and the number of checks in a row that have found that
        count."""
        self.renew(within)

    def renew(self, within: float) -> None:
        """Restart with another value of `within` (s). No effect if the value is the same."""
        if within == self._within:
            return
        self._within = within
        self.reset()
        self.stop()
        if within:
            self._set()

    def stop(self) -> None:
        """Cancel the next check."""
        self._timer.cancel()

    def check(self, turns: Mapping[int, int]) -> list[int]:
        """Return the stuck workers.

        `turns`: for each worker, a number that changes with its progress. Call this in
        `on_check`, and wake the workers afterwards.
        """
        late = self._loop.now() - self._due > self._within / CHECKS
        self._set()
        before, self._seen = self._seen, {}
        for number, count in turns.items():
            then, checks = before.get(number, (None, 0))
            self._seen[number] = count, checks + 1 if count == then and not late else 0
        return [number for number, (_, checks) in self._seen.items() if checks >= CHECKS]

    def made_no_progress(self, number: int) -> bool:
        """Return whether a worker made no progress between the last two checks."""
        _, checks = self._seen.get(number, (0, 0))
        return checks > 0

    def reset(self) -> None:
        """Forget the results of the checks so far, for example after a stuck process was killed."""
        self._seen.clear()

    def _set(self) -> None:
        self._due = self._loop.now() + self._within / CHECKS
        self._timer.set(self._due)
