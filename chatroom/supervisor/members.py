"""The members of the room as the main process knows them.

It holds a dup of each member's socket, which so outlives the worker that serves it, and says how
each begins and ends: a slot is given and taken back, the registry is told of who has left, and
both are counted, logged and shown on the console.
"""

import contextlib
import logging
import socket
from collections.abc import Callable
from dataclasses import dataclass, field
from time import time

from chatroom.log.slots import Slots
from chatroom.logs import Event
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.supervisor.counters import Counters
from chatroom.supervisor.registry import Directory, RegistryProcess

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Client:
    """A member: a connection that was admitted."""

    connection: socket.socket
    address: str
    port: int
    prefix: str
    """Text before each of its messages."""
    worker: int
    """Number of the worker that serves it."""
    header_bytes: int = 0
    """Bytes that it sent before all that it says: a PROXY header."""
    greeting: bytes = b""
    """Text that it receives first: the room's greeting when it came."""
    slot: int = -1
    """Number of its slot, where another worker finds what it needs: see log/slots.py."""
    since: float = field(default_factory=time)
    """When it came, in seconds of the epoch."""
    removed_for: LeaveReason | None = None
    """Reason why the room's owner has disconnected it, if that is so."""
    deaths: int = 0
    """Workers in a row that have died over it."""


class Members:
    """The members, `by_id`, which is for others to read."""

    def __init__(
        self,
        slots: Slots,
        registry: RegistryProcess,
        counters: Counters,
        show: Callable[[str], None],
    ) -> None:
        """`show(line)` prints a line on the console, or not."""
        self.by_id: dict[int, Client] = {}
        self._slots = slots
        self._registry = registry
        self._counters = counters
        self._show = show
        self._free_slots: list[int] = []
        self._slots_used = 0
        """Slots that were ever given out."""

    def join(self, id: int, client: Client) -> None:
        """Add a member that the registry has admitted, and give it a slot."""
        if not self._free_slots:
            self._free_slots.append(self._slots_used)
            self._slots_used += 1
        client.slot = self._free_slots.pop()
        self.by_id[id] = client
        self._counters.joins += 1
        logger.info(
            Event(
                "joined",
                member=id,
                address=client.address,
                port=client.port,
                worker=client.worker,
            )
        )
        self._show(f"{client.address} connected")

    def disconnect(self, client: Client, reason: LeaveReason) -> None:
        """End a member's connection; its worker will say that it left, and that is why."""
        client.removed_for = reason
        with contextlib.suppress(OSError):
            client.connection.shutdown(socket.SHUT_RDWR)

    def leave(self, reasons: dict[int, LeaveReason]) -> None:
        """Give back what these members cost (LEAVE-3); those that had left before are ignored."""
        left = {id: self.by_id.pop(id) for id in reasons if id in self.by_id}
        if not left:
            return
        for client in left.values():
            with contextlib.suppress(OSError):
                client.connection.shutdown(socket.SHUT_RDWR)  # where its worker could not
            client.connection.close()
            self._slots.clear(client.slot)
            self._free_slots.append(client.slot)
        self._registry.leave(list(left))
        for id, client in left.items():
            reason = client.removed_for or reasons[id]
            self._counters.leaves[reason] += 1
            logger.info(
                Event("left", member=id, address=client.address, port=client.port, reason=reason)
            )
            line = f"{client.address} disconnected"
            if reason is LeaveReason.LAGGED:
                line += ": it lagged too far behind"
            elif client.removed_for:
                line += f": {reason}"
            self._show(line)

    def directory(self) -> Directory:
        """Return what the registry has to know of them."""
        return {id: (client.address, client.worker) for id, client in self.by_id.items()}
