"""The signals that the main process handles, and that its other processes never see."""

import contextlib
import os
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
HANDLED_SIGNALS = (*STOP_SIGNALS, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1)
"""Signals that supervisor.py handles; SIGUSR1 only where there is a transcript."""


@contextlib.contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Start processes meanwhile that never see the signals that the main process handles.

    A Ctrl-C, a terminal that is closed, or a service manager signals the whole
    group; the main process decides what that means for the others.
    """
    resource_tracker.ensure_running()  # it would unblock them, when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def on_terminal() -> bool:
    """Tell whether this process has a terminal that is still there."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
