"""The members of the room as the main process knows them.

The main process holds a dup of each member's socket, so the connection outlives the worker that
serves it. A join allocates a slot and finds the source (sources.py); a leave frees the slot and
tells the registry. Joins and leaves are counted, logged and shown on the console.

A connection is announced ANNOUNCE_AFTER seconds after it was accepted: it is counted as a join,
logged, and shown on the console; with --announce, the members are told, too. A connection that has
left by then is announced only if it has sent data. Otherwise it was a probe, such as a load
balancer's health check. A connection that speaks another protocol is counted as refused.
"""

import contextlib
import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from time import monotonic

from chatroom.log.ring import Log
from chatroom.log.slots import Slots
from chatroom.logs import Event
from chatroom.protocol.leave_reason import CLOSING_MESSAGES, OTHER_PROTOCOLS, LeaveReason
from chatroom.protocol.refusal_reason import RefusalReason
from chatroom.supervisor.counters import Counters
from chatroom.supervisor.progress import progress
from chatroom.supervisor.registry import Directory
from chatroom.supervisor.registry_process import RegistryProcess
from chatroom.supervisor.sources import Sources
from chatroom.system.event_loop import EventLoop
from chatroom.system.tcp_counters import traffic

ANNOUNCE_AFTER = 0.2
"""Delay (s) of an announcement. A health check closes its connection sooner."""

PROBES = {LeaveReason.CLOSED, LeaveReason.RESET}
"""Leave reasons of probes."""

FIN = 1
"""Number of bytes that the kernel counts for the end of a member's input."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Client:
    """A member: an admitted connection."""

    connection: socket.socket
    address: str
    port: int
    prefix: str
    """Prefix of the member's messages."""
    worker: int
    """Number of the worker that serves the member, or UNASSIGNED."""
    header_bytes: int = 0
    """Size of the PROXY header (bytes) before the member's input."""
    greeting: bytes = b""
    """Text that the member receives first: the room's greeting at its join."""
    after: int | None = None
    """Number of the message after which its history begins; None: it gets none."""
    slot: int = -1
    """Number of the member's slot (log/slots.py), from which another worker recovers its state."""
    joined_at: float = field(default_factory=monotonic)
    """Time of the join (s, monotonic)."""
    removed_for: LeaveReason | None = None
    """Reason why the room's owner disconnected the member; None if the owner has not done so."""
    deaths: int = 0
    """Number of workers in a row that have died while they handled the member."""


