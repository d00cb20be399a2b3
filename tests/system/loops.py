"""An event loop that a test runs turn by turn."""

from collections.abc import Callable
from selectors import SelectorKey

from chatroom.system.event_loop import EventLoop


class ManualLoop(EventLoop):
    """An event loop that never waits. Its clock changes only when the test adds to `time`."""

    def __init__(self, clock: Callable[[], float] | None = None) -> None:
        """`clock` replaces `time`."""
        self.time = 1000.0
        self.ready = 0
        """Number of sources that were ready in the last turn."""
        super().__init__(clock or (lambda: self.time))

    def wait(self, timeout: float | None) -> list[tuple[SelectorKey, int]]:
        found = super().wait(0)
        self.ready = len(found)
        return found

    def step(self) -> float | None:
        """Do one turn; return the timeout (s) of the next turn."""
        self.turn()
        return self.idle()

    def idle(self) -> float | None:
        """Return the seconds until the first timer is due, or None if no timer is set."""
        first = min(self.timers.values(), default=None)
        return None if first is None else max(0.0, first - self.now())
