"""Signal handlers that run in asyncio's loop."""

import asyncio
import signal
from collections.abc import Callable, Mapping
from types import FrameType

#: Signals that end the client. Windows lacks some of these signals.
ENDING = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)
]


def handle_signals(handlers: Mapping[int, Callable[[], object]]) -> None:
    """Let the running loop call a handler when its signal arrives.

    `loop.add_signal_handler` is not used. Windows lacks this method. Also, the handlers that it
    installs are removed when the loop ends: then a second Ctrl-C would interrupt the shutdown that
    the first Ctrl-C began.
    """
    loop = asyncio.get_running_loop()

    def deliver(number: int, _frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(handlers[number])

    for number in handlers:
        # A signal that was ignored when the client started (nohup, a shell's &) stays ignored.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, deliver)
