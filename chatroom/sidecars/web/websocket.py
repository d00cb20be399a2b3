"""A WebSocket with bounded buffers, and with methods that send without waiting.

The library websockets answers each ping of a client, even if the client reads nothing. Without
limits, the write buffer would grow forever: WRITE_LIMIT, MAX_BUFFER and STALLED_AFTER bound it.
"""

import asyncio
import contextlib
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Any

from websockets.asyncio.server import ServerConnection, broadcast
from websockets.frames import CloseCode

WRITE_LIMIT = 64 * 1024
"""Size (bytes) of a WebSocket's write buffer at which the gateway stops reading from the room."""
STALLED_AFTER = 50.0
"""Seconds for which a WebSocket's write buffer may stay full: the time between two pings, plus the
timeout of a ping (gateway.py)."""
CLOSE_WITHIN = 10.0
"""Timeout (s) for a browser to close its WebSocket, and for the room to close a connection."""
MAX_BUFFER = 4 * 1024 * 1024
"""Maximum size (bytes) of the write buffer of a WebSocket that sends and does not read. All lines
that a session keeps fit into it."""
MAX_PENDING = 512
"""Maximum number of connections that are not members yet. If there is one more, the oldest is
closed."""


class PendingWebSockets:
    """Connections that are not members yet: for example, they have not sent their request, or not
    read the answer."""

    def __init__(self) -> None:
        self._pending: dict[WebSocket, None] = {}
        """The connections, the oldest first."""

    def add(self, websocket: "WebSocket") -> None:
        """Add a new connection. If there are too many, close the oldest."""
        self._pending[websocket] = None
        if len(self._pending) > MAX_PENDING:
            oldest = next(iter(self._pending))
            self.discard(oldest)
            oldest.transport.abort()

    def discard(self, websocket: "WebSocket") -> None:
        """Remove a connection that has become a member, or was lost."""
        self._pending.pop(websocket, None)


class WebSocket(ServerConnection):
    """A WebSocket that calls `on_writable` when its write buffer has space again, and `on_lost`
    when the connection is lost."""

    def __init__(self, pending: "PendingWebSockets", *arguments: Any, **options: Any) -> None:
        super().__init__(*arguments, **options)
        self._pending = pending
        self.client = ("", 0)
        """Address and port of the browser; the request sets it."""
        self.on_writable: Callable[[], None] = lambda: None
        self.on_lost: Callable[[], None] = lambda: None
        self.is_lost = False
        self._stalled: asyncio.TimerHandle | None = None
        self._closing: asyncio.Task[None] | None = None

    def send_text(self, frame: str) -> None:
        """Send a text frame without waiting. No effect if the WebSocket is closing."""
        broadcast((self,), frame)

    def end(self, code: CloseCode, reason: str | None = None) -> None:
        """Close without waiting. If a reason is sent, the browser does not reconnect by itself."""
        if self._closing is None:
            if reason is not None:
                self.send_text(f'{{"closed":{encode_basestring(reason)}}}')
            self._closing = self.loop.create_task(self._close(code))

    async def _close(self, code: CloseCode) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN):
                await self.close(code)  # `close` has no timeout while the buffer is full
        self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        self._pending.add(self)

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport.get_write_buffer_size() > MAX_BUFFER:
            self.transport.abort()
        if self.protocol.close_rcvd is not None:  # websockets would wait for the browser's FIN
            self.end(CloseCode.NORMAL_CLOSURE)

    def pause_writing(self) -> None:
        super().pause_writing()
        # websockets sends no pings while the buffer is full, so they can't time out.
        self._stalled = self.loop.call_later(STALLED_AFTER, self.transport.abort)

    def resume_writing(self) -> None:
        super().resume_writing()
        self._end_stall()
        self.on_writable()

    def connection_lost(self, exc: Exception | None) -> None:
        self._end_stall()
        self._pending.discard(self)
        super().connection_lost(exc)
        self.is_lost = True
        self.on_lost()

    def _end_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
