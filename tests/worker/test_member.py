"""Tests of a worker's state of one member."""

import socket
from collections.abc import Iterator

import pytest

from chatroom.log.origin import Origin
from chatroom.worker.member import Member
from tests.system.ends import receive_all
from tests.worker.drivers import FakeConnection, fill, member_on

Pair = tuple[Member, socket.socket]


@pytest.fixture(name="pair")
def fixture_pair() -> Iterator[Pair]:
    """Yield a member, and the peer's end of its TCP connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        theirs = socket.create_connection(listener.getsockname(), timeout=10)
        ours, _ = listener.accept()
    member = Member(1, "192.0.2.1", "<192.0.2.1>", ours, 0, 64)
    yield member, theirs
    member.close()
    theirs.close()


@pytest.mark.parametrize(
    ("spans", "own"),
    [
        pytest.param([(0, 5)], [(0, 5)], id="one"),
        pytest.param([(0, 5), (9, 12)], [(0, 5), (9, 12)], id="two"),
        pytest.param([(0, 5), (5, 9)], [(0, 9)], id="one behind the other is one"),
        pytest.param([(0, 5), (5, 6), (9, 12), (12, 13)], [(0, 6), (9, 13)], id="twice"),
    ],
)
def test_own_spans_are_ordered_and_merged(
    spans: list[tuple[int, int]], own: list[tuple[int, int]]
) -> None:
    member = member_on(FakeConnection())
    for span in spans:
        member.owns(*span)
    assert member.own == own


def test_a_member_has_its_prefix_and_its_connection(pair: Pair) -> None:
    member, theirs = pair
    assert member.prefix == b"<192.0.2.1>"
    assert Origin.unpack(member.origin) == ("192.0.2.1", 11)
    assert member.fileno() == member.socket.fileno()
    assert member.send(b"hello") == 5
    assert theirs.recv(9) == b"hello"
    theirs.sendall(b"hi\n")
    room = bytearray(9)
    assert member.recv_into(room) == 3
    assert member.framer.feed(bytes(room[:3])) == b"hi\n"


def test_cast_6_two_members_at_one_address_are_different() -> None:
    address, prefix = "192.0.2.1", "<192.0.2.1>"
    member, other = (
        Member(id, address, prefix, member_on(FakeConnection()).socket, 0, 64) for id in (1, 2)
    )
    assert len({member: None, other: None}) == 2


def test_leave_4_close_ends_a_connection_that_has_duplicates(pair: Pair) -> None:
    member, theirs = pair
    with member.socket.dup():
        member.send(b"bye")
        member.close()
        assert receive_all(theirs) == b"bye"
    assert member.socket.fileno() == -1


def test_close_after_a_reset_is_not_an_error(pair: Pair) -> None:
    member, theirs = pair
    member.send(b"unread")
    theirs.close()
    with pytest.raises(OSError, match="reset"):
        member.recv_into(bytearray(9))
    member.close()
    assert member.socket.fileno() == -1


def test_load_2_abort_drops_unread_bytes(pair: Pair) -> None:
    member, theirs = pair
    fill(member.socket)
    with member.socket.dup():
        member.close(abort=True)
    with pytest.raises(ConnectionResetError):
        receive_all(theirs)
