"""Totals that the main process counts from the start of the room."""

from collections import Counter
from dataclasses import dataclass, field
from time import monotonic

from chatroom.protocol.leave_reason import LeaveReason
from chatroom.protocol.refusal_reason import RefusalReason


@dataclass(slots=True)
class Counters:
    """Totals; they never decrease."""

    started_at: float = field(default_factory=monotonic)
    """Start of the room (s, monotonic)."""
    joins: int = 0
    probes: int = 0
    """Connections that were closed at once and sent nothing, such as health checks."""
    refusals: Counter[RefusalReason] = field(default_factory=Counter)
    """Refused connections, by reason."""
    leaves: Counter[LeaveReason] = field(default_factory=Counter)
    """Members that have left, by reason."""
    deaths: Counter[int] = field(default_factory=Counter)
    """Ready workers that have ended, by seat, including workers that the pool has killed."""
    recoveries: int = 0
    pause: float = 0.0
    """Total time (s) of all recoveries, each from a worker's death until all its members were
    served again."""
    longest_pause: float = 0.0
    """Longest recovery (s)."""

    def recovered(self, seconds: float) -> None:
        """Count a recovery that took this time (s)."""
        self.recoveries += 1
        self.pause += seconds
        self.longest_pause = max(self.longest_pause, seconds)
