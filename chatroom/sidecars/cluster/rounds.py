"""Rounds: how many members, or nodes, send at the same time, and waiting for all of them.

If many members talk at the same time, each of them sends again when it has received the messages of
the others, so they send in rounds. A publication and a delivery cost nearly the same for fifty
messages as for one. So a bridge waits for a moment before it publishes, and before it lets the
workers deliver.
"""

import asyncio
import contextlib
from collections.abc import Callable

from chatroom.sidecars.cluster.stream_message import Publication

GATHER = 100e-6
"""Maximum time (s) for each member of the last round to wait for more messages before a
publication."""
MAX_GATHER = 40e-3
"""Maximum time (s) to wait for more messages. A round of 900 members takes about as long."""
RING_AFTER = 2e-3
"""Maximum time (s) to wait for the other nodes' publications before the workers are rung."""


class Round:
    """The number of senders that send at the same time: members of a node, or nodes."""

    def __init__(self) -> None:
        self._senders: set[int] = set()
        """Senders since the first one of them sent again."""
        self.size = 1
        """Number of senders in the last round, which ended when one of them sent again."""

    def note(self, senders: set[int], publication: Publication) -> None:
        """Note the senders of a publication.

        If all its messages are of one member, the size is halved: this member may be the only one
        that talks, and must not wait for others.
        """
        if len(publication.senders) < 2:
            self.size = max(1, self.size // 2)
        elif self._senders.isdisjoint(senders):
            self._senders |= senders
        else:
            self.size = len(self._senders)
            self._senders = senders


async def gather(
    size: int, waiting: Callable[[], int], bell: asyncio.Event, stop: asyncio.Event
) -> None:
    """Wait until `size` messages wait to be published, or the time is over.

    Return at once if no message waits, or if `stop` is set. `bell`: set when the result of
    `waiting` has grown, and when `stop` is set.
    """
    if not 0 < waiting() < size:
        return
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(min(GATHER * size, MAX_GATHER)):
            while waiting() < size and not stop.is_set():
                await bell.wait()
                bell.clear()


class Ringer:
    """Lets the workers deliver the publications of all nodes of a round together.

    `ring`: rings the workers.
    """

    def __init__(self, ring: Callable[[], None]) -> None:
        self._ring_workers = ring
        self._nodes = Round()
        self._appended = 0
        """Number of publications that were appended since the workers were rung."""
        self._timer: asyncio.TimerHandle | None = None
        """Timer that rings the workers; None if no publication waits for another one."""

    def note(self, publication: Publication) -> None:
        """Note that a publication was appended to the room's log, and ring the workers: at once, or
        RING_AFTER at the latest."""
        self._nodes.note({publication.node}, publication)
        self._appended += 1
        if self._appended >= self._nodes.size:
            self._ring()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(RING_AFTER, self._ring)

    def _ring(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._appended = 0
        self._ring_workers()
