"""Tests of a room's metrics, and of the server that exposes them, without its process."""

import json
import re
import socket
import threading
from contextlib import suppress
from pathlib import Path
from time import monotonic
from typing import Any

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from chatroom.cli.server import parser
from chatroom.config.options import SettingsError
from chatroom.config.settings import Settings
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.sidecars import metrics as module
from chatroom.sidecars.metrics import Room, ask, families
from chatroom.system.channel import Channel, ChannelClosed
from chatroom.system.endpoint import Endpoint

DOCS = Path(__file__).parents[2] / "docs"

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
        "probes": 0,
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

WEB: dict[str, Any] = {
    "gateways": [
        {"gateway": 0, "pid": 2, "ready": True, "restarts": 0},
        {"gateway": 1, "pid": None, "ready": False, "restarts": 3},
    ]
}

CLUSTER: dict[str, Any] = {
    "url": "nats://127.0.0.1:4222/room",
    "up": True,
    "round_trip": 0.25,
    "unchanged": 8.0,
    "pending": 7,
    "pending_bytes": 700,
    "lost": 2,
    "missed": 3,
}


def exposed(found: Any) -> dict[str, float]:
    """Return the samples that a scrape reads from this status."""
    registry = CollectorRegistry()
    registry.register(Room(lambda: found))
    return samples(generate_latest(registry).decode())


def samples(text: str) -> dict[str, float]:
    """Parse samples; return their values by name and labels."""
    found = {}
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sample.labels.items())
            found[sample.name + (f"{{{labels}}}" if labels else "")] = sample.value
    return found


# --- names and values ----------------------------------------------------------------------------


def test_figures_are_exposed_under_prometheus_names() -> None:
    leaves = dict.fromkeys(LeaveReason, 0.0) | {LeaveReason.CLOSED: 3.0, LeaveReason.LAGGED: 1.0}
    assert exposed(FOUND) == {
        'chatroom_info{version="0.1.0"}': 1,
        "chatroom_start_time_seconds": 1700000000,
        "chatroom_members": 3,
        "chatroom_members_limit": 100,
        "chatroom_lag_bytes": 99,
        "chatroom_workers": 1,
        "chatroom_workers_wanted": 2,
        "chatroom_recovery_longest_seconds": 0.5,
        "chatroom_joins_total": 7,
        "chatroom_probes_total": 0,
        "chatroom_messages_total": 40,
        "chatroom_message_bytes_total": 4000,
        "chatroom_deliveries_total": 80,
        "chatroom_append_waits_total": 5,
        "chatroom_worker_restarts_total": 4,
        "chatroom_recovery_seconds_count": 3,
        "chatroom_recovery_seconds_sum": 0.75,
        **{f'chatroom_leaves_total{{reason="{name}"}}': value for name, value in leaves.items()},
        'chatroom_refusals_total{reason="The room is full"}': 2,
        'chatroom_refusals_total{reason="Too many connections from your address"}': 0,
        'chatroom_refusals_total{reason="You are banned from this room"}': 0,
        'chatroom_refusals_total{reason="spoke HTTP"}': 0,
        'chatroom_refusals_total{reason="spoke TLS"}': 0,
        'chatroom_refusals_total{reason="spoke STUN"}': 0,
        'chatroom_worker_members{worker="0"}': 2,
        'chatroom_worker_members{worker="5"}': 1,
        'chatroom_worker_lag_bytes{worker="0"}': 99,
        'chatroom_worker_lag_bytes{worker="5"}': 0,
        'chatroom_worker_messages_total{worker="0"}': 30,
        'chatroom_worker_messages_total{worker="5"}': 10,
        'chatroom_worker_deliveries_total{worker="0"}': 50,
        'chatroom_worker_deliveries_total{worker="5"}': 30,
    }


def test_a_room_in_a_cluster_has_metrics_of_the_engine() -> None:
    of_cluster = exposed(FOUND | {"cluster": CLUSTER})
    assert {name: of_cluster[name] for name in of_cluster.keys() - exposed(FOUND).keys()} == {
        "chatroom_cluster_engine_up": 1,
        "chatroom_cluster_round_trip_seconds": 0.25,
        "chatroom_cluster_pending_messages": 7,
        "chatroom_cluster_pending_bytes": 700,
        "chatroom_cluster_lost_messages_total": 2,
        "chatroom_cluster_missed_publications_total": 3,
    }
    down = exposed(FOUND | {"cluster": CLUSTER | {"up": False}})
    assert down["chatroom_cluster_engine_up"] == 0


