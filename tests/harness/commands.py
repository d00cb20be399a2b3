"""Commands of the harness, as tests run them: in this process, and again if it was late."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")

ATTEMPTS = 4
"""Attempts at something that a busy machine may spoil; the last one counts in any case."""


@dataclass(frozen=True)
class Done:
    """Exit status and output of a command."""

    status: object
    stdout: str
    stderr: str


class Harness(Protocol):
    """The type of the fixture `harness`."""

    def __call__(self, *arguments: str, code: int = 0) -> Done:
        """Run a command, again if it came too late to judge; its exit status has to be `code`."""


def in_time(attempt: Callable[[], T], was_late: Callable[[T], bool]) -> T:
    """Return what `attempt` returns; try again if the machine was too late to judge by it.

    A machine that stands still for a moment makes the harness late, which says so (INVALID): that
    proves nothing, for or against a server.
    """
    for _ in range(ATTEMPTS - 1):
        found = attempt()
        if not was_late(found):
            return found
    return attempt()
