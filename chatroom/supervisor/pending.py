"""Connections through a trusted proxy, until their PROXY header has come.

Only trusted addresses are believed, and of them a header is demanded: nothing
is guessed. The header is taken out of the stream before a member is made of the
connection, so the room's welcome waits for it; the worker is told how many
bytes that were, for the kernel counts them too (LOAD-4).
"""

import logging
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from chatroom.logs import Event
from chatroom.protocol.proxy_header import LONGEST, Header, HeaderError, parse
from chatroom.system.event_loop import EventLoop, Timer
from chatroom.system.networks import Network, within

HEADER_WITHIN = 5.0
"""Seconds for a header to come; its specification wants at least 3, for a packet may be lost."""
LOCAL_STAYS = 0.2
"""Seconds after which who came for itself is admitted, unless it speaks: a proxy that looks whether
the room is there has gone by then."""
MAX_PENDING = 256
"""Headers that are waited for at once; of more, the one that has let us wait longest goes."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class PendingConnection:
    address: str
    port: int
    timer: Timer
    """Set to the end of its time."""
    taken: bytes = b""
    """Bytes of its header that were read."""
    header: Header | None = None
    """The whole of it."""


class PendingConnections:
    """Connections whose headers are yet to come.

    `admit(connection, address, port, header_bytes)` is called with the client's address, and the
    size of its header.
    """

    def __init__(
        self,
        trusted: Sequence[Network],
        loop: EventLoop,
        admit: Callable[[socket.socket, str, int, int], None],
    ) -> None:
        self._trusted = trusted
        self._loop = loop
        self._admit = admit
        self._pending: dict[socket.socket, PendingConnection] = {}
        """The one that has waited longest first."""

    def trust(self, address: str) -> bool:
        return within(address, self._trusted)

    def expect(self, connection: socket.socket, address: str, port: int) -> None:
        """Wait for a header from a trusted address, whose own these are."""
        if len(self._pending) >= MAX_PENDING:
            self._refuse(next(iter(self._pending)), "others wait, and it came first")
        timer = self._loop.timer(partial(self._on_time, connection))
        timer.set_after(HEADER_WITHIN)
        self._pending[connection] = PendingConnection(address, port, timer)
        self._loop.watch(connection, partial(self._look, connection))
        self._look(connection)  # it is mostly there already

    def close(self) -> None:
        """Close all of them."""
        for connection in list(self._pending):
            self._drop(connection)

    def _on_time(self, connection: socket.socket) -> None:
        """The time of a connection is over."""
        pending = self._pending[connection]
        if pending.header is None:
            self._refuse(connection, f"no header came in {HEADER_WITHIN:g} s")
        else:
            self._admit_as(connection, pending)

    def _look(self, connection: socket.socket) -> None:
        pending = self._pending[connection]
        try:
            data = connection.recv(LONGEST - len(pending.taken), socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # to see whether somebody listens is enough for a proxy
            self._drop(connection)
            return
        if pending.header is not None:
            self._admit_as(connection, pending)
            return
        try:
            header = parse(pending.taken + data)
        except HeaderError as error:
            self._refuse(connection, str(error))
            return
        # Not a byte beyond the header is taken; what does not make a whole one is all of it.
        size = len(data) if header is None else header.size - len(pending.taken)
        pending.taken += connection.recv(size)
        pending.header = header
        if header is not None and header.address is not None:
            self._admit_as(connection, pending)
        elif header is not None:
            pending.timer.set_after(LOCAL_STAYS)

    def _admit_as(self, connection: socket.socket, pending: PendingConnection) -> None:
        """Admit the client that its header names."""
        self._forget(connection)
        assert pending.header is not None
        size, address, port = pending.header
        if address is None or port is None:
            address, port = pending.address, pending.port
        self._admit(connection, address, port, size)

    def _refuse(self, connection: socket.socket, why: str) -> None:
        address = self._pending[connection].address
        logger.warning(Event("proxy-refused", why, address=address))
        self._drop(connection)

    def _drop(self, connection: socket.socket) -> None:
        self._forget(connection)
        connection.close()

    def _forget(self, connection: socket.socket) -> None:
        self._pending.pop(connection).timer.cancel()
        self._loop.forget(connection)
