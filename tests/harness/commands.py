"""Commands of the harness, run in this process, and again if the machine was too slow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")

ATTEMPTS = 4
"""Maximum number of attempts that a busy machine may spoil; the last one counts in any case."""


@dataclass(frozen=True)
class Done:
    """Exit status and output of a command."""

    status: object
    stdout: str
    stderr: str


class Harness(Protocol):
    """The type of the fixture `harness`."""

    def __call__(self, *arguments: str, code: int = 0) -> Done:
        """Run a command, again if it was too late to judge; assert its exit status, `code`."""


def in_time(attempt: Callable[[], T], was_late: Callable[[T], bool]) -> T:
    """Return what `attempt` returns; repeat it if the machine was too slow to judge.

    A machine that pauses delays the harness, which reports INVALID: that says nothing about the
    server.
    """
    for _ in range(ATTEMPTS - 1):
        found = attempt()
        if not was_late(found):
            return found
    return attempt()
