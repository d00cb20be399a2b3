"""A WebSocket of a test, and the room of a gateway.

Like a `Client`, a WebSocket knows no clauses: the test decides what a pong or a close code proves.
A test can send wrong frames, cut frames, and a handshake in pieces, because `WebSocket.send` takes
bytes. The frames of the server are not checked here either.
"""

from __future__ import annotations

import base64
import contextlib
import re
from collections.abc import Iterator
from dataclasses import dataclass
from urllib.parse import urlsplit

from harness.clients.client import Client, Clock, Log
from harness.clients.room import Room
from harness.errors import JoinError, SendError, Violation
from harness.frames import (
    CLOSE,
    NO_FRAME,
    PING,
    PONG,
    Header,
    apply_mask,
    close_code,
    encode,
    read_header,
)
from harness.profile import WRITTEN
from harness.target.target import Target, at, parse_address

PROBES = 2
"""Number of pings after a message. A server may answer the first of them before it has decoded the
message, as the library `websockets` does."""

PAUSE = 0.01
"""Seconds between pieces of a frame, so that the server receives them one by one."""


@dataclass(frozen=True)
class Frame:
    """A received frame. `whole`: its bytes."""

    header: Header
    payload: bytes
    whole: bytes

    @property
    def opcode(self) -> int:
        return self.header.opcode


@dataclass(frozen=True)
class Answer:
    """The server's answer to a handshake.

    `status`: 0 if there was no valid status line. `headers`: values by name in lower case; the
    values of headers with the same name are joined.
    """

    status: int
    headers: dict[str, str]


class WebSocket:
    """A WebSocket to the target. It begins with the TCP connection, before the handshake."""

    def __init__(self, client: Client, room: WebRoom) -> None:
        self.client = client
        self.key = base64.b64encode(room.random.randbytes(16)).decode()
        self.code: int | None = None
        """Code of the server's close frame; NO_FRAME if the connection ended without one; None
        before that."""
        self._room = room
        self._payloads = (b"%08x" % number for number in range(1 << 32))

    def __repr__(self) -> str:
        return self.client.name

    # --- the handshake -------------------------------------------------------

    def request(self, line: str = "", **changes: str | None) -> bytes:
        """Return a handshake.

        line: the request line; empty: the usual one. changes: headers with another value than
        usual, with `_` for `-` in their names; None leaves a header out.
        """
        host = at(*self.client.server)
        headers: dict[str, str | None] = {
            "Host": host,
            "Origin": f"http://{host}",
            "Upgrade": "websocket",
            "Connection": "Upgrade",
            "Sec-WebSocket-Key": self.key,
            "Sec-WebSocket-Version": "13",
        }
        headers |= {name.replace("_", "-"): value for name, value in changes.items()}
        lines = [line or f"GET {self._room.path} HTTP/1.1"]
        lines += [f"{name}: {value}" for name, value in headers.items() if value is not None]
        return "\r\n".join([*lines, "", ""]).encode()

    async def answer(self) -> Answer:
        """Take the answer to the handshake. Raise Violation if none arrives in time."""
        heard = self.client.heard
        if not await self.client.waits(lambda: b"\r\n\r\n" in heard):
            if self.client.ended:
                return Answer(0, {})
            raise Violation("the server did not answer the handshake", b"", bytes(heard))
        head = self.client.take(heard.index(b"\r\n\r\n") + 4).decode("latin-1")
        status = re.match(r"HTTP/1\.1 (\d{3})\b", head)
        headers: dict[str, str] = {}
        for name, value in re.findall(r"(?m)^([\w-]+):[ \t]*(.*?)[ \t]*\r$", head):
            known = headers.get(name.lower())
            headers[name.lower()] = f"{known}, {value}" if known else value
        return Answer(int(status[1]) if status else 0, headers)

    async def open(self) -> None:
        """Send the handshake and take the answer. Raise JoinError if it refuses the WebSocket."""
        await self.send(self.request())
        status = (await self.answer()).status
        if status != 101:
            raise JoinError(f"the server answered the handshake with the status {status or 'none'}")

    # --- frames --------------------------------------------------------------

    async def send(self, *frames: bytes) -> None:
        """Send bytes in one piece. The server may have ended the connection before."""
        with contextlib.suppress(SendError):
            await self.client.say(b"".join(frames))

    async def send_in_pieces(self, *pieces: bytes) -> None:
        with contextlib.suppress(SendError):
            await self.client.say_in_pieces(pieces, PAUSE)

    async def next(self, within: float | None = None) -> Frame | None:
        """Take and return the next frame; return None if the connection ends, or at the timeout."""
        heard = self.client.heard

        def arrived() -> Header | None:
            header = read_header(heard)
            return header if header and len(heard) >= header.size + header.length else None

        if not await self.client.waits(lambda: arrived() is not None, within):
            if self.client.ended and self.code is None:
                self.code = NO_FRAME
            return None
        header = arrived()
        assert header
        whole = self.client.take(header.size + header.length)
        payload = apply_mask(whole[header.size :], header.mask)
        if header.opcode == CLOSE and self.code is None:
            self.code = close_code(payload)
        return Frame(header, payload, whole)

    async def rest(self) -> list[Frame]:
        """Take and return all frames up to the end of the connection, or up to a timeout."""
        frames = []
        while frame := await self.next():
            frames.append(frame)
        return frames

    async def pong(self, payload: bytes, within: float | None = None) -> int | None:
        """Wait for a pong with this payload, and return None. If the server closes the WebSocket
        instead, return `code`. Raise Violation if neither happens in time."""
        while self.code is None and (frame := await self.next(within)):
            if frame.opcode == PONG and frame.payload == payload:
                return None
        if self.code is None:
            raise Violation(f"{self} received neither a pong nor a close frame", payload, b"")
        return self.code

    async def probe(self) -> int | None:
        """Send PROBES pings, one after another. Return None if all of them are answered; else the
        code, as `pong` does."""
        for _ in range(PROBES):
            payload = next(self._payloads)
            await self.send(encode(PING, payload))
            code = await self.pong(payload)
            if code is not None:
                return code
        return None

    async def close_code(self, within: float | None = None) -> int | None:
        """Wait until the server closes the WebSocket, up to a timeout; return `code`."""
        while self.code is None and await self.next(within):
            pass
        return self.code


