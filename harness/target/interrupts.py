"""Ctrl-C, SIGTERM and the end of the terminal end a command together with all that it started.

A signal may arrive between any two steps, of the standard library's too. If it interrupted the
start of a process, its end or a check whether it has ended, that process would be lost, or a lock
would never be released. So signals are deferred meanwhile, and allowed in the parts between:

    with defer_signals():
        server = Server(command)
        try:
            with allow_signals():
                ...
        finally:
            server.stop()

For the main thread, as signals are. Outside of `interrupt_on_signals`, nothing is deferred.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from math import inf
from types import FrameType

SECONDS_TO_CLEAN_UP = 5.0

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _State:
    """The state of this process's signals: there is one."""

    def __init__(self) -> None:
        self.active = False
        """Whether the signals are caught."""
        self.pending = False
        """Whether a signal has come that has not interrupted anything yet."""
        self.deferred = False

    def interrupt(self) -> None:
        if self.pending and not self.deferred:
            self.pending = False
            raise KeyboardInterrupt


_state = _State()


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block on SIGINT, SIGTERM or SIGHUP.

    The signals of the next SECONDS_TO_CLEAN_UP do nothing, so that the block can clean up.
    (They are not ignored by the system, since processes started from then on would inherit that.)
    A SIGHUP that is ignored stays so, as under nohup. Nested, and in another thread than the main
    one, this does nothing.
    """
    if _state.active or threading.current_thread() is not threading.main_thread():
        yield
        return
    came = -inf

    def on_signal(_signum: int, _frame: FrameType | None) -> None:
        nonlocal came
        now = time.monotonic()
        if now - came >= SECONDS_TO_CLEAN_UP:
            came, _state.pending = now, True
            _state.interrupt()

    _state.active, _state.pending, _state.deferred = True, False, False
    previous = [
        (number, signal.signal(number, on_signal))
        for number in INTERRUPTS
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    ]
    try:
        yield
    finally:
        for number, handler in previous:
            signal.signal(number, handler)
        _state.active = False


def defer_signals() -> AbstractContextManager[None]:
    """Complete the block; a signal that comes meanwhile interrupts after it."""
    return _set_deferred(True)


def allow_signals() -> AbstractContextManager[None]:
    """Let signals interrupt the block, within one that defers them."""
    return _set_deferred(False)


@contextmanager
def _set_deferred(deferred: bool) -> Iterator[None]:
    before = _state.deferred
    _state.deferred = deferred
    try:
        _state.interrupt()
        yield
    finally:
        _state.deferred = before
        _state.interrupt()
