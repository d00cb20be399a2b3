"""WebSocket servers with one defect each, and the clauses that the defect breaks.

Each server differs from the reference server in one method or attribute. As in
`harness.reference.broken`, no defect depends on chance, and each is as narrow as possible: only the
tests of the registered clauses may fail.
"""

# ruff: noqa: ARG002, ARG005  (a defective method need not use all its arguments)

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from harness.frames import (
    BINARY,
    CLOSE,
    MASK,
    PING,
    PONG,
    Header,
    close_code,
    close_payload,
    encode,
    read_header,
)
from harness.reference.gateway.server import (
    CHUNK,
    INVALID_TEXT,
    PROTOCOL_ERROR,
    VALID_CODES,
    Connection,
    Request,
    require,
)

REGISTRY: dict[str, tuple[type[Connection], frozenset[str]]] = {}
"""Broken servers by name, each with the ids of the clauses that it breaks."""


def breaks(what: str) -> Callable[[type[Connection]], type[Connection]]:
    """Register a broken server. what: its name, a colon, and the ids of the clauses it breaks."""
    name, _, clauses = what.partition(": ")

    def register(kind: type[Connection]) -> type[Connection]:
        REGISTRY[name] = (kind, frozenset(clauses.split()))
        return kind

    return register


def broken(what: str, about: str, **different: Any) -> None:
    """Create and register a subclass with other attributes. about: its docstring."""
    breaks(what)(type("Broken", (Connection,), {"__doc__": about, **different}))


def allow(*_: object) -> None:
    """Allow a frame that the protocol forbids."""


# --- the handshake -------------------------------------------------------------------------------

broken(
    "accepts-with-the-key: WS-1",
    "Returns the client's key in Sec-WebSocket-Accept.",
    accept=lambda self, key: key.decode(),
)


@breaks("always-compresses: WS-1")
class AlwaysCompresses(Connection):
    """Names an extension that the client did not offer."""

    def answer(self, request: Request) -> list[str]:
        return [*super().answer(request), "Sec-WebSocket-Extensions: permessage-deflate"]


@breaks("chooses-a-subprotocol: WS-1")
class ChoosesASubprotocol(Connection):
    """Names a subprotocol that the client did not offer."""

    def answer(self, request: Request) -> list[str]:
        return [*super().answer(request), "Sec-WebSocket-Protocol: chat"]


broken(
    "upgrades-any-method: WS-2",
    "Accepts a POST as a handshake.",
    is_get=lambda self, request: True,
)
broken("needs-no-key: WS-2", "Ignores the key.", has_key=lambda self, request: True)
broken(
    "any-version: WS-2",
    "Ignores Sec-WebSocket-Version.",
    is_known_version=lambda self, request: True,
)
broken(
    "upgrades-any-get: WS-2",
    "Ignores the headers Upgrade and Connection.",
    is_upgrade=lambda self, request: True,
)
broken(
    "one-connection-option: WS-3",
    "Refuses a Connection header that lists more than one option.",
    is_upgrade=lambda self, request: (
        request.tokens("connection") == ["upgrade"] and request.tokens("upgrade") == ["websocket"]
    ),
)


@breaks("exact-header-names: WS-3")
class ExactHeaderNames(Connection):
    """Compares the names of headers case-sensitively."""

    def parse_request(self, head: bytes) -> Request:
        request = super().parse_request(head)
        exact = b"Sec-WebSocket-Key" in head and b"Upgrade:" in head
        return request if exact else replace(request, headers={})


@breaks("request-in-one-read: WS-3")
class RequestInOneRead(Connection):
    """Treats the data of the first read as the whole request."""

    def read_request(self) -> bytes:
        self.receive()
        return self.read(self.unread.find(b"\r\n\r\n") + 4 or len(self.unread))


# --- frames --------------------------------------------------------------------------------------

