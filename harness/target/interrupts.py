"""Ctrl-C, SIGTERM and the end of its terminal end a command together with all that it started.

An interrupt may come between any two steps, of the standard library's too. Where it breaks off
the start of a process, its end or a look whether it has ended, that process is lost, or a lock
is never let go of. So these are shielded, and the interrupt is taken once they are over, or in
what lies between them:

    with shielded():
        server = Server(command)
        try:
            with unshielded():
                ...
        finally:
            server.stop()

For the main thread, as signals are. Outside of `interruptible` a shield does nothing.
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


class _Interrupt:
    active = False
    """Whether the signals are caught."""
    due = False
    """Whether one has come that was not taken yet."""
    shielded = False

    def take(self) -> None:
        if self.due and not self.shielded:
            self.due = False
            raise KeyboardInterrupt


_interrupt = _Interrupt()


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C, SIGTERM or SIGHUP ends the block, which then has to clean up.

    It raises KeyboardInterrupt; those of the next SECONDS_TO_CLEAN_UP do nothing, lest they
    interrupt that. (Ignored by the system, they would be so by what is started from then on, too.)
    A SIGHUP that is ignored stays so, as under nohup. Within another one, and in another thread
    than the main one, this does nothing.
    """
    if _interrupt.active or threading.current_thread() is not threading.main_thread():
        yield
        return
    came = -inf

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        nonlocal came
        now = time.monotonic()
        if now - came >= SECONDS_TO_CLEAN_UP:
            came, _interrupt.due = now, True
            _interrupt.take()

    _interrupt.active, _interrupt.due, _interrupt.shielded = True, False, False
    previous = [
        (number, signal.signal(number, interrupt))
        for number in INTERRUPTS
        if number != signal.SIGHUP or signal.getsignal(number) is not signal.SIG_IGN
    ]
    try:
        yield
    finally:
        for number, handler in previous:
            signal.signal(number, handler)
        _interrupt.active = False


def shielded() -> AbstractContextManager[None]:
    """What is done in the block is done whole: an interrupt is taken after it."""
    return _set_shield(True)


def unshielded() -> AbstractContextManager[None]:
    """Within a shielded block: what may be interrupted after all."""
    return _set_shield(False)


@contextmanager
def _set_shield(shielded: bool) -> Iterator[None]:
    before = _interrupt.shielded
    _interrupt.shielded = shielded
    try:
        _interrupt.take()
        yield
    finally:
        _interrupt.shielded = before
        _interrupt.take()
