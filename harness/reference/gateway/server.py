"""The reference server for WebSockets: small and complete, without dependencies.

A thread serves each connection, with blocking reads. The server answers pings and close frames, and
drops messages: the clauses concern the framing only. It is too simple for production: it has no
limit on connections, and a client that sends nothing keeps its thread.

Each rule of RFC 6455 is a method of `Connection`, so that a broken server can replace one rule.
"""

from __future__ import annotations

import base64
import binascii
import codecs
import contextlib
import hashlib
import socket
import threading
import time
from dataclasses import dataclass

from harness.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    LONGEST_CONTROL,
    PING,
    PONG,
    TEXT,
    Header,
    apply_mask,
    close_payload,
    encode,
    read_header,
)

GUID = b"258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
PROTOCOL_ERROR, INVALID_TEXT, TOO_LARGE = 1002, 1007, 1009

CHUNK = 1 << 16
"""Maximum number of bytes per read."""
LONGEST_REQUEST = 1 << 16
"""Maximum size of the request (bytes)."""
LINGER = 2.0
"""Timeout (s) for the client to end its side of the connection, after the server has ended its own.
Until then, the server reads and drops the client's data: if it closed the socket with unread data,
the kernel would reset the connection, and the close frame might be lost."""
RETRY_AFTER = 0.1
"""Pause (s) after an error of `accept`, such as a lack of descriptors."""

VALID_CODES = frozenset([1000, 1001, 1002, 1003, *range(1007, 1015), *range(3000, 5000)])
"""Codes that a close frame may contain: registered codes, and those of applications."""


