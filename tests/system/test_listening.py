"""Tests of listening sockets."""

import contextlib
import errno
import re
import socket
import sys
from contextlib import ExitStack, closing
from pathlib import Path
from typing import Any

import pytest

from chatroom.errors import ListenError
from chatroom.system.endpoint import Endpoint
from chatroom.system.listening import endpoint, listen, listen_beside, resolve, set_keepalive

HOSTS = ["127.0.0.1", "::1"]

LIFE = 300
"""Peer timeout (s): the kernel breaks a connection after this time without a packet from the
peer."""


def has_ipv6() -> bool:
    try:
        with socket.create_server(("::1", 0), family=socket.AF_INET6):
            return True
    except OSError:
        return False


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on this system")
EITHER = [pytest.param(host, marks=[needs_ipv6] if ":" in host else []) for host in HOSTS]


@pytest.mark.parametrize("host", EITHER)
def test_join_1_and_4_a_client_connects(host: str) -> None:
    with listen(Endpoint(host), LIFE) as listener:
        where = listener.getsockname()
        assert where[0] == host
        assert where[1] > 0
        listener.setblocking(True)
        with closing(socket.create_connection(where[:2], timeout=10)) as client:
            accepted, peer = listener.accept()
            with accepted:
                assert peer[:2] == client.getsockname()[:2]


@pytest.mark.parametrize("host", EITHER)
def test_the_kernel_spreads_connections_over_listeners_at_one_address(host: str) -> None:
    with (
        listen(Endpoint(host), LIFE) as first,
        listen_beside(first) as second,
        ExitStack() as stack,
    ):
        assert first.getsockname() == second.getsockname()
        where, counts = first.getsockname(), []
        for _ in range(64):
            stack.enter_context(closing(socket.create_connection(where[:2], timeout=10)))
        for listener in (first, second):
            counts.append(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    listener.accept()[0].close()
                    counts[-1] += 1
        assert sum(counts) == 64
        if sys.platform == "linux":
            assert all(counts)


def test_an_address_that_several_listeners_share_is_in_use() -> None:
    with (
        listen(Endpoint("127.0.0.1"), LIFE) as first,
        listen_beside(first),
        pytest.raises(ListenError, match="Address already in use"),
    ):
        listen(endpoint(first), LIFE)


@pytest.mark.parametrize("host", EITHER)
def test_accepting_does_not_block(host: str) -> None:
    with listen(Endpoint(host), LIFE) as listener, pytest.raises(BlockingIOError):
        listener.accept()


def test_accepted_connections_have_nodelay_and_inline_urgent_bytes() -> None:
    with listen(Endpoint("127.0.0.1"), LIFE) as listener:
        listener.setblocking(True)
        with closing(socket.create_connection(listener.getsockname(), timeout=10)) as client:
            accepted, _ = listener.accept()
            with accepted:
                assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
                client.sendall(b"a")
                client.send(b"!", socket.MSG_OOB)
                client.sendall(b"b")
                client.shutdown(socket.SHUT_WR)
                accepted.settimeout(10)
                said = b""
                while data := accepted.recv(9):
                    said += data
                assert said == b"a!b", "CAST-3: an urgent byte is text"


@pytest.mark.parametrize(("life", "idle"), [(300, 150), (2, 1)])
def test_leave_1_accepted_connections_have_keepalive_probes(life: int, idle: int) -> None:
    """The probes are so frequent that the kernel detects a silent peer in time."""
    with listen(Endpoint("127.0.0.1"), life) as listener:
        listener.setblocking(True)
        with closing(socket.create_connection(listener.getsockname(), timeout=10)):
            accepted, _ = listener.accept()

            def option(name: str) -> int:
                return accepted.getsockopt(socket.IPPROTO_TCP, getattr(socket, name))

            with accepted:
                assert accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
                assert option("TCP_KEEPIDLE") == idle
                asked = option("TCP_KEEPINTVL") * option("TCP_KEEPCNT")
                assert option("TCP_KEEPIDLE") + asked <= max(life, 5)
                if hasattr(socket, "TCP_USER_TIMEOUT"):
                    assert option("TCP_USER_TIMEOUT") == life * 1000


def test_a_peer_timeout_of_0_leaves_keepalive_to_the_system() -> None:
    with listen(Endpoint("127.0.0.1"), 0) as listener:
        assert not listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_the_peer_timeout_of_a_listener_can_be_changed() -> None:
    """The change applies to connections that are accepted after it."""

    def options(listener: socket.socket) -> list[int]:
        with closing(socket.create_connection(listener.getsockname(), timeout=10)):
            accepted, _ = listener.accept()
            with accepted:
                return [
                    accepted.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
                    accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
                ]

    with listen(Endpoint("127.0.0.1"), 300) as listener:
        listener.setblocking(True)
        for life, found in ((20, [1, 20_000]), (0, [0, 0]), (30, [1, 30_000])):
            set_keepalive(listener, life)
            assert options(listener) == found


def test_a_unix_socket_has_no_peer_timeout(tmp_path: Path) -> None:
    with listen(Endpoint(path=str(tmp_path / "room")), 300) as listener:
        set_keepalive(listener, 20)
        assert not listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)


