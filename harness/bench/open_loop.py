"""Latency at a constant load: an open loop, with messages on a fixed schedule.

Clients send in turn, at equal intervals, even if the server stalls. A latency is the time from the
moment at which a message was due until it was received. Messages are identified by their text, so
they may arrive in any order. Every received byte is checked after the clock has stopped.
"""

from __future__ import annotations

import contextlib
import math
import time
from array import array
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from harness.bench import payload
from harness.bench.clients import Clients
from harness.bench.dialects import Dialect
from harness.bench.payload import ArrivalError, Heads
from harness.wording import counted

TRUSTED = 0.25
"""Maximum ratio of the load generator's own delay to a trusted latency, at the same percentile."""

PERCENTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}

SPEAKERS = 100_000
MOST = SPEAKERS * payload.GENERATIONS
"""Maximum number of different messages. In this workload, the two numbers in a line (see `payload`)
are not speaker and round, but together the number of the message."""

Arrivals = list[tuple[float, bytes]]
"""Data that one client received: for each read, its time in seconds since the start, and its
bytes."""


class Timetable:
    """Due time, sender and text of each of `count` messages. Pure."""

    def __init__(self, dialect: Dialect, heads: Heads, count: int, rate: float) -> None:
        """`rate`: messages per second that all clients together send."""
        self.due = [number / rate for number in range(count)]
        self.speakers = [number % len(heads) for number in range(count)]
        texts = [payload.line(number % SPEAKERS, number // SPEAKERS) for number in range(count)]
        self.words = [dialect.say(text) for text in texts]
        self._echo = dialect.echo
        self._ending = payload.ending(dialect)
        self._known = {
            (heads[speaker] + text).removesuffix(payload.END): number
            for number, (speaker, text) in enumerate(zip(self.speakers, texts, strict=True))
        }

    def latencies(self, arrivals: Arrivals, listener: int) -> Iterator[float]:
        """Yield the latency of each delivery: seconds from its due time to its last byte.

        Raise ArrivalError unless the client has received each message exactly once, and nothing
        else. A line that is sent back to its sender is not a delivery.
        """
        ending = self._ending
        *pieces, rest = b"".join(data for _, data in arrivals).split(ending)
        numbers = [self._known.get(piece, -1) for piece in pieces]
        if rest or -1 in numbers:
            strange = rest if -1 not in numbers else pieces[numbers.index(-1)]
            raise ArrivalError(
                f"client {listener} received {payload.shown(strange)}, which no client sent"
            )
        due = [n for n, who in enumerate(self.speakers) if self._echo or who != listener]
        if sorted(numbers) != due:
            raise ArrivalError(f"client {listener} has not received each message exactly once")
        reads = iter(arrivals)
        now, received, end = 0.0, 0, 0
        for number, piece in zip(numbers, pieces, strict=True):
            end += len(piece) + len(ending)
            while received < end:
                now, data = next(reads)
                received += len(data)
            if self.speakers[number] != listener:
                yield now - self.due[number]


def paced(clients: Clients, heads: Heads, rate: float, seconds: float) -> dict[str, float]:
    """Send `rate` messages per second for `seconds`.

    Return percentiles of the latencies and of the load generator's own delays, in ms. Raise
    ArrivalError unless each client receives each message exactly once, and nothing else.
    """
    count = min(MOST, max(len(heads), int(rate * seconds)))
    table = Timetable(clients.dialect, heads, count, rate)
    with punctual():
        arrivals, lateness = play(clients, table, clients.due_bytes(table.speakers, heads))
    latencies = array("d")
    for listener, came in enumerate(arrivals):
        latencies.extend(table.latencies(came, listener))
    return figures(latencies, lateness)


def play(
    clients: Clients, table: Timetable, due_bytes: Sequence[int]
) -> tuple[list[Arrivals], Sequence[float]]:
    """Send the messages of the timetable, and read until each client has received all its bytes.

    `due_bytes`: number of bytes that each client must receive, by descriptor. Return the data that
    each client received, and the seconds by which each message was sent late.
    """
    count, due = len(table.due), table.due
    left = [due_bytes[sock.fileno()] for sock in clients.sockets]
    lacking = len(left) - left.count(0)
    arrivals: list[Arrivals] = [[] for _ in left]
    lateness = array("d")
    number, silent = 0, 0.0
    start = time.monotonic()
    while lacking:
        now = time.monotonic() - start
        while number < count and due[number] <= now:
            lateness.append(now - due[number])
            clients.say(table.speakers[number], table.words[number])
            silent = now
            number += 1
            now = time.monotonic() - start
        if number == count and now - silent > clients.patience:
            who = counted(lacking, "client")
            raise ArrivalError(f"{who} received nothing for {clients.patience:g} s")
        came = clients.take(due[number] - now if number < count else clients.patience)
        now = time.monotonic() - start
        for listener, data in came:
            silent = now
            arrivals[listener].append((now, data))
            left[listener] -= len(data)
            if left[listener] < 0:
                raise ArrivalError(f"client {listener} received too many bytes")
            lacking -= not left[listener]
    return arrivals, lateness


@contextlib.contextmanager
def punctual(slack: Path = Path("/proc/self/timerslack_ns")) -> Iterator[None]:
    """Set the timer slack of this process to 1 ns; restore it at the end of the block.

    By default, the kernel may wake a process 50 µs late. `slack`: file that holds the timer slack.
    """
    usual = _write(slack, "1")
    yield
    _write(slack, usual)


def _write(file: Path, text: str) -> str:
    """Write a file if it exists; return its former content."""
    before = ""
    with contextlib.suppress(OSError):
        before = file.read_text()
        file.write_text(text)
    return before


def figures(latencies: Iterable[float], lateness: Iterable[float]) -> dict[str, float]:
    """Return nearest-rank percentiles in ms: `p99` is one of the latencies, `late p99` a delay."""
    found = {}
    for prefix, values in (("", sorted(latencies)), ("late ", sorted(lateness))):
        for name, part in PERCENTILES.items():
            rank = max(0, math.ceil(len(values) * part) - 1)
            found[prefix + name] = 1000 * values[rank]
    return found


def trusted(latency: float, late: float) -> bool:
    """Return whether a latency can be trusted. late: delay of the load generator itself."""
    return late <= TRUSTED * latency
