"""Exceptions that end a check without a pass. The type tells who is at fault.

Violation        the target: it broke the clause that the test names
Undecided        nobody: this machine or profile lacks something that the check needs
TargetGoneError  the target, but in an earlier check: it no longer accepts connections
NotApplicable    nobody: the clause has no meaning for this target
CannotJudge      the harness: it was too slow to judge, or lacked a resource
StartError       the target did not start: there is nothing to judge
"""

from __future__ import annotations


class Violation(AssertionError):
    """A broken clause. `what`: the violation, in one sentence. `expected`, `actual`: bytes, if
    the violation is about bytes."""

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
    """A new client does not receive others' messages. This breaks only the clauses on joining."""


class SendError(Violation):
    """A client can't send: its connection failed, or the server does not read."""


class RefusedError(Violation):
    """The server does not accept connections."""


class Undecided(Exception):
    """The clause can't be judged here; the message says why."""


class TargetGoneError(Undecided):
    """The server no longer accepts connections; the message says since when."""


class NotApplicable(Exception):
    """The clause has no meaning for this target; the message says why."""


class CannotJudge(Exception):
    """The harness was too slow, or lacked a resource; the message gives the reason."""


class StartError(Exception):
    """The target can't be reached or did not start; the message says why, with its last output."""
