"""Tests of the section WebSocket of PROTOCOL.md.

The server under test need not send messages back. So the tests judge the server by its pongs and
close codes, which every WebSocket server sends. If a ping after a message is answered, the server
has accepted the message. A message is a JSON object that should have no effect on an application;
an application may still refuse it (REFUSALS).
"""

from __future__ import annotations

import base64
import hashlib
import itertools
import struct
from collections.abc import Callable, Sequence

import pytest

from harness.clients.room import applies, expect, expect_equal
from harness.clients.websocket import WebRoom, WebSocket, pieces
from harness.conformance.evidence import ABSENT, OBSERVED
from harness.errors import Violation
from harness.frames import (
    BINARY,
    CLOSE,
    CONTINUATION,
    LONGEST_CONTROL,
    LONGEST_REASON,
    MASK,
    NO_FRAME,
    PING,
    PONG,
    TEXT,
    close_code,
    close_payload,
    encode,
    encode_header,
)

GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"

REFUSALS = frozenset([1003, 1008, 1009, *range(3000, 5000)])
"""Codes with which an application closes a WebSocket because it refuses a message, although the
framing is correct."""
FAILURES = frozenset([1002, 1007, 1009, 1011])
"""Codes that mean that the client has broken the protocol, or that the server itself has failed."""

LATE = 3
"""Number of windows (see `Clock`) after a pong within which the server may still fail the
connection."""

LARGE = 1 << 20
"""Size of a large message (bytes)."""
TOO_LARGE = 1 << 62
"""Size of a message that no server can store (bytes)."""
LONGEST_HEADER = struct.calcsize("!BBQ") + len(MASK)
"""Size of the longest header of a frame (bytes)."""


def message(text: bytes = b"", size: int = 0) -> bytes:
    """Return the text of a harmless message. `size`: its minimum size (bytes)."""
    return (b'{"note":"%b"' % text).ljust(max(0, size - 1)) + b"}"


MESSAGE = message("κόσμε".encode())

# --- violations ----------------------------------------------------------------------------------

BEGINNING = encode(TEXT, b'{"note":', fin=False)
"""The first fragment of a message."""

VIOLATIONS = {
    "no-mask": encode(TEXT, MESSAGE, mask=b""),
    "reserved-bit": encode(TEXT, MESSAGE, rsv=2),
    "reserved-opcode": encode(0xB),
    "long-ping": encode(PING, bytes(LONGEST_CONTROL + 1)),
    "fragmented-ping": encode(PING, fin=False),
    "continuation": encode(CONTINUATION, MESSAGE),
    "message-in-message": BEGINNING + encode(TEXT, MESSAGE),
    "not-utf-8": encode(TEXT, message(b"\xff")),
    "too-large": encode_header(BINARY, TOO_LARGE),
    "close-of-one-byte": encode(CLOSE, b"\x03"),
    "invalid-close-code": encode(CLOSE, close_payload(1005)),
    "invalid-reason": encode(CLOSE, close_payload(1000, b"\xff")),
}
CODES = {"not-utf-8": 1007, "invalid-reason": 1007, "too-large": 1009}
"""Codes of these violations. The code of all others is 1002."""


async def accepts(websocket: WebSocket, when: str) -> None:
    """Raise Violation unless the server has accepted all sent messages."""
    code = await websocket.probe()
    expect(code is None or code in REFUSALS, f"{when}: {ended(code)}")


async def fails(room: WebRoom, websocket: WebSocket, when: str) -> int:
    """Return the code with which the server fails the connection. Raise Violation if it does not.

    A failure may come after the answer to a ping.
    """
    payload = room.token()
    await websocket.send(encode(PING, payload))
    code = await websocket.pong(payload)
    if code is None:
        code = await websocket.close_code(LATE * room.window)
    if code is None:
        raise Violation(f"{when}: the server did not fail the connection")
    return code


def ended(code: int | None) -> str:
    if code == NO_FRAME:
        return "the server ended the connection without a close frame"
    return f"the server closed the connection with the code {code}"


# --- the handshake -------------------------------------------------------------------------------


