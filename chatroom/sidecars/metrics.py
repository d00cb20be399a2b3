"""`--metrics HOST:PORT`: a process that serves the room's metrics to Prometheus over HTTP.

This process asks the main process over its channel, once for each scrape. The workers are not
asked, so no message is delayed. A client that reads slowly, or makes this process fail, affects no
other process. supervisor/metrics.py starts this process, and replaces it when it dies.

No other part of the server needs prometheus-client (the extra `metrics`).
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from chatroom.protocol.leave_reason import LeaveReason
from chatroom.protocol.refusal_reason import RefusalReason
from chatroom.system.channel import PARENT, Channel, ChannelClosed
from chatroom.system.poller import wait

if TYPE_CHECKING:
    from prometheus_client.core import Metric

MAX_SCRAPES = 16
"""Maximum number of scrapes at once; further connections are closed."""
SCRAPE_WITHIN = 5.0
"""Timeout (s) for a client to send its request and read the answer."""
ANSWER_WITHIN = 10.0
"""Timeout (s) for the main process to answer."""

Totals = dict[str, Any]
"""Result of StatusReport.totals."""


def main(listener: socket.socket, end: socket.socket) -> None:
    """Serve the metrics to connections of `listener` until the main process has ended.

    This is the target of the process. `end`: its end of the channel.
    """
    server = _Server(listener, Room(partial(ask, Channel(end))))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    wait([PARENT])
    os._exit(0)


def ask(channel: Channel) -> Totals:
    """Ask the main process for the totals.

    Raises OSError if no answer comes in time, ChannelClosed if the main process has ended.
    """
    channel.send({"ask": "totals"})
    if not wait([channel], ANSWER_WITHIN):
        raise TimeoutError
    ((totals, _),) = channel.receive()
    return totals


class Room:
    """A collector for prometheus_client. It asks the room once for each scrape."""

    def __init__(self, ask: Callable[[], Totals]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        """Lock held from a request to its answer."""

    def collect(self) -> "Iterator[Metric]":
        with self._lock:
            try:
                found = self._ask()
            except (ChannelClosed, OSError):
                os._exit(1)  # a late answer would look like the answer to the next request
        return families(found)


class _Server(ThreadingMixIn, WSGIServer):
    daemon_threads = True

    def __init__(self, listener: socket.socket, room: Room) -> None:
        from prometheus_client import CollectorRegistry, make_wsgi_app

        super().__init__(("", 0), _Handler, bind_and_activate=False)
        self.socket.close()
        self.socket = listener
        host, port = listener.getsockname()[:2]
        self.server_name, self.server_port = host, port
        self.setup_environ()
        registry = CollectorRegistry()
        registry.register(room)
        self.set_app(make_wsgi_app(registry))

    def verify_request(self, *_: object) -> bool:
        # Each scrape has two threads: one handles it, and one is its timer. Two threads always run.
        return threading.active_count() < 2 * MAX_SCRAPES + 2

    def handle_error(self, *_: object) -> None:
        """Ignore a client that has disconnected or was too slow."""


class _Handler(WSGIRequestHandler):
    def handle(self) -> None:
        """Handle a request; shut the connection down after SCRAPE_WITHIN."""

        def cut_off() -> None:
            with contextlib.suppress(OSError):
                self.connection.shutdown(socket.SHUT_RDWR)

        timer = threading.Timer(SCRAPE_WITHIN, cut_off)
        timer.daemon = True
        timer.start()
        try:
            super().handle()
        finally:
            timer.cancel()

    def log_message(self, *_: object) -> None:
        """Log nothing: standard error is for the room's log."""


