"""The uplink of a room in a cluster: the messages of this node's members, until they are published.

The workers append to the uplink instead of the room's log. The bridge (sidecars/cluster/) publishes
the entries of the uplink to the stream, which puts the messages of all nodes into one order. The
bridge reads all messages from the stream, and appends them to the room's log.

The uplink is a log in which an append may have to wait for two kinds of positions:

- The position of the bridge: everything before it is published.
- The position of a worker while the worker appends. The worker holds the lock, and sets the
  position before the append. After the append, it notes in each sender's slot how many bytes of the
  sender's input the uplink covers (the *reach*: see `Entry`), and then removes the position. If the
  worker is killed before that, the position remains, so that another worker finds the entries whose
  reaches are missing in the slots (`interrupted`).
"""

from collections.abc import Sequence

from chatroom.config.limits import BYTES_PER_ENTRY, Limits
from chatroom.log.ring import IDLE, Batch, Geometry, Log
from chatroom.log.slots import Slots


def geometry(limits: Limits) -> Geometry:
    """Return the sizes of the uplink.

    Of the published entries, the uplink keeps only the last one, because the next entry begins
    where the last entry ends.
    """
    return Geometry(limits.uplink_size, limits.uplink_size // BYTES_PER_ENTRY, 0, 1)


class Uplink(Log):
    """A process' view of the uplink in the file `fd`."""

    def __init__(self, fd: int, limits: Limits) -> None:
        """`fd`: an anonymous file of `geometry(limits).file_size`."""
        super().__init__(fd, geometry(limits))
        self.bridge = limits.seats
        """Number of the bridge's seat, and of its doorbell."""

    def format(self) -> None:
        """Turn a zeroed file into an empty uplink. Call once, before another process maps it."""
        super().format()
        self.prepare_seat(self.bridge)
        self.serve(self.bridge, self.head)

    @property
    def published(self) -> int:
        """Position up to which the bridge has published everything."""
        return self.worker_position(self.bridge)

    @property
    def unpublished(self) -> tuple[int, int]:
        """Number and size (bytes) of the messages that are not published yet."""
        position, head = self.published, self.head
        return (
            self.messages(head) - self.messages(position),
            self.offset(head) - self.offset(position),
        )

    def note_published(self, position: int) -> list[int]:
        """Record that everything before `position` is published.

        Return the workers that waited for space; the caller wakes them. Only the bridge may call
        this, and must hold the lock.
        """
        return self.advance(self.bridge, position)

    def append_from(
        self, worker: int, batch: Batch, senders: Sequence[int], slots: Slots
    ) -> int | None:
        """Append a worker's batch as `append` does, and note the senders' reaches in their slots.

        `senders`: slot of the sender of each run of the batch. The caller must hold the lock.
        """
        self.serve(worker, self.head)
        start = self.append(batch)
        if start is not None:
            for slot, run in zip(senders, batch.runs, strict=True):
                slots.note_uplink_reach(slot, run[2])
        self.serve(worker, IDLE)
        return start

    def interrupted(self) -> dict[int, int]:
        """Return the last reach of each sender in the appends that a worker's death interrupted.

        The position of the dead worker must be pinned. The result may hold senders of later
        appends, too.
        """
        with self:
            head = self.head
            first = min([head, *(self.worker_position(seat) for seat in range(self.bridge))])
            return self.spans_by_sender(first, head)[1]

    def pin(self, dead: Sequence[int], seat: int) -> None:
        """Keep the lowest position of the `dead` workers as the position of `seat`; remove the
        others.

        `seat`: seat of one of these workers. Only the main process may call this.
        """
        lowest = min(self.worker_position(number) for number in dead)
        self.serve(seat, lowest)
        for number in dead:
            if number != seat:
                self.serve(number, IDLE)