@pytest.mark.clause("WS-1", OBSERVED)
async def test_a_valid_handshake_is_accepted(room: WebRoom) -> None:
    """A client sends a handshake, as a browser does. The answer has the status 101, the right
    headers, no extension and no subprotocol. Then a ping is answered."""
    websocket = await room.dial()
    await websocket.send(websocket.request())
    answer = await websocket.answer()
    expect(answer.status == 101, f"the status is {answer.status or 'missing'}, not 101")
    for name, value in (("upgrade", "websocket"), ("connection", "upgrade")):
        found = answer.headers.get(name, "")
        expect(value in found.lower(), f"the header {name} is {found!r}", value.encode())
    digest = hashlib.sha1((websocket.key + GUID).encode()).digest()
    expect_equal(
        "Sec-WebSocket-Accept is wrong",
        base64.b64encode(digest),
        answer.headers.get("sec-websocket-accept", "").encode(),
    )
    for name in ("sec-websocket-extensions", "sec-websocket-protocol"):
        found = answer.headers.get(name, "")
        expect(not found, f"the client did not offer {name}: {found}")
    await accepts(websocket, "after the handshake")


@pytest.mark.clause("WS-1", OBSERVED)
async def test_an_unknown_extension_is_not_accepted(room: WebRoom) -> None:
    """A client offers an extension that does not exist. The answer has the status 101, and does not
    name the extension."""
    websocket = await room.dial()
    await websocket.send(websocket.request(Sec_WebSocket_Extensions="harness-unknown"))
    answer = await websocket.answer()
    expect(answer.status == 101, f"the status is {answer.status or 'missing'}, not 101")
    found = answer.headers.get("sec-websocket-extensions", "")
    expect("harness-unknown" not in found, f"the server accepts the extension {found}")


INVALID: dict[str, dict[str, str | None]] = {
    "post": {"line": "POST {path} HTTP/1.1"},
    "http-1.0": {"line": "GET {path} HTTP/1.0"},
    "no-upgrade": {"Upgrade": None},
    "another-upgrade": {"Upgrade": "h2c"},
    "no-connection": {"Connection": None},
    "another-connection": {"Connection": "keep-alive"},
    "no-key": {"Sec_WebSocket_Key": None},
    "short-key": {"Sec_WebSocket_Key": base64.b64encode(bytes(15)).decode()},
    "key-not-base64": {"Sec_WebSocket_Key": "?" * 24},
    "no-version": {"Sec_WebSocket_Version": None},
    "another-version": {"Sec_WebSocket_Version": "12"},
}


@pytest.mark.clause("WS-2", OBSERVED)
@pytest.mark.parametrize("name", INVALID)
async def test_an_invalid_handshake_is_refused(room: WebRoom, name: str) -> None:
    """A client sends a handshake that is wrong in one place. The server answers with another status
    than 101, or ends the connection."""
    websocket = await room.dial()
    changes = dict(INVALID[name])
    line = (changes.pop("line", None) or "").format(path=room.path)
    await websocket.send(websocket.request(line, **changes))
    status = (await websocket.answer()).status
    expect(status != 101, f"{name}: the server has opened a WebSocket")


@pytest.mark.clause("WS-3", OBSERVED)
@pytest.mark.parametrize("case", ["lower", "upper", "options"])
async def test_names_are_read_in_any_case(room: WebRoom, case: str) -> None:
    """A client writes the names of all headers, and the values of Upgrade and Connection, in lower
    or upper case, or lists several options in Connection. The server opens the WebSocket."""
    websocket = await room.dial()
    request = websocket.request(Connection="keep-alive, Upgrade")
    if case != "options":
        change = str.upper if case == "upper" else str.lower
        line, *fields = websocket.request().decode().split("\r\n")
        changed = [
            f"{change(name)}:{change(value) if name in ('Upgrade', 'Connection') else value}"
            if name
            else ""
            for name, _, value in (field.partition(":") for field in fields)
        ]
        request = "\r\n".join([line, *changed]).encode()
    await websocket.send(request)
    status = (await websocket.answer()).status
    expect(status == 101, f"the status is {status or 'missing'}, not 101")


