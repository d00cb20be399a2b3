"""Kinds of evidence for a pass, from the strongest to the weakest."""

from __future__ import annotations

PROVED = "proved"
"""Proved by a barrier: a later message of the same sender has arrived."""
OBSERVED = "observed"
"""The event that the clause requires has occurred."""
ABSENT = "absent-within-window"
"""The event that the clause forbids did not occur while the harness watched."""

STRENGTH = (ABSENT, OBSERVED, PROVED)
"""The kinds of evidence, the weakest first."""


def weakest(found: list[str]) -> str | None:
    """Return the weakest evidence of several passes; None for no pass."""
    return min(found, key=STRENGTH.index) if found else None


EXPLANATIONS = {
    PROVED: "proved: a later message of the same sender has arrived, and messages do not overtake"
    " each other (CAST-4), so nothing can still be on its way",
    OBSERVED: "observed: the event that the clause requires has occurred",
    ABSENT: "nothing came: the harness watched for at least 0.3 s, times --timeout-scale, and the"
    " event that the clause forbids did not occur; it may still occur later",
}
"""Explanation of each kind of evidence, for reports."""


def label(evidence: str | None) -> str:
    """Return a short text for a kind of evidence; empty for None."""
    return EXPLANATIONS[evidence].partition(":")[0] if evidence else ""