class WebRoom(Room):
    """The target, if it is a gateway: its clients are WebSockets."""

    admission = "WS-1"

    def __init__(self, target: Target, clock: Clock, log: Log, path: str) -> None:
        super().__init__(target, WRITTEN, clock, log)
        self.path = path

    async def dial(self) -> WebSocket:
        """Connect, and send no handshake yet."""
        return WebSocket(await self.connect(), self)

    async def open(self) -> WebSocket:
        """Connect, and open a WebSocket."""
        websocket = await self.dial()
        await websocket.open()
        return websocket

    def _endpoint(self, *_: object) -> tuple[str, int]:
        """Return the first endpoint. The others may be for clients that send lines."""
        return self.target.address


def parse_url(url: str) -> tuple[str, str]:
    """Return the address HOST:PORT and the path of a URL ws://HOST:PORT/PATH.

    The URL may contain the placeholders {host} and {port} of a command; then only its path is used.
    Raise ValueError if the URL is malformed, or if it has another scheme.
    """
    try:
        parts = urlsplit(url.replace("{host}", "localhost").replace("{port}", "80"))
        address = parts.netloc if parts.port is not None else f"{parts.netloc}:80"
        parse_address(address)
        if parts.scheme != "ws" or parts.fragment or not url.isprintable() or " " in url:
            raise ValueError
    except ValueError:
        raise ValueError(f"{url!r} is not ws://HOST:PORT/PATH") from None
    return address, (parts.path or "/") + (f"?{parts.query}" if parts.query else "")


def pieces(data: bytes) -> Iterator[bytes]:
    """Yield the bytes of `data` one by one."""
    for at_byte in range(len(data)):
        yield data[at_byte : at_byte + 1]
