"""Tests of how other protocols are recognised by the first bytes of a connection."""

import pytest
from hypothesis import example, given
from hypothesis.strategies import binary, integers, text

from chatroom.protocol.leave_reason import LeaveReason
from chatroom.protocol.opening import is_undecided, other_protocol

LIMIT = 100

HTTP, TLS, STUN = LeaveReason.HTTP, LeaveReason.TLS, LeaveReason.STUN

POST = b"POST / HTTP/1.1\r\nHost: 127.0.0.1:4001\r\n\r\nspoken by a web page\n"
HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\x0a" * 500
ALLOCATE = b"\0\x03\0\x08\x21\x12\xa4\x42" + b"x" * 12
BINDING = b"\0\x54\0\x01\0\x40\x21\x12\xa4\x42" + b"x" * 12


@pytest.mark.parametrize(
    ("opening", "reason"),
    [
        pytest.param(POST, HTTP, id="a web page"),
        pytest.param(b"GET /a?b=%20c#d HTTP/1.0\n", HTTP, id="HTTP/1.0, and only LF"),
        pytest.param(b"CONNECT example.org:443 HTTP/1.1\r\n", HTTP, id="a proxy's client"),
        pytest.param(b"OPTIONS * HTTP/1.1\r\n", HTTP, id="OPTIONS"),
        pytest.param(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", HTTP, id="HTTP/2"),
        pytest.param(b"patch /\xc3\xa9 HTTP/1.1\n", HTTP, id="a page's method; not ASCII"),
        pytest.param(b"GET /" + b"a" * LIMIT + b" HTTP/1.1\n", HTTP, id="longer than a line"),
        pytest.param(b"GET /" + b"a" * LIMIT, HTTP, id="longer, and no end yet"),
        pytest.param(HELLO, TLS, id="TLS"),
        pytest.param(b"\x16\x03\x01\x0a\x0a\x01", TLS, id="TLS, with the size of LF"),
        pytest.param(ALLOCATE, STUN, id="TURN"),
        pytest.param(BINDING, STUN, id="ICE over TCP"),
        pytest.param(b"GET off my lawn\n", None, id="text that begins like a request"),
        pytest.param(b"GET / HTTP\n", None, id="no version"),
        pytest.param(b"GET /\n", None, id="HTTP/0.9 is text"),
        pytest.param(b"look: GET / HTTP/1.1\n", None, id="a request line is quoted"),
        pytest.param(b"GET / HTTP/1.1 is a request line\n", None, id="more follows"),
        pytest.param(b"hello\nGET / HTTP/1.1\n", None, id="not the first line"),
        pytest.param(b"a" * 300, None, id="a long word"),
        pytest.param(b"see https://example.org/" + b"a" * 300, None, id="a long address"),
        pytest.param(b"\x16\n", None, id="Ctrl-V"),
        pytest.param(b"", None, id="nothing"),
    ],
)
def test_an_opening_is_text_or_another_protocol(opening: bytes, reason: LeaveReason | None) -> None:
    assert other_protocol(opening, LIMIT) == reason


@pytest.mark.parametrize(
    "opening",
    [POST, HELLO[:6], ALLOCATE, BINDING, b"GET /" + b"a" * LIMIT + b" HTTP/1.1\n"],
)
def test_an_opening_may_arrive_byte_by_byte(opening: bytes) -> None:
    size = 1
    while other_protocol(opening[:size], LIMIT) is None:
        assert is_undecided(opening[:size], LIMIT), opening[:size]
        size += 1
    assert b"spoken" not in opening[:size]


@given(binary() | text(alphabet="GET /HTP1.\r\né").map(str.encode), integers(0, 30))
@example(b"GET / HTTP/1.1\r\n", 15)
@example(b"GET / HTTP/1.1\n", 14)
def test_more_bytes_do_not_change_a_decision(stream: bytes, size: int) -> None:
    """If an opening counts as text, more bytes can't make it count as another protocol."""
    if other_protocol(stream[:size], LIMIT) is None and not is_undecided(stream[:size], LIMIT):
        assert other_protocol(stream, LIMIT) is None


@given(text(alphabet="GET /HTP1.xyz"), integers(1, 200))
def test_a_line_without_a_version_at_its_end_is_text(line: str, size: int) -> None:
    opening = f"{line}.\n".encode()
    assert other_protocol(opening, 1000) is None
    assert other_protocol(opening[:size], 1000) is None
