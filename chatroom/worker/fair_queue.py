"""A queue of the members that wait to be read from while the room is busy, by source.

While the room's debt is below half of its burst, as in any ordinary chat, no member waits. When the
debt is higher, a *source* (log/room_rate.py) has a turn if its tag exceeds the virtual time by no
more than QUANTUM. The members of a source take turns. The last quarter of the burst is reserved for
sources that send less than their share. So a flood uses three quarters of the burst, and a line
that somebody types meanwhile is read at once. Turns are short, so that the turn of each source
comes soon.

Each worker has its own queue, and publishes the lowest tag of its queue. A worker that hangs delays
the others only until the debt has fallen to half of the burst.
"""

import heapq

from chatroom.config.limits import MIN_COST
from chatroom.config.sizes import KIB
from chatroom.log.room_rate import NONE, RoomRate
from chatroom.worker.member import Member

QUANTUM = 8 * KIB
"""Maximum difference (bytes of cost) between a source's tag and the virtual time. A source whose
tag is higher is not read from."""

TURN_READ = KIB // 4
"""Maximum number of bytes to read from a member in its turn."""

TURN_LINES = KIB // MIN_COST
"""Maximum number of lines to read from a member in its turn: that many empty lines cost 1 KiB."""

RETRY_AFTER = 0.01
"""Seconds before a queue looks again for a source that may be read from."""


def turn_size(waiting: bytes) -> int:
    """Return the number of bytes to read in a turn from input that begins with `waiting`."""
    end = 0
    for _ in range(TURN_LINES):
        end = waiting.find(b"\n", end) + 1
        if not end:
            return TURN_READ
    return end


class FairQueue:
    """The waiting members of worker `number`. They are not read from until `pop` returns them."""

    def __init__(self, room_rate: RoomRate, number: int) -> None:
        self._room_rate = room_rate
        self._number = number
        self._free = room_rate.burst // 2
        """Debt (bytes) below which no member needs to wait."""
        self._fair = room_rate.burst * 3 // 4
        """At this debt (bytes) or more, only sources that send less than their share are read
        from."""
        self._waiting: dict[int, dict[Member, None]] = {}
        """Waiting members by source, the longest waiting first."""
        self._tags: list[tuple[int, int]] = []
        """Heap of the tags and numbers of the waiting sources that the worker has not served in
        this turn. A tag may be too low, because another worker has read from the source; `_lowest`
        corrects it."""
        self._served: list[int] = []
        """Sources that the worker has served in this turn."""
        self._retry_at = 0.0
        """Time (s, monotonic) at which to look again, if no source was served."""

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def is_needed(self, now: float) -> bool:
        """Return True if members must wait for their turns at `now` (s, monotonic)."""
        return bool(self._waiting) or self._room_rate.debt(now) >= self._free

    def put(self, member: Member) -> None:
        """Let a readable member wait for its turn."""
        if member.source not in self._waiting:
            self._waiting[member.source] = {}
            heapq.heappush(self._tags, (self._room_rate.tag(member.source), member.source))
        self._waiting[member.source][member] = None

    def discard(self, member: Member) -> None:
        """Remove a member that has left or ended. No effect if the member does not wait."""
        self._waiting.get(member.source, {}).pop(member, None)

    def begin(self, now: float) -> None:
        """Begin a turn of the worker, after the messages of the previous turn were charged."""
        self._retry_at = now + RETRY_AFTER
        served, self._served = self._served, []
        for source in served:
            if self._waiting[source]:
                heapq.heappush(self._tags, (self._room_rate.tag(source), source))
            else:
                del self._waiting[source]
        self._publish()

    def pop(self, debt: int) -> Member | None:
        """Return a member to read from, or None if no member has a turn.

        `debt`: the room's debt, including the messages of this turn.
        """
        source = self._lowest()
        if source is None or not self.may_read(source, debt):
            return None
        heapq.heappop(self._tags)
        self._served.append(source)
        members = self._waiting[source]
        member = next(iter(members))
        del members[member]
        return member

    def may_read(self, source: int, debt: int) -> bool:
        """Return True if messages of a source may be added at this debt."""
        if debt < self._free:
            return True
        tag, virtual = self._room_rate.tag(source), self._room_rate.virtual_time()
        if debt < self._fair:
            return tag <= virtual + QUANTUM
        return debt < self._room_rate.burst and tag < virtual

    @property
    def due(self) -> float | None:
        """Time at which to begin the next turn, 0.0 for at once; None if no member waits."""
        if self._served:
            return 0.0
        return self._retry_at if self._waiting else None

    def _lowest(self) -> int | None:
        """Return the waiting source with the lowest tag, or None."""
        tags = self._tags
        while tags:
            tag, source = tags[0]
            current = self._room_rate.tag(source)
            if not self._waiting[source]:
                heapq.heappop(tags)
                del self._waiting[source]
            elif current > tag:  # another worker has read from the same source
                heapq.heapreplace(tags, (current, source))
            else:
                return source
        return None

    def _publish(self) -> None:
        lowest = self._lowest()
        self._room_rate.publish(
            self._number, NONE if lowest is None else self._room_rate.tag(lowest)
        )