@pytest.mark.clause("WS-3", OBSERVED)
async def test_a_handshake_arrives_in_pieces(room: WebRoom) -> None:
    """A client sends its handshake in pieces: cut in the first line, in the name of a header, and
    in the empty line at the end. The server opens the WebSocket."""
    websocket = await room.dial()
    request = websocket.request()
    cuts = [0, 2, request.index(b"-Key"), len(request) - 3, len(request) - 1, len(request)]
    parts = [request[begin:end] for begin, end in itertools.pairwise(cuts)]
    await websocket.send_in_pieces(*parts)
    status = (await websocket.answer()).status
    expect(status == 101, f"the status is {status or 'missing'}, not 101")
    await accepts(websocket, "after a handshake in pieces")


# --- frames --------------------------------------------------------------------------------------


@pytest.mark.clause("WS-4", OBSERVED)
async def test_the_server_s_frames_are_well_formed(room: WebRoom) -> None:
    """The server answers a short ping, a ping of 125 bytes and a close frame. Each frame of the
    server has no mask, no reserved bits, and its length in the shortest form."""
    websocket = await room.open()
    await websocket.send(encode(PING, b"1"), encode(PING, bytes(LONGEST_CONTROL)))
    await websocket.send(encode(CLOSE, close_payload(1000)))
    frames = 0
    while websocket.code is None and (frame := await websocket.next()):
        header, frames = frame.header, frames + 1
        expect(not header.mask, "the server masks its frames")
        expect(not header.rsv, f"the server sets the reserved bits {header.rsv:03b}")
        form = encode(header.opcode, frame.payload, header.fin, mask=b"")
        expect_equal("a length is not in its shortest form", form, frame.whole)
    expect(frames, "the server sent no frame")


@pytest.mark.clause("WS-5", OBSERVED)
@pytest.mark.parametrize("opcode", [TEXT, PING, CLOSE])
async def test_a_frame_without_a_mask_fails(room: WebRoom, opcode: int) -> None:
    """A client sends a frame without a mask. The connection fails."""
    websocket = await room.open()
    payload = {TEXT: MESSAGE, PING: b"unmasked", CLOSE: close_payload(3456)}[opcode]
    await websocket.send(encode(opcode, payload, mask=b""))
    code = await fails(room, websocket, "after a frame without a mask")
    expect(code != 3456, "the server has answered a close frame without a mask")


@pytest.mark.clause("WS-6", OBSERVED)
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("size", [0, 12, 125, 126, 127, 128, 256, 32768, 65535, 65536])
async def test_a_payload_of_any_length_is_read(room: WebRoom, size: int, opcode: int) -> None:
    """A client sends a message of this size. A ping after the message is answered."""
    websocket = await room.open()
    await websocket.send(encode(opcode, message(size=size)[:size]))
    await accepts(websocket, f"after a message of {size:,} bytes")


@pytest.mark.clause("WS-7", OBSERVED)
@pytest.mark.parametrize("size", [40, 130], ids=["short", "long"])
async def test_a_frame_arrives_byte_by_byte(room: WebRoom, size: int) -> None:
    """A client sends a message byte by byte, and then a ping. The ping is answered."""
    websocket = await room.open()
    text = message("é€\U0001f600".encode(), size)
    await websocket.send_in_pieces(*pieces(encode(TEXT, text)))
    payload = room.token()
    await websocket.send_in_pieces(*pieces(encode(PING, payload)))
    code = await websocket.pong(payload)
    expect(code is None or code in REFUSALS, f"after a message in pieces, {ended(code)}")


@pytest.mark.clause("WS-7", OBSERVED)
async def test_many_frames_arrive_in_one_piece(room: WebRoom) -> None:
    """A client sends 100 messages and a ping in one piece. The ping is answered."""
    websocket = await room.open()
    payload = room.token()
    await websocket.send(*[encode(TEXT, message())] * 100, encode(PING, payload))
    code = await websocket.pong(payload)
    expect(code is None or code in REFUSALS, f"after many frames in one piece, {ended(code)}")


@pytest.mark.clause("WS-8", OBSERVED)
@pytest.mark.parametrize("opcode", [TEXT, BINARY, PING, PONG, CLOSE])
@pytest.mark.parametrize("rsv", [1, 2, 4, 7], ids="{:03b}".format)
async def test_a_reserved_bit_fails(room: WebRoom, rsv: int, opcode: int) -> None:
    """A client sends a frame with reserved bits. The connection fails."""
    websocket = await room.open()
    payload = close_payload(3456) if opcode == CLOSE else MESSAGE
    await websocket.send(encode(opcode, payload, rsv=rsv))
    code = await fails(room, websocket, f"after a frame with the reserved bits {rsv:03b}")
    expect(code != 3456, "the server has answered a close frame with reserved bits")


