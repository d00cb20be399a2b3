"""A browser in the room: its session, its connection to the room, and its WebSocket, if it has one.

    room ─► _on_readable ─► Session ─► push ─► WebSocket
    WebSocket ─► say ─► Session ─► _write ─► room

Backpressure in both directions:

- A browser that does not read fills its WebSocket's buffer. Then nothing more is read from the
  room, so the room's limit for slow readers applies (--max-lag).
- If a browser floods, the gateway reads from it no faster than the room reads (MAX_UNSENT).
"""

import asyncio
import contextlib
import socket
from collections.abc import Callable
from typing import Any

from websockets.frames import CloseCode

from chatroom.sidecars.web.closing import TAKEN_OVER, TOO_SLOW, closing_reason
from chatroom.sidecars.web.session import Session
from chatroom.sidecars.web.websocket import CLOSE_WITHIN, WebSocket

SILENCE = 0.3
"""Silence (s) after which an unfinished line is sent to the browser. The room has already waited
before it sent the text (--flush-after). This pause is only for lines that arrive from the room in
pieces."""
MAX_READ = 64 * 1024
"""Maximum number of bytes to read from the room at once."""
MAX_UNSENT = 64 * 1024
"""Number of bytes waiting for the room at which the gateway stops reading from the WebSocket."""
LAGGED_WITHIN = 5.0
"""Time (s) for which a pause in reading from the room counts after its end. If the connection ends
during the pause, or within this time, the gateway assumes that the room has disconnected the member
because it lags: in this case, the room sends no reason."""
ATTACH_WITHIN = 1.0
"""Minimum time (s) for which a session that has moved in waits for its WebSocket. With
`--web-keep 0`, it would otherwise end before the WebSocket is attached."""


