"""Tests of an entry's origin, which is packed into a fixed number of bytes."""

import pytest
from hypothesis import given
from hypothesis.strategies import integers, ip_addresses

from chatroom.log.origin import ORIGIN_SIZE, ROOM, Origin
from chatroom.protocol.address import canonical
from chatroom.system.networks import UNIX


@given(ip_addresses(), integers(0, 1 << 20))
def test_any_address_is_unpacked_as_it_was_packed(address: object, prefix_size: int) -> None:
    origin = Origin(canonical(str(address)), prefix_size)
    assert len(origin.pack()) == ORIGIN_SIZE
    assert Origin.unpack(origin.pack()) == origin


@pytest.mark.parametrize(
    "address",
    [
        ROOM,
        UNIX,
        "127.0.0.1",
        "::",
        "::1",
        "::7f00:1",
        "2001:db8::1",
        "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff",
        canonical("::ffff:192.0.2.1"),
        canonical("fe80::1%eth0"),
        canonical("fe80::1%25"),
    ],
)
def test_special_addresses_are_not_mistaken_for_others(address: str) -> None:
    assert Origin.unpack(Origin(address, 6).pack()) == (address, 6)


@pytest.mark.parametrize(
    "packed",
    [b"room" + bytes(12) + b"\5\0\0\0" + bytes(4), b"\xff" * 16 + bytes(8), b"\xff" * 24],
)
def test_other_bytes_are_an_error(packed: bytes) -> None:
    assert len(packed) == ORIGIN_SIZE
    with pytest.raises(ValueError, match=r"IP version|can't decode"):
        Origin.unpack(packed)
