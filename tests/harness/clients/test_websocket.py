"""The URL of a gateway. The kill matrix of the gateways proves the rest of the module."""

import pytest

from harness.clients.websocket import parse_url


@pytest.mark.parametrize(
    ("url", "address", "path"),
    [
        ("ws://127.0.0.1:8080/room", "127.0.0.1:8080", "/room"),
        ("ws://example.org", "example.org:80", "/"),
        ("ws://[::1]:8080/a?b=c", "[::1]:8080", "/a?b=c"),
        ("ws://{host}:{port}/room", "localhost:80", "/room"),
    ],
)
def test_a_url_has_an_address_and_a_path(url: str, address: str, path: str) -> None:
    assert parse_url(url) == (address, path)


@pytest.mark.parametrize(
    "url",
    [
        *("", "127.0.0.1:80", "wss://a:1/", "http://a:1/", "ws://", "ws://a:x/", "ws://a:99999/"),
        *("ws://a:1/#b", "ws://a:1/b c\n", "ws://[::1/"),
    ],
)
def test_another_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match="is not ws://HOST:PORT/PATH"):
        parse_url(url)
