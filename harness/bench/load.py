"""The load generator: a process that plays one workload on one server and prints the result.

``python -m harness.bench.load JOB`` takes a `Job` as JSON, and prints one line of JSON: the
figures, or ``{"failed": "why"}``. It is a separate process, so that the work of the process that
starts it is not measured. The time is measured with a monotonic clock, from before the first
``send`` until after the last ``recv``.

In the workload "idle", the load generator first prints the figures of the joins. Then it keeps all
clients connected until it reads a line from standard input. Meanwhile, the process that started it
measures the server's memory.
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
from harness.descriptors import raise_descriptor_limit
from harness.target.processes import processor_times

Report = dict[str, float | str]

QUIET = 0.1
"""Seconds at the end of a run during which no client may receive any more data."""

PARTS = (0.1, 0.5)
"""Shares of a server's capacity at which its latency is measured."""

START_LIMIT = 10.0
"""Seconds within which a server must listen."""

BLOCK = 1000
"""Number of clients in a block: joins per second are measured for the first and for the last block
of clients. A block is at most half of all clients."""


@dataclass(frozen=True)
class Job:
    """A measurement for the load generator to make.

    workload: crowd, solo, latency or idle.
    clients: number of clients to connect.
    server: process id of the server's main process.
    seconds: minimum duration of the timed part. The last round is always completed.
    rounds: minimum number of rounds in the timed part.
    at_once: maximum number of clients that connect at the same time.
    patience: seconds to wait while no client receives a byte, before the run fails.
    """

    workload: str
    clients: int
    dialect: str
    host: str
    port: int
    server: int
    seconds: float = 2.0
    rounds: int = 3
    at_once: int = 4
    patience: float = 10.0

    def to_json(self) -> str:
        return json.dumps(asdict(self))


class Stage:
    """The data for the rounds of one workload, computed before the clock starts."""

    def __init__(self, clients: Clients, job: Job, heads: Heads) -> None:
        self.clients = clients
        self.server = job.server
        dialect = clients.dialect
        self.speakers = range(job.clients) if job.workload == "crowd" else range(1)
        # A single speaker receives nothing, unless the server sends its lines back to it.
        deaf = job.workload != "crowd" and not dialect.echo
        self.listeners = range(1 if deaf else 0, job.clients)
        self.words = [
            [dialect.say(payload.line(speaker, generation)) for speaker in self.speakers]
            for generation in range(payload.GENERATIONS)
        ]
        self.due_bytes = clients.due_bytes(self.speakers, heads)
        # Deliveries per round. A line that a server sends back to its speaker does not count.
        self.deliveries = len(self.speakers) * (job.clients - 1)

    def play(self, seconds: float, rounds: int) -> Report:
        """Play at least `rounds` rounds, for at least `seconds`; return the figures.

        In each round, another client is the witness, whose data is kept. Check this data at the
        end.
        """
        testimony: list[bytearray] = []
        server_before = processor_times(self.server)
        busy = time.process_time()
        start = now = time.monotonic()
        while len(testimony) < rounds or now - start < seconds:
            played = len(testimony)
            words = self.words[played % payload.GENERATIONS]
            witness = self.listeners[played % len(self.listeners)]
            testimony.append(self.clients.play(self.speakers, words, self.due_bytes, witness))
            now = time.monotonic()
        elapsed = now - start
        busy = time.process_time() - busy
        server_after = processor_times(self.server)
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
            **message_cost(server_before, server_after, len(testimony) * len(self.speakers)),
        }


def message_cost(before: dict[int, float], after: dict[int, float], messages: int) -> Report:
    """Return the server's processor time per message, in seconds, as a figure.

    before, after: processor time (s) of each process of the server, by process id, at the start and
    at the end of the timed part. Return no figure if the system does not report these times. A
    process that ended in between is left out, because its time is not known.
    """
    if not before or not after:
        return {}
    spent = sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())
    return {"cpu_per_message": spent / messages}


def measure(clients: Clients, job: Job) -> Report:
    """Measure a crowd, a solo or a latency, and return its figures.

    The steps: check a round byte by byte, warm up, measure, check another round byte by byte. For a
    latency, the figures are those of a solo, and the latencies at PARTS of the solo's rate.
    """
    heads = clients.verify(generation=1)
    stage = Stage(clients, job, heads)
    # The pauses of the garbage collector would distort the figures. Rounds create no reference
    # cycles, so they do not need the collector.
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
    """Return the joins per second in the first and in the last block of clients (see BLOCK).

    times: seconds from the start of joining to each client's welcome, in ascending order.
    """
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
        # The server's memory was measured for all clients, so all must still be members.
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
