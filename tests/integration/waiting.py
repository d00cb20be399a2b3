"""Timeouts of tests, and the only place where they poll."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Timeout (s) of every wait. It is far longer than any operation takes, because the tests run in
#: parallel, and under coverage.
PATIENCE = 20.0

#: Seconds between two polls.
STEP = 0.005


def until(condition: Callable[[], T | None], what: str, patience: float = PATIENCE) -> T:
    """Poll until `condition` holds, and return its value.

    Only for state that sends no event, such as that in /proc. Events (bytes, EOF, the end of a
    process) are waited for where they occur.
    """
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, f"timeout after {patience} s: {what}"
        time.sleep(STEP)
    return found


def over(window: float, measure: Callable[[], float]) -> float:
    """Return the growth of a measure over `window` seconds, in which nothing else happens."""
    before = measure()
    time.sleep(window)
    return measure() - before
