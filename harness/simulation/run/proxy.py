"""The start, the events and the end of the faulty network's process (network.py)."""

from __future__ import annotations

import json
import subprocess
import threading
from collections import deque
from collections.abc import Sequence
from typing import Any

from harness.errors import CannotJudge
from harness.simulation.run.child import Child, end, send, spawn
from harness.simulation.scenario.scenario import Link
from harness.target.interrupts import defer_signals
from harness.target.processes import comes_true, status_within

MODULE = "harness.simulation.run.network"

START_LIMIT = 20.0
"""Seconds within which the process must be ready."""

STOP_LIMIT = 5.0
"""Seconds within which the process must end after EOF on its standard input."""

KEPT_LINES = 20
"""Maximum number of the process's last output lines to keep for error messages, without events."""


class Proxy:
    """The process of the faulty network. Call `start` and `stop`, or use a `with` statement."""

    def __init__(
        self, endpoints: Sequence[tuple[str, int]], seed: int, links: Sequence[Link]
    ) -> None:
        """`endpoints`: addresses of the target. The connections use them in turn."""
        self.ports: list[int] = []
        """Ports of the links, in the order of the links; empty before the process has started."""
        self._job = ([*endpoints], seed, tuple(links))
        self._process: Child | None = None
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._events: deque[dict[str, Any]] = deque()
        self._lines: deque[str] = deque(maxlen=KEPT_LINES)
        self._settled = threading.Event()
        """Set when the ports are known, or when the process has ended."""

    def __enter__(self) -> Proxy:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Start the process. Raise CannotJudge if it does not listen within START_LIMIT seconds."""
        with defer_signals():
            self._process = spawn(MODULE, "the proxy", stderr=subprocess.STDOUT)
            self._reader.start()
        send(self._process, self._job)
        in_time = comes_true(self._settled.is_set, START_LIMIT)
        if not self.ports:
            how = self.death(STOP_LIMIT) if in_time else f"was not ready within {START_LIMIT:g} s"
            self.stop()
            raise CannotJudge(f"the proxy {how}")

    def events(self) -> list[dict[str, Any]]:
        """Return the events since the last call."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def death(self, limit: float = 0.0) -> str:
        """Wait up to `limit` s for the end of the process. Return how it ended, with its last line.

        Return an empty text if the process still runs.
        """
        if self._process is None:
            return ""
        status = status_within(self._process, limit)
        if status is None:
            return ""
        self._reader.join(STOP_LIMIT)
        last = f"; its last line: {self._lines[-1]}" if self._lines else ""
        return f"ended (exit status {status}){last}"

    def stop(self) -> None:
        """End the process and its connections. Later, `events` still returns the last events."""
        if self._process is None:
            return
        assert self._process.stdout is not None
        with defer_signals():
            end([self._process], STOP_LIMIT)
            self._reader.join(STOP_LIMIT)
            self._process.stdout.close()

    def _read(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        for line in self._process.stdout:
            try:
                record = json.loads(line)
            except ValueError:
                record = None
            if not isinstance(record, dict):
                self._lines.append(line.decode(errors="backslashreplace").rstrip())
            elif "ports" in record:
                self.ports = record["ports"]
                self._settled.set()
            else:
                self._events.append(record)
        self._settled.set()
