"""Numbers that the main process has counted since the room began."""

from collections import Counter
from dataclasses import dataclass, field
from time import time

from chatroom.protocol.leave_reason import LeaveReason


@dataclass(slots=True)
class Counters:
    """Numbers that only grow."""

    since: float = field(default_factory=time)
    """When the room began, in seconds of the epoch."""
    joins: int = 0
    refusals: Counter[str] = field(default_factory=Counter)
    """By what the refused were told (JOIN-5)."""
    leaves: Counter[LeaveReason] = field(default_factory=Counter)
    """By reason."""
    deaths: Counter[int] = field(default_factory=Counter)
    """Workers that have ended after they were ready, by seat, whether or not we killed them."""
    recoveries: int = 0
    pause: float = 0.0
    """Seconds, in all recoveries, from a worker's death until all its members were served again."""
    longest_pause: float = 0.0

    def recovered(self, seconds: float) -> None:
        self.recoveries += 1
        self.pause += seconds
        self.longest_pause = max(self.longest_pause, seconds)
