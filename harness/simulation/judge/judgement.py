"""The judgement of a history: its violations, and what nobody can decide."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from harness.simulation.judge.facts import Message, Session

SHOWN = 50
"""Violations of one kind that are described; all are counted."""

LETTERS = 60
"""Letters of a text that is quoted."""

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
"""Each kind of violation, and the clause that it breaks most often."""


@dataclass(frozen=True)
class Violation:
    """`t`: seconds of the run. who: the session that was wronged. message: its name, or empty."""

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
    """Deliveries of which nobody can know whether they were due, or whole."""
    counts: Counter[str] = field(default_factory=Counter)
    """Violations of each kind."""
    violations: list[Violation] = field(default_factory=list)
    """First SHOWN violations of each kind, in order of time."""
    cannot_judge: str = ""
    """Reason why the harness itself could not do its part; empty: it could."""

    def violated(
        self, kind: str, t: float, session: Session, says: str, message: str = "", clause: str = ""
    ) -> None:
        """Add a violation. message: its name. clause: where it is not its kind's."""
        self.counts[kind] += 1
        if self.counts[kind] <= SHOWN:
            found = Violation(kind, clause or KINDS[kind], t, session.number, message, says)
            self.violations.append(found)

    def about(
        self, kind: str, message: Message, session: Session, says: str, clause: str = ""
    ) -> None:
        """Do as `violated` does, at the time when the message was taken up."""
        self.violated(kind, message.t, session, says, message.name, clause)


def shown(text: bytes) -> str:
    """Return the beginning of a text, harmless to a terminal."""
    start = text.decode("utf-8", "replace")[:LETTERS]
    return "".join(letter if letter.isprintable() else "\ufffd" for letter in start)
