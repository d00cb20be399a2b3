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
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass

from harness.bench import payload
from harness.bench.clients import Clients
from harness.bench.dialects import DIALECTS
from harness.bench.open_loop import paced
from harness.bench.payload import ArrivalError, Heads
from harness.descriptors import raise_descriptor_limit
from harness.target.processes import processor_times, program_of

Report = dict[str, float | str]

QUIET = 0.1
"""Seconds at the end of a run during which no client may receive any more data."""

PARTS = (0.1, 0.5)
"""Shares of a server's capacity at which its latency is measured."""

START_LIMIT = 30.0
"""Seconds within which a server must listen. A cluster needs more time than other servers, because
it starts many processes."""

STREAM_LINES = 16_384
"""Number of lines in a round of a stream: 1 MiB, so that the pause between two rounds takes only a
small part of the time."""

BLOCK = 1000
"""Number of clients in a block: joins per second are measured for the first and for the last block
of clients. A block is at most half of all clients."""


@dataclass(frozen=True)
class Job:
    """A measurement for the load generator to make.

    workload: crowd, solo, stream, latency or idle.
    clients: number of clients to connect.
    ports: the server's ports. Clients connect to them in turn.
    server: process id of the server's main process.
    seconds: minimum duration of the timed part. The last round is always completed.
    rounds: minimum number of rounds in the timed part.
    at_once: maximum number of clients that connect at the same time.
    pace: messages per second at which latencies are measured; 0: PARTS of the server's capacity.
    patience: seconds to wait while no client receives a byte, before the run fails.
    """

    workload: str
    clients: int
    dialect: str
    host: str
    ports: Sequence[int]
    server: int
    seconds: float = 2.0
    rounds: int = 3
    at_once: int = 4
    pace: float = 0.0
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
        self.messages = len(self.speakers)
        """Number of lines that clients send in a round."""
        # Deliveries per line. A line that a server sends back to its speaker does not count.
        self.others = job.clients - 1

    def round(self, number: int, witness: int) -> bytearray:
        """Play a round; return all data that the witness received."""
        words = self.words[number % payload.GENERATIONS]
        return self.clients.play(self.speakers, words, self.due_bytes, witness)

    def check(self, number: int, witness: int, heard: bytes) -> None:
        """Raise ArrivalError unless the witness of a round received exactly the round's lines."""
        payload.check(heard, witness, self.speakers, number, self.clients.dialect)

    def play(self, seconds: float, rounds: int) -> Report:
        """Play at least `rounds` rounds, for at least `seconds`; return the figures.

        The received data of one client, the witness, is kept in each round, and checked at the end.
        Each round has another witness.
        """
        received: list[bytearray] = []
        server_before = processor_times(self.server)
        busy = time.process_time()
        start = now = time.monotonic()
        while len(received) < rounds or now - start < seconds:
            played = len(received)
            received.append(self.round(played, self.listeners[played % len(self.listeners)]))
            now = time.monotonic()
        elapsed = now - start
        busy = time.process_time() - busy
        server_after = processor_times(self.server)
        for number, heard in enumerate(received):
            self.check(number, self.listeners[number % len(self.listeners)], bytes(heard))
        messages = len(received) * self.messages
        deliveries = messages * self.others
        return {
            "deliveries": deliveries,
            "seconds": elapsed,
            "rounds": len(received),
            "rate": deliveries / elapsed,
            "busy": busy / elapsed,
            **message_cost(server_before, server_after, messages),
            **costs_by_program(server_before, server_after, messages),
        }


class Stream(Stage):
    """The data for the rounds of a stream: one client sends many different lines."""

    def __init__(self, clients: Clients, job: Job, heads: Heads) -> None:
        super().__init__(clients, job, heads)
        dialect = clients.dialect
        lines = [payload.line(number, 0) for number in range(STREAM_LINES)]
        self.data = b"".join(map(dialect.say, lines))
        self.due_data = b"".join(heads[0] + line + dialect.tail for line in lines)
        self.due_bytes = [STREAM_LINES * due for due in self.due_bytes]
        self.messages = STREAM_LINES

    def round(self, _number: int, witness: int) -> bytearray:
        return self.clients.pour(0, self.data, self.due_bytes, witness)

    def check(self, _number: int, witness: int, heard: bytes) -> None:
        if heard != self.due_data:
            raise ArrivalError(
                f"client {witness} has not received each line exactly once, in order"
            )


STAGES: dict[str, type[Stage]] = {"stream": Stream}
"""Stage of each workload that does not use `Stage` itself."""


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


def costs_by_program(
    before: dict[int, float],
    after: dict[int, float],
    messages: int,
    program_of: Callable[[int], str] = program_of,
) -> Report:
    """Return the processor time per message of each program of the server, and of the server's
    busiest process, in seconds.

    before, after, messages: as in `message_cost`. program_of: returns the program of a process.
    """
    found: dict[str, float] = {}
    for pid, seconds in after.items():
        spent = (seconds - before.get(pid, 0.0)) / messages
        program = f"cpu_per_message of {program_of(pid)}"
        found[program] = found.get(program, 0.0) + spent
        busiest = "cpu_per_message of the busiest process"
        found[busiest] = max(found.get(busiest, 0.0), spent)
    return dict(found) if before else {}


def measure(clients: Clients, job: Job) -> Report:
    """Measure a crowd, a solo, a stream or a latency, and return its figures.

    The steps: check a round byte by byte, warm up, measure, check another round byte by byte. For a
    latency, the figures are those of a solo, and the latencies at PARTS of the solo's rate, or at
    the job's pace.
    """
    heads = clients.verify(generation=1)
    stage = STAGES.get(job.workload, Stage)(clients, job, heads)
    # The pauses of the garbage collector would distort the figures. Rounds create no reference
    # cycles, so they do not need the collector.
    gc.disable()
    stage.play(job.seconds / 4, 1)
    report = stage.play(job.seconds, job.rounds)
    if job.workload == "latency":
        capacity = float(report["rate"]) / (job.clients - 1)
        loads = [(f"{job.pace:g}/s", job.pace)] if job.pace else share_of(capacity)
        for load, rate in loads:
            found = paced(clients, heads, rate, job.seconds)
            report |= {f"{name} at {load}": value for name, value in found.items()}
    gc.enable()
    clients.verify(generation=2)
    clients.quiet(QUIET)
    return report


def share_of(capacity: float) -> list[tuple[str, float]]:
    """Return a name and a rate for each share of `capacity` in PARTS."""
    return [(f"{part:g}", part * capacity) for part in PARTS]


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
    addresses = [(job.host, port) for port in job.ports]
    clients = Clients(addresses, DIALECTS[job.dialect], job.patience)
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
