"""The judgement of a history: its violations, and the undecided deliveries."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from harness.simulation.judge.facts import Message, Session

SHOWN = 50
"""Maximum number of violations of one kind that are described; all are counted."""

LETTERS = 60
"""Maximum number of characters of a quoted text."""

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
    """A violation. t: seconds of the run. who: number of the affected session. message: name, or
    empty. says: description."""

    kind: str
    clause: str
    t: float
    who: int
    message: str
    says: str


@dataclass
class Judgement:
    messages: int = 0
    deliveries: int = 0
    undecided: int = 0
    """Deliveries of which it is unknown whether they are due, or whether they are complete."""
    counts: Counter[str] = field(default_factory=Counter)
    """Number of violations of each kind."""
    violations: list[Violation] = field(default_factory=list)
    """First SHOWN violations of each kind, in order of time."""
    contradiction: str = ""
    """Reason why the judgement contradicts the record; empty if it does not."""
    cannot_judge: str = ""
    """Reason why the harness could not judge; empty if it could."""

    def add(
        self, kind: str, t: float, session: Session, says: str, message: str = "", clause: str = ""
    ) -> None:
        """Add a violation. message: name. clause: id, if not the usual clause of the kind."""
        self.counts[kind] += 1
        if self.counts[kind] <= SHOWN:
            found = Violation(kind, clause or KINDS[kind], t, session.number, message, says)
            self.violations.append(found)

    def add_for_message(
        self, kind: str, message: Message, session: Session, says: str, clause: str = ""
    ) -> None:
        """Add a violation that concerns a message, at the time at which the message was sent."""
        self.add(kind, message.t, session, says, message.name, clause)


def shown(text: bytes) -> str:
    """Return the beginning of a text, without control characters."""
    start = text.decode("utf-8", "replace")[:LETTERS]
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in start)
