"""Latency at a load that is held: messages on a schedule that does not wait.

Clients speak in turn, evenly in time. Each delivery counts from when its message
was to be sent, not from when it was. Which message a byte belongs to follows from
how many came before it: the servers deliver in the order in which things were said.
"""

from __future__ import annotations

import math
import time
from array import array
from bisect import bisect_right
from collections.abc import Sequence
from itertools import accumulate

from harness.bench import lines
from harness.bench.clients import Clients
from harness.bench.lines import ArrivalError, Heads

TRUSTED = 0.1
"""Part of the p99 latency by which 1 of 100 messages may be sent late, ..."""
UNSEEN = 1.0
"""... or so many milliseconds: beyond both, the load was too slow to tell."""

PERCENTILES = {"p50": 0.5, "p99": 0.99, "max": 1.0}


class Timetable:
    """When each of `count` messages is due, and where it ends in what each client hears. Pure."""

    def __init__(self, clients: Clients, heads: Heads, count: int, rate: float) -> None:
        """`rate`: messages a second, of all together."""
        people = len(clients.sockets)
        self.due = [number / rate for number in range(count)]
        self.speakers = [number % people for number in range(count)]
        size = [len(heads[n]) + lines.SIZE + len(clients.dialect.tail) for n in range(people)]
        echo = clients.dialect.echo
        self.heard = [
            [number for number, speaker in enumerate(self.speakers) if echo or speaker != listener]
            for listener in range(people)
        ]
        """For each client: the messages that it hears, ..."""
        self.ends = [
            [*accumulate(size[self.speakers[number]] for number in heard)] for heard in self.heard
        ]
        """... and after how many bytes each of them has come."""


def paced(clients: Clients, heads: Heads, rate: float, seconds: float) -> dict[str, float]:
    """Say `rate` messages a second for so many seconds; return latencies and lateness, in ms.

    Raises ArrivalError where not exactly what is due arrives.
    """
    count = max(len(clients.sockets), int(rate * seconds))
    table = Timetable(clients, heads, count, rate)
    people = range(len(clients.sockets))
    words = [clients.dialect.say(lines.line(speaker, 0)) for speaker in people]
    latencies, lateness = array("d"), array("d")
    taken = [0] * len(people)
    lacking = sum(map(bool, table.heard))
    start, number = time.monotonic(), 0
    silent = start
    while lacking:
        now = time.monotonic()
        while number < count and start + table.due[number] <= now:
            lateness.append(now - start - table.due[number])
            clients.sockets[table.speakers[number]].send(words[table.speakers[number]])
            number += 1
            now = time.monotonic()
        wait = start + table.due[number] - now if number < count else 0.1
        came = clients.take(max(0.0, wait))
        now = time.monotonic()
        for listener, size in came:
            silent = now
            ends, heard, before = table.ends[listener], table.heard[listener], taken[listener]
            taken[listener] = before + size
            first, last = bisect_right(ends, before), bisect_right(ends, before + size)
            latencies.extend(now - start - table.due[one] for one in heard[first:last])
            if before + size > ends[-1]:
                raise ArrivalError(f"client {listener} received bytes too many")
            lacking -= before + size == ends[-1]
        if now - silent > clients.patience:
            raise ArrivalError(f"{lacking} clients got nothing for {clients.patience:g} s")
    return figures(latencies, lateness)


def figures(latencies: Sequence[float], lateness: Sequence[float]) -> dict[str, float]:
    """Percentiles, nearest-rank, in ms, of seconds; and whether they can be trusted: 1 or 0."""
    found = {name: 1000 * _rank(latencies, part) for name, part in PERCENTILES.items()}
    late = 1000 * _rank(lateness, PERCENTILES["p99"])
    trusted = late <= max(UNSEEN, TRUSTED * found["p99"])
    return {**found, "late": late, "trusted": float(trusted)}


def _rank(values: Sequence[float], part: float) -> float:
    ordered = sorted(values)
    return ordered[max(0, math.ceil(len(ordered) * part) - 1)]
