"""What Prometheus reads of a room, and the process that serves it, as far as it needs none."""

import errno
import json
import os
import re
import selectors
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from time import monotonic
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from chatroom.cli.server import parser
from chatroom.config.options import SettingsError
from chatroom.config.settings import Settings
from chatroom.control.control_socket import Asker
from chatroom.errors import ListenError, MetricsError
from chatroom.supervisor import metrics as module
from chatroom.supervisor.metrics import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    REASONS,
    STEADY_AFTER,
    Metrics,
    Room,
    families,
)
from chatroom.system import child
from chatroom.system.endpoint import Endpoint

DOCS = Path(__file__).parents[2] / "docs"

TOTALS = {"ask": "totals"}
FOUND: dict[str, Any] = {
    "room": {
        "version": "0.1.0",
        "listening": "127.0.0.1:1",
        "pid": 1,
        "since": 1700000000.5,
        "members": 3,
        "capacity": 100,
        "workers": 2,
        "joins": 7,
        "leaves": {"closed": 3, "lagged": 1},
        "refusals": {"The room is full": 2},
        "messages": 40,
        "bytes": 4000,
        "deliveries": 80,
        "append_waits": 5,
        "worker_deaths": 4,
        "recoveries": 3,
        "recovery_seconds": 0.75,
        "longest_recovery": 0.5,
        "lag": 99,
    },
    "workers": [
        {"worker": 0, "ready": True, "members": 2, "lag": 99, "messages": 30, "deliveries": 50},
        {"worker": 5, "ready": False, "members": 1, "lag": 0, "messages": 10, "deliveries": 30},
    ],
}


def exposed(found: Any) -> dict[str, float]:
    """What a scrape would bring, as Prometheus reads it."""
    registry = CollectorRegistry()
    asker: Any = SimpleNamespace(ask=lambda request: found if request == TOTALS else {})
    registry.register(Room(asker))
    return samples(generate_latest(registry).decode())


def samples(text: str) -> dict[str, float]:
    """By name and labels, as Prometheus writes these."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


# --- names and values ----------------------------------------------------------------------------


def test_what_the_room_tells_under_the_names_of_prometheus() -> None:
    leaves = dict.fromkeys(REASONS, 0.0) | {"closed": 3.0, "lagged": 1.0}
    assert exposed(FOUND) == {
        'chatroom_info{version="0.1.0"}': 1,
        "chatroom_start_time_seconds": 1700000000.5,
        "chatroom_members": 3,
        "chatroom_members_limit": 100,
        "chatroom_lag_bytes": 99,
        "chatroom_workers": 1,
        "chatroom_workers_wanted": 2,
        "chatroom_recovery_longest_seconds": 0.5,
        "chatroom_joins_total": 7,
        "chatroom_messages_total": 40,
        "chatroom_message_bytes_total": 4000,
        "chatroom_deliveries_total": 80,
        "chatroom_append_waits_total": 5,
        "chatroom_worker_restarts_total": 4,
        "chatroom_recovery_seconds_count": 3,
        "chatroom_recovery_seconds_sum": 0.75,
        **{f'chatroom_leaves_total{{reason="{name}"}}': value for name, value in leaves.items()},
        'chatroom_refusals_total{reason="The room is full"}': 2,
        'chatroom_worker_members{worker="0"}': 2,
        'chatroom_worker_members{worker="5"}': 1,
        'chatroom_worker_lag_bytes{worker="0"}': 99,
        'chatroom_worker_lag_bytes{worker="5"}': 0,
        'chatroom_worker_messages_total{worker="0"}': 30,
        'chatroom_worker_messages_total{worker="5"}': 10,
        'chatroom_worker_deliveries_total{worker="0"}': 50,
        'chatroom_worker_deliveries_total{worker="5"}': 30,
    }


def test_every_metric_says_what_it_is_and_has_a_unit_where_it_measures() -> None:
    for family in families(FOUND):
        assert re.fullmatch(r"[A-Z].*\.", family.documentation)
        assert re.fullmatch(r"chatroom(_[a-z]+)*", family.name)
        if family.type == "summary" or "time" in family.name or "lag" in family.name:
            assert family.name.endswith(("_seconds", "_bytes"))


# --- the documents -------------------------------------------------------------------------------


def names() -> set[str]:
    return {sample.split("{")[0] for sample in exposed(FOUND)}


def used(expression: str) -> set[str]:
    return set(re.findall(r"\bchatroom\w*", re.sub(r'"[^"]*"', "", expression)))


def test_the_dashboard_shows_what_there_is() -> None:
    board = json.loads((DOCS / "grafana.json").read_text())
    panels = [one for one in board["panels"] if one["type"] != "row"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    shown = set().union(*map(used, expressions))
    assert shown <= names()
    for one in ("members", "joins_total", "leaves_total", "messages_total", "deliveries_total"):
        assert f"chatroom_{one}" in shown
    for one in ("lag_bytes", "worker_restarts_total", "recovery_seconds_sum", "append_waits_total"):
        assert f"chatroom_{one}" in shown
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [tuple(panel["gridPos"][name] for name in "xywh") for panel in panels]
    assert all(x + w <= 24 and w > 0 and h > 0 for x, _, w, h in places)
    assert len({(x, y) for x, y, _, _ in places}) == len(places)
    for panel in panels:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_the_alerts_ask_for_what_there_is() -> None:
    text = (DOCS / "alerts.yml").read_text()
    expressions = re.findall(r"^ +expr: (.+)$", text, re.MULTILINE)
    assert len(expressions) == text.count("- alert: ") == text.count("summary: ") > 4
    known = names() | {"up"}
    for expression in expressions:
        assert used(expression) <= known
        assert used(expression) or "up{" in expression
        assert expression.count("(") == expression.count(")")


def test_the_document_lists_every_metric() -> None:
    text = (DOCS / "monitoring.md").read_text()
    listed = set(re.findall(r"^\| `(chatroom\w*)", text, re.MULTILINE))
    assert listed == names() - {
        "chatroom_recovery_seconds_count",
        "chatroom_recovery_seconds_sum",
    } | {"chatroom_recovery_seconds"}


# --- the setting ---------------------------------------------------------------------------------


def test_it_is_off_unless_it_is_asked_for() -> None:
    assert "metrics" not in parser().parse_args(["h", "1"])
    assert Settings().metrics is None
    options = parser().parse_args(["--metrics", "[::1]:9464", "h", "1"])
    assert options.metrics == Endpoint("::1", 9464)


def test_it_has_a_port() -> None:
    with pytest.raises(SettingsError, match=r"^HOST:PORT$") as error:
        Settings(metrics=Endpoint(path="/x"))
    assert error.value.name == "metrics"


# --- the process, for the main one ---------------------------------------------------------------


class Process:
    """Stands in for it; the test is what it does."""

    def __init__(self, target: object, args: tuple[socket.socket, socket.socket]) -> None:
        self.end = args[1].dup()
        self.sentinel, self._alive = os.pipe()
        self.exitcode: int | None = None
        self.fails: OSError | None = None

    def start(self) -> None:
        if self.fails:
            self.die(0)
            raise self.fails

    def die(self, code: int) -> None:
        if self.exitcode is None:
            self.exitcode = code
            self.end.close()
            os.close(self._alive)

    def kill(self) -> None:
        self.die(-9)

    def join(self) -> None:
        assert self.exitcode is not None


class Stage:
    """A main process's loop, with its metrics."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.processes: list[Process] = []
        self.attached: list[socket.socket] = []
        self.fails: OSError | None = None
        self.selector = selectors.DefaultSelector()
        monkeypatch.setattr(module, "monotonic", lambda: self.now)
        monkeypatch.setattr(child, "get_context", lambda kind: SimpleNamespace(Process=self._new))
        self.metrics = Metrics(Endpoint("127.0.0.1", 0), self.selector, self.attached.append)

    def _new(self, **arguments: Any) -> Process:
        self.processes.append(Process(**arguments))
        self.processes[-1].fails = self.fails
        return self.processes[-1]

    def turn(self) -> float | None:
        for key, _ in self.selector.select(0):
            key.data()
        return self.metrics.tick()

    def close(self) -> None:
        self.metrics.stop()
        for process in self.processes:
            assert process.exitcode is not None
            os.close(process.sentinel)
        for end in self.attached:
            end.close()
        self.selector.close()