@pytest.mark.clause("WS-9", OBSERVED)
@pytest.mark.parametrize("opcode", [3, 4, 5, 6, 7, 11, 12, 13, 14, 15])
async def test_a_reserved_opcode_fails(room: WebRoom, opcode: int) -> None:
    """A client sends a frame with a reserved opcode. The connection fails."""
    websocket = await room.open()
    await websocket.send(encode(opcode, b"?"))
    await fails(room, websocket, f"after a frame with the opcode {opcode}")


# --- control frames ------------------------------------------------------------------------------

PAYLOADS = {
    "empty": b"",
    "text": b"Hello, world!",
    "binary": bytes([0, 255, 254, 253, 252, 251, 0, 255]),
    "longest": bytes(range(130, 130 + LONGEST_CONTROL)),
}


@pytest.mark.clause("WS-10", OBSERVED)
@pytest.mark.parametrize("name", PAYLOADS)
async def test_a_ping_is_answered(room: WebRoom, name: str) -> None:
    """A client sends a ping. The server answers with a pong that has the same payload."""
    websocket = await room.open()
    payload = PAYLOADS[name]
    await websocket.send(encode(PING, payload))
    while (frame := await websocket.next()) and frame.opcode != PONG:
        expect(frame.opcode != CLOSE, f"after a ping, {ended(close_code(frame.payload))}")
    expect(frame, "the server did not answer a ping")
    assert frame
    expect_equal("the pong has another payload than the ping", payload, frame.payload)


@pytest.mark.clause("WS-11", OBSERVED)
async def test_several_pings_are_answered_in_order(room: WebRoom) -> None:
    """A client sends ten pings in one piece, and waits for the pong to the last one. Other
    pongs may arrive before it, in order. Then the client sends another ping, and the next pong
    answers this ping."""
    websocket = await room.open()
    payloads = room.tokens(10)
    await websocket.send(*[encode(PING, payload) for payload in payloads])
    due = [*payloads]
    while due:
        frame = await websocket.next()
        if frame is None or frame.opcode == CLOSE:
            raise Violation("the last of several pings was not answered", payloads[-1], b"")
        if frame.opcode == PONG:
            expect(
                frame.payload in due,
                "a pong answers no ping, or arrives twice, or after a later pong",
                due[0],
                frame.payload,
            )
            del due[: due.index(frame.payload) + 1]
            if frame.payload == payloads[-1]:
                due.append(room.token())
                await websocket.send(encode(PING, due[0]))


@pytest.mark.clause("WS-12", ABSENT)
@pytest.mark.parametrize("payload", [b"", b"unsolicited"], ids=["empty", "payload"])
async def test_an_unsolicited_pong_is_ignored(room: WebRoom, payload: bytes) -> None:
    """A client sends a pong that answers no ping, and then a ping. The first pong that arrives
    answers the ping."""
    websocket = await room.open()
    token = room.token()
    await websocket.send(encode(PONG, payload), encode(PING, token))
    while (frame := await websocket.next()) and frame.opcode not in (PONG, CLOSE):
        pass
    expect(frame and frame.opcode == PONG, "after an unsolicited pong, a ping was not answered")
    assert frame
    expect_equal("an unsolicited pong was answered", token, frame.payload)


@pytest.mark.clause("WS-13", OBSERVED)
@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
@pytest.mark.parametrize("size", [LONGEST_CONTROL + 1, 70_000])
async def test_a_long_control_frame_fails(room: WebRoom, size: int, opcode: int) -> None:
    """A client sends a control frame with more than 125 bytes. The connection fails."""
    websocket = await room.open()
    payload = close_payload(3456) if opcode == CLOSE else b""
    await websocket.send(encode(opcode, payload.ljust(size, b"x")))
    code = await fails(room, websocket, f"after a control frame with {size:,} bytes")
    expect(code != 3456, "the server has answered a close frame that is too long")


