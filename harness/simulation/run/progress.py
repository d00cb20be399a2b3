"""The progress of a run: an updated line on a terminal; otherwise, a new line every few seconds."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn

from harness.wording import counted

EVERY = 5.0
"""Seconds between two lines of progress, if the output is not a terminal."""


@dataclass(frozen=True)
class Status:
    """The progress of a run.

    elapsed: seconds since the run's start. connected: number of members. said, heard, strange:
    numbers of messages, deliveries and unexpected lines so far. lag: largest delay of the harness
    since the last report, in ms. latest: last fault of the target; empty if there was none.
    """

    elapsed: float
    connected: int
    said: int
    heard: int
    strange: int
    lag: float
    latest: str


OnStatus = Callable[[Status], None]


@contextmanager
def live(stream: TextIO, seconds: float) -> Iterator[OnStatus]:
    """Show the progress of a run. Yield a function to call with each status.

    seconds: planned duration of the run.
    """
    if stream.isatty():
        with _bar(stream, seconds) as on_status:
            yield on_status
    else:
        yield _Lines(stream, seconds).on_status


@contextmanager
def _bar(stream: TextIO, seconds: float) -> Iterator[OnStatus]:
    columns = BarColumn(bar_width=20), TextColumn("{task.description}", markup=False)
    with Progress(*columns, console=Console(file=stream), transient=True) as shown:
        task = shown.add_task("joining", total=seconds)
        rate = _Rate()

        def on_status(status: Status) -> None:
            description = described(status, seconds, rate(status), brief=True)
            shown.update(task, completed=max(0.0, status.elapsed), description=description)

        yield on_status


class _Lines:
    def __init__(self, stream: TextIO, seconds: float) -> None:
        self._stream = stream
        self._seconds = seconds
        self._rate = _Rate()
        self._due = EVERY

    def on_status(self, status: Status) -> None:
        if status.elapsed >= self._due:
            self._due = status.elapsed + EVERY
            line = described(status, self._seconds, self._rate(status))
            print(line, file=self._stream, flush=True)


class _Rate:
    """Function that returns the deliveries per second between its last call and this one."""

    def __init__(self) -> None:
        self._before = Status(0.0, 0, 0, 0, 0, 0.0, "")

    def __call__(self, status: Status) -> float:
        before, self._before = self._before, status
        took = status.elapsed - before.elapsed
        return (status.heard - before.heard) / took if took > 0 else 0.0


def described(status: Status, seconds: float, rate: float, *, brief: bool = False) -> str:
    """Return a status as text.

    seconds: planned duration of the run. rate: deliveries per second. brief: true for a text that
    fits on a line of a terminal.
    """
    said, heard = ("sent", "received") if brief else ("messages", "deliveries")
    parts = [
        f"{max(0.0, status.elapsed):.0f} of {seconds:g} s: {counted(status.connected, 'member')}",
        f"{about(status.said)} {said}",
        f"{about(status.heard)} {heard}, {about(rate)}/s",
    ]
    if status.strange:
        parts.append(f"{about(status.strange)} unexpected lines")
    parts.append(f"lag {status.lag:.0f} ms")
    if status.latest:
        parts.append(status.latest)
    return ", ".join(parts)


def about(value: float) -> str:
    """Return a number as text, rounded if it is large: 9,999, 324 k, 12 M."""
    for size, letter in ((1e7, "M"), (1e4, "k")):
        if value >= size:
            return f"{value / (size / 10):,.0f} {letter}"
    return f"{value:,.0f}"
