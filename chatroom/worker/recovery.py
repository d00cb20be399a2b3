"""Recovery of members that another worker has served, to the byte (LOAD-4).

A worker regularly notes a checkpoint of each member in the member's slot (`note`). The kernel
counts the bytes that each socket sent and received. From both, `Recovery` finds:

    the cursor        the checkpoint's offset, moved along the log by the bytes sent since
                      then; the member's own messages are skipped
    input to frame    the bytes that were read and that the log does not cover; the slot
                      still holds them

The welcome counts as the first bytes of the stream: a connection that has not received all of it is
not a member yet, and begins as a newcomer. So newcomers, members of a dead worker, and members that
a worker yields are handled alike.
"""

import socket
from collections.abc import Sequence
from typing import NamedTuple

from chatroom.log.ring import Log, Span
from chatroom.log.slots import Checkpoint, Slots
from chatroom.log.uplink import Uplink
from chatroom.system.tcp_counters import counts
from chatroom.worker.member import Member


class Assigned(NamedTuple):
    """A connection that the main process has assigned to a worker."""

    id: int
    address: str
    prefix: str
    """Prefix of the member's messages."""
    slot: int
    header_bytes: int
    """Size of the PROXY header (bytes) before the member's input; 0 without a header."""
    greeting: bytes
    """Greeting of the room when the connection was accepted."""
    connection: socket.socket
    after: int | None = None
    """Number of the message after which its history begins; None: it gets none."""


class RecoveredState(NamedTuple):
    """Recovered state of a connection; defaults for a newcomer."""

    greeted: int = 0
    """Number of bytes of the greeting that were sent."""
    cursor: int | None = None
    """Offset of the next byte to send; None if the greeting was not sent completely."""
    position: int = 0
    """Position of an entry that begins at or before the cursor."""
    own: Sequence[Span] = ()
    """Spans of the member's own messages from that entry on, in order."""
    covered: int = 0
    """Number of bytes of the member's input that the log covers."""
    read: int = 0
    """Number of bytes of the member's input that were read."""


def note(slots: Slots, member: Member, taken: int, offset: int, position: int) -> None:
    """Note a checkpoint: a member is at `offset` after its socket has accepted `taken` bytes.

    `position`: position of an entry that begins at or before `offset`. If one of the member's own
    spans begins at `offset`, the checkpoint is moved to the end of that span. The span may be a LF
    that is not in the log yet (LINE-6).
    """
    if member.own and member.own[0][0] <= offset:
        offset = max(offset, member.own[0][1])
    slots.note(member.slot, Checkpoint(offset, position, taken, member.covered))


class Recovery:
    """The recovered states of connections assigned to a worker, from the log and the slots.

    No other worker may serve these connections. The position of the worker that served these
    connections before must still be pinned. One pass through the log is enough for all these
    connections.
    """

    def __init__(
        self, log: Log, slots: Slots, to_adopt: Sequence[Assigned], uplink: Uplink | None
    ) -> None:
        with log:
            head = log.head
        self._lapped = head - log.geometry.entries
        """Position up to which the entries may be overwritten."""
        self._checkpoints = {assigned.id: slots.checkpoint(assigned.slot) for assigned in to_adopt}
        positions = [
            checkpoint.position
            for checkpoint in self._checkpoints.values()
            if self._knows(checkpoint)
        ]
        self._spans, self._reaches = log.spans_by_sender(min(positions, default=head), head)
        if uplink is not None:
            self._reaches = {
                assigned.id: slots.uplink_reach(assigned.slot) for assigned in to_adopt
            } | uplink.interrupted()

    def _knows(self, checkpoint: Checkpoint) -> bool:
        return checkpoint.position > max(0, self._lapped)

    def state_of(self, assigned: Assigned) -> RecoveredState:
        """Return the state of a connection."""
        checkpoint = self._checkpoints[assigned.id]
        if not checkpoint.position:
            return RecoveredState(
                covered=assigned.header_bytes, read=assigned.header_bytes
            )  # no worker has served it
        count = counts(assigned.connection)
        assert count is not None, "members are only handed over if the kernel counts their bytes"
        if not self._knows(checkpoint):
            # The log has overwritten what the checkpoint needs: the connection is broken.
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

    The `own` spans, which the member does not receive, are skipped. The spans must be in order.
    `size` is negative if the member's worker died before it sent a telnet answer that a checkpoint
    already counts.
    """
    size = max(0, size)
    for begin, end in own:
        if end <= offset:
            continue
        if begin - offset > size:
            break
        size -= max(0, begin - offset)
        offset = end
    return offset + size
