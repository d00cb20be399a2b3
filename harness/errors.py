"""The ways in which a check ends without a pass. The type says whose fault that is.

Violation        the target: it broke the clause that the test names
Undecided        nobody: what the check needs is not available here
TargetGoneError  the target, but in an earlier check: this one found no server any more
NotApplicable    nobody: the clause has no meaning for this target
CannotJudge      the harness: it was too slow itself to judge, or lacked a resource
StartError       the target never began: there is nothing to judge
"""

from __future__ import annotations

import errno


class Violation(AssertionError):
    """`what` happened, in a sentence; and the bytes that were due and that came, if it is bytes."""

    def __init__(
        self, what: str, expected: bytes | None = None, actual: bytes | None = None
    ) -> None:
        super().__init__(what, expected, actual)
        self.what = what
        self.expected = expected
        self.actual = actual

    def __str__(self) -> str:
        return self.what


class JoinError(Violation):
    """A newcomer does not hear what others say: a violation of the clauses of joining alone."""


class RefusedError(Violation):
    """The server accepts no connections."""


class Undecided(Exception):
    """The clause can't be judged here; the message says why."""


class TargetGoneError(Undecided):
    """The server accepts no connections any more; the message says since when."""


class NotApplicable(Exception):
    """The clause has nothing to judge here; the message says why."""


class CannotJudge(Exception):
    """The harness itself was too late, or lacked something; the message says which."""


class StartError(Exception):
    """The target can't be talked to; the message says why, with its last words."""


def check_descriptors(error: OSError) -> None:
    """Raise CannotJudge where an error says that the harness itself can open nothing more."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise CannotJudge(f"the harness itself has no more descriptors: {error.strerror}") from None
