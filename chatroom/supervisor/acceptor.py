"""The main process's way of letting people in.

Accept, ask the registry, hand the socket to the worker that it names, and keep
a dup: a socket that the main process holds outlives the worker that serves it.
Who is refused is told why in one line (JOIN-5). Nobody is waited for.
"""

import contextlib
import errno
import logging
import selectors
import socket
from collections.abc import Callable, Container, Sequence
from dataclasses import dataclass, field
from functools import partial
from time import monotonic, time

from chatroom.config.settings import MAX_READ
from chatroom.log.slots import Slots
from chatroom.logs import Event
from chatroom.protocol.address import canonical
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.protocol.prefix import FORM, prefix
from chatroom.supervisor.counters import Counters
from chatroom.supervisor.pending import PendingConnections
from chatroom.supervisor.registry import Refusal, RegistryProcess
from chatroom.system.networks import UNIX, Network

ACCEPTED_PER_TURN = 64
"""Connections; then the main process looks at what else there is to do."""

PAUSE = 0.2
"""Seconds without accepting, when the system has no descriptor or memory for one more."""

LINGER = 1.0
"""Seconds that a refused newcomer's connection stays open, so that it can read why."""
MAX_LINGERING = 32
"""Refused newcomers whose connections stay open at once: half of the descriptors in reserve."""

NONE_LEFT = "newcomers wait until there are descriptors and memory for them again (ulimit -n)"

_EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class Client:
    """A member as the main process knows it."""

    connection: socket.socket
    address: str
    port: int
    prefix: str
    """What stands before each of its messages."""
    worker: int
    slot: int
    """Number of its slot, where another worker finds what it needs: see log/slots.py."""
    header_bytes: int = 0
    """Bytes that it sent before all that it says: a PROXY header."""
    since: float = field(default_factory=time)
    """When it came, in seconds of the epoch."""
    why: LeaveReason | None = None
    """Why it is put out, if it is."""
    greeting: bytes = b""
    """The first that it hears: the room's, when it came."""
    deaths: int = 0
    """Workers in a row that have died over it."""


