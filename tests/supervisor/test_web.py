"""The main process's part of the web gateway: listeners, connections, and the process."""

import contextlib
import errno
import os
import resource
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatroom.config.settings import Settings
from chatroom.errors import LimitError, ListenError, WebError
from chatroom.protocol.refusal_reason import RefusalReason
from chatroom.sidecars.web.process import RESERVED
from chatroom.supervisor import web as module
from chatroom.supervisor.web import Addresses, Gateways, connect
from chatroom.system.endpoint import Endpoint
from tests.integration import certificates
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


@pytest.fixture(name="two")
def fixture_two(children: Children, acceptor: Acceptor) -> Iterator[Gateways]:
    """Two gateways."""
    settings = Settings(web_processes=2)
    two = Gateways(children.loop, settings, Addresses(HERE, None), [], acceptor.admit)
    two.start()
    two.accept(True)
    yield two
    for process in children.started:
        process.die(0)
    two.stop()


@pytest.fixture(name="web")
def fixture_web(children: Children, acceptor: Acceptor) -> Iterator[Gateways]:
    web = Gateways(children.loop, Settings(), Addresses(HERE, None), [], acceptor.admit)
    web.start()
    web.accept(True)
    yield web
    children.last.die(0)
    web.stop()


def ask(children: Children, **record: Any) -> list[dict[str, Any]]:
    """Send a record as the gateway; return the records that the gateway receives."""
    children.last.channel.send(record)
    children.loop.turn()
    return children.last.records()


def test_a_browser_becomes_a_member_with_its_own_address(
    web: Gateways, children: Children, acceptor: Acceptor
) -> None:
    assert ask(children, open=1, address="192.0.2.7", port=4711) == [{"opened": 1}]
    [(connection, *client)] = acceptor.admitted
    assert client == ["192.0.2.7", 4711]
    [descriptor] = children.last.descriptors
    assert connection.family == socket.AF_INET, "the kernel counts the bytes of TCP only"
    with socket.socket(fileno=descriptor) as browser:
        children.last.descriptors.clear()
        browser.setblocking(True)
        connection.sendall(b"welcome")
        assert browser.recv(100) == b"welcome"
        connection.close()
        assert browser.recv(100) == b""


def test_a_refused_browser_gets_the_reason(
    web: Gateways, children: Children, acceptor: Acceptor
) -> None:
    acceptor.refuses = RefusalReason.FULL
    answers = ask(children, open=7, address="192.0.2.7", port=0)
    assert answers == [{"refused": 7, "reason": "The room is full"}]
    assert children.last.descriptors == []


def test_without_descriptors_the_gateway_is_told(
    web: Gateways, children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    def exhausted() -> None:
        raise OSError(24, "Too many open files")

    monkeypatch.setattr(module, "connect", exhausted)
    assert ask(children, open=3, address="192.0.2.7", port=0) == [{"failed": 3}]


def test_browsers_wait_while_no_worker_is_ready(
    web: Gateways, children: Children, acceptor: Acceptor
) -> None:
    web.accept(False)
    assert ask(children, open=1, address="192.0.2.7", port=1) == []
    assert not acceptor.admitted
    web.accept(True)
    assert children.last.records() == [{"opened": 1}]
    web.accept(True)
    assert len(acceptor.admitted) == 1


def test_a_gateway_that_dies_is_replaced_and_its_connections_are_closed(
    web: Gateways, children: Children, acceptor: Acceptor
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


def test_a_gateway_without_progress_is_killed(web: Gateways, children: Children) -> None:
    """A gateway that answers the pings is not killed."""
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
    """Otherwise, a silent client would remain a member forever. Browsers get pings instead."""

    def keepalive(listener: socket.socket) -> list[int]:
        return [
            listener.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE),
            listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT),
        ]

    at = Addresses(HERE, HERE)
    web = Gateways(children.loop, Settings(peer_timeout=60), at, [], acceptor.admit)
    web.start()
    _, listeners, *_ = children.last.arguments
    assert keepalive(listeners.tls) == [1, 60_000]
    assert keepalive(listeners.web) == [0, 0]
    web.renew(Settings(peer_timeout=20))
    assert keepalive(listeners.tls) == [1, 20_000]
    web.renew(Settings(peer_timeout=0))
    assert keepalive(listeners.tls) == [0, 0]
    children.last.die(0)
    web.stop()


def test_strangers_can_not_become_a_browser(monkeypatch: pytest.MonkeyPatch) -> None:
    """Another program connects to the listener first. Its connection is closed."""
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
            Gateways(children.loop, Settings(), Addresses(HERE, used), [], acceptor.admit)


