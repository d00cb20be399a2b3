"""A pattern: the trace that one common mistake leaves in the wire log of a failed test."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from harness.conformance.diagnosis.case import Case

Says = Callable[[Case], str | tuple[str, str]]
"""A function that returns a sentence, or a sentence and its cause; "" if the log has no such
trace."""


@dataclass(frozen=True)
class Pattern:
    """A trace of a common mistake. cause: the usual cause, in a sentence or more; empty if there
    are several, or if `says` returns it."""

    name: str
    says: Says
    cause: str

    def match(self, case: Case) -> tuple[str, str] | None:
        """Return a sentence and the cause, or None."""
        said = self.says(case)
        if isinstance(said, tuple):
            return said
        return (said, self.cause) if said else None


def pattern(name: str, cause: str = "") -> Callable[[Says], Pattern]:
    """Make a pattern of a function."""
    return lambda says: Pattern(name, says, cause)


STREAM = (
    "The server takes what one read (recv) returns for one message. TCP is a stream: a read may"
    " return a part of a line, or several lines. Collect the bytes, and take the lines from them."
)
"""Cause of several patterns."""