class Visitor:
    """A browser that is a member of the room.

    `keep`: seconds for which the session continues without a WebSocket. `on_away(True)` is called
    when the visitor has lost its WebSocket, and `on_away(False)` when it has another one.
    `on_end()` is called once, when the connection to the room has ended, or has moved to another
    gateway. `state`: state of the visitor that had this connection in another gateway; None for a
    new member.
    """

    def __init__(
        self,
        room: socket.socket,
        address: str,
        keep: float,
        on_away: Callable[[bool], None],
        on_end: Callable[[], None],
        state: dict[str, Any] | None = None,
    ) -> None:
        self._loop = asyncio.get_running_loop()
        self.address = address
        """Address with which the room has admitted the browser."""
        self._room = room
        self._keep = keep
        self._on_away = on_away
        self._on_end = on_end
        self._session = Session()
        self._websocket: WebSocket | None = None
        self._latest: WebSocket | None = None
        """WebSocket that was attached last, even if it was lost since then."""
        self._expiry: asyncio.TimerHandle | None = None
        """Timer that ends the session; None while it has a WebSocket."""
        self._silence: asyncio.TimerHandle | None = None
        """Timer that shows the unfinished line."""
        self._reads = True
        """True while the connection to the room is read."""
        self._resumed_at = -LAGGED_WITHIN
        """Time (s, of the loop's clock) at which the last pause in reading from the room ended."""
        self._unsent = bytearray()
        """Bytes that are not sent to the room yet."""
        self._takes_more = asyncio.Event()
        """Set while `_unsent` is below its limit."""
        self._takes_more.set()
        self._leaving = False
        """True once the session is over; `_unsent` is still sent to the room."""
        self._ended = False
        """True once the connection to the room is closed, or has moved to another gateway."""
        self._loop.add_reader(room, self._on_readable)
        if state is not None:
            self._session = Session.continued(state["session"])
            self._unsent += state["unsent"].encode("latin-1")
            if state["lagged"]:
                self._resumed_at = self._loop.time()
            self._await_silence()
            self._write()

    @property
    def is_staying(self) -> bool:
        """True while the session can be resumed."""
        return not self._leaving

    # --- another gateway -----------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return everything that a visitor in another gateway needs to continue, for JSON."""
        return {
            "address": self.address,
            "session": self._session.state(),
            "unsent": self._unsent.decode("latin-1"),
            "lagged": self._lagged,
        }

    def move_out(self) -> socket.socket:
        """Stop, and close the WebSocket. Return the connection to the room, for another gateway."""
        websocket = self._websocket
        self._finish()
        if websocket is not None:
            self._release(websocket).end(CloseCode.NORMAL_CLOSURE, TAKEN_OVER)
        return self._room

    def await_websocket(self) -> None:
        """Start the timer that ends a session that has moved in, unless it gets a WebSocket."""
        self._expiry = self._loop.call_later(max(self._keep, ATTACH_WITHIN), self._leave)
        self._on_away(True)

    # --- the WebSocket -------------------------------------------------------

    def attach(self, websocket: WebSocket, id: str, seen: int) -> None:
        """Continue with this WebSocket: send the first frame, and the lines after line `seen`.

        `id`: id of the session. An older WebSocket of the session is closed. Raises ProtocolError.
        """
        numbers = self._session.attach(seen)
        if self._websocket is not None:
            self._release(self._websocket).end(CloseCode.NORMAL_CLOSURE, TAKEN_OVER)
        if self._expiry is not None:
            self._expiry.cancel()
            self._expiry = None
            self._on_away(False)
        self._websocket = self._latest = websocket
        websocket.on_writable = self._push
        websocket.on_lost = lambda: self._detach(websocket)
        websocket.send_text(
            '{{"session":"{}","said":{said},"missed":{missed}}}'.format(id, **numbers)
        )
        self._push()

    def leave(self, websocket: WebSocket | None) -> None:
        """End the session, unless another WebSocket was attached after this one. None: always."""
        if websocket in (self._latest, None):
            self._leave()

    def _detach(self, websocket: WebSocket) -> None:
        self._release(websocket)
        self._session.detach()
        self._read(True)
        if not self._leaving:
            self._expiry = self._loop.call_later(self._keep, self._leave)
            self._on_away(True)

    def _release(self, websocket: WebSocket) -> WebSocket:
        websocket.on_writable = websocket.on_lost = lambda: None
        self._websocket = None
        return websocket

    # --- room ─► browser -----------------------------------------------------

    def seen(self, number: int) -> None:
        """Note that the browser has seen the lines up to `number`. Raises ProtocolError.

        If this confirms no new line, send an answer: the browser asks whether the connection is
        still alive. A page can't send pings, and does not see the gateway's pings.
        """
        if not self._session.seen(number) and self._websocket is not None:
            self._websocket.send_text(f'{{"said":{self._session.said}}}')

    def _on_readable(self) -> None:
        try:
            data = self._room.recv(MAX_READ)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:
            self._end()
            return
        self._session.receive(data)
        self._await_silence()
        self._push()

    def _await_silence(self) -> None:
        if self._silence is not None:
            self._silence.cancel()
            self._silence = None
        if self._session.is_partial:
            self._silence = self._loop.call_later(SILENCE, self._on_silence)

    def _on_silence(self) -> None:
        self._silence = None
        self._session.on_silence()
        self._push()

    def _push(self) -> None:
        """Send everything new to the WebSocket, in one frame, unless its buffer is full."""
        websocket = self._websocket
        if websocket is None or self._ended:
            return
        if not websocket.paused and (frame := self._session.frame()) is not None:
            websocket.send_text(frame)
        self._read(not websocket.paused)

    def _read(self, reads: bool) -> None:
        if reads != self._reads and not self._ended:
            self._reads = reads
            if reads:
                self._resumed_at = self._loop.time()
                self._loop.add_reader(self._room, self._on_readable)
            else:
                self._loop.remove_reader(self._room)

    # --- browser ─► room -----------------------------------------------------

    async def say(self, number: int, text: str) -> None:
        """Send a message to the room; wait while too many bytes are unsent. Raises
        ProtocolError."""
        data = self._session.say(number, text)
        if not self._leaving:
            self._unsent += data
            self._write()
            await self._takes_more.wait()

    def _write(self) -> None:
        """Send as many of the unsent bytes as the socket accepts."""
        try:
            size = self._room.send(self._unsent) if self._unsent else 0
        except BlockingIOError:
            size = 0
        except OSError:  # the connection has ended; `_on_readable` still reads its last lines
            self._leaving = True
            self._unsent.clear()
            size = 0
        del self._unsent[:size]
        if self._session.sent(size) and self._websocket is not None:
            self._websocket.send_text(f'{{"said":{self._session.said}}}')
        if self._unsent:
            self._loop.add_writer(self._room, self._write)
        else:
            self._loop.remove_writer(self._room)
            if self._leaving:
                self._shut_down()
        if len(self._unsent) < MAX_UNSENT:
            self._takes_more.set()
        else:
            self._takes_more.clear()

    # --- the end -------------------------------------------------------------

    def _leave(self) -> None:
        """Leave the room once everything is sent. The room then closes the connection."""
        if self._leaving or self._ended:
            return
        self._leaving = True
        if self._expiry is not None:
            self._expiry.cancel()
        self._expiry = self._loop.call_later(CLOSE_WITHIN, self._end)
        self._write()

    def _shut_down(self) -> None:
        with contextlib.suppress(OSError):
            self._room.shutdown(socket.SHUT_WR)

    def _end(self) -> None:
        """Close the connection to the room, and tell the browser the reason."""
        if self._ended:
            return
        self._session.on_silence()
        websocket, frame, lagged = self._websocket, self._session.frame(), self._lagged
        self._finish()
        self._room.close()
        if websocket is not None:
            self._release(websocket)
            if frame is not None:
                websocket.send_text(frame)
            reason = closing_reason(self._session.last, self._session.last_text)
            if reason is None and lagged:
                reason = TOO_SLOW
            code = CloseCode.SERVICE_RESTART if reason is None else CloseCode.NORMAL_CLOSURE
            websocket.end(code, reason, was_member=True)

    def _finish(self) -> None:
        """Stop using the connection to the room."""
        self._ended = self._leaving = True
        self._loop.remove_reader(self._room)
        self._loop.remove_writer(self._room)
        for timer in (self._expiry, self._silence):
            if timer is not None:
                timer.cancel()
        self._unsent.clear()
        self._takes_more.set()
        self._on_end()

    @property
    def _lagged(self) -> bool:
        """True if lag is the likely reason when the room closes the connection now."""
        return not self._reads or self._loop.time() - self._resumed_at < LAGGED_WITHIN
