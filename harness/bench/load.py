"""The load: one process that plays one workload on one server and says how it went.

``python -m harness.bench.load JOB`` with the JSON of a `Job`; it prints one line
of JSON: the figures, or ``{"failed": "why"}``. It runs in a process of its own so
that nothing else is measured with it, and its clock is the only one: monotonic,
from before the first ``send`` to after the last ``recv``.

In the workload "idle", it first prints the figures of the joining, then keeps
all clients connected until it reads a line: so that its starter can weigh the
server.
"""

from __future__ import annotations

import gc
import json
import sys
import time
from dataclasses import asdict, dataclass

from harness.bench import payload
from harness.bench.clients import Clients
from harness.bench.dialects import DIALECTS
from harness.bench.open_loop import paced
from harness.bench.payload import ArrivalError, Heads
from harness.target.processes import raise_descriptor_limit

Report = dict[str, float | str]

QUIET = 0.1
"""Seconds at the end in which nothing more may come."""

PARTS = (0.1, 0.5)
"""Of its capacity, at which a server's latency is taken."""

START_LIMIT = 10.0
"""Seconds in which a server has to listen."""

BLOCK = 1000
"""Clients in a block whose rate of joining is given; fewer if there are not two such blocks."""


@dataclass(frozen=True)
class Job:
    """What a load has to do.

    seconds: how long the timed part lasts, at least; it ends with a round.
    rounds: how many rounds it has, at least.
    at_once: how many clients may be connecting at a time.
    patience: seconds without a byte for anyone after which what is due is missing.
    """

    workload: str
    clients: int
    dialect: str
    host: str
    port: int
    seconds: float = 2.0
    rounds: int = 3
    at_once: int = 4
    patience: float = 10.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Stage:
    """All that the rounds of one workload need, worked out before the clock runs."""

    def __init__(self, clients: Clients, job: Job, heads: Heads) -> None:
        self.clients = clients
        dialect = clients.dialect
        self.speakers = range(job.clients) if job.workload == "crowd" else range(1)
        # The only speaker hears nothing, unless the server echoes.
        deaf = job.workload != "crowd" and not dialect.echo
        self.listeners = range(1 if deaf else 0, job.clients)
        self.words = [
            [dialect.say(payload.line(speaker, generation)) for speaker in self.speakers]
            for generation in range(payload.GENERATIONS)
        ]
        self.score = clients.score(self.speakers, heads)
        # Lines to others only: what a server sends back to the speaker is not counted.
        self.deliveries = len(self.speakers) * (job.clients - 1)

    def play(self, seconds: float, rounds: int) -> Report:
        """Play for `seconds` and `rounds` at least; then check what the witnesses heard."""
        testimony: list[bytearray] = []
        busy = time.process_time()
        start = now = time.monotonic()
        while len(testimony) < rounds or now - start < seconds:
            played = len(testimony)
            words = self.words[played % payload.GENERATIONS]
            witness = self.listeners[played % len(self.listeners)]
            testimony.append(self.clients.play(self.speakers, words, self.score, witness))
            now = time.monotonic()
        elapsed = now - start
        busy = time.process_time() - busy
        for generation, heard in enumerate(testimony):
            witness = self.listeners[generation % len(self.listeners)]
            payload.check(bytes(heard), witness, self.speakers, generation, self.clients.dialect)
        deliveries = len(testimony) * self.deliveries
        return {
            "deliveries": deliveries,
            "seconds": elapsed,
            "rounds": len(testimony),
            "rate": deliveries / elapsed,
            "busy": busy / elapsed,
        }


def measure(clients: Clients, job: Job) -> Report:
    """Verify, warm up, time, verify: the figures of one crowd or solo.

    Of a latency: those of a solo, which is the capacity, and then of parts of it.
    """
    heads = clients.verify(generation=1)
    stage = Stage(clients, job, heads)
    # Nothing in the rounds makes a cycle, and the collector's pauses would be ours.
    gc.disable()
    stage.play(job.seconds / 4, 1)
    report = stage.play(job.seconds, job.rounds)
    if job.workload == "latency":
        for part in PARTS:
            rate = part * float(report["rate"]) / (job.clients - 1)
            found = paced(clients, heads, rate, job.seconds)
            report |= {f"{name} at {part:g}": value for name, value in found.items()}
    gc.enable()
    clients.verify(generation=2)
    clients.quiet(QUIET)
    return report


def joining(times: list[float]) -> Report:
    """The rate of joining, connect to welcome, in the first and in the last block."""
    block = min(BLOCK, len(times) // 2)
    return {
        "block": block,
        "first_rate": block / times[block - 1],
        "last_rate": block / (times[-1] - times[-block - 1]),
    }


def play(job: Job) -> Report:
    clients = Clients((job.host, job.port), DIALECTS[job.dialect], job.patience)
    try:
        times = clients.join(job.clients, job.at_once, START_LIMIT)
        clients.settle()
        if job.workload != "idle":
            return measure(clients, job)
        print(json.dumps(joining(times)), flush=True)
        sys.stdin.readline()
        # Those that were weighed are there, all of them, and members.
        clients.barrier(generation=1)
        clients.quiet(QUIET)
        return {}
    finally:
        clients.close()


def main(argument: str) -> None:
    raise_descriptor_limit()
    report: Report
    try:
        report = play(Job(**json.loads(argument)))
    except ArrivalError as error:
        report = {"failed": str(error)}
    print(json.dumps(report), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