@pytest.mark.clause("WS-14", OBSERVED)
@pytest.mark.parametrize("opcode", [PING, PONG, CLOSE])
async def test_a_fragmented_control_frame_fails(room: WebRoom, opcode: int) -> None:
    """A client sends a control frame that is not the last fragment. The connection fails."""
    websocket = await room.open()
    payload = close_payload(3456) if opcode == CLOSE else b"frag"
    await websocket.send(encode(opcode, payload, fin=False))
    code = await fails(room, websocket, "after a fragment of a control frame")
    expect(code != 3456, "the server has answered a fragment of a close frame")


@pytest.mark.clause("WS-15", OBSERVED)
async def test_a_ping_between_fragments_is_answered_at_once(room: WebRoom) -> None:
    """A client sends a message in fragments, and waits for the pong to a ping before the next
    fragment. After the message, a ping is answered, too."""
    websocket = await room.open()
    for opcode, part, fin in (
        (TEXT, MESSAGE[:5], False),
        (CONTINUATION, MESSAGE[5:-2], False),
        (CONTINUATION, MESSAGE[-2:], True),
    ):
        await websocket.send(encode(opcode, part, fin=fin))
        await accepts(websocket, "after a fragment")


# --- fragments -----------------------------------------------------------------------------------


def fragments(parts: Sequence[bytes], opcode: int = TEXT) -> list[bytes]:
    """Return a message whose fragments are these parts."""
    return [
        encode(CONTINUATION if number else opcode, part, fin=number == len(parts) - 1)
        for number, part in enumerate(parts)
    ]


@pytest.mark.clause("WS-16", OBSERVED)
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize(
    "parts",
    [
        [MESSAGE[:7], MESSAGE[7:]],
        [*pieces(message(size=80))],
        [b"", MESSAGE[:3], b"", MESSAGE[3:], b""],
    ],
    ids=["two", "many", "empty"],
)
async def test_a_fragmented_message_is_accepted(
    room: WebRoom, parts: list[bytes], opcode: int
) -> None:
    """A client sends two messages in fragments, and one that is whole. Pings after each message are
    answered."""
    websocket = await room.open()
    for frames in (fragments(parts, opcode), fragments(parts, opcode), [encode(opcode, MESSAGE)]):
        await websocket.send(*frames)
        await accepts(websocket, "after a message in fragments")


@pytest.mark.clause("WS-17", OBSERVED)
@pytest.mark.parametrize("before", ["", "whole", "fragments"])
@pytest.mark.parametrize("fin", [True, False], ids=["last", "first"])
async def test_a_continuation_of_no_message_fails(room: WebRoom, before: str, fin: bool) -> None:
    """A client sends a continuation frame as its first frame, after a whole message, or after the
    last fragment of a message. The connection fails."""
    websocket = await room.open()
    if before:
        parts = [MESSAGE] if before == "whole" else [MESSAGE[:4], MESSAGE[4:]]
        await websocket.send(*fragments(parts))
    await websocket.send(encode(CONTINUATION, MESSAGE, fin=fin))
    await fails(room, websocket, "after a continuation frame that belongs to no message")


@pytest.mark.clause("WS-18", OBSERVED)
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("fin", [True, False], ids=["whole", "first"])
async def test_a_message_in_a_message_fails(room: WebRoom, opcode: int, fin: bool) -> None:
    """A client sends the first fragment of a message, and then another message, or its first
    fragment. The connection fails."""
    websocket = await room.open()
    await websocket.send(BEGINNING, encode(opcode, MESSAGE, fin=fin))
    await fails(room, websocket, "after a message inside a message")


# --- text ----------------------------------------------------------------------------------------

VALID_TEXTS = {
    "each-length": "\x7f\x80\u07ff\u0800\ud7ff\ue000\uffff\U00010000\U0010ffff",
    "nul": "\0",
    "noncharacters": "\ufdd0\ufdef\ufffe\uffff\U0001fffe\U0001ffff\U0010fffe",
    "byte-order-mark": "\ufeff",
    "combining": "e\u0301\u200d\u202e",
}


@pytest.mark.clause("WS-19", OBSERVED)
@pytest.mark.parametrize("name", VALID_TEXTS)
async def test_any_character_is_accepted(room: WebRoom, name: str) -> None:
    """A client sends text with unusual characters. A ping after the message is answered."""
    websocket = await room.open()
    await websocket.send(encode(TEXT, message(VALID_TEXTS[name].encode())))
    await accepts(websocket, "after valid UTF-8")


