"""The signals that stop a room, and how its other processes are kept from them."""

import contextlib
import signal
from collections.abc import Iterator
from multiprocessing import resource_tracker

STOP_SIGNALS = (signal.SIGINT, signal.SIGTERM)


@contextlib.contextmanager
def stop_signals_blocked() -> Iterator[None]:
    """Processes that this thread starts meanwhile never see the signals that stop a room.

    A Ctrl-C, or a service manager, signals the whole group; when the others end
    is for the main process to say.
    """
    resource_tracker.ensure_running()  # it would unblock them, when it starts
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
