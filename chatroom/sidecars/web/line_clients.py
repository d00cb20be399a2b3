"""`--tls HOST:PORT`: line clients over TLS, such as `openssl s_client`.

Each client has its own connection to the room, with the client's address. The gateway relays
between the two:

    client ─► TLS ─► Side ─► Side ─► room, and back

While one side accepts no more data, the gateway does not read from the other side. After a client
has left, everything that it has sent still reaches the room (LEAVE-2).
"""

import asyncio
import contextlib
import socket
import ssl
from functools import partial
from typing import cast

from chatroom.protocol.address import canonical
from chatroom.sidecars.web.closing import GATEWAY_FULL
from chatroom.sidecars.web.connections import Connections
from chatroom.sidecars.web.process import ACCEPTED_PER_TURN
from chatroom.sidecars.web.rooms import Connector, RefusedError, UnreachableError
from chatroom.system.listening import BACKLOG

HANDSHAKE_WITHIN = 10.0
"""Timeout (s) for a client's TLS handshake."""
CLOSE_WITHIN = 10.0
"""Timeout (s) for the room, or the client, to close its side."""
WRITE_LIMIT = 64 * 1024
"""Number of bytes waiting for one side at which the gateway stops reading from the other side."""
STOP_WITHIN = 0.8
"""Timeout (s) for all clients to receive the room's last lines when the gateway stops."""


class _Side(asyncio.Protocol):
    """One end of a relay. `other` is the other end; None before the relay has both ends."""

    def __init__(self) -> None:
        self.other: _Side | None = None
        self.transport: asyncio.Transport | None = None
        self._closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(WRITE_LIMIT)

    def data_received(self, data: bytes) -> None:
        # After `leave`, more input is ignored, because the room knows that the input ends.
        other = self.other
        if other is not None and other.transport is not None and other._closing is None:
            other.transport.write(data)

    def pause_writing(self) -> None:
        self._let_other_read(False)

    def resume_writing(self) -> None:
        self._let_other_read(True)

    def connection_lost(self, _error: Exception | None) -> None:
        self.transport = None
        if self._closing is not None:
            self._closing.cancel()
        if self.other is not None:
            self.other.finish()

    def finish(self) -> None:
        """Send the rest of the data, then close."""
        if self.transport is None or self._closing is not None:
            return
        transport = self.transport
        self._closing = asyncio.get_running_loop().call_later(CLOSE_WITHIN, transport.abort)
        if transport.can_write_eof():
            # The room then closes its side. Closing this side with unread input would reset the
            # connection, and the room could lose the client's last lines.
            transport.write_eof()
            with contextlib.suppress(RuntimeError):
                transport.resume_reading()
        else:
            transport.close()

    def _let_other_read(self, reads: bool) -> None:
        if self.other is not None and self.other.transport is not None:
            with contextlib.suppress(RuntimeError):  # the other side is closing
                if reads:
                    self.other.transport.resume_reading()
                else:
                    self.other.transport.pause_reading()


class _RoomSide(_Side):
    """The side of the room. The client is a member while this connection is open."""

    def __init__(self, client: "_Client", connections: Connections) -> None:
        super().__init__()
        self.other = client
        self._connections = connections

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._connections.add_member()

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.remove_member()
        super().connection_lost(error)


class _Client(_Side):
    """The side of a client. Nothing is read from the client before it is a member."""

    def __init__(self, connector: Connector, connections: Connections, clients: "_Clients") -> None:
        super().__init__()
        self._connector = connector
        self._connections = connections
        self._clients = clients
        self._lost = asyncio.Event()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        peer = transport.get_extra_info("peername")
        if peer is None:  # the connection was reset
            self.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._serve(canonical(peer[0]), peer[1]))
        self._clients[self] = task
        task.add_done_callback(lambda _: self._clients.pop(self))

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard(self)
        super().connection_lost(error)
        self._lost.set()

    def finish(self) -> None:
        if self.transport is not None and self._closing is None:
            was_member = self.other is not None
            add = self._connections.add_closing if was_member else self._connections.add_other
            add(self, self.transport.abort)
        super().finish()

    def leave(self) -> None:
        """Leave the room. The client receives the rest of the room's lines; then its connection is
        closed."""
        (self.other or self).finish()

    async def _serve(self, address: str, port: int) -> None:
        """Join the room, and wait until the client's connection is closed."""
        await self._join(address, port)
        await self._lost.wait()

    async def _join(self, address: str, port: int) -> None:
        if self._connections.full:
            self._refuse(GATEWAY_FULL)
            return
        with self._connections.reserve():
            try:
                room = await self._connector.open(address, port)
            except RefusedError as error:
                self._refuse(str(error))
                return
            except UnreachableError:
                self.finish()
                return
            other = _RoomSide(self, self._connections)
            try:
                await asyncio.get_running_loop().create_connection(lambda: other, sock=room)
            except OSError:
                room.close()
                self.finish()
                return
        self.other = other
        if self.transport is None:  # the client has left meanwhile
            other.finish()
        else:
            self.transport.resume_reading()

    def _refuse(self, reason: str) -> None:
        if self.transport is not None:
            self.transport.write(f"{reason}\n".encode())
        self.finish()


_Clients = dict[_Client, asyncio.Task[None]]
"""Clients, each with a task that ends when its connection is closed."""


class LineClients:
    """The server for line clients."""

    def __init__(self, connector: Connector, connections: Connections) -> None:
        self._connector = connector
        self._connections = connections
        self._clients: _Clients = {}
        self._server: asyncio.Server | None = None

    async def listen(self, listener: socket.socket, tls: ssl.SSLContext) -> None:
        """Serve clients that connect to this listener."""
        make = partial(_Client, self._connector, self._connections, self._clients)
        self._server = await asyncio.get_running_loop().create_server(
            self._connections.count_handshakes(make),
            sock=listener,
            ssl=tls,
            ssl_handshake_timeout=HANDSHAKE_WITHIN,
            ssl_shutdown_timeout=CLOSE_WITHIN,
            backlog=ACCEPTED_PER_TURN,
        )
        # For asyncio, `backlog` is also the number of connections to accept in one turn.
        listener.listen(BACKLOG)

    async def stop(self) -> None:
        """Accept no more clients, and let all clients leave, within STOP_WITHIN."""
        if self._server is not None:
            self._server.close()
        for client in self._clients:
            client.leave()
        if self._clients:
            await asyncio.wait(self._clients.values(), timeout=STOP_WITHIN)
