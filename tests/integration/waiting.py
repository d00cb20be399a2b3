"""Timeouts of the tests, and the functions with which tests poll."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Timeout (s) of every wait. It is much longer than any operation takes, because tests run in
#: parallel and under coverage.
PATIENCE = 20.0

#: Seconds between two polls.
STEP = 0.005


def until(condition: Callable[[], T | None], what: str, patience: float = PATIENCE) -> T:
    """Poll until `condition` returns a true value, and return this value.

    Use this only for a state that sends no event, such as the state in /proc. For events (bytes,
    EOF, the end of a process), wait where they occur.
    """
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, f"timeout after {patience} s: {what}"
        time.sleep(STEP)
    return found


def over(window: float, measure: Callable[[], float]) -> float:
    """Return how much a measure grows during `window` seconds, in which the test does nothing."""
    before = measure()
    time.sleep(window)
    return measure() - before
