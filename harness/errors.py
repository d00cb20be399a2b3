"""Exceptions that a check raises if it does not pass. The type says who is at fault.

Violation        the target: it broke the clause that the test names
Undecided        nobody: this machine or profile lacks something that the check needs
TargetGoneError  the target: since an earlier check, it accepts no connections
NotApplicable    nobody: the clause has no meaning for this target
CannotJudge      the harness: it was too slow to judge, or lacked a resource
StartError       the target did not start: there is nothing to judge
"""

from __future__ import annotations


class Violation(AssertionError):
    """A broken clause. `what`: the violation, in one sentence. `expected`, `actual`: the expected
    and the received bytes; None if the violation is not about bytes."""

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
    """A new client does not receive others' messages. Only a test of the clauses on joining fails
    for this reason; the verdict of any other test is unknown."""


class SendError(Violation):
    """A client can't send: its connection failed, or the server does not read from it."""


class RefusedError(Violation):
    """The server does not accept connections."""


class Undecided(Exception):
    """The clause can't be judged here; the message says why."""


class TargetGoneError(Undecided):
    """The server no longer accepts connections. The message names the clause that was judged before
    this was noticed."""


class NotApplicable(Exception):
    """The clause has no meaning for this target; the message says why."""


class CannotJudge(Exception):
    """The harness was too slow, or lacked a resource; the message gives the reason."""


class StartError(Exception):
    """The target can't be reached or did not start; the message says why, with its last output."""