broken(
    "masks: WS-4",
    "Masks its frames.",
    encode=lambda self, opcode, payload: encode(opcode, payload, mask=MASK),
)
broken(
    "sets-a-reserved-bit: WS-4",
    "Sets a reserved bit in its pongs.",
    encode=lambda self, opcode, payload: encode(
        opcode, payload, rsv=4 if opcode == PONG else 0, mask=b""
    ),
)
broken(
    "long-lengths: WS-4",
    "Writes all lengths in 16 bits.",
    encode=lambda self, opcode, payload: (
        bytes([0x80 | opcode, 126]) + len(payload).to_bytes(2, "big") + payload
    ),
)
broken("needs-no-mask: WS-5", "Accepts frames without a mask.", check_mask=allow)


def _resized(header: Header | None, convert: Callable[[Header], int]) -> Header | None:
    return header and replace(header, length=convert(header))


broken(
    "signed-lengths: WS-6",
    "Ignores the first bit of a length of 16 bits.",
    parse_header=lambda self: _resized(
        read_header(self.unread),
        lambda header: header.length & 0x7FFF if header.length < 1 << 16 else header.length,
    ),
)
broken(
    "short-lengths: WS-6 WS-30",
    "Ignores the upper 48 of the 64 bits of a length.",
    parse_header=lambda self: _resized(
        read_header(self.unread), lambda header: header.length & 0xFFFF
    ),
)


@breaks("frame-in-one-read: WS-7")
class FrameInOneRead(Connection):
    """Reads at most twice for a short payload, and ends the connection if it is incomplete."""

    def read(self, size: int) -> bytes:
        for _ in range(2 if size < 1024 else size):
            if len(self.unread) < size:
                self.receive()
        if len(self.unread) < size:
            raise EOFError
        return super().read(size)


@breaks("few-frames-in-one-read: WS-7")
class FewFramesInOneRead(Connection):
    """Handles 64 messages that arrive in one piece, and drops what follows."""

    handled = 0

    def receive(self) -> None:
        super().receive()
        self.handled = 0

    def on_frame(self, header: Header, payload: bytes) -> None:
        self.handled += header.fin and not header.is_control
        if self.handled <= 64:
            super().on_frame(header, payload)


broken("ignores-reserved-bits: WS-8", "Ignores reserved bits.", check_reserved=allow)
broken(
    "ignores-reserved-bits-of-pings: WS-8",
    "Ignores reserved bits in control frames.",
    check_reserved=lambda self, header: require(header.is_control or not header.rsv),
)
broken(
    "unknown-opcodes: WS-9",
    "Ignores frames with reserved opcodes.",
    check_opcode=allow,
    on_frame=lambda self, header, payload: (
        None if header.opcode & 7 > 2 else Connection.on_frame(self, header, payload)
    ),
    check_sequence=lambda self, header: (
        None if header.opcode > BINARY else Connection.check_sequence(self, header)
    ),
)
broken(
    "unknown-control-opcodes: WS-9",
    "Treats control frames with reserved opcodes as pongs.",
    parse_header=lambda self: (
        (header := read_header(self.unread)) and replace(header, opcode=min(header.opcode, PONG))
    ),
)

# --- control frames ------------------------------------------------------------------------------

broken(
    "short-pongs: WS-10",
    "Returns at most 64 bytes of a ping.",
    on_ping=lambda self, payload: self.send(PONG, payload[:64]),
)
broken(
    "text-pongs: WS-10",
    "Treats the payload of a ping as text.",
    on_ping=lambda self, payload: self.send(PONG, payload.decode(errors="replace").encode()[:125]),
)
broken(
    "silent-at-empty-pings: WS-10",
    "Does not answer an empty ping.",
    on_ping=lambda self, payload: self.send(PONG, payload) if payload else None,
)


@breaks("pongs-backwards: WS-11")
class PongsBackwards(Connection):
    """Answers pings that arrive in one piece in reverse order."""

    def on_ping(self, payload: bytes) -> None:
        waiting = [payload]
        while self.unread and self.unread[0] == 0x80 | PING:
            waiting.append(self.read_frame()[1])
        for waiting_payload in reversed(waiting):
            self.send(PONG, waiting_payload)


@breaks("first-ping-only: WS-11")
class FirstPingOnly(Connection):
    """Answers only the first of the pings that arrive in one piece."""

    def on_ping(self, payload: bytes) -> None:
        self.send(PONG, payload)
        while self.unread and self.unread[0] == 0x80 | PING:
            self.read_frame()


