"""A WebSocket with bounded buffers, and with methods that send without waiting.

The library websockets answers each ping of a client, even if the client reads nothing. Without
limits, the write buffer would grow forever: WRITE_LIMIT, MAX_BUFFER and STALLED_AFTER bound it.

The room throttles messages only. Other frames, such as pings, cost the room nothing, but they cost
the gateway as much as messages. The library parses all received bytes at once. These may be ten
thousand frames, and all other browsers would wait. So the bytes are parsed in portions, and a
flooding client waits before its next portion (FRAMES_PER_SECOND).
"""

import asyncio
import contextlib
from collections.abc import Callable
from json.encoder import encode_basestring
from typing import Any, cast

from websockets.asyncio.server import ServerConnection, broadcast
from websockets.frames import CTRL_OPCODES, CloseCode, Frame
from websockets.protocol import Event

from chatroom.sidecars.web.connections import READ_SIZE, Connections

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
PORTION = 2 * 1024
"""Maximum number of bytes to parse at once: at most 341 frames, which take a few milliseconds."""
FRAMES_PER_SECOND = 1_000
"""Average number of frames per second that a client may send. The default --rate admits half as
many messages."""
ALL_FRAMES_PER_SECOND = 10_000
"""Number of frames per second that all flooding clients may send together. They take about a
quarter of the processor time of one core."""
CONTROL_COST = 4
"""Cost of a ping, a pong or a close; any other frame costs 1. A client needs few of them."""
HOLD_AFTER = 0.25
"""Seconds by which a client may be ahead of FRAMES_PER_SECOND. If it is ahead by more, it waits."""


class FrameRate:
    """The rate at which the gateway accepts frames from all browsers."""

    def __init__(self) -> None:
        self.held = 0
        """Number of flooding clients, which wait before their next portion is parsed."""

    def seconds(self, frames: int) -> float:
        """Return the time (s) that this number of frames of a client must take."""
        return frames * max(1 / FRAMES_PER_SECOND, self.held / ALL_FRAMES_PER_SECOND)


class WebSocket(ServerConnection):
    """A WebSocket that calls `on_writable` when its write buffer has space again, and `on_lost`
    when the connection is lost."""

    def __init__(
        self,
        connections: Connections,
        rate: FrameRate,
        *arguments: Any,
        **options: Any,
    ) -> None:
        super().__init__(*arguments, **options)
        self._connections = connections
        self._rate = rate
        self._input = bytearray()
        """Bytes that are not parsed yet. The transport is not read while there are any."""
        self._frames = 0
        """Number of frames in the current portion."""
        self._paid_until = 0.0
        """Time (s, of the loop's clock) until which the client has used up its rate."""
        self._hold: asyncio.TimerHandle | None = None
        """Timer that ends the wait of a flooding client."""
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

    def end(self, code: CloseCode, reason: str | None = None, was_member: bool = False) -> None:
        """Close without waiting. If a reason is sent, the browser does not reconnect by itself.

        `was_member`: the WebSocket has had a session until now, and the session has ended.
        """
        if self._closing is None:
            if reason is not None:
                self.send_text(f'{{"closed":{encode_basestring(reason)}}}')
            if not self.is_lost:
                add = self._connections.add_closing if was_member else self._connections.add_other
                add(self, self.transport.abort)
            self._closing = self.loop.create_task(self._close(code))

    async def _close(self, code: CloseCode) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(CLOSE_WITHIN):
                await self.close(code)  # `close` has no timeout while the buffer is full
        self.transport.abort()

    async def cut(self) -> None:
        """Close the connection at once, without an answer."""
        self.transport.abort()
        await self.wait_closed()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        cast(Any, transport).max_size = READ_SIZE
        self.recv_messages.pause = self._read
        self.recv_messages.resume = self._parse
        self._connections.add_other(self, self.transport.abort)

    # --- input ---------------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        self._input += data
        self._parse()

    def eof_received(self) -> None:
        # Over TLS, the end may arrive together with the last input, although reading is paused.
        self._parse_rest()
        super().eof_received()

    def _parse_rest(self) -> None:
        """Parse the last input of a client that has left: as many frames as it may send within a
        second."""
        self._end_hold()
        frames = 0
        while self._input and frames <= FRAMES_PER_SECOND:
            self._parse_portion()
            frames += self._frames
        self._input.clear()

    def _parse(self) -> None:
        """Parse the input until none is left, or the client must wait."""
        while self._input and self._hold is None and not self.recv_messages.paused:
            self._parse_portion()
            now = self.loop.time()
            self._paid_until = max(self._paid_until, now) + self._rate.seconds(self._frames)
            if self._paid_until > now + HOLD_AFTER:
                self._hold = self.loop.call_later(self._paid_until - now, self._on_hold_over)
                self._rate.held += 1
        self._read()

    def _parse_portion(self) -> None:
        portion = bytes(self._input[:PORTION])
        del self._input[:PORTION]
        self._frames = 0
        super().data_received(portion)
        if self.transport.get_write_buffer_size() > MAX_BUFFER:
            self.transport.abort()
        if self.protocol.close_rcvd is not None:  # websockets would wait for the browser's FIN
            self.end(CloseCode.NORMAL_CLOSURE)

    def process_event(self, event: Event) -> None:
        if isinstance(event, Frame):
            self._frames += CONTROL_COST if event.opcode in CTRL_OPCODES else 1
        super().process_event(event)

    def _read(self) -> None:
        """Read from the transport, unless there is input that must wait."""
        if self._input or self._hold is not None or self.recv_messages.paused:
            self.transport.pause_reading()
        else:
            self.transport.resume_reading()

    def _on_hold_over(self) -> None:
        self._end_hold()
        self._parse()

    def _end_hold(self) -> None:
        if self._hold is not None:
            self._hold.cancel()
            self._hold = None
            self._rate.held -= 1

    # --- output --------------------------------------------------------------

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
        self._parse_rest()
        self._connections.discard(self)
        super().connection_lost(exc)
        self.is_lost = True
        self.on_lost()

    def _end_stall(self) -> None:
        if self._stalled is not None:
            self._stalled.cancel()
            self._stalled = None
