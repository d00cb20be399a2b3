"""Recognise other protocols by the first bytes of a connection.

A web page can make its reader's browser connect to any port. The browser then sends text that the
page chooses: in an HTTP request, or in a user name of STUN (WebRTC). The first bytes of the
connection, which come before any such text, identify the protocol.

    HTTP   METHOD SP target SP HTTP/VERSION, as the first line; or a method and a path that
           together are longer than --max-line
    TLS    a handshake record that begins with a ClientHello
    STUN   a request with the magic cookie (RFC 8489), optionally after its size (RFC 4571)
"""

import re

from chatroom.protocol.leave_reason import LeaveReason

LF = b"\n"

_METHOD = rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,20}"  # a token; registered methods have up to 16 bytes
_REQUEST = re.compile(_METHOD + rb" \S+ HTTP/\d(?:\.\d)?\r?")
_BEGUN_REQUEST = re.compile(_METHOD + rb"(?: \S*(?: [HTP/.\d]*\r?)?)?")
_LONG_REQUEST = re.compile(rb"[A-Z]{1,20} /\S*(?: [HTP/.\d]*\r?)?")
_CLIENT_HELLO = re.compile(rb"\x16\x03[\0-\x04]..\x01", re.DOTALL)
_STUN = re.compile(rb"(?:..)?\0[\x01\x03]..\x21\x12\xa4\x42", re.DOTALL)

_SHORT = 10
"""Number of bytes that are enough to recognise TLS and STUN."""


def other_protocol(opening: bytes, limit: int) -> LeaveReason | None:
    """Return the reason to close a connection with this opening; None if it is text.

    `limit`: maximum size of a line in bytes. The result None is final, unless `is_undecided`
    returns True.
    """
    line, end, _ = opening.partition(LF)
    if _REQUEST.fullmatch(line) if end else len(line) > limit and _LONG_REQUEST.fullmatch(line):
        return LeaveReason.HTTP
    if _CLIENT_HELLO.match(opening):
        return LeaveReason.TLS
    return LeaveReason.STUN if _STUN.match(opening) else None


def is_undecided(opening: bytes, limit: int) -> bool:
    """Return whether more bytes may complete the opening of another protocol.

    Call this only if `other_protocol` returns None.
    """
    if len(opening) < _SHORT:
        return True
    return LF not in opening and len(opening) <= limit and bool(_BEGUN_REQUEST.fullmatch(opening))