@pytest.mark.clause("WS-19", OBSERVED)
async def test_text_is_cut_inside_characters(room: WebRoom) -> None:
    """A client sends text with a fragment for each byte. A ping after the message is answered."""
    websocket = await room.open()
    await websocket.send(*fragments([*pieces(message("é€\U0001f600".encode()))]))
    await accepts(websocket, "after characters that are cut into fragments")


INVALID_TEXTS = {
    "continuation-byte": b"\x80",
    "no-continuation": b"\xc3(",
    "ff": b"\xff",
    "fe": b"\xfe",
    "overlong-2": b"\xc0\xaf",
    "overlong-3": b"\xe0\x80\xaf",
    "overlong-4": b"\xf0\x80\x80\xaf",
    "overlong-nul": b"\xc0\x80",
    "surrogate": b"\xed\xa0\x80",
    "surrogate-pair": b"\xed\xa0\xbd\xed\xb8\x80",
    "too-high": b"\xf4\x90\x80\x80",
    "five-bytes": b"\xf8\x88\x80\x80\x80",
    "cut-in-the-middle": b"\xe2\x82 ",
}


@pytest.mark.clause("WS-20", OBSERVED)
@pytest.mark.parametrize("name", INVALID_TEXTS)
async def test_text_that_is_not_utf_8_fails(room: WebRoom, name: str) -> None:
    """A client sends text with invalid bytes. The connection fails."""
    websocket = await room.open()
    await websocket.send(encode(TEXT, message(INVALID_TEXTS[name])))
    await fails(room, websocket, "after text that is not UTF-8")


@pytest.mark.clause("WS-20", OBSERVED)
@pytest.mark.parametrize("way", ["whole", "fragments"])
async def test_text_that_ends_inside_a_character_fails(room: WebRoom, way: str) -> None:
    """A client sends text that ends inside a character, whole or in fragments. The connection
    fails."""
    websocket = await room.open()
    text = MESSAGE + "€".encode()[:-1]
    parts = [text] if way == "whole" else [text[:-1], text[-1:]]
    await websocket.send(*fragments(parts))
    await fails(room, websocket, "after text that ends inside a character")


@pytest.mark.clause("WS-21", OBSERVED)
async def test_an_invalid_fragment_fails_at_once(room: WebRoom) -> None:
    """A client sends the first fragment of a message, which is not UTF-8. The connection fails
    before the message ends."""
    websocket = await room.open()
    await websocket.send(encode(TEXT, message(b"\xff"), fin=False))
    await fails(room, websocket, "after a first fragment that is not UTF-8")


# --- the end -------------------------------------------------------------------------------------


@pytest.mark.clause("WS-22", OBSERVED)
@pytest.mark.parametrize(
    "payload",
    [b"", close_payload(1000), close_payload(1001, b"bye")],
    ids=["no-code", "code", "reason"],
)
@pytest.mark.parametrize("place", ["first", "after-a-message", "in-a-message"])
async def test_a_close_frame_is_answered(room: WebRoom, place: str, payload: bytes) -> None:
    """A client sends a close frame as its first frame, after a message, or inside a message. The
    server answers with a close frame. Inside a message, the answer may have the code of a
    failure."""
    websocket = await room.open()
    before = {"first": [], "after-a-message": [encode(TEXT, MESSAGE)], "in-a-message": [BEGINNING]}
    await websocket.send(*before[place], encode(CLOSE, payload))
    code = await websocket.close_code()
    expect(code not in (None, NO_FRAME), "the server sent no close frame")
    expect(place == "in-a-message" or code not in FAILURES, f"after a close frame, {ended(code)}")


@pytest.mark.clause("WS-23", OBSERVED)
@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_the_answer_has_the_same_code(room: WebRoom, code: int) -> None:
    """A client sends a close frame. If the server answers with a close frame, the answer
    has the same code."""
    websocket = await room.open()
    await websocket.send(encode(CLOSE, close_payload(code)))
    found = await websocket.close_code()
    applies(found not in (None, NO_FRAME), "the server does not answer a close frame (WS-22)")
    applies(found not in FAILURES, "the server refuses the code (WS-26)")
    expect(found == code, f"the code of the answer is {found}, not {code}")


