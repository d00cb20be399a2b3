"""The main process's part of the web gateway: listeners, connections, and the process."""

import resource
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from chatroom.config.settings import Settings
from chatroom.errors import LimitError, ListenError, WebError
from chatroom.protocol.refusal_reason import RefusalReason
from chatroom.sidecars.web.process import RESERVED
from chatroom.supervisor import web as module
from chatroom.supervisor.web import Addresses, WebProcess, connect
from chatroom.system.endpoint import Endpoint
from tests.supervisor.children import Children

HERE = Endpoint("127.0.0.1", 0)


class Acceptor:
    """A fake Acceptor.admit."""

    def __init__(self) -> None:
        self.admitted: list[tuple[socket.socket, str, int]] = []
        self.refuses: RefusalReason | None = None

    def admit(self, connection: socket.socket, address: str, port: int) -> RefusalReason | None:
        if self.refuses is None:
            self.admitted.append((connection, address, port))
        return self.refuses

    def close(self) -> None:
        for connection, *_ in self.admitted:
            connection.close()


@pytest.fixture(name="children")
def fixture_children(monkeypatch: pytest.MonkeyPatch) -> Iterator[Children]:
    children = Children(monkeypatch)
    yield children
    children.close()


@pytest.fixture(name="acceptor")
def fixture_acceptor() -> Iterator[Acceptor]:
    acceptor = Acceptor()
    yield acceptor
    acceptor.close()


@pytest.fixture(name="web")
def fixture_web(children: Children, acceptor: Acceptor) -> Iterator[WebProcess]:
    web = WebProcess(children.loop, Settings(), Addresses(HERE, None), [], acceptor.admit)
    web.start()
    web.accept(True)
    yield web
    children.last.die(0)
    web.stop()


def ask(children: Children, **record: Any) -> list[dict[str, Any]]:
    """Send a record of the gateway; return the records that it gets."""
    children.last.channel.send(record)
    children.loop.turn()
    return children.last.records()


def test_a_browser_becomes_a_member_with_its_own_address(
    web: WebProcess, children: Children, acceptor: Acceptor
) -> None:
    assert ask(children, open=1, address="192.0.2.7", port=4711) == [{"opened": 1}]
    [(connection, *client)] = acceptor.admitted
    assert client == ["192.0.2.7", 4711]
    [descriptor] = children.last.descriptors
    assert connection.family == socket.AF_INET, "the kernel counts the bytes of TCP only"
    ask(children, taken=1)
    with socket.socket(fileno=descriptor) as browser:
        children.last.descriptors.clear()
        browser.setblocking(True)
        connection.sendall(b"welcome")
        assert browser.recv(100) == b"welcome"
        connection.close()
        assert browser.recv(100) == b""
    assert ask(children, taken=1) == []


def test_a_refused_browser_gets_the_reason(
    web: WebProcess, children: Children, acceptor: Acceptor
) -> None:
    acceptor.refuses = RefusalReason.FULL
    answers = ask(children, open=7, address="192.0.2.7", port=0)
    assert answers == [{"refused": 7, "reason": "The room is full"}]
    assert children.last.descriptors == []


def test_without_descriptors_the_gateway_is_told(
    web: WebProcess, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(module, "connect", exhausted)
    assert ask(children, open=3, address="192.0.2.7", port=0) == [{"failed": 3}]


def test_browsers_wait_while_no_worker_is_ready(
    web: WebProcess, children: Children, acceptor: Acceptor
) -> None:
    web.accept(False)
    assert ask(children, open=1, address="192.0.2.7", port=1) == []
    assert not acceptor.admitted
    web.accept(True)
    assert children.last.records() == [{"opened": 1}]
    web.accept(True)
    assert len(acceptor.admitted) == 1


def test_a_gateway_that_dies_is_replaced_and_its_connections_are_closed(
    web: WebProcess, children: Children, acceptor: Acceptor
) -> None:
    ask(children, ready=True)
    ask(children, open=1, address="192.0.2.7", port=1)
    web.accept(False)
    ask(children, open=2, address="192.0.2.7", port=2)
    children.last.die(-9)
    children.loop.turn()
    children.loop.turn()
    assert len(children.started) == 2
    [(connection, *_)] = acceptor.admitted
    connection.setblocking(True)
    assert connection.recv(1) == b"", "the member leaves"
    web.accept(True)
    assert children.last.records() == [], "the new process has not asked"


def test_a_gateway_without_progress_is_killed(web: WebProcess, children: Children) -> None:
    """One that answers the pings is not."""
    ask(children, ready=True)
    for _ in range(10):
        children.loop.time += 2.5
        children.loop.turn()
        for record in children.last.records():
            assert record == {"ping": True}
            children.last.channel.send({"turn": True})
        children.loop.turn()
    assert children.last.exitcode is None
    for _ in range(5):
        children.loop.time += 2.5
        children.loop.turn()
    assert children.started[0].exitcode == -9


def test_leave_3_line_clients_whose_machines_vanish_are_noticed(
    children: Children, acceptor: Acceptor
) -> None:
    """A silent one would remain a member for ever. Browsers get pings."""

    def keepalive(listener: socket.socket) -> list[int]:
        return [
            listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        ]

    at = Addresses(HERE, HERE)
    web = WebProcess(children.loop, Settings(peer_timeout=60), at, [], acceptor.admit)
    web.start()
    listeners, *_ = children.last.arguments
    assert keepalive(listeners.tls) == [1, 60_000]
    assert keepalive(listeners.web) == [0, 0]
    web.renew(Settings(peer_timeout=20))
    assert keepalive(listeners.tls) == [1, 20_000]
    web.renew(Settings(peer_timeout=0))
    assert keepalive(listeners.tls) == [0, 0]
    children.last.die(0)
    web.stop()


def test_strangers_can_not_become_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program connects to the listener first: it is turned away."""
    strangers = []
    original = socket.create_connection

    def create_connection(address: tuple[str, int], timeout: float) -> socket.socket:
        strangers.append(original(address, timeout))
        return original(address, timeout)

    monkeypatch.setattr(socket, "create_connection", create_connection)
    ours, theirs = connect()
    [stranger] = strangers
    with ours, theirs, stranger:
        assert ours.getpeername() == theirs.getsockname()
        assert stranger.recv(1) == b""


def test_an_address_in_use_closes_all_listeners(children: Children, acceptor: Acceptor) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other:
        used = Endpoint(*other.getsockname())
        with pytest.raises(ListenError, match="Address already in use"):
            WebProcess(children.loop, Settings(), Addresses(HERE, used), [], acceptor.admit)


def test_the_web_without_the_extra_is_an_error(
    children: Children, acceptor: Acceptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    for at, option in ((Addresses(HERE, None), "--web"), (Addresses(None, HERE), "--tls")):
        with pytest.raises(WebError, match=rf"^{option} needs .*'chatroom\[web\]'$"):
            WebProcess(children.loop, Settings(), at, [], acceptor.admit)


def test_too_few_descriptors_for_the_gateway_are_an_error(
    children: Children, acceptor: Acceptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (RESERVED, RESERVED))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    with pytest.raises(LimitError, match=rf"too few descriptors: {RESERVED}, but more than "):
        WebProcess(children.loop, Settings(), Addresses(HERE, None), [], acceptor.admit)
