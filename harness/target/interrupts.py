"""On Ctrl-C, SIGTERM or SIGHUP, end a command and all processes that it started.

A signal may arrive between any two steps, even inside the standard library. If a signal
interrupted the start or the end of a process, or a poll of its status, the process could be lost,
or a lock could stay locked. So signals are deferred during these steps, and allowed between them:

    with defer_signals():
        server = Server(command)
        try:
            with allow_signals():
                ...
        finally:
            server.stop()

This works only in the main thread, like signal handlers. Outside of `interrupt_on_signals`, no
signal is deferred.
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
"""Time (s) after a signal during which further signals are dropped."""

INTERRUPTS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class _State:
    """This process's signal state; there is one instance."""

    def __init__(self) -> None:
        self.active = False
        """True while the signals are caught."""
        self.pending = False
        """True if a signal has arrived and KeyboardInterrupt has not been raised yet."""
        self.deferred = False
        """True while signals are deferred."""

    def interrupt(self) -> None:
        if self.pending and not self.deferred:
            self.pending = False
            raise KeyboardInterrupt


_state = _State()


@contextmanager
def interrupt_on_signals() -> Iterator[None]:
    """Raise KeyboardInterrupt in the block on SIGINT, SIGTERM or SIGHUP.

    Further signals within SECONDS_TO_CLEAN_UP are dropped, so that the block can clean up. (SIG_IGN
    is not set, because processes started from then on would inherit it.) SIGHUP stays ignored if it
    was ignored before, as under nohup. A nested call, or a call in another thread, does nothing.
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
    """Defer signals: a signal that arrives during the block raises KeyboardInterrupt after it."""
    return _set_deferred(True)


def allow_signals() -> AbstractContextManager[None]:
    """Allow signals in the block, although an outer block defers them."""
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