@pytest.mark.clause("WS-24", OBSERVED)
@pytest.mark.parametrize("name", ["ping", "close", *VIOLATIONS])
async def test_nothing_follows_the_close_frame(room: WebRoom, name: str) -> None:
    """A client sends a close frame, and in the same piece another frame: a ping, another close
    frame, or one that breaks the protocol. No frame follows the server's close frame, and the code
    of this close frame is not that of a failure."""
    websocket = await room.open()
    after = {"ping": encode(PING, b"late"), "close": encode(CLOSE, close_payload(1001))}
    await websocket.send(encode(CLOSE, close_payload(1000)), (after | VIOLATIONS)[name])
    frames = await websocket.rest()
    closes = [number for number, frame in enumerate(frames) if frame.opcode == CLOSE]
    if closes:
        expect(closes[0] == len(frames) - 1, "the server sent a frame after its close frame")
        code = close_code(frames[-1].payload)
        expect(code not in FAILURES, f"after a valid close frame, {ended(code)}")


@pytest.mark.clause("WS-25", OBSERVED)
@pytest.mark.parametrize("name", ["", *VIOLATIONS])
async def test_the_server_ends_the_tcp_connection(room: WebRoom, name: str) -> None:
    """A client sends a close frame, or a frame that breaks the protocol, and then nothing more. The
    server ends the TCP connection."""
    websocket = await room.open()
    await websocket.send(VIOLATIONS[name] if name else encode(CLOSE, close_payload(1000)))
    code = await websocket.close_code(LATE * room.window)
    applies(code is not None, "the server does not close the WebSocket")
    await websocket.rest()
    expect(websocket.client.ended, "the server did not end the TCP connection")


VALID_CODES = [1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 3000, 3999, 4000, 4999]