def families(found: Totals) -> "Iterator[Metric]":
    """Yield the metrics for an answer of the room; docs/monitoring.md lists their names."""
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        InfoMetricFamily,
        SummaryMetricFamily,
    )

    room, workers = found["room"], found["workers"]
    start = round(room["since"])  # unrounded, it would change with each adjustment of the clock
    yield InfoMetricFamily("chatroom", "The room.", {"version": room["version"]})
    for name, text, value in (
        ("start_time_seconds", "Start time of the room, in seconds of the epoch.", start),
        ("members", "Members in the room.", room["members"]),
        ("members_limit", "Limit of members in the room.", room["capacity"]),
        ("lag_bytes", "Lag of the slowest reader in bytes.", room["lag"]),
        ("workers", "Workers that serve members.", sum(worker["ready"] for worker in workers)),
        ("workers_wanted", "Workers that the room is configured to have.", room["workers"]),
        (
            "recovery_longest_seconds",
            "Longest recovery from a worker's death.",
            room["longest_recovery"],
        ),
    ):
        yield GaugeMetricFamily(f"chatroom_{name}", text, value)
    for name, text, value in (
        ("joins", "Members that joined.", room["joins"]),
        ("probes", "Connections that were closed at once and sent nothing.", room["probes"]),
        ("messages", "Messages appended to the log.", room["messages"]),
        ("message_bytes", "Bytes of messages, with their prefixes.", room["bytes"]),
        ("deliveries", "Deliveries, one for each recipient of a message.", room["deliveries"]),
        (
            "append_waits",
            "Number of times that a worker waited for a slower worker to deliver.",
            room["append_waits"],
        ),
        ("worker_restarts", "Workers that died and were replaced.", room["worker_deaths"]),
    ):
        yield CounterMetricFamily(f"chatroom_{name}", text, value)
    yield SummaryMetricFamily(
        "chatroom_recovery_seconds",
        "Time from a worker's death until all its members were served again.",
        count_value=room["recoveries"],
        sum_value=room["recovery_seconds"],
    )
    # List each reason from the start, with 0: otherwise, Prometheus would miss the first increase.
    leaves = dict.fromkeys(LeaveReason, 0) | room["leaves"]
    refusals = dict.fromkeys(RefusalReason, 0) | room["refusals"]
    for name, text, counts in (
        ("leaves", "Members that left, by reason.", leaves),
        ("refusals", "Connections that were refused, by reason.", refusals),
    ):
        by_reason = CounterMetricFamily(f"chatroom_{name}", text, labels=["reason"])
        for reason, number in counts.items():
            by_reason.add_metric([reason], number)
        yield by_reason
    kinds: tuple[tuple[Any, str, str, str], ...] = (
        (GaugeMetricFamily, "members", "members", "Members of a worker."),
        (GaugeMetricFamily, "lag_bytes", "lag", "Lag of a worker's slowest reader in bytes."),
        (CounterMetricFamily, "messages", "messages", "Messages of a worker's members."),
        (CounterMetricFamily, "deliveries", "deliveries", "Deliveries to a worker's members."),
    )
    for kind, name, key, text in kinds:
        by_worker = kind(f"chatroom_worker_{name}", text, labels=["worker"])
        for worker in workers:
            by_worker.add_metric([str(worker["worker"])], worker[key])
        yield by_worker
    if "gateways" in found:
        ready = sum(gateway["ready"] for gateway in found["gateways"])
        yield GaugeMetricFamily("chatroom_gateways", "Gateways that serve browsers.", ready)
        restarts = CounterMetricFamily(
            "chatroom_gateway_restarts", "Gateways that were replaced.", labels=["gateway"]
        )
        for gateway in found["gateways"]:
            restarts.add_metric([str(gateway["gateway"])], gateway["restarts"])
        yield restarts
    if "cluster" in found:
        yield from _cluster_families(found["cluster"])


def _cluster_families(cluster: dict[str, Any]) -> "Iterator[Metric]":
    from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

    rows: tuple[tuple[Any, str, str, str], ...] = (
        (GaugeMetricFamily, "engine_up", "up", "1 if the engine is in reach, else 0."),
        (
            GaugeMetricFamily,
            "round_trip_seconds",
            "round_trip",
            "Time that the last publication took.",
        ),
        (GaugeMetricFamily, "pending_messages", "pending", "Messages that wait for the engine."),
        (GaugeMetricFamily, "pending_bytes", "pending_bytes", "Bytes of these messages."),
        (
            CounterMetricFamily,
            "lost_messages",
            "lost",
            "Messages that the engine lost after it had accepted them.",
        ),
        (
            CounterMetricFamily,
            "missed_publications",
            "missed",
            "Publications of other nodes that the stream dropped before this node read them.",
        ),
    )
    for kind, name, key, text in rows:
        yield kind(f"chatroom_cluster_{name}", text, cluster[key])
