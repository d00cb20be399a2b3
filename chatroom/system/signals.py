"""The signals that a main process handles, and that the other processes block."""

import contextlib
import os
import signal
import socket
from collections.abc import Callable, Iterable, Iterator

from chatroom.system.event_loop import EventLoop

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


def watch_signals(
    loop: EventLoop,
    numbers: Iterable[int],
    on_signal: Callable[[int], None],
    cleanup: contextlib.ExitStack,
) -> None:
    """Call `on_signal` in the event loop with each signal that arrives, until `cleanup` closes."""
    wake, woken = socket.socketpair()
    for end in (wake, woken):
        end.setblocking(False)
        cleanup.callback(end.close)
    for number in numbers:
        signal.signal(number, lambda *_: None)  # the wakeup descriptor reports it
    # Many signals may fill the socket; one unread byte is enough to wake the loop.
    signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
    cleanup.callback(signal.set_wakeup_fd, -1)

    def on_woken() -> None:
        for number in woken.recv(64):
            on_signal(number)

    loop.watch(woken, on_woken)


def on_terminal() -> bool:
    """Return whether this process has a controlling terminal that is still open."""
    try:
        os.close(os.open("/dev/tty", os.O_RDWR | os.O_NOCTTY))
    except OSError:
        return False
    return True
