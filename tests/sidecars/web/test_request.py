"""The true address of a browser, and its origin."""

import pytest

from chatroom.sidecars.web.request import (
    ForwardedError,
    client,
    host_of,
    is_local,
    is_same_origin,
)
from chatroom.system.networks import parse_network

TRUSTED = [parse_network("10.0.0.0/8"), parse_network("2001:db8:1::/48")]
PROXY = ("10.0.0.1", 4000)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("192.0.2.7", ("192.0.2.7", 0)),
        ("192.0.2.7:4711", ("192.0.2.7", 4711)),
        ("2001:db8::7", ("2001:db8::7", 0)),
        ("[2001:db8::7]", ("2001:db8::7", 0)),
        ("[2001:db8::7]:4711", ("2001:db8::7", 4711)),
        ("::ffff:192.0.2.7", ("192.0.2.7", 0)),
        ("6.6.6.6, 192.0.2.7", ("192.0.2.7", 0)),
        ("6.6.6.6, 192.0.2.7, 10.0.0.2", ("192.0.2.7", 0)),
        ("6.6.6.6, unknown", PROXY),
        ("6.6.6.6, unknown, 10.0.0.2", ("10.0.0.2", 0)),
        ("6.6.6.6,", PROXY),
        ("300.0.2.7", PROXY),
        ("<script>", PROXY),
        ("192.0.2.7:99999", ("192.0.2.7", 65535)),
    ],
)
def test_x_forwarded_for(header: str, found: tuple[str, int]) -> None:
    assert client(PROXY, TRUSTED, [header], []) == found
    assert client(PROXY, TRUSTED, ["6.6.6.6", header], []) == found
    assert client(("192.0.2.1", 4000), TRUSTED, [header], []) == ("192.0.2.1", 4000)


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("for=192.0.2.7", ("192.0.2.7", 0)),
        ('For="[2001:db8::7]:4711"', ("2001:db8::7", 4711)),
        ("for=6.6.6.6, for=192.0.2.7;proto=https;by=10.0.0.1", ("192.0.2.7", 0)),
        ('proto=http; for="192.0.2.7:80" ;host=x, for=10.0.0.2', ("192.0.2.7", 80)),
        ("for=6.6.6.6, for=_hidden", PROXY),
        ("for=6.6.6.6, proto=http", PROXY),
        ('for="', PROXY),
    ],
)
def test_forwarded(header: str, found: tuple[str, int]) -> None:
    assert client(PROXY, TRUSTED, [], [header]) == found
    assert client(("192.0.2.1", 4000), TRUSTED, [], [header]) == ("192.0.2.1", 4000)


def test_no_header_and_both_headers() -> None:
    assert client(PROXY, TRUSTED, ["10.0.0.3, 10.0.0.2"], []) == ("10.0.0.3", 0)
    assert client(PROXY, TRUSTED, [], []) == PROXY
    with pytest.raises(ForwardedError, match="the proxy must remove one"):
        client(PROXY, TRUSTED, ["192.0.2.7"], ["for=192.0.2.7"])


@pytest.mark.parametrize(
    ("origin", "host", "same"),
    [
        ("http://room.example", "room.example", True),
        ("https://room.example", "room.example", True),
        ("https://room.example", "Room.Example:443", True),
        ("http://room.example:8000", "room.example:8000", True),
        ("http://[::1]:8000", "[::1]:8000", True),
        ("http://room.example", "room.example:8000", False),
        ("http://room.example:8000", "room.example", False),
        ("https://room.example:80", "room.example", False),
        ("http://evil.example", "room.example", False),
        ("http://room.example.evil.example", "room.example", False),
        ("ftp://room.example", "room.example", False),
        ("room.example", "room.example", False),
        ("null", "null", False),
        ("", "", False),
    ],
)
def test_same_origin(origin: str, host: str, same: bool) -> None:
    assert is_same_origin(origin, host) is same


@pytest.mark.parametrize(
    ("host", "local"),
    [
        ("192.0.2.7", True),
        ("192.0.2.7:8080", True),
        ("[2001:db8::7]:8080", True),
        ("[::ffff:192.0.2.7]", True),
        ("localhost:8080", True),
        ("mybox", True),
        ("MyBox.local:8080", True),
        ("Room.Example:8080", True),
        ("chat.example", True),
        ("2001-db8.example", True),
        ("evil.example", False),
        ("evil.example:8080", False),
        ("room.example.evil.example", False),
        ("192.0.2.7.evil.example", False),
        ("evil.example:80:80", False),
        ("mybox.local.", False),
        ("local.evil", False),
    ],
)
def test_dns_rebinding_needs_a_host_that_is_not_local(host: str, local: bool) -> None:
    origins = ("http://chat.example", "https://2001-db8.example:8080")
    assert is_local(host, {"", "room.example", *map(host_of, origins)}) is local
