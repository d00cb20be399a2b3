"""The uplink of a room in a cluster: the messages of this node's members, until they are published.

The workers append to the uplink instead of the room's log. The bridge (sidecars/cluster/) publishes
the entries to the stream, which gives the messages of all nodes one order, and appends what the
stream returns to the room's log.

The uplink is a log in which two kinds of positions hold back an append:

- the bridge's: everything before it is published;
- a worker's, while it appends: it is set before the append, and removed when the reach of each
  sender is in the sender's slot, all under the lock. If the worker is killed meanwhile, its
  position stays, so that another worker finds the entries that are not in the slots
  (`interrupted`).
"""

from collections.abc import Sequence

from chatroom.config.limits import BYTES_PER_ENTRY, Limits
from chatroom.log.ring import IDLE, Batch, Geometry, Log
from chatroom.log.slots import Slots


def geometry(limits: Limits) -> Geometry:
    """Return the sizes of the uplink.

    It keeps nothing that is published, except one entry: it holds the start of the next one.
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
        """Make a zeroed file an empty uplink. Call once, before another process maps the file."""
        super().format()
        self.prepare_seat(self.bridge)
        self.serve(self.bridge, self.head)

    @property
    def published(self) -> int:
        """Position up to which the bridge has published everything."""
        return self.worker_position(self.bridge)

    def note_published(self, position: int) -> list[int]:
        """Record that everything before `position` is published; return the workers to wake, which
        waited for space. Only for the bridge; hold the lock."""
        return self.advance(self.bridge, position)

    def append_from(
        self, worker: int, batch: Batch, senders: Sequence[int], slots: Slots
    ) -> int | None:
        """Append a worker's batch like `append`, and note its senders' reaches in their slots.

        `senders`: slot of the sender of each run of the batch. Hold the lock.
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
        """Replace the positions of `dead` workers by the lowest of them, as that of `seat`.

        `seat`: one of them. Only for the main process.
        """
        lowest = min(self.worker_position(number) for number in dead)
        self.serve(seat, lowest)
        for number in dead:
            if number != seat:
                self.serve(number, IDLE)
