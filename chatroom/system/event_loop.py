"""The main process's event loop: sources that can be read or written, and timers.

The loop calls one function at a time, without arguments. A function must not wait. An exception
that a function raises propagates from `turn`.

asyncio is not used, for two reasons. Importing asyncio would add 32 ms of processor time (measured)
to the start of a room. And asyncio only logs the exceptions of callbacks, but some exceptions must
end the room.
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
    """Calls a function once, when it is due. It may be set again."""

    def __init__(self, loop: "EventLoop", act: Callable[[], None]) -> None:
        self._loop = loop
        self.act = act

    @property
    def due(self) -> float | None:
        """Time (s) of the loop's clock at which the timer is due; None if it is not set."""
        return self._loop.timers.get(self)

    def set(self, due: float) -> None:
        """Call the function at this time (s) of the loop's clock. Replaces an earlier setting."""
        self._loop.timers[self] = due

    def set_after(self, seconds: float) -> None:
        """Call the function after this number of seconds. Replaces an earlier setting."""
        self.set(self._loop.now() + seconds)

    def cancel(self) -> None:
        """Unset the timer. No effect if it is not set."""
        self._loop.timers.pop(self, None)


class EventLoop:
    """An event loop for one thread. `clock` returns a monotonic time in seconds."""

    def __init__(self, clock: Callable[[], float] = monotonic) -> None:
        self.now = clock
        self.timers: dict[Timer, float] = {}
        """Due time of each timer that is set. There are a few hundred at most, so a heap is not
        needed."""
        self._acts: dict[Source, Callable[[], None]] = {}
        """Function to call for each watched source."""
        self._selector = selectors.DefaultSelector()

    def watch(self, source: Source, act: Callable[[], None], events: int = READ) -> None:
        """Call `act` whenever `source` is ready for one of the `events`."""
        self._acts[source] = act
        self._selector.register(source, events, act)

    def change(self, source: Source, events: int) -> None:
        """Change the events for which a source is watched."""
        self._selector.modify(source, events, self._acts[source])

    def forget(self, source: Source) -> None:
        """Stop watching a source. No effect if it is not watched.

        Call this before the source is closed: afterwards, another file may have its descriptor.
        """
        if self._acts.pop(source, None) is not None:
            self._selector.unregister(source)

    @property
    def sources(self) -> int:
        """Number of watched sources."""
        return len(self._acts)

    def timer(self, act: Callable[[], None]) -> Timer:
        """Return a timer that is not set."""
        return Timer(self, act)

    def turn(self) -> None:
        """Wait for a source or a timer; then call the functions of all ready sources and of all due
        timers."""
        first = min(self.timers.values(), default=None)
        for key, _ in self.wait(None if first is None else max(0.0, first - self.now())):
            act: Callable[[], None] = key.data
            if self._acts.get(key.fileobj) is act:  # not forgotten in this turn
                act()
        now = self.now()
        for timer in [timer for timer, due in self.timers.items() if due <= now]:
            if self.timers.get(timer, now + 1) <= now:  # neither cancelled nor set again
                del self.timers[timer]
                timer.act()

    def close(self) -> None:
        """Forget all sources."""
        self._selector.close()

    def wait(self, timeout: float | None) -> list[tuple[selectors.SelectorKey, int]]:
        """Return the ready sources, as `select` does. Tests replace this method."""
        return self._selector.select(timeout)
