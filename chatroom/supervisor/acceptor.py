"""The way into the room: accept, ask the registry, make a member of the connection or refuse it.

listener ─► bans, registry ─► Members.join ─► hand_over (assignment.py) ─► its worker
    └────► from a trusted proxy: its header first (pending.py)
                             └─► refused: told why in one line (JOIN-5)
"""

import contextlib
import logging
import socket
from collections.abc import Callable, Container, Sequence
from functools import partial
from typing import Any

from chatroom.config.settings import MAX_READ, Settings
from chatroom.logs import Event
from chatroom.protocol.address import canonical
from chatroom.protocol.prefix import prefix
from chatroom.supervisor.counters import Counters
from chatroom.supervisor.members import Client, Members
from chatroom.supervisor.pending import PendingConnections
from chatroom.supervisor.registry import Refusal, RegistryProcess
from chatroom.system.accepting import Accepting
from chatroom.system.event_loop import EventLoop, Timer
from chatroom.system.networks import UNIX

ACCEPTED_PER_TURN = 64
"""Connections that are accepted before the main process looks at what else there is to do."""

LINGER = 1.0
"""Seconds that a refused newcomer's connection stays open, so that it can read why."""
MAX_LINGERING = 32
"""Refused newcomers whose connections stay open at once: half of the descriptors in reserve."""

BANNED = Refusal("You are banned from this room")

NONE_LEFT = "newcomers wait until there are descriptors and memory for them again (ulimit -n)"

logger = logging.getLogger(__name__)


class Acceptor:
    """Accepts from the `listeners`, from `open` to `close`.

    `bans`: addresses that may not come in. `hand_over(id, client)` gives a member to a worker.
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
    ) -> None:
        self.greeting = settings.greeting
        """Greeting of those who come from now on."""
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
        self._exhausted = False
        """Whether the system had nothing for another connection, when it was last asked."""
        self._lingering: dict[socket.socket, Timer] = {}
        """Connections of the refused, until they are closed; the first first."""

    def open(self) -> None:
        """Accept from now on. Once."""
        for accepting in self._accepting:
            accepting.open()

    def close(self) -> None:
        """Accept nobody any more, and close what is not a member's. May be called again."""
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
        if self._pending.trust(address):
            self._pending.expect(connection, address, port)
        else:
            self._admit(connection, address, port, 0)

    def _admit(self, connection: socket.socket, address: str, port: int, header_bytes: int) -> None:
        """Make a member of a connection, or refuse it."""
        answer = BANNED if address in self._bans else self._registry.admit(address)
        if isinstance(answer, Refusal):
            self._counters.refusals[answer.reason] += 1
            logger.info(Event("refused", address=address, port=port, reason=answer.reason))
            self._refuse(connection, answer.reason)
            return
        client = Client(
            connection,
            address,
            port,
            prefix(self._prefix, address, port, answer.id),
            answer.worker,
            header_bytes,
            self.greeting,
        )
        self._members.join(answer.id, client)
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
