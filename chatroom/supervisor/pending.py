"""Connections through a trusted proxy, until their PROXY header arrives.

A connection from a trusted address must begin with a header. From other addresses, no header is
accepted. The main process reads the header before the connection becomes a member, so the welcome
waits for the header. The worker gets the size of the header, because the kernel's byte counts
include the header (LOAD-4).
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
"""Timeout (s) of a header. The specification requires at least 3 s, because a packet may be
lost."""
LOCAL_DELAY = 0.2
"""Delay (s) before a connection with a LOCAL header is admitted; data from the connection ends the
delay. A LOCAL header names no client: usually, the connection is a proxy's health check, which
closes it sooner."""
MAX_PENDING = 256
"""Maximum number of connections that wait for a header. If there is one more, the oldest is
closed."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class PendingConnection:
    address: str
    port: int
    timer: Timer
    """Timer set to the connection's timeout."""
    received: bytes = b""
    """Part of the header that was read."""
    header: Header | None = None
    """Complete header; None until it has arrived."""


class PendingConnections:
    """Connections whose headers have not arrived yet.

    `admit(connection, address, port, header_bytes)` is called with the client's address, and the
    size of its header (bytes).
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
        """Waiting connections, the oldest first."""

    def trusts(self, address: str) -> bool:
        """Return whether an address belongs to a trusted proxy."""
        return within(address, self._trusted)

    def expect(self, connection: socket.socket, address: str, port: int) -> None:
        """Wait for the header of a connection from a trusted proxy at `address` and `port`."""
        if len(self._pending) >= MAX_PENDING:
            self._refuse(next(iter(self._pending)), "too many connections wait for a header")
        timer = self._loop.timer(partial(self._on_timeout, connection))
        timer.set_after(HEADER_WITHIN)
        self._pending[connection] = PendingConnection(address, port, timer)
        self._loop.watch(connection, partial(self._on_readable, connection))
        self._on_readable(connection)  # the header has usually arrived already

    def close(self) -> None:
        """Close all pending connections."""
        for connection in list(self._pending):
            self._drop(connection)

    def _on_timeout(self, connection: socket.socket) -> None:
        """Refuse a connection without a header, or admit a connection with a LOCAL header."""
        pending = self._pending[connection]
        if pending.header is None:
            self._refuse(connection, f"no header within {HEADER_WITHIN:g} s")
        else:
            self._admit_as(connection, pending)

    def _on_readable(self, connection: socket.socket) -> None:
        pending = self._pending[connection]
        try:
            data = connection.recv(LONGEST - len(pending.received), socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # a health check: the proxy only tested whether the room listens
            self._drop(connection)
            return
        if pending.header is not None:
            self._admit_as(connection, pending)
            return
        try:
            header = parse(pending.received + data)
        except HeaderError as error:
            self._refuse(connection, str(error))
            return
        # Read no byte after the header. If the header is incomplete, all of the data belongs to it.
        size = len(data) if header is None else header.size - len(pending.received)
        pending.received += connection.recv(size)
        pending.header = header
        if header is not None and header.address is not None:
            self._admit_as(connection, pending)
        elif header is not None:
            pending.timer.set_after(LOCAL_DELAY)

    def _admit_as(self, connection: socket.socket, pending: PendingConnection) -> None:
        """Admit the client that the header names. If the header is LOCAL, admit the proxy
        itself."""
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
