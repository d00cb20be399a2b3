"""Run commands of the harness in this process; repeat a command if the machine was too slow."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol, TypeVar

T = TypeVar("T")

ATTEMPTS = 4
"""Maximum number of attempts. The result of the last attempt counts even if it was late."""


@dataclass(frozen=True)
class Done:
    """Exit status and output of a command."""

    status: object
    stdout: str
    stderr: str


class Harness(Protocol):
    """The type of the fixture `harness`."""

    def __call__(self, *arguments: str, code: int | None = 0) -> Done:
        """Run a command, and assert that its exit status is `code`, unless that is None. Repeat a
        late command."""


def in_time(attempt: Callable[[], T], was_late: Callable[[T], bool]) -> T:
    """Return the result of `attempt`. Repeat the attempt if `was_late` is True for its result.

    On a machine that pauses, the harness is late and reports INVALID. Such a result says nothing
    about the server.
    """
    for _ in range(ATTEMPTS - 1):
        found = attempt()
        if not was_late(found):
            return found
    return attempt()
