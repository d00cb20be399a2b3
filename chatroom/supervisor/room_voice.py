"""The room's own lines to all members: lines of `chatroom.admin say`, and of --announce.

They are appended to the log (in a cluster, to the uplink) like a member's messages. The main
process must not wait long for the log's lock: a worker that hangs may hold the lock, and only the
main process can kill this worker.
"""

import logging
from collections import deque
from collections.abc import Callable

from chatroom.log.origin import ROOM, Origin
from chatroom.log.ring import Batch, Log
from chatroom.logs import Event
from chatroom.protocol.message import ROOM_ID, ROOM_PREFIX, render
from chatroom.protocol.text import sanitize
from chatroom.system.event_loop import EventLoop

PREFIX = ROOM_PREFIX.encode()
SAY_WITHIN = 0.1
"""Timeout (s) for taking the log's lock. If the log is full, `say` fails at once."""
ANNOUNCE_WITHIN = 0.002
"""Timeout (s) for taking the log's lock for an announcement. The append is retried later."""
RETRY_AFTER = 0.02
"""Pause (s) before the append of announcements is retried."""
MAX_WAITING = 1000
"""Maximum number of announcements that wait. If there is one more, the oldest is dropped."""

logger = logging.getLogger(__name__)


class RoomVoice:
    """Appends lines of the room to a log. `wake()` wakes all processes that read the log."""

    def __init__(self, loop: EventLoop, log: Log, wake: Callable[[], None]) -> None:
        self._log = log
        self._wake = wake
        self._waiting: deque[str] = deque(maxlen=MAX_WAITING)
        """Announcements that are not in the log yet."""
        self._dropped = 0
        """Number of announcements that were dropped since the last successful append."""
        self._retry = loop.timer(self._announce_waiting)

    def say(self, block: bytes) -> bool:
        """Append whole lines; return False if the log is busy or full."""
        return self._append(block, SAY_WITHIN)

    def announce(self, text: str) -> None:
        """Append a line now, or as soon as the log permits it."""
        if len(self._waiting) == MAX_WAITING:
            if not self._dropped:
                says = "the log is busy or full: the oldest announcements are dropped"
                logger.warning(Event("announcements-wait", says, waiting=MAX_WAITING))
            self._dropped += 1
        self._waiting.append(text)
        if self._retry.due is None:
            self._announce_waiting()

    def _announce_waiting(self) -> None:
        block = "".join(f"{text}\n" for text in self._waiting).encode()
        if self._append(block, ANNOUNCE_WITHIN):
            self._waiting.clear()
            if self._dropped:
                says = "the log was busy or full; members miss these announcements"
                logger.warning(Event("announcements-dropped", says, announcements=self._dropped))
                self._dropped = 0
        else:
            self._retry.set_after(RETRY_AFTER)

    def _append(self, block: bytes, within: float) -> bool:
        batch = Batch()
        origin = Origin(ROOM, len(PREFIX)).pack()
        batch.add(ROOM_ID, origin, 0, render(PREFIX, sanitize(block)), block.count(b"\n"))
        appended = self._log.append_within(within, batch)
        if appended:
            self._wake()
        return appended
