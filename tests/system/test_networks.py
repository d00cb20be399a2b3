"""Tests of addresses and networks: parse, format, membership."""

import pytest

from chatroom.system.networks import format_network, parse_network, within


@pytest.mark.parametrize(
    ("text", "inside", "outside"),
    [
        ("10.0.0.1", ["10.0.0.1"], ["10.0.0.2", "::1"]),
        ("10.0.0.0/8", ["10.255.255.255", "10.0.0.0"], ["11.0.0.0", "unix"]),
        ("2001:db8::/32", ["2001:db8::1"], ["2001:db9::1", "32.1.13.184"]),
        ("0.0.0.0/0", ["1.2.3.4"], ["::1", "unix"]),
        ("::/0", ["::1"], ["1.2.3.4", "unix"]),
        ("unix", ["unix"], ["1.2.3.4", "::1"]),
    ],
)
def test_a_network_contains_its_addresses_only(
    text: str, inside: list[str], outside: list[str]
) -> None:
    for address in inside:
        assert within(address, [parse_network(text), parse_network("198.51.100.1")])
    for address in outside:
        assert not within(address, [parse_network(text), parse_network("198.51.100.1")])


@pytest.mark.parametrize("text", ["", "x", "10.0.0", "10.0.0.1/8", "10.0.0.0/33", "Unix", "1\n2"])
def test_an_invalid_network_is_an_error_with_the_valid_forms(text: str) -> None:
    with pytest.raises(ValueError, match=r"^an address, a network .*, or unix, not '[^\n]*'$"):
        parse_network(text)


@pytest.mark.parametrize("text", ["::ffff:10.0.0.1", "::ffff:10.0.0.0/104"])
def test_an_ipv4_address_is_no_ipv6_address(text: str) -> None:
    """Members' mapped addresses are formatted as IPv4. So a mapped network would match no
    member."""
    with pytest.raises(ValueError, match="a plain IPv4 address or network"):
        parse_network(text)


@pytest.mark.parametrize("text", ["10.0.0.0/8", "10.1.2.3", "2001:db8::/32", "::1", "unix"])
def test_a_network_is_formatted_as_it_was_written(text: str) -> None:
    assert format_network(parse_network(text)) == text
    assert format_network(parse_network("10.1.2.3/32")) == "10.1.2.3"
