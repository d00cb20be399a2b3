"""Tests of the addresses at which a room listens: parse and format."""

import pytest
from hypothesis import given
from hypothesis.strategies import integers, ip_addresses

from chatroom.system.endpoint import Endpoint


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("127.0.0.1:5000", Endpoint("127.0.0.1", 5000)),
        ("localhost:0", Endpoint("localhost", 0)),
        ("[::1]:5000", Endpoint("::1", 5000)),
        ("[::]:65535", Endpoint("::", 65535)),
        ("unix:/run/room", Endpoint(path="/run/room")),
        ("unix:a room:1", Endpoint(path="a room:1")),
    ],
)
def test_an_endpoint_is_parsed_and_formatted_as_in_a_url(text: str, found: Endpoint) -> None:
    assert Endpoint.parse(text) == found
    assert str(found) == text


@given(ip_addresses(), integers(0, 65535))
def test_any_formatted_endpoint_is_parsed_back(address: object, port: int) -> None:
    at = Endpoint(str(address), port)
    assert Endpoint.parse(str(at)) == at


@pytest.mark.parametrize(
    ("text", "demand"),
    [
        ("", "HOST:PORT or unix:PATH, not ''"),
        ("5000", "HOST:PORT or unix:PATH, not '5000'"),
        (":5000", "HOST:PORT or unix:PATH, not ':5000'"),
        ("[]:5000", "HOST:PORT or unix:PATH"),
        ("::1:5000", "ADDRESS]:PORT for an IPv6 address, not '::1:5000'"),
        ("localhost:", "a port number from 0 to 65535, not ''"),
        ("localhost:http", "a port number from 0 to 65535, not 'http'"),
        ("[::1]:70000", "a port number from 0 to 65535, not '70000'"),
        ("unix:", "unix:PATH, with a printable path of 1 to 107 bytes"),
        ("unix:a\0b", "unix:PATH, with a printable path of 1 to 107 bytes"),
        ("unix:" + "ü" * 54, "unix:PATH, with a printable path of 1 to 107 bytes"),
        ("unix:/x\udcff", "unix:PATH, with a printable path of 1 to 107 bytes"),
        ("unix:/x\ny", "unix:PATH, with a printable path of 1 to 107 bytes"),
    ],
)
def test_an_invalid_endpoint_is_an_error_with_the_valid_forms(text: str, demand: str) -> None:
    with pytest.raises(ValueError) as raised:  # noqa: PT011
        Endpoint.parse(text)
    assert demand in str(raised.value)