@pytest.mark.clause("WS-26", OBSERVED)
@pytest.mark.parametrize("code", VALID_CODES)
@pytest.mark.parametrize("size", [0, LONGEST_REASON])
async def test_a_valid_close_frame_is_no_error(room: WebRoom, size: int, code: int) -> None:
    """A client sends a close frame with this code, without a reason, or with the longest
    one. The answer has this code, or another code that is not that of a failure."""
    websocket = await room.open()
    reason = "€".encode() * (size // 3)
    await websocket.send(encode(CLOSE, close_payload(code, reason)))
    found = await websocket.close_code()
    expect(found is not None, f"a close frame with the code {code} was not answered")
    expect(found == code or found not in FAILURES, f"after the code {code}, {ended(found)}")


INVALID_CODES = [0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535]


@pytest.mark.clause("WS-27", OBSERVED)
@pytest.mark.parametrize("code", INVALID_CODES)
async def test_an_invalid_code_fails(room: WebRoom, code: int) -> None:
    """A client sends a close frame with an invalid code. The connection fails: the server
    answers with the code of a failure, or ends the connection without a close frame."""
    await _expect_failure(room, close_payload(code), f"after a close frame with the code {code}")


@pytest.mark.clause("WS-27", OBSERVED)
async def test_a_close_frame_of_one_byte_fails(room: WebRoom) -> None:
    """A client sends a close frame with only one byte. The connection fails: the server
    answers with the code of a failure, or ends the connection without a close frame."""
    await _expect_failure(room, b"\x03", "after a close frame with one byte")


@pytest.mark.clause("WS-28", OBSERVED)
@pytest.mark.parametrize(
    "reason", [b"\xff", b"bye \xed\xa0\x80", b"\xe2\x82"], ids=["ff", "surrogate", "cut"]
)
async def test_a_reason_that_is_not_utf_8_fails(room: WebRoom, reason: bytes) -> None:
    """A client sends a close frame whose reason is not UTF-8. The connection fails: the
    server answers with the code of a failure, or ends the connection without a close frame."""
    when = "after a close frame whose reason is not UTF-8"
    await _expect_failure(room, close_payload(1000, reason), when)


async def _expect_failure(room: WebRoom, payload: bytes, when: str) -> None:
    websocket = await room.open()
    await websocket.send(encode(CLOSE, payload))
    code = await websocket.close_code()
    expect(code is not None, f"{when}: the server did not close the connection")
    expect(code in FAILURES or code == NO_FRAME, f"{when}, {ended(code)}, as after a valid one")


@pytest.mark.clause("WS-29", OBSERVED)
@pytest.mark.parametrize("name", VIOLATIONS)
async def test_a_failure_has_the_right_code(room: WebRoom, name: str) -> None:
    """A client breaks the protocol. If the connection fails, a close frame with the right code
    arrives."""
    websocket = await room.open()
    await websocket.send(VIOLATIONS[name])
    if name not in ("close-of-one-byte", "invalid-close-code", "invalid-reason"):
        payload = room.token()
        await websocket.send(encode(PING, payload))
    code = await websocket.close_code(LATE * room.window)
    applies(code is not None, f"{name}: the connection does not fail")
    close = name.startswith(("close", "invalid"))
    applies(not close or code in FAILURES or code == NO_FRAME, f"{name}: no failure (WS-27, WS-28)")
    wanted = CODES.get(name, 1002)
    expect(code == wanted, f"{name}: {ended(code)}, not {wanted}")


# --- limits --------------------------------------------------------------------------------------


@pytest.mark.clause("WS-30", OBSERVED)
@pytest.mark.parametrize("way", ["whole", "fragments", "many-fragments"])
async def test_a_large_message_is_accepted_or_fails(room: WebRoom, way: str) -> None:
    """A client sends a message of 1 MiB, whole, in 16 fragments, or in 4,096 fragments. A ping
    after the message is answered, or the connection fails."""
    websocket = await room.open()
    text = message(size=LARGE)
    step = {"whole": LARGE, "fragments": LARGE // 16, "many-fragments": LARGE // 4096}[way]
    await websocket.send(*fragments([text[at : at + step] for at in range(0, LARGE, step)]))
    await websocket.probe()  # raises Violation if there is neither a pong nor the end


@pytest.mark.clause("WS-30", OBSERVED)
@pytest.mark.parametrize("opcode", [TEXT, BINARY], ids=["text", "binary"])
@pytest.mark.parametrize("size", [TOO_LARGE, (1 << 64) - 1], ids=["2**62", "2**64-1"])
async def test_a_message_that_cannot_be_stored_fails(room: WebRoom, size: int, opcode: int) -> None:
    """A client sends the header of a frame with 2**62 bytes or more, and a part of the payload. The
    connection fails."""
    websocket = await room.open()
    await websocket.send(encode_header(opcode, size), bytes(4 * LONGEST_HEADER))
    code = await websocket.close_code(LATE * room.window)
    expect(code is not None, f"the server waits for a frame of {size:,} bytes")


# --- other connections ---------------------------------------------------------------------------


@pytest.mark.clause("WS-31", OBSERVED)
@pytest.mark.parametrize("name", VIOLATIONS)
async def test_a_failure_does_not_disturb_others(room: WebRoom, name: str) -> None:
    """A client breaks the protocol, and then resets its connection. Another client's pings are
    answered before and after the reset, and a third client can connect."""
    bystander, culprit = await room.open(), await room.open()
    await culprit.send(VIOLATIONS[name])
    await accepts(bystander, "after another client has broken the protocol")
    culprit.client.reset()
    await accepts(bystander, "after another connection was reset")
    await accepts(await room.open(), "after another connection was reset")


@pytest.mark.clause("WS-31", OBSERVED)
@pytest.mark.parametrize("way", ["close", "reset", "stay"])
@pytest.mark.parametrize("place", ["request", "header", "payload", "message"])
async def test_unfinished_input_disturbs_nobody(room: WebRoom, place: str, way: str) -> None:
    """A client sends a part of its handshake, of a header, of a payload or of a message. Then it
    closes or resets its connection, or sends nothing more. Another client's pings are answered, and
    a third client can connect."""
    bystander, culprit = await room.open(), await room.dial()
    if place == "request":
        await culprit.send(culprit.request()[:-2])
    else:
        await culprit.open()
        frame = encode(TEXT, message(size=200))
        part: dict[str, bytes] = {"header": frame[:3], "payload": frame[:99], "message": BEGINNING}
        await culprit.send(part[place])
    await room.quiet()
    leave: dict[str, Callable[[], None]] = {
        "close": culprit.client.close,
        "reset": culprit.client.reset,
        "stay": lambda: None,
    }
    leave[way]()
    await accepts(bystander, "while another client has sent only a part")
    await accepts(await room.open(), "while another client has sent only a part")