broken(
    "answers-pongs: WS-12",
    "Answers a pong with a pong.",
    on_pong=lambda self, payload: self.send(PONG, payload),
)
broken(
    "closes-at-a-pong: WS-12",
    "Treats a pong that answers no ping as an error.",
    on_pong=lambda self, payload: require(False),
)
broken("long-control-frames: WS-13", "Accepts long control frames.", check_control_size=allow)
broken("fragmented-pings: WS-14", "Ignores FIN in control frames.", check_control_end=allow)


@breaks("pongs-after-the-message: WS-15")
class PongsAfterTheMessage(Connection):
    """Answers a ping inside a message only when the message has ended."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.waiting: list[bytes] = []

    def on_ping(self, payload: bytes) -> None:
        self.waiting.append(payload)

    def on_frame(self, header: Header, payload: bytes) -> None:
        super().on_frame(header, payload)
        while self.waiting and not self.opcode:
            self.send(PONG, self.waiting.pop(0))


@breaks("ping-ends-the-message: WS-15")
class PingEndsTheMessage(Connection):
    """Forgets an unfinished message at a ping."""

    def on_ping(self, payload: bytes) -> None:
        super().on_ping(payload)
        self.opcode = self.size = 0


# --- fragments -----------------------------------------------------------------------------------


@breaks("few-fragments: WS-16")
class FewFragments(Connection):
    """Accepts at most 64 fragments of a message."""

    fragments = 0

    def on_fragment(self, header: Header, payload: bytes) -> None:
        self.fragments = 0 if header.fin else self.fragments + 1
        require(self.fragments <= 64)
        super().on_fragment(header, payload)


@breaks("no-empty-fragments: WS-16")
class NoEmptyFragments(Connection):
    """Treats an empty fragment as an error."""

    def on_fragment(self, header: Header, payload: bytes) -> None:
        require(payload or (header.fin and header.opcode))
        super().on_fragment(header, payload)


broken(
    "stray-continuations: WS-17",
    "Accepts a continuation frame that belongs to no message.",
    check_begun=allow,
)
broken("mixed-messages: WS-18", "Accepts a message inside a message.", check_not_begun=allow)

# --- text ----------------------------------------------------------------------------------------

broken("no-utf-8: WS-20 WS-21", "Accepts any bytes as text.", on_text=allow)


def decodes(encoding_errors: str) -> Callable[[Connection, bytes, bool], None]:
    """Return a method that decodes text with another error handler."""

    def on_text(self: Connection, payload: bytes, is_last: bool) -> None:
        self.decoder.errors = encoding_errors
        Connection.on_text(self, payload, is_last)

    return on_text


broken("accepts-surrogates: WS-20", "Accepts surrogates.", on_text=decodes("surrogatepass"))


@breaks("accepts-a-cut-end: WS-20")
class AcceptsACutEnd(Connection):
    """Accepts text that ends inside a character."""

    def on_text(self, payload: bytes, is_last: bool) -> None:
        super().on_text(payload, False)


@breaks("text-by-fragment: WS-19")
class TextByFragment(Connection):
    """Decodes the text of each fragment separately."""

    def on_text(self, payload: bytes, is_last: bool) -> None:
        super().on_text(payload, True)


@breaks("no-noncharacters: WS-19")
class NoNoncharacters(Connection):
    """Refuses noncharacters, such as U+FFFF."""

    def on_text(self, payload: bytes, is_last: bool) -> None:
        super().on_text(payload, is_last)
        require(b"\xef\xbf\xbf" not in payload, INVALID_TEXT)


@breaks("checks-text-at-the-end: WS-21")
class ChecksTextAtTheEnd(Connection):
    """Checks text when the message has ended."""

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.text = b""

    def on_text(self, payload: bytes, is_last: bool) -> None:
        self.text += payload
        if is_last:
            super().on_text(self.text, True)
            self.text = b""


# --- the end -------------------------------------------------------------------------------------


@breaks("no-close-frame: WS-22")
class NoCloseFrame(Connection):
    """Ends the connection without an answer to a close frame."""

    def on_close(self, payload: bytes) -> None:
        if payload:
            require(len(payload) > 1)
            self.check_code(close_code(payload))
            self.check_reason(payload[2:])
        self.closed = True


@breaks("close-waits-for-the-message: WS-22")
class CloseWaitsForTheMessage(Connection):
    """Ignores a close frame inside a message."""

    def on_close(self, payload: bytes) -> None:
        if not self.opcode:
            super().on_close(payload)


broken(
    "always-1000: WS-23",
    "Answers each close frame with the code 1000.",
    closing=lambda self, payload: close_payload(1000),
)


@breaks("pong-after-close: WS-24")
class PongAfterClose(Connection):
    """Answers a ping that arrives after the close frame."""

    def on_close(self, payload: bytes) -> None:
        super().on_close(payload)
        while self.unread:
            header, payload = self.read_frame()
            if header.opcode == PING:
                self.send(PONG, payload)


@breaks("two-close-frames: WS-24")
class TwoCloseFrames(Connection):
    """Sends two close frames."""

    def on_close(self, payload: bytes) -> None:
        super().on_close(payload)
        self.send(CLOSE, self.closing(payload))


@breaks("fails-after-close: WS-24")
class FailsAfterClose(Connection):
    """Checks what arrives after a close frame, and fails the connection again."""

    def on_close(self, payload: bytes) -> None:
        super().on_close(payload)
        while self.unread:
            self.read_frame()


class Lazy(Connection):
    """The reference server, with a method that waits until the client ends the connection."""

    def wait_for_end(self) -> None:
        while self.socket.recv(CHUNK):
            pass


@breaks("client-closes-first: WS-25")
class ClientClosesFirst(Lazy):
    """After both close frames, waits until the client ends the TCP connection."""

    def on_close(self, payload: bytes) -> None:
        super().on_close(payload)
        self.wait_for_end()


@breaks("failure-waits-for-close: WS-25")
class FailureWaitsForClose(Lazy):
    """After a failure, waits until the client ends the TCP connection."""

    def fail(self, code: int) -> None:
        super().fail(code)
        self.wait_for_end()


broken(
    "no-codes-of-applications: WS-26",
    "Refuses the codes from 3000.",
    check_code=lambda self, code: require(code in VALID_CODES and code < 3000),
)


@breaks("short-reasons: WS-26")
class ShortReasons(Connection):
    """Refuses reasons of more than 100 bytes."""

    def check_reason(self, reason: bytes) -> None:
        require(len(reason) <= 100)
        super().check_reason(reason)


broken("any-code: WS-27", "Accepts any code in a close frame.", check_code=allow)
broken(
    "code-of-one-byte: WS-27",
    "Accepts a close frame with one byte.",
    on_close=lambda self, payload: Connection.on_close(self, payload if payload[1:] else b""),
)
broken("any-reason: WS-28", "Accepts a reason that is not UTF-8.", check_reason=allow)
broken(
    "fails-with-1011: WS-29",
    "Fails a connection with the code 1011.",
    fail=lambda self, code: Connection.fail(self, 1011),
)
broken(
    "text-fails-with-1002: WS-29",
    "Fails a connection with the code 1002 if text is not UTF-8.",
    fail=lambda self, code: Connection.fail(self, PROTOCOL_ERROR if code == INVALID_TEXT else code),
)
broken(
    "fails-silently: WS-29",
    "Sends no close frame when a connection fails.",
    fail=lambda self, code: None,
)
broken("no-limit: WS-30", "Waits for messages of any size.", check_size=allow)


@breaks("failure-ends-all: WS-31")
class FailureEndsAll(Connection):
    """Ends its process if a connection is reset."""

    def receive(self) -> None:
        try:
            super().receive()
        except OSError:
            os._exit(1)


@breaks("one-frame-at-a-time: WS-31")
class OneFrameAtATime(Connection):
    """Serves no other connection while a frame is incomplete."""

    lock = threading.Lock()

    def read_frame(self) -> tuple[Header, bytes]:
        if not self.unread:
            self.receive()
        with self.lock:
            return super().read_frame()


@breaks("one-handshake-at-a-time: WS-31")
class OneHandshakeAtATime(Connection):
    """Serves no other handshake while a handshake is incomplete."""

    lock = threading.Lock()

    def read_request(self) -> bytes:
        with self.lock:
            return super().read_request()
