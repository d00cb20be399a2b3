"""Measured points, the same points in the simulation, and the fit of the costs. Pure."""

from __future__ import annotations

import statistics
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from harness.bench.load import STREAM_LINES
from harness.scale.costs import BRIDGE, ENGINE, LOAD, WORKER, Costs, Counts, fit
from harness.scale.room import Room, Setup, play_rounds, play_schedule

KINDS = ("crowd", "solo", "stream")
ENGINE_PROGRAM = "nats-server"

FITTED = 100
"""Maximum number of members of a point to fit. The points of larger rooms are predictions."""

LEAST = 4
"""Minimum number of points to fit, for single rooms and for clusters each."""

ROUNDS = 4
"""Number of rounds to simulate: more than one, because only the first begins in an idle room."""

FITS = 2
"""Number of fits. The counts depend on the costs, so the first fit uses the counts of the default
costs. The dependence is weak, so two fits are enough."""


class PointsError(Exception):
    """A file lacks points or figures that are needed. The message names them."""


@dataclass(frozen=True)
class Point:
    """A measured point. Times are in seconds.

    kind: crowd, solo or stream. line: processor time of the server for a line, of all its
    processes; engine: the engine's share of this time. load: processor time of the load generator
    for a line. rate: deliveries per second.
    """

    setup: Setup
    kind: str
    line: float
    engine: float
    load: float
    rate: float

    def __str__(self) -> str:
        nodes = f"{self.setup.nodes} nodes" if self.setup.nodes else "one room"
        return f"{self.kind} {self.setup.members}, {nodes}"

    @property
    def fitted(self) -> bool:
        return self.setup.members <= FITTED

    @property
    def lines(self) -> int:
        """Number of lines that each speaker sends in a round."""
        return STREAM_LINES if self.kind == "stream" else 1


@dataclass(frozen=True)
class Latency:
    """Measured latencies in seconds, at `rate` lines per second."""

    setup: Setup
    rate: float
    p50: float
    p99: float

    def __str__(self) -> str:
        nodes = f"{self.setup.nodes} nodes" if self.setup.nodes else "one room"
        return f"latency {self.setup.members} at {self.rate:g}/s, {nodes}"


@dataclass(frozen=True)
class Points:
    rounds: list[Point]
    latencies: list[Latency]
    memory: float
    """Bytes of a server's memory for each idle member."""


def read(records: Iterable[Mapping[str, Any]]) -> Points:
    """Return the points in records of `harness bench --json`: the medians of the repetitions.

    Raise PointsError if a point lacks figures, or if there are too few points to fit the costs.
    """
    points = Points([], [], 0.0)
    for record in records:
        points = _with(points, record)
    for server, in_cluster in (("chatroom", False), ("cluster", True)):
        fitted = [p for p in points.rounds if p.fitted and bool(p.setup.nodes) == in_cluster]
        if len(fitted) < LEAST:
            raise PointsError(
                f"needs at least {LEAST} crowds, solos or streams of up to {FITTED} members for"
                f" {server}"
            )
    if len({point.setup.nodes for point in points.rounds if point.fitted} - {0}) < 2:
        raise PointsError(
            "needs clusters of two numbers of nodes, such as --cluster 2 and --cluster 4:"
            " otherwise, the costs for each node are unknown"
        )
    return points


def _with(points: Points, record: Mapping[str, Any]) -> Points:
    """Return `points` and the points of a record."""
    try:
        cores, workers = record["machine"]["cores"], record["settings"]["workers"]
        nodes = record["settings"]["cluster"] or 2
        trials: dict[tuple[str, str], list[dict[str, float]]] = defaultdict(list)
        for trial in record["trials"]:
            if trial["figures"]:
                trials[trial["server"], trial["workload"]].append(trial["figures"])
    except (KeyError, TypeError) as error:
        raise PointsError(f"not a file of `bench --json`: {error!r}") from None
    rounds, latencies, memory = [*points.rounds], [*points.latencies], points.memory
    for (server, workload), repetitions in trials.items():
        kind, _, members = workload.partition(" ")
        if server not in ("chatroom", "cluster") or not members:
            continue
        figures = {
            name: statistics.median(found[name] for found in repetitions if name in found)
            for name in repetitions[0]
        }
        setup = Setup(int(members), nodes if server == "cluster" else 0, workers, cores)
        try:
            if kind in KINDS and "cpu_per_message" in figures:
                rounds.append(_point(setup, kind, figures))
            elif kind == "latency":
                latencies += _latencies(setup, figures)
        except PointsError as error:
            raise PointsError(f"{workload} of {server} {error}") from None
        memory = max(memory, figures.get("memory", 0.0))
    return Points(rounds, latencies, memory)


