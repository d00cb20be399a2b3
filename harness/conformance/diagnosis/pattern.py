"""A pattern finds the trace of one common mistake in the wire log of a failed test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.conformance.diagnosis.case import Case

Says = Callable[[Case], str | tuple[str, str]]
"""A function that returns a sentence, or a sentence and its cause; "" if the pattern does not
match."""


@dataclass(frozen=True)
class Pattern:
    """The trace of a common mistake. cause: the usual cause, in a sentence or more; empty if there
    are several causes, or if `says` returns the cause."""

    name: str
    says: Says
    cause: str

    def match(self, case: Case) -> tuple[str, str] | None:
        """Return a sentence and the cause; None if the pattern does not match."""
        said = self.says(case)
        if isinstance(said, tuple):
            return said
        return (said, self.cause) if said else None


def pattern(name: str, cause: str = "") -> Callable[[Says], Pattern]:
    """Return a decorator that makes a pattern from a function."""
    return lambda says: Pattern(name, says, cause)


STREAM = (
    "The server treats the bytes of one read (recv) as one message. TCP is a stream: a read may"
    " return a part of a line, or several lines. Collect the bytes, and split them into lines."
)
"""Cause of several patterns."""
