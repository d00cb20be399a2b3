"""Frames of the WebSocket protocol (RFC 6455, section 5.2) as bytes. Pure.

`encode` makes frames that break the protocol, too: the arguments are not checked.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

CONTINUATION, TEXT, BINARY, CLOSE, PING, PONG = 0x0, 0x1, 0x2, 0x8, 0x9, 0xA

MASK = b"\x9a\x1f\xc7\x05"
"""Mask of the harness's frames. Its bytes differ, and none is zero. So a server that does not
remove the mask, or removes it wrongly, reads a wrong payload."""

LONGEST_CONTROL = 125
"""Maximum payload of a control frame, and of a frame with a length of 7 bits (bytes)."""
LONGEST_REASON = LONGEST_CONTROL - 2
"""Maximum size of the reason in a close frame (bytes)."""

NO_CODE, NO_FRAME = 1005, 1006
"""Codes that no close frame contains. They stand for a close frame without a code, and for the end
of a connection without a close frame (RFC 6455, section 7.4.1)."""


@dataclass(frozen=True)
class Header:
    """The header of a frame. `rsv`: the three reserved bits, 0 to 7. `mask`: 4 bytes, or empty.
    `length`: bytes of the payload. `size`: bytes of the header."""

    opcode: int
    fin: bool
    rsv: int
    mask: bytes
    length: int
    size: int

    @property
    def is_control(self) -> bool:
        return self.opcode >= CLOSE


def read_header(data: bytes | bytearray) -> Header | None:
    """Return the header at the beginning of the data, or None if it is incomplete."""
    if len(data) < 2:
        return None
    first, second = data[0], data[1]
    length, size = second & 0x7F, 2
    if length > LONGEST_CONTROL:
        wide = 2 if length == 126 else 8
        length, size = int.from_bytes(data[2 : 2 + wide], "big"), 2 + wide
    masked = size + 4 if second & 0x80 else size
    if len(data) < masked:
        return None
    mask = bytes(data[size:masked])
    return Header(first & 0xF, bool(first & 0x80), first >> 4 & 7, mask, length, masked)


def apply_mask(payload: bytes, mask: bytes) -> bytes:
    """Add a mask to a payload, or remove it."""
    if not mask or not payload:
        return payload
    pattern = (mask * (len(payload) // 4 + 1))[: len(payload)]
    return (int.from_bytes(payload, "big") ^ int.from_bytes(pattern, "big")).to_bytes(
        len(payload), "big"
    )


def encode(
    opcode: int, payload: bytes = b"", fin: bool = True, rsv: int = 0, mask: bytes = MASK
) -> bytes:
    """Return a frame. `mask`: 4 bytes, or empty for a frame that is not masked."""
    head = encode_header(opcode, len(payload), fin, rsv, mask)
    return head + apply_mask(payload, mask)


def encode_header(
    opcode: int, length: int, fin: bool = True, rsv: int = 0, mask: bytes = MASK
) -> bytes:
    """Return the header of a frame. See `encode`."""
    first = opcode | rsv << 4 | (0x80 if fin else 0)
    masked = 0x80 if mask else 0
    if length <= LONGEST_CONTROL:
        return bytes([first, masked | length]) + mask
    if length < 1 << 16:
        return struct.pack("!BBH", first, masked | 126, length) + mask
    return struct.pack("!BBQ", first, masked | 127, length) + mask


def close_payload(code: int, reason: bytes = b"") -> bytes:
    """Return the payload of a close frame."""
    return code.to_bytes(2, "big") + reason


def close_code(payload: bytes) -> int:
    """Return the code in the payload of a close frame, or NO_CODE."""
    return int.from_bytes(payload[:2], "big") if len(payload) >= 2 else NO_CODE
