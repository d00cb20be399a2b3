"""The search for the sockets that listen at a port."""

import os
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.target import listeners
from harness.target.listeners import (
    TcpSocket,
    listening,
    overflowed,
    sockets_of,
    tcp_sockets,
    unaccepted,
)


@pytest.fixture(params=["netlink", "the tables"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the search use only netlink, or only the tables in /proc."""
    if request.param == "the tables":
        monkeypatch.delattr(socket, "AF_NETLINK")
    else:
        monkeypatch.setattr(listeners, "_TABLES", ())


@pytest.fixture(params=["127.0.0.1", "::1"])
def server(request: pytest.FixtureRequest) -> Iterator[socket.socket]:
    family = socket.AF_INET6 if ":" in request.param else socket.AF_INET
    with socket.create_server((request.param, 0), family=family) as server:
        yield server


@pytest.mark.usefixtures("way")
def test_a_socket_that_listens_is_found_with_its_process(server: socket.socket) -> None:
    found = listening(server.getsockname()[1])
    assert found == {os.fstat(server.fileno()).st_ino}
    assert found <= sockets_of(os.getpid())
    assert not found & sockets_of(os.getppid())


@pytest.mark.usefixtures("way")
def test_a_socket_that_does_not_listen_is_not_found(server: socket.socket) -> None:
    with (
        socket.create_connection(server.getsockname()[:2]) as client,
        socket.socket() as bound,
    ):
        bound.bind(("127.0.0.1", 0))
        for other in (client, bound):
            assert listening(other.getsockname()[1]) == set()
        assert listening(server.getsockname()[1]) == {os.fstat(server.fileno()).st_ino}


@pytest.mark.usefixtures("way")
def test_sockets_that_listen_or_are_connected_are_found_with_both_ports(
    server: socket.socket,
) -> None:
    port = server.getsockname()[1]
    with (
        socket.create_connection(server.getsockname()[:2]) as client,
        server.accept()[0] as accepted,
    ):
        own = client.getsockname()[1]
        table = tcp_sockets()
        assert table is not None
        found = [table[os.fstat(each.fileno()).st_ino] for each in (server, accepted, client)]
        assert [each[1:] for each in found] == [(port, 0), (port, own), (own, port)]
        assert found[0] == TcpSocket(os.fstat(server.fileno()).st_ino, port, 0)
        client.shutdown(socket.SHUT_WR)
        assert os.fstat(accepted.fileno()).st_ino in (tcp_sockets() or {})


@pytest.mark.usefixtures("way")
def test_connections_that_the_server_has_not_accepted_are_counted(server: socket.socket) -> None:
    address = server.getsockname()[:2]
    with socket.create_connection(address), socket.create_connection(address):
        assert unaccepted(address[1]) == 2
        with server.accept()[0]:
            assert unaccepted(address[1]) == 1
        assert unaccepted(address[1]) == 1  # the server has closed the connection


def test_listening_returns_none_if_the_system_has_no_tables(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.delattr(socket, "AF_NETLINK")
    monkeypatch.setattr(listeners, "_TABLES", (tmp_path / "tcp",))
    assert listening(1) is None
    assert unaccepted(1) == 0


def test_a_process_that_has_ended_has_no_sockets() -> None:
    assert sockets_of(2**30) == set()


@pytest.mark.usefixtures("way")
def test_a_connection_that_waits_or_is_accepted_is_known_to_the_server(
    server: socket.socket,
) -> None:
    address = server.getsockname()[:2]
    with socket.create_connection(address) as first, socket.create_connection(address) as second:
        ports = [client.getsockname()[1] for client in (first, second)]
        assert overflowed(address[1], ports) == 0
        with server.accept()[0]:
            assert overflowed(address[1], ports) == 0


def test_a_connection_that_did_not_fit_into_the_queue_is_known_only_to_the_client(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The client is connected (01), but for the server, the handshake is not complete (03)."""
    rows = [
        (":0FA0", ":0000", "0A", 7),
        (":9001", ":0FA0", "01", 8),
        (":0FA0", ":9001", "01", 9),
        (":9002", ":0FA0", "01", 10),
        (":0FA0", ":9002", "03", 0),
    ]
    (tmp_path / "tcp").write_text(
        "".join(
            f" 0: 0100007F{port} 0100007F{peer} {state} 0:0 00:0 0 0 0 {inode} 1\n"
            for port, peer, state, inode in rows
        )
    )
    monkeypatch.delattr(socket, "AF_NETLINK")
    monkeypatch.setattr(listeners, "_TABLES", (tmp_path / "tcp",))
    assert unaccepted(0x0FA0) == 0
    assert overflowed(0x0FA0, [0x9001, 0x9002]) == 1
    assert overflowed(0x0FA0, [0x9001]) == 0
