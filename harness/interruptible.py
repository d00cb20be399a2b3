"""Ctrl-C and SIGTERM end a command together with all that it started."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import NoReturn


@contextmanager
def interruptible() -> Iterator[None]:
    """Ctrl-C or SIGTERM ends the block, which then has to clean up.

    The first one raises KeyboardInterrupt; the next ones are ignored, lest they
    interrupt the cleaning up.
    """
    caught = (signal.SIGINT, signal.SIGTERM)

    def interrupt(_signum: int, _frame: FrameType | None) -> NoReturn:
        for number in caught:
            signal.signal(number, signal.SIG_IGN)
        raise KeyboardInterrupt

    previous = [(number, signal.signal(number, interrupt)) for number in caught]
    try:
        yield
    finally:
        for number, handler in previous:
            signal.signal(number, handler)
