"""How a worker goes on with members that another one has served, to the byte (LOAD-4).

Where a member stood was noted in its slot, some time ago (`note`). Since then
the kernel has counted what it took for the member and what it gave of it
(`Past`):

    noted, and taken since      walked along the log, the member's own skipped: the cursor
    covered, and read in all    what lies between is still in the slot: to be framed again

The welcome counts as the first bytes of the stream: a connection that has not
taken all of it has joined nowhere, and begins as a newcomer does. So there is
one way for a newcomer, for a dead worker's members, and for those that one
worker yields to another.
"""

import socket
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from chatroom.log.ring import Log, Span
from chatroom.log.slots import Checkpoint, Slots
from chatroom.system.tcp_counters import counts
from chatroom.worker.member import Member


class Assigned(NamedTuple):
    """A connection assigned to a worker, with what the main process knows of it."""

    id: int
    address: str
    prefix: str
    """Prefix of each of its messages."""
    slot: int
    header_bytes: int
    """Bytes of a PROXY header, which come before all that it says."""
    greeting: bytes
    """Greeting of the room when it came."""
    connection: socket.socket


@dataclass(slots=True)
class RecoveredState:
    """Recovered state of a connection; defaults for a newcomer."""

    greeted: int = 0
    """Bytes of the greeting that it has taken."""
    cursor: int | None = None
    """Offset at which it stands; None where it has not taken all of the greeting."""
    position: int = 0
    """Position of an entry that does not begin beyond the cursor."""
    own: list[Span] = field(default_factory=list)
    """Spans from there on that are its own, in order."""
    covered: int = 0
    """Bytes of its input that the log covers."""
    read: int = 0
    """Bytes of its input that were read."""


def note(slots: Slots, member: Member, taken: int, offset: int, position: int) -> None:
    """Note that a member stands at `offset` when so many bytes were taken for it.

    `position`: of an entry that does not begin beyond `offset`. What it is not
    to receive from there on is behind it: it may be a LF that is not in the log
    yet (LINE-6).
    """
    if member.own and member.own[0][0] <= offset:
        offset = max(offset, member.own[0][1])
    slots.note(member.slot, Checkpoint(offset, position, taken, member.covered))


class Past:
    """The past of connections assigned to a worker, from the log and the slots.

    No other worker may serve them, and a dead worker's position has to be where
    it was. One pass through the log is enough for all of them.
    """

    def __init__(self, log: Log, slots: Slots, to_adopt: Sequence[Assigned]) -> None:
        with log:
            head = log.head
        self._lapped = head - log.geometry.entries
        """Position up to which the entries are overwritten."""
        self._checkpoints = {assigned.id: slots.checkpoint(assigned.slot) for assigned in to_adopt}
        positions = [
            checkpoint.position
            for checkpoint in self._checkpoints.values()
            if self._knows(checkpoint)
        ]
        self._spans, self._reaches = log.said(min(positions, default=head), head)

    def _knows(self, checkpoint: Checkpoint) -> bool:
        return checkpoint.position > max(0, self._lapped)

    def of(self, assigned: Assigned) -> RecoveredState:
        """Return the state of a connection."""
        checkpoint = self._checkpoints[assigned.id]
        if not checkpoint.position:
            return RecoveredState(
                covered=assigned.header_bytes, read=assigned.header_bytes
            )  # nobody has served it
        count = counts(assigned.connection)
        assert count is not None, "whom the system does not count, nobody takes over: assignment.py"
        if not self._knows(checkpoint):
            # Only a member whose connection was broken long ago is not noted again.
            return RecoveredState(covered=count.read, read=count.read)
        covered = max(checkpoint.reach, self._reaches.get(assigned.id, 0))
        if count.taken < len(assigned.greeting):
            return RecoveredState(greeted=count.taken, covered=covered, read=count.read)
        own = self._spans.get(assigned.id, [])
        cursor = walk(checkpoint.offset, count.taken - checkpoint.taken, own)
        return RecoveredState(
            len(assigned.greeting), cursor, checkpoint.position, own, covered, count.read
        )


def walk(offset: int, size: int, own: Sequence[Span]) -> int:
    """Return the cursor of a member that was at `offset` and has received `size` bytes since.

    None of them was its `own`.
    """
    for begin, end in own:
        if end <= offset:
            continue
        if begin - offset > size:
            break
        size -= max(0, begin - offset)
        offset = end
    return offset + size
