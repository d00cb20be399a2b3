"""The part of the bridge that uses the logs, without a network.

`next_publication` reads the uplink. `append` writes a publication from the stream to the room's
log. Both take a log's lock for a moment, as a worker does.
"""

from collections.abc import Sequence

from chatroom.config.sizes import KIB
from chatroom.log.origin import ROOM, Origin
from chatroom.log.ring import Batch, Log
from chatroom.log.uplink import Uplink
from chatroom.protocol.message import ROOM_ID, ROOM_PREFIX, render
from chatroom.sidecars.cluster.stream_message import MAX_RUNS, Publication, Run
from chatroom.system.doorbell import Doorbell

MAX_TEXT = 256 * KIB
"""Maximum size (bytes of text) of a publication with several entries. A larger entry is published
alone; settings.py bounds its size. NATS accepts 1 MB by default."""


class Relay:
    """The bridge's view of the uplink and of the room's log.

    `node`: this node's number. `after`: sequence number in the stream at which this room began.
    """

    def __init__(
        self, node: int, uplink: Uplink, log: Log, doorbells: Sequence[Doorbell], after: int
    ) -> None:
        """`doorbells`: as in `Seat`."""
        self._node = node
        self._uplink = uplink
        self._log = log
        self._doorbells = doorbells
        self._readers = range(uplink.bridge + 1, len(doorbells))
        self.sequence = max(after, log.reach(log.head))
        """Sequence number of the last publication in the room's log."""

    # --- the uplink ----------------------------------------------------------

    def next_publication(self, position: int) -> Publication | None:
        """Return the publication that begins at a position in the uplink; None if there is nothing
        to publish.

        An entry that consists of a LF, which ends an unfinished line (LINE-6), holds no message.
        Such an entry is left out: each node ends the line itself, before the next message of the
        stream.
        """
        uplink = self._uplink
        with uplink:
            head = uplink.head
        if position >= head:
            return None
        start, before = uplink.offset(position), uplink.messages(position)
        last = uplink.position(start + MAX_TEXT, position, head)
        last = min(max(last, position + 1), position + MAX_RUNS)
        runs = []
        for end, sender, _, messages, origin in uplink.entries(position, last):
            if messages > before:
                text = b"".join(uplink.views(start, end))
                runs.append(Run(sender, origin, messages - before, text))
            start, before = end, messages
        return Publication(self._node, last, before, runs)

    def note_published(self, position: int) -> None:
        """Record that everything before a position in the uplink is published."""
        uplink = self._uplink
        with uplink:
            waiting = uplink.note_published(position) if position > uplink.published else []
        self._ring(waiting)

    # --- the room's log ------------------------------------------------------

    def append(self, publication: Publication, sequence: int) -> bool:
        """Append a whole publication to the room's log; return False if there is no space.

        The workers deliver it after `ring`. If there is no space, the bridge's doorbell rings when
        there may be space again.
        """
        if publication.runs and not self._append(publication.batch(self._node, sequence)):
            return False
        self.sequence = sequence
        return True

    def ring(self) -> None:
        """Let the workers deliver what was appended."""
        with self._log as log:
            serving = log.serving()
        self._ring([*serving, *self._readers])

    def say(self, text: str) -> bool:
        """Append a message of the room itself, for this node's members; return False if there is no
        space."""
        prefix = ROOM_PREFIX.encode()
        batch = Batch()
        origin = Origin(ROOM, len(prefix)).pack()
        batch.add(ROOM_ID, origin, self.sequence, render(prefix, text.encode() + b"\n"), 1)
        appended = self._append(batch)
        if appended:
            self.ring()
        return appended

    def _append(self, batch: Batch) -> bool:
        log, bridge = self._log, self._uplink.bridge
        with log:
            appended = log.append(batch) is not None
            wake = []
            if not appended:
                log.wait_for_space(bridge)
                wake = log.yet_to_deliver()
        self._ring(wake)
        return appended

    def _ring(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            if number != self._uplink.bridge:
                self._doorbells[number].ring()
