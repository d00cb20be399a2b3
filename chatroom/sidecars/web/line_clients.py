"""`--tls HOST:PORT`: line clients over TLS, such as `openssl s_client`.

A client is relayed to a connection of its own in the room, with its own address:

    client ─► TLS ─► Side ─► Side ─► room, and back

While one side takes no more, nothing is read from the other. When the client has gone, everything
that it has sent still reaches the room (LEAVE-2).
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
from chatroom.sidecars.web.rooms import Door, RefusedError, UnreachableError
from chatroom.system.listening import BACKLOG

HANDSHAKE_WITHIN = 10.0
"""Timeout (s) for a client's TLS handshake."""
CLOSE_WITHIN = 10.0
"""Timeout (s) for the room, or the client, to close its side."""
WRITE_LIMIT = 64 * 1024
"""Number of bytes waiting for one side at which the gateway stops reading from the other."""


class _Side(asyncio.Protocol):
    """One end of a relay. `other` is the opposite end, once there is one."""

    def __init__(self) -> None:
        self.other: _Side | None = None
        self.transport: asyncio.Transport | None = None
        self._closing: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.set_write_buffer_limits(WRITE_LIMIT)

    def data_received(self, data: bytes) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.write(data)

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
        """Send what is left, then close."""
        if self.transport is None or self._closing is not None:
            return
        transport = self.transport
        self._closing = asyncio.get_running_loop().call_later(CLOSE_WITHIN, transport.abort)
        if transport.can_write_eof():
            # The room closes its side then. A close with unread input would reset the connection,
            # and the room could lose the client's last lines.
            transport.write_eof()
            with contextlib.suppress(RuntimeError):
                transport.resume_reading()
        else:
            transport.close()

    def _let_other_read(self, reads: bool) -> None:
        if self.other is not None and self.other.transport is not None:
            with contextlib.suppress(RuntimeError):  # it is closing
                if reads:
                    self.other.transport.resume_reading()
                else:
                    self.other.transport.pause_reading()


class _Client(_Side):
    """The side of a client. It is not read before it is a member."""

    def __init__(
        self, door: Door, connections: Connections, tasks: set[asyncio.Task[None]]
    ) -> None:
        super().__init__()
        self._door = door
        self._connections = connections
        self._tasks = tasks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        assert self.transport is not None
        self.transport.pause_reading()
        peer = transport.get_extra_info("peername")
        if peer is None:  # it was reset
            self.transport.abort()
            return
        task = asyncio.get_running_loop().create_task(self._join(canonical(peer[0]), peer[1]))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.discard_other(self)
        super().connection_lost(error)

    def finish(self) -> None:
        if self.transport is not None:
            self._connections.add_other(self, self.transport.abort)
        super().finish()

    async def _join(self, address: str, port: int) -> None:
        """Become a member; give back the member's place when the room's side is closed."""
        if self._connections.full:
            self._refuse(GATEWAY_FULL)
            return
        self._connections.members += 1
        try:
            room = await self._door.open(address, port)
        except RefusedError as error:
            self._connections.members -= 1
            self._refuse(str(error))
            return
        except UnreachableError:
            self._connections.members -= 1
            self.finish()
            return
        other = _Room(self._connections)
        other.other = self
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: other, sock=room)
        self.other = other
        if self.transport is None:  # it has gone meanwhile
            other.finish()
        else:
            self.transport.resume_reading()

    def _refuse(self, reason: str) -> None:
        if self.transport is not None:
            self.transport.write(f"{reason}\n".encode())
        self.finish()


class _Room(_Side):
    """The side of the room."""

    def __init__(self, connections: Connections) -> None:
        super().__init__()
        self._connections = connections

    def connection_lost(self, error: Exception | None) -> None:
        self._connections.members -= 1
        super().connection_lost(error)


class LineClients:
    """The server for line clients."""

    def __init__(self, door: Door, connections: Connections) -> None:
        self._door = door
        self._connections = connections
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None

    async def listen(self, listener: socket.socket, tls: ssl.SSLContext) -> None:
        """Serve clients that connect to this listener."""
        make = partial(_Client, self._door, self._connections, self._tasks)
        self._server = await asyncio.get_running_loop().create_server(
            self._connections.counts_handshakes(make),
            sock=listener,
            ssl=tls,
            ssl_handshake_timeout=HANDSHAKE_WITHIN,
            ssl_shutdown_timeout=CLOSE_WITHIN,
            backlog=BACKLOG,
        )

    async def stop(self) -> None:
        """Accept no more clients."""
        if self._server is not None:
            self._server.close()
            await self._server.wait_closed()
