"""The signals that the main process handles, and that the other processes block."""

import contextlib
import os
import signal
from collections.abc import Iterator

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)
HANDLED_SIGNALS = (*STOP_SIGNALS, signal.SIGHUP, signal.SIGTTIN, signal.SIGTTOU, signal.SIGUSR1)
"""Signals that supervisor.py handles; SIGUSR1 is ignored without a transcript."""


@contextlib.contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Block the handled signals, so that processes started meanwhile inherit the mask.

    A Ctrl-C, a closed terminal or a service manager signals the whole process group; only the main
    process reacts, and tells the other processes what to do.
    """
    before = signal.pthread_sigmask(signal.SIG_BLOCK, HANDLED_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def on_terminal() -> bool:
    """Return whether this process has a controlling terminal that is still open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
