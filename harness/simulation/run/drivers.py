"""The driver processes of a run: their start, their reports and their end."""

from __future__ import annotations

import json
import os
import select
from collections.abc import Sequence
from typing import IO, Any

from harness.errors import CannotJudge
from harness.simulation.run.child import Child, end, send, spawn
from harness.simulation.run.driver import READY, Job
from harness.simulation.run.progress import Status
from harness.target.interrupts import defer_signals
from harness.target.processes import status_within

MODULE = "harness.simulation.run.driver"

READY_WITHIN = 60.0
"""Seconds within which a driver must have read its job."""

END_WITHIN = 5.0
"""Seconds within which all drivers must end after EOF on their standard input."""


class Drivers:
    def __init__(self) -> None:
        self._children: list[Child] = []
        self._poll = select.poll()
        self._open: dict[int, IO[bytes]] = {}
        """Output of each running driver, by descriptor."""
        self._unread: dict[int, bytes] = {}
        """Incomplete line at the end of each driver's output, by descriptor."""
        self._latest: dict[int, dict[str, Any]] = {}
        """Last report of each driver, by descriptor of its output."""

    def start(self, jobs: Sequence[Job], scale: float) -> None:
        """Start a driver for each job, and wait until all drivers are ready.

        Raise CannotJudge if a driver fails or is not ready in time. `scale`: factor of the timeout.
        """
        for job in jobs:
            with defer_signals():
                self._children.append(spawn(MODULE, "a driver"))
            send(self._children[-1], job)
        for child in self._children:
            output = _ready_output(child, READY_WITHIN * scale)
            self._open[output.fileno()] = output
            self._poll.register(output, select.POLLIN)

    def begin(self, start: float) -> None:
        """Send the start time of the run, in seconds of the monotonic clock, to all drivers."""
        for child in self._children:
            send(child, start)

    @property
    def running(self) -> bool:
        return bool(self._open)

    def wait(self, seconds: float) -> None:
        """Wait at most `seconds` until a driver reports or ends."""
        for fd, _ in self._poll.poll(seconds * 1000):
            data = os.read(fd, 65536)
            if not data:
                self._poll.unregister(fd)
                del self._open[fd]
                continue
            *lines, self._unread[fd] = (self._unread.get(fd, b"") + data).split(b"\n")
            for line in lines:
                self._latest[fd] = json.loads(line)

    def status(self, now: float, latest: str) -> Status:
        """Return the sums of the drivers' last reports, with the largest `lag` of any driver.

        latest: last fault of the target.
        """
        news = self._latest.values()
        connected, said, heard, strange = (
            sum(driver[key] for driver in news) for key in ("connected", "said", "heard", "strange")
        )
        lag = 1000 * max((driver["lag"] for driver in news), default=0.0)
        return Status(now, connected, said, heard, strange, lag, latest)

    def check(self) -> None:
        """Wait until all drivers have ended. Raise CannotJudge if a driver failed."""
        broken = [child.returncode for child in self._children if child.wait() != 0]
        if broken:
            raise CannotJudge(f"a driver failed with exit status {broken[0]}")

    def stop(self) -> None:
        """End all drivers. Kill each driver that still runs after END_WITHIN seconds."""
        end(self._children, END_WITHIN)
        for child in self._children:
            assert child.stdout is not None
            child.stdout.close()


def _ready_output(child: Child, limit: float) -> IO[bytes]:
    """Wait until a driver is ready; return its output stream.

    Raise CannotJudge if the driver fails, or is not ready within `limit` seconds.
    """
    output = child.stdout
    assert output is not None
    if not select.select([output], [], [], limit)[0]:
        raise CannotJudge(f"a driver was not ready within {limit:g} s")
    line = output.readline().decode(errors="backslashreplace").rstrip("\n")
    if not line:
        raise CannotJudge(f"a driver failed with exit status {status_within(child, END_WITHIN)}")
    if line != READY:
        raise CannotJudge(f"a driver printed {line!r} instead of {READY!r}")
    os.set_blocking(output.fileno(), False)
    return output
