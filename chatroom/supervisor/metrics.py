"""What Prometheus reads of a room: a process of its own, which serves it by HTTP.

It asks the main process as the room's owner does (control_socket.py), once for each
scrape: so a scrape costs no message anything, and whoever scrapes slowly, or
breaks this process, harms nobody else. Where it dies, another is started.

It needs the extra `metrics`, prometheus-client; nothing else here does.
"""

import contextlib
import logging
import os
import selectors
import socket
import threading
from collections.abc import Callable, Iterator
from importlib.util import find_spec
from multiprocessing import connection, parent_process
from multiprocessing.context import SpawnProcess
from socketserver import ThreadingMixIn
from time import monotonic
from typing import TYPE_CHECKING, Any
from wsgiref.simple_server import WSGIRequestHandler, WSGIServer

from chatroom.control.control_socket import Answer, Asker
from chatroom.errors import MetricsError
from chatroom.logs import Event
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.system.child import spawn
from chatroom.system.endpoint import Endpoint
from chatroom.system.listening import endpoint, listen

if TYPE_CHECKING:
    from prometheus_client.core import Metric

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 30.0
"""Seconds before another process is started; twice as many each time."""
STEADY_AFTER = 60.0
"""Seconds after which one that dies is the first again that does."""

MOST_SCRAPES = 16
"""At once; whoever comes beyond them is hung up on."""
SCRAPE_WITHIN = 5.0
"""Seconds for who scrapes to ask, and to read."""

logger = logging.getLogger(__name__)


class Metrics:
    """The process, for the main one. All is called from its loop; `selector` is that loop's.

    `attach(end)`: from now on requests that come from there are answered.
    """

    def __init__(
        self,
        at: Endpoint,
        selector: selectors.BaseSelector,
        attach: Callable[[socket.socket], None],
    ) -> None:
        """Raises ListenError, and MetricsError where what it needs is not installed."""
        if find_spec("prometheus_client") is None:
            raise MetricsError("--metrics needs prometheus-client: pip install 'chatroom[metrics]'")
        self._selector = selector
        self._attach = attach
        self._listener = listen(at, 0)
        """It is kept: who scrapes while another process starts has to wait, and is served."""
        self.where = endpoint(self._listener)
        self._process: SpawnProcess | None = None
        self._start_at: float | None = 0.0
        self._started_at = 0.0
        self._pause = FIRST_PAUSE

    def tick(self) -> float | None:
        """Start it where that is due; return the seconds until it will be, None if it is not."""
        now = monotonic()
        if self._start_at is not None and now >= self._start_at:
            self._start(now)
        return None if self._start_at is None else max(0.0, self._start_at - now)

    def stop(self) -> None:
        self._listener.close()
        if self._process is not None:
            self._process.kill()  # it holds nothing
            self._process.join()

    def _start(self, now: float) -> None:
        self._start_at, self._started_at = None, now
        try:
            self._process, ours = spawn(main, self._listener, kind=socket.SOCK_STREAM)
        except OSError as error:
            self._try_again("metrics-failed", "can't be started", error=error.strerror)
            return
        self._selector.register(self._process.sentinel, selectors.EVENT_READ, self._ended)
        self._attach(ours)

    def _ended(self) -> None:
        assert self._process is not None
        self._selector.unregister(self._process.sentinel)
        self._process.join()
        code, self._process = self._process.exitcode, None
        self._try_again("metrics-died", "has ended", exit=code)

    def _try_again(self, event: str, why: str, **fields: object) -> None:
        now = monotonic()
        if now - self._started_at >= STEADY_AFTER:
            self._pause = FIRST_PAUSE
        says = f"the process that serves metrics {why}; another is tried"
        logger.warning(Event(event, says, **fields, again_in=self._pause))
        self._start_at = now + self._pause
        self._pause = min(LONGEST_PAUSE, 2 * self._pause)


# --- in the process ------------------------------------------------------------------------------


def main(listener: socket.socket, end: socket.socket) -> None:
    """Serve what `listener` brings, of the room at the other `end`, until that is gone."""
    server = _Server(listener, Room(Asker(end)))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    parent = parent_process()
    assert parent is not None
    connection.wait([parent.sentinel])
    os._exit(0)


class Room:
    """As a collector of prometheus_client: asks the room for each scrape."""

    def __init__(self, asker: Asker) -> None:
        self._asker = asker
        self._one_at_a_time = threading.Lock()

    def collect(self) -> "Iterator[Metric]":
        with self._one_at_a_time:
            try:
                found = self._asker.ask({"ask": "totals"})
            except (EOFError, OSError, ValueError):
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


def families(found: Answer) -> "Iterator[Metric]":
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
