"""The main process's event loop: sources that can be read or written, and timers.

Each calls a function without arguments, one after another; none of these may wait. An error that
one of them raises comes out of `turn`.

asyncio's loop does this as well. It was measured: its import adds 32 ms of processor time to the
70 ms that the start of a room takes, and it logs the errors of its callbacks, of which some have
to end the room.
"""

import selectors
from collections.abc import Callable
from time import monotonic
from typing import Protocol

READ = selectors.EVENT_READ
WRITE = selectors.EVENT_WRITE


class _HasFileno(Protocol):
    def fileno(self) -> int: ...


Source = int | _HasFileno
"""A descriptor, or an object that has one."""


class Timer:
    """Calls a function once, when it is due; it may be set again and again."""

    def __init__(self, loop: "EventLoop", act: Callable[[], None]) -> None:
        self._loop = loop
        self.act = act

    @property
    def due(self) -> float | None:
        """Time (s, of the loop's clock) at which it is due; None if it is not set."""
        return self._loop.timers.get(self)

    def set(self, due: float) -> None:
        """Call the function at this time (s), in place of one that was set before."""
        self._loop.timers[self] = due

    def set_after(self, seconds: float) -> None:
        """Call the function after so many seconds, in place of a time that was set before."""
        self.set(self._loop.now() + seconds)

    def cancel(self) -> None:
        """Unset the timer. No effect if it is not set."""
        self._loop.timers.pop(self, None)


class EventLoop:
    """Used from one thread. `clock` returns the time in seconds, and never goes back."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.now = clock
        self.timers: dict[Timer, float] = {}
        """When each timer that is set is due. There are a few, some hundreds at most, so that no
        heap is needed to find the first."""
        self._acts: dict[Source, Callable[[], None]] = {}
        """Function to call for each source that is watched."""
        self._selector = selectors.DefaultSelector()

    def watch(self, source: Source, act: Callable[[], None], events: int = READ) -> None:
        """Call `act` whenever `source` is ready for one of the `events`."""
        self._acts[source] = act
        self._selector.register(source, events, act)

    def change(self, source: Source, events: int) -> None:
        """Watch a source for other events."""
        self._selector.modify(source, events, self._acts[source])

    def forget(self, source: Source) -> None:
        """Watch a source no longer; to forget one that is not watched does nothing.

        Forget it before it is closed: its descriptor may be another's then.
        """
        if self._acts.pop(source, None) is not None:
            self._selector.unregister(source)

    @property
    def sources(self) -> int:
        """Number of sources that are watched."""
        return len(self._acts)

    def timer(self, act: Callable[[], None]) -> Timer:
        """Return a timer, which is not set yet."""
        return Timer(self, act)

    def turn(self) -> None:
        """Wait for a source or a timer, then call all that are ready or due."""
        first = min(self.timers.values(), default=None)
        for key, _ in self.wait(None if first is None else max(0.0, first - self.now())):
            act: Callable[[], None] = key.data
            if self._acts.get(key.fileobj) is act:  # not forgotten by another in this turn
                act()
        now = self.now()
        for timer in [timer for timer, due in self.timers.items() if due <= now]:
            if self.timers.get(timer, now + 1) <= now:  # not cancelled, nor set, in this turn
                del self.timers[timer]
                timer.act()

    def close(self) -> None:
        """Forget all sources."""
        self._selector.close()

    def wait(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the sources that are ready, as `select` does. Tests replace it."""
        return self._selector.select(timeout)