class Members:
    """The members. Other classes read `by_id`, but only this class changes it."""

    def __init__(
        self,
        loop: EventLoop,
        log: Log,
        slots: Slots,
        sources: Sources,
        registry: RegistryProcess,
        counters: Counters,
        reserve_line: Callable[[], Callable[[str | None], None]],
        announce: Callable[[str], None] | None = None,
    ) -> None:
        """`reserve_line` is `Console.reserve_line`; in a quiet room, it does nothing. `announce`
        sends a line to all members; None without --announce."""
        self.by_id: dict[int, Client] = {}
        self._log = log
        self._slots = slots
        self._sources = sources
        self._registry = registry
        self._counters = counters
        self._reserve_line = reserve_line
        self._tell_all = announce
        self._loop = loop
        self._unannounced: dict[int, tuple[float, Callable[[str | None], None]]] = {}
        """Members that are not announced yet, by id, the oldest first. Each value is the time (s)
        of the announcement, and the function that `reserve_line` returned."""
        self._timer = loop.timer(self._announce_due)
        self._free_slots: list[int] = []
        self._slots_used = 0
        """Number of slots that were ever allocated, including those that are free again."""

    def join(self, id: int, client: Client) -> None:
        """Add a member that the registry has admitted, and allocate its slot."""
        if not self._free_slots:
            self._free_slots.append(self._slots_used)
            self._slots_used += 1
        client.slot = self._free_slots.pop()
        self._slots.set_source(client.slot, self._sources.join(client.address))
        self.by_id[id] = client
        due = self._loop.now() + ANNOUNCE_AFTER
        self._unannounced[id] = due, self._reserve_line()
        if self._timer.due is None:
            self._timer.set(due)

    def _announce_due(self) -> None:
        """Announce the members that are due."""
        now = self._loop.now()
        for id, (due, _) in list(self._unannounced.items()):
            if due > now:
                self._timer.set(due)
                break
            self._announce(id, self.by_id[id])

    def _announce(self, id: int, client: Client) -> None:
        _, decide_line = self._unannounced.pop(id)
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
        decide_line(f"{client.address} connected")
        if self._tell_all is not None:
            self._tell_all(f"{client.address} joined")

    def disconnect(self, members: Sequence[int], reason: LeaveReason) -> None:
        """Shut down members' connections for a reason. Workers then report that the members
        left."""
        self.send_reason(members, reason)
        for id in members:
            client = self.by_id[id]
            client.removed_for = reason
            with contextlib.suppress(OSError):
                client.connection.shutdown(socket.SHUT_RDWR)

    def send_reason(self, members: Sequence[int], reason: LeaveReason) -> None:
        """Send members a line with the reason why they are disconnected.

        A member gets no line if it has not received the whole welcome. It also gets no line if it
        lags, because its send buffer is full, and its stream may end inside a message. If the
        kernel does not count bytes, the lag is unknown, and the line is sent. Disconnect the
        members immediately after this call: the line changes the kernel's counts, so another worker
        would recover wrong positions.
        """
        log = self._log
        found = progress(log, self._slots, {id: self.by_id[id] for id in members})
        head = log.head
        unfinished = log.unfinished(log.offset(head))
        for id, (counted, lag) in found.items():
            client = self.by_id[id]
            greeted = self._slots.checkpoint(client.slot).position > 0
            if counted is not None and counted.taken < len(client.greeting):
                greeted = False
            if greeted and (lag == 0 or counted is None):
                # A member has not received its own unfinished line.
                begin = b"\n" if unfinished and log.sender(head) != id else b""
                with contextlib.suppress(OSError):
                    client.connection.send(begin + CLOSING_MESSAGES[reason])

    def leave(self, reasons: dict[int, LeaveReason]) -> None:
        """Free the resources of members (LEAVE-3). Ids of members that have left are ignored."""
        left = {id: self.by_id.pop(id) for id in reasons if id in self.by_id}
        if not left:
            return
        for id, client in left.items():
            self._account(id, client, client.removed_for or reasons[id])
            with contextlib.suppress(OSError):
                client.connection.shutdown(socket.SHUT_RDWR)  # if its worker has not done that
            client.connection.close()
            self._slots.clear(client.slot)
            self._sources.leave(client.address)
            self._free_slots.append(client.slot)
        self._registry.leave(list(left))

    def _account(self, id: int, client: Client, reason: LeaveReason) -> None:
        """Count, log and show that a member has left.

        A probe is only counted; an unannounced connection of another protocol is also logged.
        The member's connection is still open.
        """
        if reason in OTHER_PROTOCOLS:
            self._counters.refusals[RefusalReason(reason)] += 1
            logger.info(Event("refused", address=client.address, port=client.port, reason=reason))
        if id in self._unannounced:
            probe = reason in PROBES and _sent_nothing(client)
            if probe or reason in OTHER_PROTOCOLS:
                self._counters.probes += probe
                _, decide_line = self._unannounced.pop(id)
                decide_line(None)
                return
            self._announce(id, client)
        self._counters.leaves[reason] += 1
        logger.info(
            Event("left", member=id, address=client.address, port=client.port, reason=reason)
        )
        line = f"{client.address} disconnected"
        if reason is LeaveReason.LAGGED:
            line += ": lagged too far behind"
        elif client.removed_for or reason in OTHER_PROTOCOLS:
            line += f": {reason}"
        self._reserve_line()(line)
        if self._tell_all is not None:
            self._tell_all(f"{client.address} left")

    def directory(self) -> Directory:
        """Return the address and worker of each member, as the registry keeps them."""
        return {id: (client.address, client.worker) for id, client in self.by_id.items()}


def _sent_nothing(client: Client) -> bool:
    """Return whether a member has sent no data; False if the kernel does not count bytes.

    A single byte counts as no data, because it may be a FIN.
    """
    counted = traffic(client.connection)
    return counted is not None and counted.received - client.header_bytes <= FIN