def _point(setup: Setup, kind: str, figures: Mapping[str, float]) -> Point:
    messages = _positive(figures, "deliveries") / (setup.members - 1)
    line = _positive(figures, "cpu_per_message")
    engine = _positive(figures, f"cpu_per_message of {ENGINE_PROGRAM}") if setup.nodes else 0.0
    load = _positive(figures, "busy") * _positive(figures, "seconds") / messages
    return Point(setup, kind, line, engine, load, _positive(figures, "rate"))


def _latencies(setup: Setup, figures: Mapping[str, float]) -> list[Latency]:
    """Return the latencies at a fixed rate of lines. Leave out those at a share of the capacity."""
    rates = [name.removeprefix("p50 at ") for name in figures if name.startswith("p50 at ")]
    return [
        Latency(
            setup,
            float(rate.removesuffix("/s")),
            _positive(figures, f"p50 at {rate}") / 1000,
            _positive(figures, f"p99 at {rate}") / 1000,
        )
        for rate in rates
        if rate.endswith("/s")
    ]


def _positive(figures: Mapping[str, float], name: str) -> float:
    """Return a figure; raise PointsError if it is missing or not above 0."""
    value = figures.get(name, 0.0)
    if value <= 0:
        raise PointsError(f"needs a figure {name!r} above 0")
    return value


@dataclass(frozen=True)
class Simulated:
    """Result of the simulation of a point. Times are in seconds; counts are per line."""

    counts: Counts
    line: float
    rate: float


def simulate(point: Point, costs: Costs) -> Simulated:
    """Simulate a point."""
    return _simulated(point.setup, point.kind, point.lines, costs)


@cache
def _simulated(setup: Setup, kind: str, lines: int, costs: Costs) -> Simulated:
    speakers = setup.members if kind == "crowd" else 1
    room = play_rounds(setup, costs, speakers, lines, ROUNDS)
    messages = ROUNDS * speakers * lines
    counts = {name: count / messages for name, count in room.counts.items()}
    line = costs.of(counts, (*WORKER, *BRIDGE, *ENGINE))
    return Simulated(counts, line, messages * (setup.members - 1) / room.clock.now)


def simulate_latency(latency: Latency, costs: Costs) -> Room:
    """Simulate, for one second, the schedule with which a latency was measured."""
    return play_schedule(latency.setup, costs, latency.rate, 1.0, is_bench=True)


def fit_costs(points: Sequence[Point], costs: Costs | None = None) -> Costs:
    """Return the costs that fit these points best."""
    costs = costs or Costs()
    alone = [point for point in points if not point.setup.nodes]
    joint = [point for point in points if point.setup.nodes]
    for _ in range(FITS):
        counts = {point: simulate(point, costs).counts for point in points}
        costs = fit(costs, LOAD, [(_only(counts[p], LOAD), p.load) for p in points])
        costs = fit(costs, WORKER, [(_only(counts[p], WORKER), p.line) for p in alone])
        costs = fit(costs, ENGINE, [(_only(counts[p], ENGINE), p.engine) for p in joint])
        nodes = [(_only(counts[p], WORKER + BRIDGE), p.line - p.engine) for p in joint]
        costs = fit(costs, BRIDGE, nodes)
    return costs


def _only(counts: Counts, names: Sequence[str]) -> Counts:
    return {name: counts.get(name, 0.0) for name in names}