class Acceptor:
    """Lets in who connects to one of the `listeners`, and knows who is in.

    `tally`: where joins and refusals are counted. `bans`: addresses that may not
    come in. `trusted`: the proxies that say for whom they come. `form`: of the
    members' prefixes. `hand_over(id, client)` gives a member to its worker.
    All is called from the main process's loop; `selector` is that loop's, and its
    data are what it calls.
    """

    def __init__(
        self,
        listeners: Sequence[socket.socket],
        selector: selectors.BaseSelector,
        registry: RegistryProcess,
        slots: Slots,
        hand_over: Callable[[int, Client], None],
        tally: Counters,
        bans: Container[str],
        trusted: Sequence[Network] = (),
        form: str = FORM,
        greeting: bytes = b"",
    ) -> None:
        self.greeting = greeting
        """Of those who come from now on."""
        self.clients: dict[int, Client] = {}
        self._listeners = listeners
        self._form = form
        self._counters = tally
        self._bans = bans
        self._pending = PendingConnections(trusted, selector, self._admit)
        self._selector = selector
        self._registry = registry
        self._slots = slots
        self._free_slots: list[int] = []
        self._slots_used = 0
        """Slots that were ever given out."""
        self._hand_over = hand_over
        self._accepting = False
        self._resume_at: float | None = None
        self._exhausted = False
        """Whether the system had nothing for another connection, when it was last asked."""
        self._lingering: dict[socket.socket, float] = {}
        """The refused, and when their time is over; the soonest first."""

    def open(self) -> None:
        """Begin to accept, or begin again; there must be an enrolled worker."""
        self._resume_at = None
        if not self._accepting:
            self._accepting = True
            for listener in self._listeners:
                self._selector.register(
                    listener, selectors.EVENT_READ, partial(self._accept, listener)
                )
            self._pending.go_on()

    def hold(self) -> None:
        """Let newcomers wait, in the kernel's queue, until `open` is called again."""
        self._pending.hold()
        self._rest()

    def _rest(self) -> None:
        """Accept nobody; those who are accepted go on."""
        self._resume_at = None
        if self._accepting:
            self._accepting = False
            for listener in self._listeners:
                self._selector.unregister(listener)

    def close(self) -> None:
        """Accept nobody any more."""
        self.hold()
        self._pending.close()
        for listener in self._listeners:
            listener.close()
        for connection in list(self._lingering):
            self._drop(connection)

    def disconnect(self, client: Client, why: LeaveReason) -> None:
        """End a member's connection; its worker will say that it left, and that is why."""
        client.why = why
        with contextlib.suppress(OSError):
            client.connection.shutdown(socket.SHUT_RDWR)

    def leave(self, members: list[int]) -> dict[int, Client]:
        """Give back what `members` cost (LEAVE-3) and return those who had not left before."""
        left = {id: self.clients.pop(id) for id in members if id in self.clients}
        for client in left.values():
            with contextlib.suppress(OSError):
                client.connection.shutdown(socket.SHUT_RDWR)  # where its worker could not
            client.connection.close()
            self._slots.clear(client.slot)
            self._free_slots.append(client.slot)
        self._registry.leave(list(left))
        return left

    def tick(self) -> float | None:
        """Do what is due; return the seconds until something is due again, None if nothing will."""
        now = monotonic()
        if self._resume_at is not None and self._resume_at <= now:
            self.open()
        for connection, due in list(self._lingering.items()):
            if due > now:
                break
            self._drop(connection)
        waits = self._pending.tick()
        times = [*([self._resume_at] if self._resume_at else []), *self._lingering.values()]
        times += [now + waits] if waits is not None else []
        return max(0.0, min(times) - now) if times else None

    def _accept(self, listener: socket.socket) -> None:
        if not self._accepting:
            return  # it was told to hold in this very turn
        for _ in range(ACCEPTED_PER_TURN):
            try:
                connection, peer = listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _EXHAUSTED:
                    if not self._exhausted:
                        logger.warning(Event("cant-accept", NONE_LEFT, error=error.strerror))
                    self._exhausted = True
                    self._rest()
                    self._resume_at = monotonic() + PAUSE
                    return
                continue  # reset before it was accepted (JOIN-2)
            self._exhausted = False
            connection.setblocking(False)
            unix = connection.family == socket.AF_UNIX
            address, port = (UNIX, 0) if unix else (canonical(peer[0]), peer[1])
            if self._pending.trust(address):
                self._pending.expect(connection, address, port)
            else:
                self._admit(connection, address, port, 0)

    def _admit(self, connection: socket.socket, address: str, port: int, header_bytes: int) -> None:
        banned = address in self._bans
        answer = (
            Refusal("You are banned from this room") if banned else self._registry.admit(address)
        )
        if isinstance(answer, Refusal):
            self._counters.refusals[answer.reason] += 1
            logger.info(Event("refused", address=address, port=port, reason=answer.reason))
            self._refuse(connection, answer.reason)
            return
        if not self._free_slots:
            self._free_slots.append(self._slots_used)
            self._slots_used += 1
        slot = self._free_slots.pop()
        self._counters.joins += 1
        logger.info(
            Event("joined", member=answer.id, address=address, port=port, worker=answer.worker)
        )
        its_prefix = prefix(self._form, address, port, answer.id)
        client = Client(
            *(connection, address, port, its_prefix, answer.worker, slot, header_bytes),
            greeting=self.greeting,
        )
        self.clients[answer.id] = client
        self._hand_over(answer.id, client)

    def _refuse(self, connection: socket.socket, reason: str) -> None:
        """Say why, and end our side; wait a little for the other side to end its own.

        To close while its input is unread would reset the connection, and the
        line could be lost with it.
        """
        with contextlib.suppress(OSError):
            connection.send(reason.encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)
        if len(self._lingering) >= MAX_LINGERING:
            self._drop(next(iter(self._lingering)))
        self._lingering[connection] = monotonic() + LINGER
        self._selector.register(
            connection, selectors.EVENT_READ, partial(self._drain_input, connection)
        )

    def _drain_input(self, connection: socket.socket) -> None:
        try:
            ended = not connection.recv(MAX_READ)
        except BlockingIOError:
            return
        except OSError:
            ended = True
        if ended:
            self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        if self._lingering.pop(connection, None) is not None:
            self._selector.unregister(connection)
            connection.close()