@pytest.fixture(name="stage")
def fixture_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    stage = Stage(monkeypatch)
    yield stage
    stage.close()


def test_it_is_started_once_and_asks_by_what_was_attached(stage: Stage) -> None:
    assert stage.turn() is None
    assert stage.turn() is None
    (process,), (end,) = stage.processes, stage.attached
    process.end.sendall(b"{}\n")
    assert end.recv(9) == b"{}\n"
    assert stage.metrics.where.port


def test_one_that_dies_is_replaced_later_each_time(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.turn()
    pauses = []
    for number in range(12):
        stage.processes[-1].die(number)
        pause = stage.turn()
        assert pause is not None
        stage.now += pause / 2
        assert stage.turn() == pytest.approx(pause / 2)
        stage.now += pause
        assert stage.turn() is None
        assert len(stage.processes) == number + 2
        pauses.append(pause)
    assert pauses[:3] == pytest.approx([FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE])
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE)
    assert caplog.messages[0].startswith("event=metrics-died exit=0 again_in=0.1 says=")
    stage.now += STEADY_AFTER
    stage.processes[-1].die(1)
    assert stage.turn() == pytest.approx(FIRST_PAUSE)


def test_where_none_can_be_started_it_is_tried_again(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.fails = OSError(errno.EAGAIN, "no more processes")
    assert stage.turn() == pytest.approx(FIRST_PAUSE)
    assert stage.attached == []
    [said] = caplog.messages
    assert said.startswith('event=metrics-failed error="no more processes" again_in=0.1 says=')
    stage.fails = None
    stage.now += FIRST_PAUSE
    assert stage.turn() is None
    assert len(stage.attached) == 1


def test_it_can_end_before_it_has_begun(stage: Stage) -> None:
    stage.metrics.stop()


def test_an_address_that_is_taken_is_an_error() -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(
            ListenError, match=r"can't listen on 127\.0\.0\.1:.*: Address already in use"
        ),
    ):
        Metrics(Endpoint(*other.getsockname()), selectors.DefaultSelector(), print)


def test_without_what_it_needs_it_is_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda name: None)
    with pytest.raises(MetricsError, match=r"pip install 'chatroom\[metrics\]'$"):
        Metrics(Endpoint("127.0.0.1", 0), selectors.DefaultSelector(), print)


def test_who_asks_bit_by_bit_is_cut_off_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """However little there is between two bits: sixteen of those would keep all others out."""
    monkeypatch.setattr(module, "SCRAPE_WITHIN", 0.2)
    deadline = monotonic() + 10
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        module._Server(listener, Room(cast(Asker, None))) as server,
        socket.create_connection(listener.getsockname()) as end,
    ):
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        end.settimeout(0.02)
        try:
            while monotonic() < deadline:
                end.sendall(b"G")
                with suppress(TimeoutError):
                    assert end.recv(1) == b""
                    break
        except ConnectionError:
            pass
        finally:
            server.shutdown()
            thread.join()
        assert monotonic() < deadline
