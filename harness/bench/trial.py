"""One trial: the measurement of one server under one workload; and the order of all trials."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from harness.bench.load import START_LIMIT, Job, Report
from harness.bench.servers import NotInstalledError, Recipe, ports_of
from harness.target.interrupts import allow_signals, defer_signals
from harness.target.listeners import listening
from harness.target.processes import (
    NotReadyError,
    Server,
    comes_true,
    environment,
    free_port,
    weight,
)

MEASURED = "measured"
FAILED = "failed"
NOT_STARTED = "did not start"
NOT_INSTALLED = "not installed"

AT_ONCE = 4
"""Number of clients that connect at the same time if joins are not timed. It is lower than the
backlog of any server."""

DYING = 0.1
"""Seconds to wait for the end of a server after a run has failed, because the server may have
crashed."""

LAST_LINE_WITHIN = 1.0
"""Seconds to wait for the last line that a server printed, after the server has ended."""


class LoadError(Exception):
    """The load generator itself failed; the server is not to blame."""


@dataclass(frozen=True)
class Workload:
    kind: str  # crowd, solo, stream, latency, idle or start
    clients: int = 0  # 0 for a start, which needs none

    @property
    def speakers(self) -> int:
        """Number of clients that send a line in a round."""
        return self.clients if self.kind == "crowd" else 1

    def __str__(self) -> str:
        return f"{self.kind} {self.clients}" if self.clients else self.kind


@dataclass(frozen=True)
class Plan:
    """The trials to run.

    `seconds`, `rounds`, `pace` and `patience` have the same meaning as in `Job`. `repeat`: number
    of trials of each server under each workload. `nodes`: number of nodes of a cluster. `limit`:
    maximum duration of one trial, in seconds.
    """

    workloads: Sequence[Workload]
    servers: Sequence[Recipe]
    repeat: int = 3
    seconds: float = 2.0
    rounds: int = 3
    workers: int = 2
    nodes: int = 2
    pace: float = 0.0
    patience: float = 10.0
    limit: float = 300.0

    def trials(self) -> Iterator[tuple[Workload, int, Recipe]]:
        """Yield all trials. Servers take turns: A B C A B C for two repetitions of a workload."""
        for workload in self.workloads:
            for repetition in range(self.repeat):
                for recipe in self.servers:
                    yield workload, repetition, recipe


@dataclass(frozen=True)
class Result:
    """The result of one trial. `reason` says why the trial has no figures, if it has none."""

    workload: str
    server: str
    repetition: int
    status: str
    reason: str = ""
    figures: dict[str, float] = field(default_factory=dict)
    command: list[str] = field(default_factory=list)


def run_all(plan: Plan, on_result: Callable[[Result], None]) -> list[Result]:
    """Run every trial in turn; call `on_result` with each result."""
    results = []
    for workload, repetition, recipe in plan.trials():
        result = run(plan, workload, repetition, recipe)
        on_result(result)
        results.append(result)
    return results


def run(plan: Plan, workload: Workload, repetition: int, recipe: Recipe) -> Result:
    """Run one trial: start a server and the load generator, and end both, even after an error."""

    def result(status: str, reason: str = "", figures: Report | None = None) -> Result:
        numbers = {name: float(value) for name, value in (figures or {}).items()}
        return Result(str(workload), recipe.name, repetition, status, reason, numbers, command)

    command: list[str] = []
    try:
        recipe.check_installed()
    except NotInstalledError as error:
        return result(NOT_INSTALLED, str(error))
    with tempfile.TemporaryDirectory(prefix="bench-") as directory:
        ports = [free_port()]
        command = recipe.fill(
            Path(directory), ports[0], plan.workers, workload.clients, workload.speakers, plan.nodes
        )
        with defer_signals():
            try:
                server = Server(command, recipe.ready, recipe.environment())
            except OSError as error:
                return result(NOT_STARTED, str(error))
            try:
                with allow_signals():
                    ready = server.wait_ready(START_LIMIT)
                    if ready and "endpoints" in ready.groupdict():
                        ports = ports_of(ready["endpoints"])
                    if workload.kind == "start":
                        return result(MEASURED, figures={"start": _start(server, ports[0])})
                    job = _job(plan, workload, recipe, ports, server.pid)
                    figures = _load(job, server, plan.limit)
                    if "failed" in figures:
                        reason = str(figures["failed"])
                        death = server.death(DYING)
                        return result(FAILED, f"{reason}; the server {death}" if death else reason)
                    return result(MEASURED, figures=figures)
            except NotReadyError as error:
                return result(NOT_STARTED, str(error))
            finally:
                server.stop()


def _start(server: Server, port: int) -> float:
    """Return the seconds from the start of the command until the server was ready.

    Most servers print a line when they are ready. For a server without such a line, look every 10
    ms whether it listens at `port`. Raise NotReadyError if it does not listen within START_LIMIT.
    """
    if server.ready_after is not None:
        return server.ready_after
    comes_true(lambda: bool(listening(port) or server.death(0)), START_LIMIT)
    seconds = server.age()
    if not listening(port):
        raise NotReadyError(
            server.death(LAST_LINE_WITHIN) or f"did not listen at its port within {START_LIMIT:g} s"
        )
    return seconds


def _job(plan: Plan, workload: Workload, recipe: Recipe, ports: Sequence[int], server: int) -> Job:
    return Job(
        workload.kind,
        workload.clients,
        recipe.dialect,
        "127.0.0.1",
        ports,
        server,
        plan.seconds,
        plan.rounds,
        recipe.at_once if workload.kind == "idle" else AT_ONCE,
        plan.pace,
        plan.patience,
    )


def _load(job: Job, server: Server, limit: float) -> Report:
    """Run the load generator, and return its figures.

    For an idle workload, also measure the server's memory per client.
    """
    idle = job.workload == "idle"
    before = weight(server.pid) if idle else None
    report: Report = {}
    with _running(job, limit) as (process, late):
        assert process.stdout is not None
        if idle and (line := process.stdout.readline()):
            report = json.loads(line)
            after = weight(server.pid)
            if before is not None and after is not None:
                report["memory"] = (after - before) / job.clients
        output, complaint = process.communicate("\n" if idle else None)
    if late.is_set():
        return {"failed": f"took longer than {limit:g} s"}
    if process.returncode:
        last = "".join(complaint.strip().splitlines()[-1:])
        raise LoadError(f"the load generator failed: {last or 'without a message'}")
    for line in output.splitlines():
        report |= json.loads(line)
    return report


@contextlib.contextmanager
def _running(job: Job, limit: float) -> Iterator[tuple[subprocess.Popen[str], threading.Event]]:
    """Start the load generator; yield its process, and an event that says that it took too long.

    Kill the process after `limit` seconds, and set the event; or kill it at the end of the block.
    """
    late = threading.Event()

    def end() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(limit, end)
    with (
        defer_signals(),
        subprocess.Popen(
            [sys.executable, "-m", "harness.bench.load", job.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
            start_new_session=True,  # so that Ctrl-C interrupts only this process, not the child
        ) as process,
    ):
        try:
            timer.start()
            with allow_signals():
                yield process, late
        finally:
            timer.cancel()
            process.kill()
            process.wait()  # after a KeyboardInterrupt, `with process` would not wait
