"""Tests of accepting connections. Accepting pauses when the system has no resources left."""

import errno
import socket
import struct
from collections.abc import Iterator
from typing import Any, cast

import pytest

from chatroom.system.accepting import PAUSE, Accepting
from chatroom.system.endpoint import Endpoint
from chatroom.system.listening import listen
from tests.integration.waiting import PATIENCE
from tests.system.ends import Reluctant
from tests.system.loops import ManualLoop


class Entrance:
    """A listener, its accepted connections, its errors, and an event loop."""

    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.failures: list[int] = []
        self.listener = listen(Endpoint("127.0.0.1"), 0)
        self.accepted: list[socket.socket] = []
        self.peers: list[Any] = []
        self.errors: list[int | None] = []
        self.accepting = Accepting(
            self.loop,
            cast(socket.socket, Reluctant(self.listener, self.failures)),
            self._on_connection,
            lambda error: self.errors.append(error.errno),
            per_turn=5,
        )
        self.clients: list[socket.socket] = []

    def _on_connection(self, connection: socket.socket, peer: Any) -> None:
        self.accepted.append(connection)
        self.peers.append(peer)

    def connect(self) -> socket.socket:
        client = socket.create_connection(self.listener.getsockname(), PATIENCE)
        self.clients.append(client)
        return client

    def close(self) -> None:
        self.accepting.close()
        for connection in (*self.clients, *self.accepted, self.listener):
            connection.close()
        self.loop.close()


@pytest.fixture(name="entrance")
def fixture_entrance() -> Iterator[Entrance]:
    entrance = Entrance()
    yield entrance
    entrance.close()


@pytest.fixture(name="opened")
def fixture_opened(entrance: Entrance) -> Entrance:
    entrance.accepting.open()
    return entrance


def test_a_client_waits_until_accepting_is_opened(entrance: Entrance) -> None:
    client = entrance.connect()
    assert entrance.loop.step() is None
    assert entrance.accepted == []
    entrance.accepting.open()
    assert entrance.loop.step() is None
    assert [peer[:2] for peer in entrance.peers] == [client.getsockname()]


def test_a_crowd_is_accepted_over_several_turns(opened: Entrance) -> None:
    for _ in range(7):
        opened.connect()
    opened.loop.turn()
    assert len(opened.accepted) == 5
    opened.loop.turn()
    assert len(opened.accepted) == 7


def test_join_2_a_reset_before_the_accept_does_not_affect_others(
    opened: Entrance,
) -> None:
    reset = opened.connect()
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reset.close()
    client = opened.connect()
    opened.loop.turn()
    assert opened.accepted[-1].getpeername() == client.getsockname()


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM])
def test_join_2_accepting_continues_after_a_failed_accept(number: int, opened: Entrance) -> None:
    opened.failures[:] = [number]
    opened.connect()
    assert opened.loop.step() is None
    assert len(opened.accepted) == 1
    assert opened.errors == []


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_accepting_pauses_without_descriptors_or_memory(number: int, opened: Entrance) -> None:
    opened.failures[:] = [number]
    opened.connect()
    assert opened.loop.step() == pytest.approx(PAUSE)
    assert opened.errors == [number]
    opened.loop.time += PAUSE / 2
    assert opened.loop.step() == pytest.approx(PAUSE / 2)
    assert opened.loop.sources == 0, "the paused listener is not a source of the loop"
    opened.loop.time += PAUSE
    assert opened.loop.step() is None
    opened.loop.turn()
    assert len(opened.accepted) == 1


def test_accepting_does_not_resume_after_close(opened: Entrance) -> None:
    opened.failures[:] = [errno.EMFILE]
    opened.connect()
    opened.loop.turn()
    opened.accepting.close()
    opened.accepting.close()
    opened.loop.time += PAUSE
    assert opened.loop.step() is None
    assert opened.loop.step() is None
    assert opened.accepted == []
