"""Tests of connections through a trusted proxy whose PROXY header has not arrived yet."""

import socket
import struct
from collections.abc import Iterator

import pytest

from chatroom.protocol.proxy_header import SIGNATURE
from chatroom.supervisor import pending as module
from chatroom.supervisor.pending import HEADER_WITHIN, LOCAL_DELAY, PendingConnections
from chatroom.system.networks import parse_network
from tests.system.loops import ManualLoop

LINE = b"PROXY TCP4 192.0.2.7 198.51.100.1 5000 8080\r\n"
LOCAL = SIGNATURE + b"\x20\x00\x00\x00"
BINARY = SIGNATURE + b"\x21\x11\x00\x0c" + bytes([192, 0, 2, 7, 198, 51, 100, 1])
BINARY += struct.pack("!HH", 5000, 8080)

Admitted = tuple[socket.socket, str, int, int]


class PendingDriver:
    """Pending connections, and an event loop that the test runs by hand."""

    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.admitted: list[Admitted] = []
        self.pending = PendingConnections(
            [parse_network("127.0.0.0/8"), parse_network("2001:db8::/32")],
            self.loop,
            self._admit,
        )
        self.peers: list[socket.socket] = []

    def _admit(self, *admitted: object) -> None:
        self.admitted.append(admitted)  # type: ignore[arg-type]

    def connect(self, data: bytes = b"") -> socket.socket:
        ours, peer = socket.socketpair()
        ours.setblocking(False)
        peer.settimeout(10)
        self.peers.append(peer)
        peer.sendall(data)
        self.pending.expect(ours, "127.0.0.1", 4444)
        return peer

    def turn(self) -> None:
        self.loop.turn()

    def close(self) -> None:
        self.pending.close()
        for connection, *_ in self.admitted:
            connection.close()
        for peer in self.peers:
            peer.close()
        self.loop.close()


@pytest.fixture(name="driver")
def fixture_driver() -> Iterator[PendingDriver]:
    driver = PendingDriver()
    yield driver
    driver.close()


def is_dropped(peer: socket.socket) -> bool:
    try:
        return peer.recv(9) == b""
    except ConnectionError:  # The connection was closed with unread input.
        return True


@pytest.mark.parametrize(
    ("address", "trusted"),
    [("127.9.9.9", True), ("2001:db8::1", True), ("128.0.0.1", False), ("unix", False)],
)
def test_only_trusted_addresses_may_send_a_header(
    address: str, trusted: bool, driver: PendingDriver
) -> None:
    assert driver.pending.trusts(address) == trusted


@pytest.mark.parametrize("header", [LINE, BINARY])
def test_a_client_behind_a_proxy_is_admitted_with_all_its_input(
    header: bytes, driver: PendingDriver
) -> None:
    driver.connect(header + b"hello\n")
    ((connection, *client),) = driver.admitted
    assert client == ["192.0.2.7", 5000, len(header)]
    assert connection.recv(99) == b"hello\n"
    assert driver.loop.sources == 0


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
def test_a_connection_of_the_proxy_itself_keeps_its_own_address(
    header: bytes, driver: PendingDriver
) -> None:
    """A LOCAL connection is admitted when it sends data, or after LOCAL_DELAY."""
    driver.connect(header + b"hello\n")
    silent = driver.connect(header)
    driver.turn()
    ((_, *client),) = driver.admitted
    assert client == ["127.0.0.1", 4444, len(header)]
    assert driver.loop.step() == pytest.approx(LOCAL_DELAY)
    driver.loop.time += LOCAL_DELAY / 2
    driver.turn()
    assert len(driver.admitted) == 1
    driver.loop.time += LOCAL_DELAY
    assert driver.loop.step() is None
    assert driver.admitted[1][1:] == ("127.0.0.1", 4444, len(header))
    assert silent.fileno() >= 0
    assert driver.loop.sources == 0


@pytest.mark.parametrize("header", [LOCAL, b"PROXY UNKNOWN\r\n"])
def test_a_health_check_of_a_proxy_is_not_a_member(
    header: bytes, driver: PendingDriver, caplog: pytest.LogCaptureFixture
) -> None:
    driver.connect(header).close()
    driver.turn()
    assert driver.admitted == []
    assert driver.loop.sources == 0
    assert driver.loop.step() is None
    assert caplog.text == ""


def test_pending_connections_are_limited_and_the_oldest_is_dropped(
    driver: PendingDriver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(module, "MAX_PENDING", 2)
    first, second, third = (driver.connect() for _ in range(3))
    assert is_dropped(first)
    assert "too many connections wait" in caplog.text
    for peer in (second, third):
        peer.sendall(LINE)
    driver.turn()
    assert len(driver.admitted) == 2


@pytest.mark.parametrize("header", [LINE, BINARY])
def test_a_header_may_arrive_byte_by_byte(header: bytes, driver: PendingDriver) -> None:
    peer = driver.connect()
    for number in range(len(header)):
        assert driver.admitted == []
        peer.sendall(header[number : number + 1])
        driver.turn()
        driver.turn()  # Bytes that were peeked at before do not make the source ready again.
    peer.sendall(b"x")
    ((connection, *client),) = driver.admitted
    assert client == ["192.0.2.7", 5000, len(header)]
    assert connection.recv(9) == b"x"


@pytest.mark.parametrize("data", [b"hello\n", b"PROXY TCP4 a b 1 2\r\n", BINARY[:-1] + b"\n" * 9])
def test_an_invalid_header_is_refused(
    data: bytes, driver: PendingDriver, caplog: pytest.LogCaptureFixture
) -> None:
    if data.startswith(SIGNATURE):
        data = data[:12] + b"\x31" + data[13:]  # This becomes version 3.
    assert is_dropped(driver.connect(data))
    assert driver.admitted == []
    assert "event=proxy-refused address=127.0.0.1 says=" in caplog.text
    assert driver.loop.sources == 0


def test_a_connection_without_a_header_is_dropped_in_time(
    driver: PendingDriver, caplog: pytest.LogCaptureFixture
) -> None:
    first = driver.connect(LINE[:20])
    driver.loop.time += 1
    second = driver.connect()
    assert driver.loop.step() == HEADER_WITHIN - 1
    driver.loop.time += HEADER_WITHIN - 1
    assert driver.loop.step() == 1
    assert is_dropped(first)
    assert f"no header within {HEADER_WITHIN:g} s" in caplog.text
    second.sendall(LINE)
    driver.turn()
    assert len(driver.admitted) == 1
    assert driver.loop.step() is None


@pytest.mark.parametrize("data", [b"", LINE[:9]])
def test_a_connection_closed_before_its_header_is_not_logged(
    data: bytes, driver: PendingDriver, caplog: pytest.LogCaptureFixture
) -> None:
    peer = driver.connect(data)
    peer.close()
    driver.turn()
    assert driver.loop.sources == 0
    assert caplog.text == ""


def test_close_drops_pending_connections(driver: PendingDriver) -> None:
    peers = [driver.connect(), driver.connect(LINE[:5])]
    driver.pending.close()
    assert all(map(is_dropped, peers))
