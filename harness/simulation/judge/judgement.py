"""The judgement of a history: its violations, and the undecided deliveries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from harness.simulation.judge.facts import Message, Session

SHOWN = 50
"""Maximum number of violations of one kind that are listed. Further violations are only counted."""

LETTERS = 60
"""Maximum number of characters of a received text that a description quotes."""

LOST, DUPLICATED, MISORDERED = "lost", "duplicated", "misordered"
MISPREFIXED, ECHOED, TORN = "misprefixed", "echoed", "torn"
DISCONNECTED, UNWELCOMED, REFUSED = "disconnected", "unwelcomed", "refused"
UNCLEANED, UNBOUNDED = "uncleaned", "unbounded"

KINDS = {
    LOST: "CAST-1",
    DUPLICATED: "CAST-1",
    MISORDERED: "CAST-5",
    MISPREFIXED: "PREFIX-2",
    ECHOED: "CAST-2",
    TORN: "CAST-3",
    DISCONNECTED: "LEAVE-1",
    UNWELCOMED: "WELCOME-1",
    REFUSED: "JOIN-1",
    UNCLEANED: "LEAVE-4",
    UNBOUNDED: "LOAD-2",
}
"""Kinds of violations, each with the clause that it usually breaks."""


@dataclass(frozen=True)
class Violation:
    """A violation.

    t: time, in seconds since the run's start. who: number of the affected session. message: name
    of the affected message; empty if there is none. says: description of this violation. cause:
    description of the probable cause, the same text for all violations with this cause. others:
    numbers of further sessions that `says` names.
    """

    kind: str
    clause: str
    t: float
    who: int
    message: str
    says: str
    cause: str = ""
    others: tuple[int, ...] = ()


@dataclass
class Cause:
    """All violations of one kind that seem to have the same cause.

    cause: description of the cause. count: number of violations. who: affected sessions. first,
    last: times of the first and the last violation, in seconds since the run's start. example:
    description of the first violation.
    """

    kind: str
    clause: str
    cause: str
    count: int
    who: set[int]
    first: float
    last: float
    example: str


@dataclass
class Judgement:
    messages: int = 0
    deliveries: int = 0
    undecided: int = 0
    """Number of deliveries for which the protocol allows both delivery and loss, or whose pieces
    may be incomplete."""
    counts: Counter[str] = field(default_factory=Counter)
    """Number of violations of each kind."""
    violations: list[Violation] = field(default_factory=list)
    """The first violation of each cause and the first SHOWN violations of each kind, by time."""
    causes: dict[tuple[str, str, str], Cause] = field(default_factory=dict)
    """Causes of violations, by kind, clause and description."""
    contradiction: str = ""
    """Description of a contradiction between judgement and history; empty if there is none."""
    cannot_judge: str = ""
    """Reason why the harness could not judge the run; empty if it could."""

    def add(
        self,
        kind: str,
        t: float,
        session: Session,
        says: str,
        cause: str,
        message: str = "",
        clause: str = "",
        others: tuple[int, ...] = (),
    ) -> None:
        """Add a violation, and count it for its cause.

        The arguments are the fields of `Violation`. clause: empty for the usual clause of the kind.
        """
        clause = clause or KINDS[kind]
        self.counts[kind] += 1
        known = self.causes.get((kind, clause, cause))
        if known is None or self.counts[kind] <= SHOWN:
            who = session.number
            self.violations.append(Violation(kind, clause, t, who, message, says, cause, others))
        if known is None:
            known = Cause(kind, clause, cause, 0, set(), t, t, says)
            self.causes[kind, clause, cause] = known
        known.count += 1
        known.who.add(session.number)
        if t < known.first:
            known.first, known.example = t, says
        known.last = max(known.last, t)

    def add_for_message(
        self,
        kind: str,
        message: Message,
        session: Session,
        says: str,
        cause: str,
        clause: str = "",
        others: tuple[int, ...] = (),
    ) -> None:
        """Add a violation for a message. Its time is the time at which the message was sent."""
        self.add(kind, message.t, session, says, cause, message.name, clause, others)


def shown(text: bytes) -> str:
    """Return the beginning of a text for a report, without control characters."""
    start = text.decode("utf-8", "replace")[:LETTERS]
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in start)
