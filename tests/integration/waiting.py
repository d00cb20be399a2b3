"""How long a test waits, and the one place where it polls."""

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

#: Seconds after which what is waited for will not come any more. Far beyond what anything takes,
#: for the tests run beside each other, and measured by coverage.
PATIENCE = 20.0

#: Seconds between two looks at what nobody tells us of.
STEP = 0.005


def until(condition: Callable[[], T | None], what: str, patience: float = PATIENCE) -> T:
    """Look until `condition` holds, and return what it returned.

    For what can only be looked at, in /proc. What is told (bytes, an end of file, the end of a
    process) is waited for where it is told.
    """
    deadline = time.monotonic() + patience
    while not (found := condition()):
        assert time.monotonic() < deadline, f"this did not come about in {patience} s: {what}"
        time.sleep(STEP)
    return found


def over(window: float, measure: Callable[[], float]) -> float:
    """By how much a measure grows in so many seconds, in which nothing is to happen."""
    before = measure()
    time.sleep(window)
    return measure() - before
