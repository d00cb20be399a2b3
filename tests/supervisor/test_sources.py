"""Tests of the numbers of sources, which share the room's rate."""

import pytest

from chatroom.supervisor.sources import Sources, source_of


@pytest.mark.parametrize(
    ("address", "source"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("2001:db8:1:2::", "2001:db8:1:2::"),
        ("::1", "::"),
        ("unix", "unix"),
    ],
)
def test_a_source_is_an_ipv4_address_or_an_ipv6_network(address: str, source: str) -> None:
    assert source_of(address) == source


def test_members_at_one_address_share_a_number() -> None:
    sources = Sources(10)
    assert [sources.join("192.0.2.1") for _ in range(3)] == [0, 0, 0]
    assert sources.join("192.0.2.2") == 1
    assert sources.join("2001:db8::1") == sources.join("2001:db8::2") == 2


def test_a_sender_that_reconnects_keeps_its_number() -> None:
    sources = Sources(4)
    sources.join("192.0.2.1")
    sources.join("192.0.2.2")
    sources.leave("192.0.2.1")
    assert sources.join("192.0.2.3") == 2
    assert sources.join("192.0.2.1") == 0


def test_the_source_that_was_idle_longest_is_forgotten_first() -> None:
    sources = Sources(3)
    for number, address in enumerate(("a", "b", "c")):
        assert sources.join(address) == number
    for address in ("b", "a"):
        sources.leave(address)
    assert sources.join("d") == 1, "the source b has been idle the longest"
    assert sources.join("a") == 0
    sources.leave("c")
    assert sources.join("b") == 2
