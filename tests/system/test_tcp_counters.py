"""Tests of the kernel's byte counts of a connection. Every process with the connection can read
them."""

import contextlib
import random
import select
import socket
import struct
import sys
from collections.abc import Iterator

import pytest

from chatroom.system import tcp_counters as module
from chatroom.system.tcp_counters import Counts, counts, taken
from tests.integration.waiting import PATIENCE

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="the kernel does not count bytes")

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(name="pair")
def fixture_pair() -> Iterator[Pair]:
    """Yield an accepted connection with small buffers, and its peer."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        peer = socket.socket()
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 2048)
        peer.connect(listener.getsockname())
        ours, _ = listener.accept()
    ours.setblocking(False)
    peer.settimeout(PATIENCE)
    with ours, peer:
        yield ours, peer


def arrives(ours: socket.socket) -> None:
    """Wait until some data has arrived."""
    assert select.select([ours], [], [], PATIENCE)[0]


def test_the_counts_of_a_new_connection_are_zero(pair: Pair) -> None:
    assert counts(pair[0]) == Counts(0, 0)


@pytest.mark.parametrize("seed", range(5))
def test_load_4_the_counts_are_exact_after_any_sends_and_reads(seed: int, pair: Pair) -> None:
    """The counts are exact even if the peer does not read. Another process that has the connection
    reads the same counts."""
    ours, peer = pair
    chance = random.Random(seed)
    sent = read = said = 0
    for _ in range(300):
        match chance.choices(["send", "hear", "say", "read"], [6, 1, 3, 3]):
            case ["send"]:
                with contextlib.suppress(BlockingIOError):
                    sent += ours.send(bytes(chance.randint(1, 3000)))
            case ["hear"]:
                with contextlib.suppress(BlockingIOError):
                    peer.recv(chance.randint(1, 5000), socket.MSG_DONTWAIT)
            case ["say"] if said - read < 1000:
                said += peer.send(bytes(chance.randint(1, 500)))
                arrives(ours)
            case ["read"]:
                with contextlib.suppress(BlockingIOError):
                    read += len(ours.recv(chance.randint(1, 700)))
        with ours.dup() as other:
            assert counts(other) == Counts(sent, read)
        assert taken(ours) == sent
    assert sent > 5000, "more bytes than fit into the peer's buffer"


@pytest.mark.parametrize("said", [b"", b"x", b"last words"])
@pytest.mark.parametrize("heard", [0, 1, 100])
def test_leave_2_the_peer_s_fin_is_not_counted_as_a_byte(
    said: bytes, heard: int, pair: Pair
) -> None:
    ours, peer = pair
    peer.sendall(said)
    peer.shutdown(socket.SHUT_WR)
    arrives(ours)
    wait_for_the_end(ours)
    read = len(ours.recv(heard)) if heard else 0
    assert counts(ours) == Counts(0, read)
    while ours.recv(100):
        pass
    assert counts(ours) == Counts(0, len(said)), "after EOF was read"
    ours.send(b"good bye")
    assert counts(ours) == Counts(8, len(said)), "a half-closed peer may still receive"


def wait_for_the_end(ours: socket.socket) -> None:
    with select.epoll() as epoll:
        epoll.register(ours, select.EPOLLRDHUP)
        assert epoll.poll(PATIENCE)


@pytest.mark.parametrize("first", ["ours", "peer's"])
def test_our_own_fin_is_not_counted_as_a_byte(first: str, pair: Pair) -> None:
    ours, peer = pair
    ours.send(b"hello")
    peer.sendall(b"x" * 20)
    arrives(ours)
    ours.recv(15)
    if first == "ours":
        ours.shutdown(socket.SHUT_WR)
        assert counts(ours) == Counts(5, 15)
    ours.recv(5)
    peer.shutdown(socket.SHUT_WR)
    wait_for_the_end(ours)
    if first != "ours":
        ours.shutdown(socket.SHUT_WR)
    assert counts(ours) == Counts(5, 20)


def test_unread_bytes_of_a_reset_connection_are_not_counted_as_taken(pair: Pair) -> None:
    ours, peer = pair
    ours.send(b"unread")
    peer.sendall(b"hello\n")
    arrives(ours)
    assert ours.recv(3) == b"hel"
    peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    with select.epoll() as epoll:
        epoll.register(ours, 0)
        assert epoll.poll(PATIENCE), "the reset arrives"
    found = counts(ours)
    assert found is not None
    assert found.taken == 6
    assert found.read <= 6


@pytest.mark.parametrize("read", [0, 3, 6])
@pytest.mark.parametrize("how", ["a FIN, read, and then a reset", "a FIN, and a reset", "a reset"])
@pytest.mark.parametrize("told", [False, True])
def test_load_4_a_fin_before_a_reset_is_not_counted_as_a_byte(
    told: bool, how: str, read: int, pair: Pair
) -> None:
    ours, peer = pair
    peer.sendall(b"hello\n")
    arrives(ours)
    assert len(ours.recv(read) if read else b"") == read
    if how == "a reset":
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    peer.close()
    if how != "a reset":
        wait_for_the_end(ours)
        if "read" in how and read == 6:
            assert ours.recv(1) == b""
        ours.send(b"to nobody")
    with select.epoll() as epoll:
        epoll.register(ours, 0)
        assert epoll.poll(PATIENCE), "the reset arrives"
    if told:
        with pytest.raises(ConnectionError):
            ours.send(b"more")
    for _ in range(2):
        found = counts(ours)
        assert found is not None
        assert found.read == read
    assert len(ours.recv(9)) == 6 - read, "counts reads nothing from the socket"


def test_only_tcp_connections_have_counts() -> None:
    for pair in (socket.socketpair(), socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)):
        with pair[0], pair[1]:
            pair[0].send(b"hello")
            assert counts(pair[0]) is None
            assert taken(pair[0]) is None


def test_no_connection_has_counts_where_the_kernel_reports_less(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as older:
        older.setattr(module, "_INFO", struct.Struct("1000x"))
        assert counts(pair[0]) is None
    monkeypatch.delattr(socket, "TCP_INFO")
    assert counts(pair[0]) is None
    assert taken(pair[0]) is None


def test_bytes_that_arrive_during_the_count_do_not_disturb_it(
    pair: Pair, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such bytes count as both received and unread, or as neither."""
    ours, peer = pair
    info, pieces = module.traffic, [b"one", b"more", b"and more"]

    def late(connection: socket.socket) -> module.Traffic | None:
        found = info(connection)
        if pieces:
            peer.sendall(pieces.pop())
            arrives(ours)
        return found

    monkeypatch.setattr(module, "traffic", late)
    assert counts(ours) == Counts(0, 0)
