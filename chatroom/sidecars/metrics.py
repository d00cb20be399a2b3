"""`--metrics HOST:PORT`: a process of its own serves the room's metrics to Prometheus, by HTTP.

It asks the main process over its channel, once for each scrape: so a scrape costs no message
anything, and a client that scrapes slowly, or breaks this process, harms nobody else. The main
process starts it, and another where it dies: supervisor/metrics.py.

It needs the extra `metrics`, prometheus-client; nothing else here does.
"""

import contextlib
import os
import socket
import threading
from collections.abc import Callable, Iterator
from functools import partial
from multiprocessing import connection, parent_process
from socketserver import ThreadingMixIn
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from chatroom.protocol.leave_reason import LeaveReason
from chatroom.system.channel import Channel, ChannelClosed

if TYPE_CHECKING:
    from prometheus_client.core import Metric

MOST_SCRAPES = 16
"""At once; whoever comes beyond them is hung up on."""
SCRAPE_WITHIN = 5.0
"""Seconds for who scrapes to ask, and to read."""
ANSWER_WITHIN = 10.0
"""Seconds for the main process to answer."""

Totals = dict[str, Any]
"""The answer of StatusReport.totals."""


def main(listener: socket.socket, end: socket.socket) -> None:
    """Serve what `listener` brings, about the room at the other `end`, until that is gone."""
    server = _Server(listener, Room(partial(ask, Channel(end))))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(0)


def ask(channel: Channel) -> Totals:
    """Ask the main process. Raises OSError if no answer comes, ChannelClosed if it is gone."""
    channel.send({"ask": "totals"})
    if not connection.wait([channel.socket], ANSWER_WITHIN):
        raise TimeoutError
    ((totals, _),) = channel.receive()
    return totals


class Room:
    """As a collector of prometheus_client: asks the room for each scrape."""

    def __init__(self, ask: Callable[[], Totals]) -> None:
        self._ask = ask
        self._lock = threading.Lock()
        """Held from a question to its answer."""

    def collect(self) -> "Iterator[Metric]":
        with self._lock:
            try:
                found = self._ask()
            except (ChannelClosed, OSError):
                os._exit(1)  # an answer that came later would be taken for the next one
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
        return threading.active_count() < 2 * MOST_SCRAPES + 2  # with a timer each, and two of ours

    def handle_error(self, *_: object) -> None:
        """Who scrapes has gone, or was too slow: that is no error of ours."""


class _Handler(WSGIRequestHandler):
    def handle(self) -> None:
        """One request, in time however it is cut."""

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
        """The room's standard error is no access log."""


def families(found: Totals) -> "Iterator[Metric]":
    """What the room has told, under the names that docs/monitoring.md lists."""
    from prometheus_client.core import (
        CounterMetricFamily,
        GaugeMetricFamily,
        InfoMetricFamily,
        SummaryMetricFamily,
    )

    room, workers = found["room"], found["workers"]
    yield InfoMetricFamily("chatroom", "The room.", {"version": room["version"]})
    for name, text, value in (
        ("start_time_seconds", "When the room began, in seconds of the epoch.", room["since"]),
        ("members", "Who is in the room.", room["members"]),
        ("members_limit", "How many it holds.", room["capacity"]),
        ("lag_bytes", "How far the slowest reader is behind.", room["lag"]),
        ("workers", "Workers that serve members.", sum(worker["ready"] for worker in workers)),
        ("workers_wanted", "Workers that there are to be.", room["workers"]),
        (
            "recovery_longest_seconds",
            "The longest time in which members were without a worker.",
            room["longest_recovery"],
        ),
    ):
        yield GaugeMetricFamily(f"chatroom_{name}", text, value)
    for name, text, value in (
        ("joins", "Newcomers who were let in.", room["joins"]),
        ("messages", "Messages that were said.", room["messages"]),
        ("message_bytes", "Bytes of these, with their prefixes.", room["bytes"]),
        ("deliveries", "Messages that became due to members.", room["deliveries"]),
        (
            "append_waits",
            "Times that a worker waited for a slower one to deliver.",
            room["append_waits"],
        ),
        ("worker_restarts", "Workers that were replaced.", room["worker_deaths"]),
    ):
        yield CounterMetricFamily(f"chatroom_{name}", text, value)
    yield SummaryMetricFamily(
        "chatroom_recovery_seconds",
        "From a worker's death until all its members were served again.",
        count_value=room["recoveries"],
        sum_value=room["recovery_seconds"],
    )
    # All are given from the start, so that the first leave for a reason is an increase.
    leaves = dict.fromkeys(LeaveReason, 0) | room["leaves"]
    for name, text, counts in (
        ("leaves", "Members who left.", leaves),
        ("refusals", "Newcomers who were not let in.", room["refusals"]),
    ):
        by_reason = CounterMetricFamily(f"chatroom_{name}", text, labels=["reason"])
        for reason, number in counts.items():
            by_reason.add_metric([reason], number)
        yield by_reason
    kinds: tuple[tuple[Any, str, str, str], ...] = (
        (GaugeMetricFamily, "members", "members", "Whom a worker serves."),
        (GaugeMetricFamily, "lag_bytes", "lag", "How far its slowest reader is behind."),
        (CounterMetricFamily, "messages", "messages", "Messages of its members."),
        (CounterMetricFamily, "deliveries", "deliveries", "What became due to its members."),
    )
    for kind, name, key, text in kinds:
        by_worker = kind(f"chatroom_worker_{name}", text, labels=["worker"])
        for worker in workers:
            by_worker.add_metric([str(worker["worker"])], worker[key])
        yield by_worker
