"""Kinds of evidence for a pass, from the strongest to the weakest."""

from __future__ import annotations

PROVED = "proved"
"""Proved by a barrier: a later message of the same sender has arrived."""
OBSERVED = "observed"
"""The required thing was seen to happen."""
ABSENT = "absent-within-window"
"""The forbidden thing did not happen while the harness watched."""

STRENGTH = (ABSENT, OBSERVED, PROVED)


def weakest(found: list[str]) -> str | None:
    """Return the weakest evidence of several passes; None for no pass."""
    return min(found, key=STRENGTH.index) if found else None


RESTS_ON = {
    PROVED: "proved: a later message of the same sender has arrived, and messages do not overtake"
    " each other (CAST-4), so nothing can still be on its way",
    OBSERVED: "observed: the harness has seen happen what the clause demands",
    ABSENT: "nothing came: the harness watched for at least 0.3 s, times --timeout-scale, and what"
    " the clause forbids did not happen; it may still happen later",
}
"""Explanation of each kind of evidence, for reports."""


def label(evidence: str | None) -> str:
    """Return a short text for a kind of evidence; empty for none."""
    return RESTS_ON[evidence].partition(":")[0] if evidence else ""
