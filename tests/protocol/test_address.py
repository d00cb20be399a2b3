"""Tests of the canonical form of a sender's address."""

import re
from ipaddress import IPv4Address, IPv6Address

import pytest
from hypothesis import given
from hypothesis.strategies import SearchStrategy, integers, ip_addresses, lists

from chatroom.protocol.address import canonical
from chatroom.protocol.prefix import FORM, prefix


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        pytest.param("127.0.0.1", "127.0.0.1", id="IPv4"),
        pytest.param("::ffff:192.0.2.7", "192.0.2.7", id="mapped"),
        pytest.param("::ffff:c000:207", "192.0.2.7", id="mapped, in hexadecimal"),
        pytest.param("::FFFF:192.0.2.7%eth0", "192.0.2.7", id="mapped, with a scope"),
        pytest.param("fe80::1%eth0", "fe80::1", id="scope"),
        pytest.param("fe80::1%3", "fe80::1", id="scope as a number"),
        pytest.param("::1", "::1", id="loopback"),
        pytest.param("::", "::", id="nothing but zeros"),
        # RFC 5952, section 4.
        pytest.param("2001:0db8:0000::0001", "2001:db8::1", id="leading zeros"),
        pytest.param("2001:DB8::A", "2001:db8::a", id="upper case"),
        pytest.param("2001:db8::1:1:1:1:1", "2001:db8:0:1:1:1:1:1", id="one zero stays"),
        pytest.param("2001:0:0:1:0:0:0:1", "2001:0:0:1::1", id="the longest zeros"),
        pytest.param("2001:db8:0:0:1:0:0:1", "2001:db8::1:0:0:1", id="the first zeros"),
    ],
)
def test_prefix_3_an_address_has_one_canonical_form(host: str, expected: str) -> None:
    assert canonical(host) == expected


@pytest.mark.parametrize("host", ["", "%eth0", "localhost", "1.2.3", "::1::", "[::1]", "1.2.3.4:5"])
def test_a_host_that_is_not_numeric_is_an_error(host: str) -> None:
    with pytest.raises(ValueError, match="does not appear to be an IPv4 or IPv6 address"):
        canonical(host)


@given(ip_addresses(v=4))
def test_prefix_3_a_mapped_ipv4_address_equals_the_plain_one(address: IPv4Address) -> None:
    assert canonical(str(address)) == canonical(f"::ffff:{address}") == str(address)


ZEROS_HERE_AND_THERE: SearchStrategy[IPv6Address] = lists(
    integers(0, 0xFFFF).map(lambda word: word if word & 1 else 0), min_size=8, max_size=8
).map(lambda words: IPv6Address(":".join(f"{word:x}" for word in words)))


@given(ip_addresses(v=6) | ZEROS_HERE_AND_THERE)
def test_prefix_3_all_spellings_of_an_ipv6_address_are_equal(address: IPv6Address) -> None:
    short = canonical(str(address))
    assert canonical(address.exploded) == short
    assert canonical(address.exploded.upper() + "%en0") == short
    assert canonical(short) == short
    if address.ipv4_mapped is None:
        assert IPv6Address(short) == address
        assert not re.search(r"[A-Z%]|\b0[0-9a-f]", short)
    else:
        assert IPv4Address(short) == address.ipv4_mapped


@given(ip_addresses(), ip_addresses())
def test_prefix_2_different_addresses_have_different_prefixes(
    one: IPv4Address | IPv6Address, other: IPv4Address | IPv6Address
) -> None:
    ours, theirs = (prefix(FORM, canonical(str(address)), 1, 2) for address in (one, other))
    assert (ours == theirs) == (canonical(str(one)) == canonical(str(other)))


@pytest.mark.parametrize(
    ("address", "expected"), [("127.0.0.1", "<127.0.0.1>"), ("2001:db8::1", "<2001:db8::1>")]
)
def test_prefix_1_a_prefix_is_the_address_in_angle_brackets(address: str, expected: str) -> None:
    assert prefix(FORM, address, 5000, 1) == expected
