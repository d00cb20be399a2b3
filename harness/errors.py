"""How a check can end, other than well. The type says who is at fault.

Violation       the target: it broke the clause that the test names
Undecided       nobody: what the check needs is not to be had here
Gone            the target, but in another check: this one found nobody there any more
NotApplicable   nobody: the clause has no meaning for this target
Unfit           the harness: it was too slow itself to judge, or had too little
StartError      the target never began: there is nothing to judge
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


class Unsettled(Violation):
    """Who has joined does not hear what others say: a violation of joining's clauses alone."""


class Refused(Violation):
    """The server accepts no connection."""


class Undecided(Exception):
    """The reason why the clause can't be judged here."""


class Gone(Undecided):
    """Since when the server accepts no connection."""


class NotApplicable(Exception):
    """The reason why there is nothing to judge."""


class Unfit(Exception):
    """What the harness did too late, or what it lacks."""


class StartError(Exception):
    """Why the target can't be talked to, with its last words."""


def check_descriptors(error: OSError) -> None:
    """Raises Unfit where an error says that the harness itself can open nothing more."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise Unfit(f"the harness itself has no more descriptors: {error.strerror}") from None