def test_join_3_a_room_starts_again_at_once_on_the_same_port() -> None:
    with listen(Endpoint("127.0.0.1"), LIFE) as listener:
        where: tuple[str, int] = listener.getsockname()
        listener.setblocking(True)
        client = socket.create_connection(where, timeout=10)
        accepted, _ = listener.accept()
    accepted.close()  # The side that closes first enters TIME_WAIT.
    with client:
        assert client.recv(1) == b""
        with listen(Endpoint(*where), LIFE) as again:
            assert again.getsockname() == where
    with listen(Endpoint(*where), LIFE) as once_more:
        assert once_more.getsockname() == where


@needs_ipv6
def test_join_4_the_unspecified_address_serves_both_families() -> None:
    with listen(Endpoint("::"), LIFE) as listener:
        port = listener.getsockname()[1]
        listener.setblocking(True)
        for host in HOSTS:
            with closing(socket.create_connection((host, port), timeout=10)) as client:
                accepted, peer = listener.accept()
                with accepted:
                    assert peer[0].removeprefix("::ffff:") == client.getsockname()[0]


def test_ipv6_is_served_alone_where_families_cannot_be_joined(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Stubborn(socket.socket):
        def setsockopt(self, *arguments: Any) -> None:
            if arguments[:2] == (socket.IPPROTO_IPV6, socket.IPV6_V6ONLY):
                raise OSError("not here")
            super().setsockopt(*arguments)

    if not has_ipv6():
        pytest.skip("no IPv6 on this system")
    monkeypatch.setattr(socket, "socket", Stubborn)
    with listen(Endpoint("::1"), LIFE) as listener:
        assert listener.getsockname()[0] == "::1"


# --- names ---------------------------------------------------------------------------------------

V4 = (socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", 0))
V6 = (socket.AF_INET6, socket.SOCK_STREAM, 6, "", ("::1", 0, 0, 0))


@pytest.mark.parametrize(
    ("found", "taken"),
    [
        pytest.param([V4], "127.0.0.1", id="IPv4 alone"),
        pytest.param([V6, V4], "127.0.0.1", id="IPv4 where there is one"),
        pytest.param([V6], "::1", id="IPv6 alone", marks=needs_ipv6),
    ],
)
def test_a_name_s_address_is_the_one_that_nc_tries_first(
    found: list[Any], taken: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []

    def getaddrinfo(*arguments: Any, **options: Any) -> list[Any]:
        asked.append(arguments)
        return found

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    with listen(Endpoint("room.example"), LIFE) as listener:
        assert listener.getsockname()[0] == taken
    assert asked == [("room.example", 0)]


# --- errors --------------------------------------------------------------------------------------


def error(host: str, port: int) -> str:
    with pytest.raises(ListenError) as raised:
        listen(Endpoint(host, port), LIFE)
    assert raised.value.exit_code == 1
    return str(raised.value)


@pytest.mark.parametrize("host", EITHER)
def test_a_port_in_use_is_an_error(host: str) -> None:
    with listen(Endpoint(host), LIFE) as listener:
        port = listener.getsockname()[1]
        assert (
            error(host, port) == f"can't listen on {Endpoint(host, port)}: Address already in use"
        )


def test_an_address_of_another_machine_is_an_error() -> None:
    assert error("192.0.2.1", 8080) == (
        "can't listen on 192.0.2.1:8080: Cannot assign requested address; this machine does not"
        " have this address: 0.0.0.0 and :: stand for all its addresses"
    )


@pytest.mark.parametrize(
    ("first", "second", "by_us"),
    [
        ("127.0.0.1", "127.0.0.1", True),
        ("127.0.0.1", "0.0.0.0", True),
        ("0.0.0.0", "127.0.0.1", True),
        pytest.param("0.0.0.0", "::", True, marks=needs_ipv6),
        pytest.param("::", "127.0.0.1", True, marks=needs_ipv6),
        pytest.param("::", "::1", True, marks=needs_ipv6),
        ("127.0.0.2", "127.0.0.1", False),
        pytest.param("0.0.0.0", "::1", False, marks=needs_ipv6),
    ],
)
def test_an_address_in_use_by_the_room_is_named(first: str, second: str, by_us: bool) -> None:
    """If another program uses the address, the error does not name this room."""
    with ExitStack() as leaving:
        ours = leaving.enter_context(listen(Endpoint(first), LIFE))
        port = ours.getsockname()[1]
        if not by_us:
            leaving.enter_context(listen(Endpoint(second, port), LIFE))
        with pytest.raises(ListenError) as raised:
            listen(Endpoint(second, port), LIFE, [endpoint(ours)])
    both = "; :: includes IPv4" if "::" in (first, second) else ""
    why = f" by this room, at {Endpoint(first, port)}{both}: leave one of the two out"
    assert str(raised.value) == (
        f"can't listen on {Endpoint(second, port)}: Address already in use{why if by_us else ''}"
    )


def test_a_low_port_without_privilege(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: Any) -> None:
        raise PermissionError(errno.EACCES, "Permission denied")

    monkeypatch.setattr(socket, "socket", refuse)
    assert error("127.0.0.1", 80) == (
        "can't listen on 127.0.0.1:80: Permission denied; a port below 1024 needs a privilege: give"
        " another port, or have systemd pass the socket (docs/service.md)"
    )
    assert error("127.0.0.1", 1024).endswith("Permission denied")


def test_a_family_that_the_system_lacks_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    """For example, IPv6 is disabled on this system."""

    def refuse(*arguments: Any) -> None:
        raise OSError(errno.EAFNOSUPPORT, "Address family not supported by protocol")

    monkeypatch.setattr(socket, "socket", refuse)
    assert error("::1", 8080) == (
        "can't listen on [::1]:8080: Address family not supported by protocol"
    )


def test_a_host_that_does_not_resolve_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    def getaddrinfo(*arguments: Any, **options: Any) -> None:
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", getaddrinfo)
    assert error("nowhere", 1) == "host 'nowhere' does not resolve: Name or service not known"


@pytest.mark.parametrize(
    "host",
    ["a..b", "x" * 64, "x" * 64 + ".example", "\udcff", "a\0b"],
    ids=["empty label", "long label", "long label first", "no text", "NUL"],
)
def test_a_host_name_that_cannot_be_looked_up_is_an_error(host: str) -> None:
    message = error(host, 1)
    assert message.startswith(f"host {host!r} does not resolve: ")
    assert message.isprintable()


def test_an_error_leaves_no_socket_behind(monkeypatch: pytest.MonkeyPatch) -> None:
    made: list[socket.socket] = []

    class Remembered(socket.socket):
        def __init__(self, *arguments: Any, **options: Any) -> None:
            super().__init__(*arguments, **options)
            made.append(self)

    monkeypatch.setattr(socket, "socket", Remembered)
    error("192.0.2.1", 8080)
    assert [listener.fileno() for listener in made] == [-1]


def test_join_1_a_crowd_may_arrive_at_once() -> None:
    """No connection is accepted while the crowd connects. The tutorial's queue of 100 is too
    short."""
    with listen(Endpoint("127.0.0.1"), LIFE) as listener, ExitStack() as leaving:
        where = listener.getsockname()
        for _ in range(120):
            leaving.enter_context(socket.create_connection(where, timeout=5))


# --- Unix sockets --------------------------------------------------------------------------------


def test_a_unix_socket_is_reached_by_its_path(tmp_path: Path) -> None:
    at = Endpoint(path=str(tmp_path / "room"))
    with listen(at, LIFE) as listener, socket.socket(socket.AF_UNIX) as client:
        assert endpoint(listener) == at
        client.connect(at.path)
        accepted, _ = listener.accept()
        accepted.close()


def test_the_socket_file_of_a_killed_room_is_replaced(tmp_path: Path) -> None:
    at = Endpoint(path=str(tmp_path / "room"))
    listen(at, LIFE).close()
    with listen(at, LIFE), socket.socket(socket.AF_UNIX) as client:
        client.connect(at.path)
        taken = f"can't listen on {at}: Address already in use"
        with pytest.raises(ListenError, match=re.escape(taken)):
            listen(at, LIFE)


def test_a_file_that_is_not_a_socket_stays(tmp_path: Path) -> None:
    file = tmp_path / "room"
    file.write_text("precious")
    with pytest.raises(ListenError, match="the file is not a socket"):
        listen(Endpoint(path=str(file)), LIFE)
    assert file.read_text() == "precious"


@pytest.mark.parametrize(
    ("host", "address"),
    [("127.0.0.1", "127.0.0.1"), ("::1", "::1"), ("fe80::1%1", "fe80::1%1")],
)
def test_resolve_keeps_a_numeric_address(host: str, address: str) -> None:
    """A link-local address keeps its scope."""
    assert resolve(Endpoint(host, 4000)) == Endpoint(address, 4000)
    assert resolve(resolve(Endpoint(host, 4000))) == Endpoint(address, 4000)
    assert resolve(Endpoint(path="/x")) == Endpoint(path="/x")


def test_a_unix_socket_in_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ListenError, match="No such file or directory"):
        listen(Endpoint(path=str(tmp_path / "none" / "room")), LIFE)
