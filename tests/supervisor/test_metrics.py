"""Tests of the metrics in the main process: the listener, and the process that serves it."""

import socket
from collections.abc import Iterator

import pytest

from chatroom.errors import ListenError, MetricsError
from chatroom.supervisor import metrics as module
from chatroom.supervisor.metrics import MetricsProcess
from chatroom.system.endpoint import Endpoint
from chatroom.system.event_loop import EventLoop
from tests.supervisor.children import Children


@pytest.fixture(name="children")
def fixture_children(monkeypatch: pytest.MonkeyPatch) -> Iterator[Children]:
    children = Children(monkeypatch)
    yield children
    children.close()


def test_the_metrics_process_is_answered_and_replaced(children: Children) -> None:
    metrics = MetricsProcess(children.loop, Endpoint("127.0.0.1", 0), lambda: {"members": 7})
    assert metrics.where.port
    metrics.start()
    children.last.channel.send({"ask": "totals"})
    children.loop.turn()
    assert children.last.records() == [{"members": 7}]
    children.last.die(1)
    children.loop.turn()
    children.loop.turn()
    assert len(children.started) == 2
    assert children.loop.idle() is None, "the metrics process has no start timeout"
    metrics.stop()
    assert children.last.exitcode is not None


def test_an_address_in_use_is_an_error() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(
            ListenError, match=r"can't listen on 127\.0\.0\.1:.*: Address already in use"
        ),
    ):
        MetricsProcess(EventLoop(), Endpoint(*other.getsockname()), dict)


def test_metrics_without_the_extra_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MetricsError, match=r"pip install 'chatroom\[metrics\]'$"):
        MetricsProcess(EventLoop(), Endpoint("127.0.0.1", 0), dict)