class FailError(Exception):
    """The client has broken the protocol. `code`: code of the close frame."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


@dataclass(frozen=True)
class Request:
    """The client's handshake. `headers`: values by name in lower case; the values of headers with
    the same name are joined."""

    line: str
    headers: dict[str, str]

    def tokens(self, name: str) -> list[str]:
        """Return the elements of a header in lower case."""
        return [part.strip().lower() for part in self.headers.get(name, "").split(",")]


class Connection:
    """One WebSocket, from the handshake to its end. Each method in a section "rules" is a rule of
    RFC 6455."""

    max_message = 1 << 24
    """Maximum size of a message (bytes)."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        self.unread = bytearray()
        """Received bytes that are not parsed yet."""
        self.opcode = 0
        """Opcode of the message whose end has not arrived; 0 if there is none."""
        self.size = 0
        """Size of this message so far (bytes)."""
        self.decoder = codecs.getincrementaldecoder("utf-8")()
        """Decoder of this message, if it is text."""
        self.closed = False
        """True once a close frame was sent."""

    def serve(self) -> None:
        try:
            if self.open():
                while not self.closed:
                    self.on_frame(*self.read_frame())
        except FailError as error:
            self.fail(error.code)
        except (EOFError, OSError):
            pass  # the client is gone
        finally:
            with contextlib.suppress(OSError):
                self.end()
            self.socket.close()

    # --- input and output ----------------------------------------------------

    def receive(self) -> None:
        """Receive some bytes. Raise EOFError at the end of the connection."""
        data = self.socket.recv(CHUNK)
        if not data:
            raise EOFError
        self.unread += data

    def read(self, size: int) -> bytes:
        while len(self.unread) < size:
            self.receive()
        data = bytes(self.unread[:size])
        del self.unread[:size]
        return data

    def read_frame(self) -> tuple[Header, bytes]:
        """Return the next frame. Its header is checked before the payload arrives."""
        while (header := self.parse_header()) is None:
            self.receive()
        self.check(header)
        del self.unread[: header.size]
        return header, self.unmask(self.read(header.length), header)

    def send(self, opcode: int, payload: bytes = b"") -> None:
        self.socket.sendall(self.encode(opcode, payload))

    def fail(self, code: int) -> None:
        """Fail the connection: the client has broken the protocol."""
        with contextlib.suppress(OSError):
            self.send(CLOSE, close_payload(code))

    def end(self) -> None:
        """End the server's side of the connection. Wait until the client ends its side, but no
        longer than LINGER."""
        self.socket.shutdown(socket.SHUT_WR)
        deadline = time.monotonic() + LINGER
        while (left := deadline - time.monotonic()) > 0:
            self.socket.settimeout(left)
            if not self.socket.recv(CHUNK):
                return

    # --- the handshake -------------------------------------------------------

    def open(self) -> bool:
        """Answer the handshake; return True if the connection is a WebSocket now."""
        request = self.parse_request(self.read_request())
        if not self.is_valid(request):
            self.socket.sendall(
                b"HTTP/1.1 400 Bad Request\r\nSec-WebSocket-Version: 13\r\n"
                b"Connection: close\r\nContent-Length: 0\r\n\r\n"
            )
            return False
        lines = ["HTTP/1.1 101 Switching Protocols", *self.answer(request), "", ""]
        self.socket.sendall("\r\n".join(lines).encode())
        return True

    def read_request(self) -> bytes:
        while (end := self.unread.find(b"\r\n\r\n")) < 0:
            if len(self.unread) > LONGEST_REQUEST:
                raise EOFError
            self.receive()
        return self.read(end + 4)

    def parse_request(self, head: bytes) -> Request:
        line, *fields = head.decode("latin-1").strip().split("\r\n")
        headers: dict[str, str] = {}
        for field in fields:
            name, _, value = field.partition(":")
            known = headers.get(name.lower())
            headers[name.lower()] = f"{known}, {value.strip()}" if known else value.strip()
        return Request(line, headers)

    def is_valid(self, request: Request) -> bool:
        return (
            self.is_get(request)
            and self.is_upgrade(request)
            and self.has_key(request)
            and self.is_known_version(request)
        )

    def is_get(self, request: Request) -> bool:
        return request.line.startswith("GET ") and request.line.endswith(" HTTP/1.1")

    def is_upgrade(self, request: Request) -> bool:
        return "websocket" in request.tokens("upgrade") and "upgrade" in request.tokens(
            "connection"
        )

    def has_key(self, request: Request) -> bool:
        with contextlib.suppress(binascii.Error):
            key = request.headers.get("sec-websocket-key", "")
            return len(base64.b64decode(key, validate=True)) == 16
        return False

    def is_known_version(self, request: Request) -> bool:
        return request.headers.get("sec-websocket-version") == "13"

    def answer(self, request: Request) -> list[str]:
        """Return the header lines of the answer."""
        accept = self.accept(request.headers.get("sec-websocket-key", "").encode())
        return ["Upgrade: websocket", "Connection: Upgrade", f"Sec-WebSocket-Accept: {accept}"]

    def accept(self, key: bytes) -> str:
        return base64.b64encode(hashlib.sha1(key + GUID).digest()).decode()

    # --- rules: frames -------------------------------------------------------

    def parse_header(self) -> Header | None:
        return read_header(self.unread)

    def unmask(self, payload: bytes, header: Header) -> bytes:
        return apply_mask(payload, header.mask)

    def encode(self, opcode: int, payload: bytes) -> bytes:
        return encode(opcode, payload, mask=b"")

    def check(self, header: Header) -> None:
        """Raise FailError if a frame is not allowed here."""
        self.check_mask(header)
        self.check_reserved(header)
        self.check_opcode(header)
        if header.is_control:
            self.check_control(header)
        else:
            self.check_size(header)
            self.check_sequence(header)

    def check_mask(self, header: Header) -> None:
        require(header.mask)

    def check_reserved(self, header: Header) -> None:
        require(header.rsv == 0)

    def check_opcode(self, header: Header) -> None:
        require(header.opcode in (CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG))

    def check_control(self, header: Header) -> None:
        self.check_control_size(header)
        self.check_control_end(header)

    def check_control_size(self, header: Header) -> None:
        require(header.length <= LONGEST_CONTROL)

    def check_control_end(self, header: Header) -> None:
        require(header.fin)

    def check_size(self, header: Header) -> None:
        require(self.size + header.length <= self.max_message, TOO_LARGE)

    def check_sequence(self, header: Header) -> None:
        if header.opcode == CONTINUATION:
            self.check_begun()
        else:
            self.check_not_begun()

    def check_begun(self) -> None:
        require(self.opcode)

    def check_not_begun(self) -> None:
        require(not self.opcode)

    # --- rules: handling frames ----------------------------------------------

    def on_frame(self, header: Header, payload: bytes) -> None:
        if header.opcode == PING:
            self.on_ping(payload)
        elif header.opcode == PONG:
            self.on_pong(payload)
        elif header.opcode == CLOSE:
            self.on_close(payload)
        else:
            self.on_fragment(header, payload)

    def on_ping(self, payload: bytes) -> None:
        self.send(PONG, payload)

    def on_pong(self, payload: bytes) -> None:
        """Ignore a pong: the server sends no pings."""

    def on_fragment(self, header: Header, payload: bytes) -> None:
        self.opcode = header.opcode or self.opcode
        self.size += len(payload)
        if self.opcode == TEXT:
            self.on_text(payload, header.fin)
        if header.fin:
            self.opcode = self.size = 0
            self.decoder.reset()

    def on_text(self, payload: bytes, is_last: bool) -> None:
        try:
            self.decoder.decode(payload, is_last)
        except UnicodeDecodeError:
            raise FailError(INVALID_TEXT) from None

    def on_close(self, payload: bytes) -> None:
        if payload:
            require(len(payload) > 1)
            self.check_code(int.from_bytes(payload[:2], "big"))
            self.check_reason(payload[2:])
        self.send(CLOSE, self.closing(payload))
        self.closed = True

    def check_code(self, code: int) -> None:
        require(code in VALID_CODES)

    def check_reason(self, reason: bytes) -> None:
        try:
            reason.decode()
        except UnicodeDecodeError:
            raise FailError(INVALID_TEXT) from None

    def closing(self, payload: bytes) -> bytes:
        """Return the payload of the close frame that answers a close frame."""
        return payload[:2]


def require(condition: object, code: int = PROTOCOL_ERROR) -> None:
    """Raise FailError unless the condition holds."""
    if not condition:
        raise FailError(code)


def listen(host: str, port: int, kind: type[Connection], announce: bool = False) -> None:
    """Serve WebSockets until the process ends. `announce`: print the address when ready."""
    with socket.create_server((host, port), backlog=256) as listener:
        if announce:
            print(f"listening on {host}:{listener.getsockname()[1]}", flush=True)
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:  # no descriptor is left, or the client is gone
                time.sleep(RETRY_AFTER)
                continue
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=kind(connection).serve, daemon=True).start()