def test_the_web_without_the_extra_is_an_error(
    children: Children, acceptor: Acceptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    for at, option in ((Addresses(HERE, None), "--web"), (Addresses(None, HERE), "--tls")):
        with pytest.raises(WebError, match=rf"^{option} needs .*'chatroom\[web\]'$"):
            Gateways(children.loop, Settings(), at, [], acceptor.admit)


def test_too_few_descriptors_for_the_gateway_are_an_error(
    children: Children, acceptor: Acceptor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resource, "getrlimit", lambda _: (RESERVED, RESERVED))
    monkeypatch.setattr(resource, "setrlimit", lambda *_: None)
    with pytest.raises(LimitError, match=rf"too few descriptors: {RESERVED}, but more than "):
        Gateways(children.loop, Settings(), Addresses(HERE, None), [], acceptor.admit)


# --- several gateways -----------------------------------------------------------------------------


def exchange(children: Children, number: int, **record: Any) -> list[list[dict[str, Any]]]:
    """Send a record of a gateway; return the records that each running gateway gets."""
    children.started[number].channel.send(record)
    children.loop.turn()
    return [process.records() for process in children.started if process.exitcode is None]


def test_each_gateway_has_a_listener_of_its_own_at_one_address(
    two: Gateways, children: Children
) -> None:
    """So the kernel distributes a burst of connections over the processes."""
    listeners = [process.arguments[1].web for process in children.started]
    [address] = {listener.getsockname() for listener in listeners}
    assert two.where == [f"web page on http://127.0.0.1:{address[1]}/"]
    assert [process.arguments[0] for process in children.started] == [(0, 2), (1, 2)]
    clients = [socket.create_connection(address) for _ in range(64)]
    accepted: list[list[socket.socket]] = [[], []]
    for listener, found in zip(listeners, accepted, strict=True):
        with contextlib.suppress(BlockingIOError):
            while True:
                found.append(listener.accept()[0])
    for connection in (*clients, *accepted[0], *accepted[1]):
        connection.close()
    assert len(accepted[0]) + len(accepted[1]) == 64
    if sys.platform == "linux":
        assert all(accepted)


def test_a_session_moves_through_the_main_process(two: Gateways, children: Children) -> None:
    session = "0-session"
    assert exchange(children, 1, claim=session) == [[{"release": session}], []]
    here, there = os.pipe()
    children.started[0].channel.send({"released": session}, [here, there], owned=True)
    children.loop.turn()
    assert children.started[1].records() == [{"claimed": session}]
    assert len(children.started[1].descriptors) == 2
    assert exchange(children, 0, claim=session) == [[], [{"release": session}]]
    assert exchange(children, 1, kept=session) == [[{"kept": session}], []]
    assert exchange(children, 1, forget=session) == [[], []]
    assert exchange(children, 1, claim=session) == [[{"release": session}], []]
    assert exchange(children, 0, gone=session) == [[], [{"gone": session}]]


def test_the_sessions_of_a_gateway_that_dies_end(two: Gateways, children: Children) -> None:
    """Claims that wait for the dead gateway are answered when the next one is started."""
    exchange(children, 1, claim="0-session")
    children.started[0].die(-9)
    children.loop.turn()
    children.loop.turn()
    assert len(children.started) == 3
    assert children.started[1].records() == [{"gone": "0-session"}]
    assert children.started[1].exitcode is None


def test_a_gateway_that_has_died_is_not_ready(two: Gateways, children: Children) -> None:
    """The system may have no process left for its successor."""
    for process in children.started:
        process.channel.send({"ready": True})
    children.loop.turn()
    assert [row["ready"] for row in two.status()] == [True, True]
    children.error = OSError(errno.EAGAIN, "no more processes")
    children.started[0].die(-9)
    children.loop.turn()
    assert two.status()[0] == {"gateway": 0, "pid": None, "ready": False, "restarts": 0}
    assert not two.running


def test_only_the_gateway_that_hangs_is_killed(two: Gateways, children: Children) -> None:
    for process in children.started:
        process.channel.send({"ready": True})
    children.loop.turn()
    assert two.running
    for _ in range(5):
        children.loop.time += 2.5
        children.loop.turn()
        if {"ping": True} in children.started[1].records():
            children.started[1].channel.send({"turn": True})
        children.loop.turn()
    assert [process.exitcode for process in children.started] == [-9, None, None]
    assert two.status() == [
        {"gateway": 0, "pid": 1, "ready": False, "restarts": 1},
        {"gateway": 1, "pid": 1, "ready": True, "restarts": 0},
    ]
    children.last.channel.send({"ready": True})
    children.loop.turn()
    assert two.running
    children.loop.time += 2.5
    children.loop.turn()
    assert children.last.exitcode is None, "the new process has the full timeout"


def test_all_gateways_read_a_new_certificate(
    children: Children, acceptor: Acceptor, tmp_path: Path
) -> None:
    chain, key = certificates.make(tmp_path, "good")
    settings = Settings(web_processes=2, web_cert=chain, web_key=key)
    two = Gateways(children.loop, settings, Addresses(HERE, HERE), [], acceptor.admit)
    two.start()
    two.renew(settings)
    assert [process.records() for process in children.started] == [[{"reload": True}]] * 2
    for process in children.started:
        process.die(0)
    two.stop()
