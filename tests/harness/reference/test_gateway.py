"""The reference gateway's connections: their end, and errors of `accept`. The kill matrix in
test_gateways.py tests its frames."""

from __future__ import annotations

import errno
import itertools
import os
import socket
from typing import Any

import pytest

from harness.reference.gateway import server
from harness.reference.gateway.server import LINGER, Connection


class TalkativeClient:
    """The socket of a client that never stops to send. Each read takes an eighth of LINGER."""

    def __init__(self) -> None:
        self.now = 0.0

    def shutdown(self, how: int) -> None:
        assert how == socket.SHUT_WR

    def settimeout(self, seconds: float) -> None:
        assert 0 < seconds <= LINGER - self.now

    def recv(self, size: int) -> bytes:
        self.now += LINGER / 8
        assert self.now < 2 * LINGER, "the server still reads"
        return b"x"


def test_a_client_that_keeps_sending_does_not_keep_its_connection(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    client: Any = TalkativeClient()
    monkeypatch.setattr("time.monotonic", lambda: client.now)
    Connection(client).end()
    assert client.now == LINGER


class Done(Exception):
    """The end of a test."""


def test_a_lack_of_descriptors_does_not_end_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    served = []

    class Listener:
        calls = itertools.count(1)

        def __enter__(self) -> Listener:
            return self

        def __exit__(self, *_: object) -> None:
            pass

        def accept(self) -> tuple[socket.socket, object]:
            match next(self.calls):
                case 1:
                    raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
                case 2:
                    return theirs, None
            raise Done

    class Recorder(Connection):
        def serve(self) -> None:
            served.append(self.socket)

    monkeypatch.setattr("socket.create_server", lambda *_, **__: Listener())
    monkeypatch.setattr(server, "RETRY_AFTER", 0.0)
    monkeypatch.setattr(socket.socket, "setsockopt", lambda *_: None)
    with ours, theirs:
        with pytest.raises(Done):
            server.listen("127.0.0.1", 0, Recorder)
        assert served == [theirs]
