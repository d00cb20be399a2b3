"""What a pass rests on, from the strongest to the weakest."""

from __future__ import annotations

PROVED = "proved"
"""A barrier shows it: a later word of the same sender has come."""
OBSERVED = "observed"
"""It was seen to happen."""
ABSENT = "absent-within-window"
"""It was not seen to happen while the harness watched."""

STRENGTH = (ABSENT, OBSERVED, PROVED)


def weakest(found: list[str]) -> str | None:
    """What several passes together rest on; None for no pass."""
    return min(found, key=STRENGTH.index) if found else None


RESTS_ON = {
    PROVED: "proved: a barrier shows it, a later word of the same sender that has come",
    OBSERVED: "observed: it was seen to happen",
    ABSENT: "absent within a window: it was not seen to happen while the harness watched",
}
"""What is said of the evidence."""
