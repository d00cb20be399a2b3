"""Latency at a load that is held: an open loop, messages on a schedule that does not wait.

Clients speak in turn, evenly in time. Each delivery counts from when its message
was due, not from when it was sent, so that a server that stalls is not asked less
meanwhile. Each message is told by its text, so it does not matter in which order
they come; and every byte that anyone hears is checked when the clock has stopped.
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

TRUSTED = 0.25
"""The part of a latency that may be the load's own lateness, each percentile for itself."""

PERCENTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}

SPEAKERS = 100_000
MOST = SPEAKERS * payload.GENERATIONS
"""As many messages as can be told apart: the number of one stands where others name speaker and
round."""

Arrivals = list[tuple[float, bytes]]
"""What one client heard, a read at a time, and when: in seconds from the start."""


class Timetable:
    """When each of `count` messages is due, and what it looks like to whoever hears it. Pure."""

    def __init__(self, dialect: Dialect, heads: Heads, count: int, rate: float) -> None:
        """`rate`: messages a second, of all together."""
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
        """Of each delivery, the seconds from when it was due to when its last byte had come.

        Raises ArrivalError unless each message has come once that had to, and nothing else.
        What comes back to its speaker is no delivery.
        """
        ending = self._ending
        *pieces, rest = b"".join(data for _, data in arrivals).split(ending)
        numbers = [self._known.get(piece, -1) for piece in pieces]
        if rest or -1 in numbers:
            strange = rest if -1 not in numbers else pieces[numbers.index(-1)]
            raise ArrivalError(f"client {listener} received {payload.shown(strange)}, unsaid")
        due = [n for n, who in enumerate(self.speakers) if self._echo or who != listener]
        if sorted(numbers) != due:
            raise ArrivalError(f"client {listener} has not heard each message once")
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
    """Say `rate` messages a second for so many seconds; return latencies and lateness, in ms.

    Raises ArrivalError where not exactly what is due arrives.
    """
    count = min(MOST, max(len(heads), int(rate * seconds)))
    table = Timetable(clients.dialect, heads, count, rate)
    with punctual():
        arrivals, lateness = play(clients, table, clients.score(table.speakers, heads))
    latencies = array("d")
    for listener, came in enumerate(arrivals):
        latencies.extend(table.latencies(came, listener))
    return figures(latencies, lateness)


def play(
    clients: Clients, table: Timetable, score: Sequence[int]
) -> tuple[list[Arrivals], Sequence[float]]:
    """Keep to the timetable until everyone has received as many bytes as the score says.

    Returns what each client heard, and how many seconds late each message was sent.
    """
    count, due = len(table.due), table.due
    left = [score[sock.fileno()] for sock in clients.sockets]
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
            raise ArrivalError(f"{lacking} clients got nothing for {clients.patience:g} s")
        came = clients.take(due[number] - now if number < count else clients.patience)
        now = time.monotonic() - start
        for listener, data in came:
            silent = now
            arrivals[listener].append((now, data))
            left[listener] -= len(data)
            if left[listener] < 0:
                raise ArrivalError(f"client {listener} received bytes too many")
            lacking -= not left[listener]
    return arrivals, lateness


@contextlib.contextmanager
def punctual(slack: Path = Path("/proc/self/timerslack_ns")) -> Iterator[None]:
    """Have the kernel wake us when it was asked to, and not up to 50 µs later."""
    usual = _write(slack, "1")
    yield
    _write(slack, usual)


def _write(file: Path, text: str) -> str:
    """Return what was there; where the system has none such, it wakes us later."""
    before = ""
    with contextlib.suppress(OSError):
        before = file.read_text()
        file.write_text(text)
    return before


def figures(latencies: Iterable[float], lateness: Iterable[float]) -> dict[str, float]:
    """Percentiles, nearest-rank, in ms, of seconds: `late p99` is that of how late the load was."""
    found = {}
    for prefix, values in (("", sorted(latencies)), ("late ", sorted(lateness))):
        for name, part in PERCENTILES.items():
            rank = max(0, math.ceil(len(values) * part) - 1)
            found[prefix + name] = 1000 * values[rank]
    return found


def trusted(latency: float, late: float) -> bool:
    """Whether the load kept its schedule well enough for a latency to be the server's."""
    return late <= TRUSTED * latency
