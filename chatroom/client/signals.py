"""Signals as calls in asyncio's loop."""

import asyncio
import signal
from collections.abc import Callable, Mapping
from types import FrameType

#: Those that end the client. Windows lacks some.
ENDING = [
    getattr(signal, name)
    for name in ("SIGINT", "SIGTERM", "SIGHUP", "SIGQUIT")
    if hasattr(signal, name)
]


def handle_signals(handlers: Mapping[int, Callable[[], object]]) -> None:
    """Have the running loop call a handler when its signal comes.

    Not `loop.add_signal_handler`, which Windows lacks, and which ends with the loop: a second
    Ctrl-C must not break the end that the first one began.
    """
    loop = asyncio.get_running_loop()

    def deliver(number: int, _frame: FrameType | None) -> None:
        if not loop.is_closed():
            loop.call_soon_threadsafe(handlers[number])

    for number in handlers:
        # A signal that was ignored when the client was started (nohup, a shell's &) stays so.
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, deliver)