def test_a_room_with_a_page_has_metrics_of_its_gateways() -> None:
    of_web = exposed(FOUND | WEB)
    assert {name: of_web[name] for name in of_web.keys() - exposed(FOUND).keys()} == {
        "chatroom_gateways": 1,
        'chatroom_gateway_restarts_total{gateway="0"}': 0,
        'chatroom_gateway_restarts_total{gateway="1"}': 3,
    }


def test_every_metric_has_a_description_and_the_right_unit() -> None:
    for family in families(FOUND | WEB | {"cluster": CLUSTER}):
        assert re.fullmatch(r"[A-Z0-9].*\.", family.documentation)
        assert re.fullmatch(r"chatroom(_[a-z]+)*", family.name)
        if family.type == "summary" or "time" in family.name or "lag" in family.name:
            assert family.name.endswith(("_seconds", "_bytes"))


# --- the documents -------------------------------------------------------------------------------


def names() -> set[str]:
    return {sample.split("{")[0] for sample in exposed(FOUND | WEB | {"cluster": CLUSTER})}


def used(expression: str) -> set[str]:
    return set(re.findall(r"\bchatroom\w*", re.sub(r'"[^"]*"', "", expression)))


def test_the_dashboard_uses_existing_metrics() -> None:
    board = json.loads((DOCS / "grafana.json").read_text())
    panels = [panel for panel in board["panels"] if panel["type"] != "row"]
    expressions = [target["expr"] for panel in panels for target in panel["targets"]]
    shown = set().union(*map(used, expressions))
    assert shown <= names()
    for name in ("members", "joins_total", "leaves_total", "messages_total", "deliveries_total"):
        assert f"chatroom_{name}" in shown
    for name in (
        "lag_bytes",
        "worker_restarts_total",
        "recovery_seconds_sum",
        "append_waits_total",
        "cluster_engine_up",
        "cluster_round_trip_seconds",
        "cluster_pending_messages",
    ):
        assert f"chatroom_{name}" in shown
    assert len({panel["id"] for panel in panels}) == len(panels)
    places = [tuple(panel["gridPos"][name] for name in "xywh") for panel in panels]
    assert all(x + w <= 24 and w > 0 and h > 0 for x, _, w, h in places)
    assert len({(x, y) for x, y, _, _ in places}) == len(places)
    for panel in panels:
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}


def test_the_alerts_use_existing_metrics() -> None:
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


def test_metrics_are_off_by_default() -> None:
    assert "metrics" not in parser().parse_args(["h", "1"])
    assert Settings().metrics is None
    options = parser().parse_args(["--metrics", "[::1]:9464", "h", "1"])
    assert options.metrics == Endpoint("::1", 9464)


def test_a_metrics_address_must_have_a_port() -> None:
    with pytest.raises(SettingsError, match=r"^HOST:PORT$") as error:
        Settings(metrics=Endpoint(path="/x"))
    assert error.value.name == "metrics"


# --- the process ---------------------------------------------------------------------------------


def test_a_slow_scraper_is_cut_off_in_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The timeout does not start again with each byte. Otherwise, sixteen such clients would block
    all others."""
    monkeypatch.setattr(module, "SCRAPE_WITHIN", 0.2)
    deadline = monotonic() + 10
    with (
        socket.create_server(("127.0.0.1", 0)) as listener,
        module._Server(listener, Room(dict)) as server,
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


def test_totals_are_requested_over_the_channel(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = Channel.pair()
    ours.send({"members": 7})
    assert ask(theirs) == {"members": 7}
    ((record, _),) = ours.receive()
    assert record == {"ask": "totals"}
    monkeypatch.setattr(module, "ANSWER_WITHIN", 0.01)
    with pytest.raises(TimeoutError):
        ask(theirs)
    ours.close()
    with pytest.raises(ChannelClosed):
        ask(theirs)
    theirs.close()
