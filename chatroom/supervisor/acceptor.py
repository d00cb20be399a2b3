"""Accept connections: ask the registry, then make a member of each connection or refuse it.

listener ─► bans, registry ─► Members.join ─► hand_over (assignment.py) ─► its worker
    └────► from a trusted proxy: wait for its header first (pending.py)
                             └─► refused, with the reason in one line (JOIN-5)
"""

import contextlib
import logging
import socket
from collections.abc import Callable, Container, Sequence
from functools import partial
from typing import Any

from chatroom.config.limits import MAX_READ
from chatroom.config.settings import Settings
from chatroom.log.history import count_kept
from chatroom.log.ring import Log
from chatroom.logs import Event
from chatroom.protocol.address import canonical
from chatroom.protocol.message import ROOM_PREFIX
from chatroom.protocol.prefix import prefix
from chatroom.protocol.refusal_reason import RefusalReason
from chatroom.supervisor.counters import Counters
from chatroom.supervisor.members import Client, Members
from chatroom.supervisor.pending import PendingConnections
from chatroom.supervisor.registry import Refusal
from chatroom.supervisor.registry_process import RegistryProcess
from chatroom.system.accepting import Accepting
from chatroom.system.event_loop import EventLoop, Timer
from chatroom.system.networks import UNIX
from chatroom.wording import counted

ACCEPTED_PER_TURN = 64
"""Connections to accept in a row before the event loop turns to its other sources."""

LINGER = 1.0
"""Seconds that a refused connection stays open, so that the client can read the reason."""
MAX_LINGERING = 32
"""Maximum number of refused connections that stay open: half of the reserved descriptors."""

HISTORY = f"{ROOM_PREFIX}{{}}:\n"
"""Line before the earlier messages that a new member receives, with their number."""

BANNED = Refusal(RefusalReason.BANNED)

NONE_LEFT = "out of descriptors or memory (ulimit -n); new connections wait"

logger = logging.getLogger(__name__)


class Acceptor:
    """Accepts connections from the `listeners`, from `accept(True)` until `close`.

    `bans`: addresses to refuse. `hand_over(id, client)` gives a member to a worker.
    """

    def __init__(
        self,
        loop: EventLoop,
        settings: Settings,
        listeners: Sequence[socket.socket],
        registry: RegistryProcess,
        members: Members,
        counters: Counters,
        bans: Container[str],
        hand_over: Callable[[int, Client], None],
        log: Log,
    ) -> None:
        self.greeting = settings.greeting
        """Greeting of new members; a reload may replace it."""
        self.history = settings.history
        """Number of earlier messages that new members receive; a reload may replace it."""
        self._log = log
        self._history_size = settings.max_lag // 4
        """Maximum size of these messages (bytes). A new member lags by as much at its join."""
        self._loop = loop
        self._prefix = settings.prefix
        self._registry = registry
        self._members = members
        self._counters = counters
        self._bans = bans
        self._hand_over = hand_over
        self._pending = PendingConnections(settings.proxy_from, loop, self._admit)
        self._listeners = listeners
        self._accepting = [
            Accepting(loop, listener, self._on_connection, self._on_exhausted, ACCEPTED_PER_TURN)
            for listener in listeners
        ]
        self._accepts = False
        self._exhausted = False
        """True while the system has no resources for another connection; it is logged once."""
        self._lingering: dict[socket.socket, Timer] = {}
        """Refused connections, until they are closed, the oldest first."""

    def accept(self, accept: bool) -> None:
        """Accept connections, or let them wait in the kernel's queue. Idempotent.

        Connections wait while no worker is ready: a member without a worker can't leave, so it
        would count as a member until a worker is ready.
        """
        if accept == self._accepts:
            return
        self._accepts = accept
        for accepting in self._accepting:
            if accept:
                accepting.open()
            else:
                accepting.close()

    def close(self) -> None:
        """Stop accepting, and close the pending and the refused connections. Idempotent."""
        for accepting, listener in zip(self._accepting, self._listeners, strict=True):
            accepting.close()
            listener.close()
        self._pending.close()
        for connection in list(self._lingering):
            self._drop(connection)

    def _on_exhausted(self, error: OSError) -> None:
        if not self._exhausted:
            logger.warning(Event("cant-accept", NONE_LEFT, error=error.strerror))
        self._exhausted = True

    def _on_connection(self, connection: socket.socket, peer: Any) -> None:
        self._exhausted = False
        connection.setblocking(False)
        unix = connection.family == socket.AF_UNIX
        address, port = (UNIX, 0) if unix else (canonical(peer[0]), peer[1])
        if self._pending.trusts(address):
            self._pending.expect(connection, address, port)
        else:
            self._admit(connection, address, port, 0)

    def _admit(self, connection: socket.socket, address: str, port: int, header_bytes: int) -> None:
        """Admit a connection as a member, or refuse it."""
        reason = self.admit(connection, address, port, header_bytes)
        if reason is not None:
            self._refuse(connection, reason)

    def admit(
        self, connection: socket.socket, address: str, port: int, header_bytes: int = 0
    ) -> RefusalReason | None:
        """Admit a connection as a member, or return the reason why it must be refused."""
        answer = BANNED if address in self._bans else self._registry.admit(address)
        if isinstance(answer, Refusal):
            self._counters.refusals[answer.reason] += 1
            logger.info(Event("refused", address=address, port=port, reason=answer.reason))
            return answer.reason
        greeting, after = self.greeting, None
        if self.history and (count := count_kept(self._log, self.history, self._history_size)):
            greeting += HISTORY.format(counted(count, "earlier message")).encode()
            after = self._log.messages(self._log.head) - count
        client = Client(
            connection,
            address,
            port,
            prefix(self._prefix, address, port, answer.id),
            answer.worker,
            header_bytes,
            greeting,
            after,
        )
        self._members.join(answer.id, client)
        self._hand_over(answer.id, client)
        return None

    def _refuse(self, connection: socket.socket, reason: str) -> None:
        """Send the reason, shut down our side, and linger until the client closes its side.

        A close with unread input would reset the connection, and could lose the line.
        """
        with contextlib.suppress(OSError):
            connection.send(reason.encode() + b"\n")
            connection.shutdown(socket.SHUT_WR)
        if len(self._lingering) >= MAX_LINGERING:
            self._drop(next(iter(self._lingering)))
        timer = self._lingering[connection] = self._loop.timer(partial(self._drop, connection))
        timer.set_after(LINGER)
        self._loop.watch(connection, partial(self._drain_input, connection))

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
        self._lingering.pop(connection).cancel()
        self._loop.forget(connection)
        connection.close()
