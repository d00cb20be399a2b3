"""The event loop of a worker in a cluster.

A turn differs from a turn in a room on one machine (loop.py) in one step: the batch is appended to
the uplink, not to the room's log. The bridge (sidecars/cluster/) publishes the batch. Later, the
bridge reads the batch from the stream, and appends it to the room's log. There, the worker finds
its members' own messages by the ids of the senders.
"""

from chatroom.log.uplink import Uplink
from chatroom.system.channel import Channel
from chatroom.worker.loop import Worker
from chatroom.worker.seat import Seat


class ClusterWorker(Worker):
    """A worker of a room that is part of a cluster."""

    def __init__(self, seat: Seat, channel: Channel, uplink: Uplink) -> None:
        super().__init__(seat, channel)
        self._uplink = uplink

    def _append(self) -> tuple[int, int, list[int]]:
        """Append the batch to the uplink, if there is one.

        Return the head of the room's log, the number of the members' own messages among those to
        deliver, and the numbers of the doorbells to ring.
        """
        wake = self._append_to_uplink()
        with self._log as log:
            wake += self.delivery.advance_locked()
            head = log.head
        return head, self._note_own(head), [number for number in wake if number != self._number]

    def _append_to_uplink(self) -> list[int]:
        """Append the batch, if there is one; return the numbers of the doorbells to ring."""
        uplink, has_batch = self._uplink, bool(self.input.batch)
        appended = False
        with uplink:
            permitted = has_batch and self._may_append()
            if permitted:
                appended = self.input.append_to(uplink)
                if not appended:
                    uplink.wait_for_space(self._number)
            self.input.charge(appended)
        self._full = has_batch and not appended
        if appended:
            self.input.record_covered()
        return [uplink.bridge] if permitted else []

    def _note_own(self, head: int) -> int:
        """Note the members' own messages among those that are delivered next; return their
        number."""
        log, members = self._log, self.membership.members
        position = self.delivery.position
        if not len(self.delivery) or position == head:
            return 0
        begin, before, own = log.offset(position), log.messages(position), 0
        for end, sender, _, messages, _ in log.entries(position, head):
            member = members.get(sender)
            if member is not None:
                member.owns(begin, end)
                own += messages - before
            begin, before = end, messages
        return own
