"""Compute the machines that a large room needs, from measured costs.

FIGURES.json are files that `bench --cluster N --json` has written. A simulation of the room's
processes counts turns of the workers' event loops, lines, deliveries, publications and so on.
The cost of each is fitted to the measured points of up to 100 members. The first table shows
all points, measured and simulated; points of more members are predictions, and their errors
show how reliable the other tables are. The second table shows the fitted costs. The third table
shows, for each number of members and rate of lines, the number of nodes that a room needs; "too
high" marks a simulated latency above --within, which more nodes may or may not reduce. The last
table shows, for each number of nodes, the highest rate of lines at which all lines can have one
order.

Exit status: 0; 2 if a file lacks the points that are needed.
"""

from __future__ import annotations

import argparse
import json
import statistics
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from harness.bench.report import Row, human, table
from harness.cli.arguments import add, number, whole
from harness.scale.costs import Costs
from harness.scale.plan import Machine, Need, highest_rate, need
from harness.scale.points import Points, PointsError, fit_costs, read, simulate, simulate_latency

MEMBERS = [10_000, 100_000, 1_000_000]
RATES = [10.0, 100.0, 1000.0]
NODES = (2, 4, 10, 30, 100, 300, 1000)

_positive = number("a number above 0", lambda found: 0 < found < 1e9)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("figures", metavar="FIGURES.json", type=Path, nargs="+")
    parser.add_argument(
        "--members",
        metavar="N",
        type=whole(2),
        nargs="+",
        default=MEMBERS,
        help="numbers of members (default: 10000 100000 1000000)",
    )
    parser.add_argument(
        "--rate",
        metavar="N",
        type=_positive,
        nargs="+",
        default=RATES,
        help="numbers of lines per second, of all members together (default: 10 100 1000)",
    )
    parser.add_argument(
        "--each",
        metavar="N",
        type=_positive,
        help="number of lines per minute that each member sends; replaces --rate",
    )
    add(parser, "--within", "MS", _positive, 100, "maximum p99 of the latency, in ms")
    add(parser, "--cores", "N", whole(3), 16, "number of cores of a node's machine")
    add(parser, "--memory", "GIB", _positive, 64, "memory of a node's machine, in GiB")
    add(parser, "--network", "GBIT", _positive, 10, "network of a node's machine, in Gbit/s")
    add(parser, "--delay", "MS", _positive, 0.1, "delay between a node and the engine, in ms")


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    try:
        points = read(_load(parser, path) for path in options.figures)
    except PointsError as error:
        parser.error(str(error))
    costs = fit_costs([point for point in points.rounds if point.fitted])
    print(table(point_rows(points, costs), LEFT))
    print(f"\n{errors(points, costs)}\n")
    print(table(cost_rows(costs), LEFT))
    machine = Machine(
        options.cores,
        options.memory * 2**30,
        options.network * 1e9 / 8,
        delay=options.delay / 1000,
    )
    needs = [
        need(costs, machine, members, rate, points.memory, options.within / 1000)
        for members in options.members
        for rate in ([members * options.each / 60] if options.each else options.rate)
    ]
    print(f"\n{table(need_rows(needs), LEFT)}")
    print(f"\n{table(order_rows(costs, machine), LEFT)}")
    return 0


def order_rows(costs: Costs, machine: Machine) -> list[Row]:
    """Return the table of the highest rates at which all lines can have one order."""
    found = [(nodes, *highest_rate(costs, machine, nodes)) for nodes in NODES]
    head: Row = ("nodes", "lines/s in one order", "limit")
    return [head, *((f"{nodes:,}", human(rate), limit) for nodes, rate, limit in found)]


LEFT = ("point", "fitted", "cost", "limit")
"""Titles of columns that contain text, which `table` aligns to the left."""


def _load(parser: argparse.ArgumentParser, path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        parser.error(f"{path}: {error}")


def point_rows(points: Points, costs: Costs) -> list[Row]:
    """Return the table of all points, measured and simulated."""
    rows: list[Row] = [
        (
            "point",
            "fitted",
            "CPU µs/line",
            "simulated",
            "error",
            "deliveries/s",
            "simulated",
            "error",
        )
    ]
    for point in points.rounds:
        found = simulate(point, costs)
        rows.append(
            (
                str(point),
                "yes" if point.fitted else "no",
                _digits(1e6 * point.line),
                _digits(1e6 * found.line),
                _error(found.line, point.line),
                human(point.rate),
                human(found.rate),
                _error(found.rate, point.rate),
            )
        )
    for latency in points.latencies:
        room = simulate_latency(latency, costs)
        p50, p99 = room.latency(0.5), room.latency(0.99)
        rows.append(
            (
                f"{latency}: p50, p99 ms",
                "no",
                f"{1e3 * latency.p50:.2f}, {1e3 * latency.p99:.2f}",
                f"{1e3 * p50:.2f}, {1e3 * p99:.2f}",
                _error(p50, latency.p50),
                *("", "", ""),
            )
        )
    return rows


def _digits(number: float) -> str:
    return f"{number:.0f}" if number >= 100 else f"{number:.1f}"


def _error(simulated: float, measured: float) -> str:
    return f"{simulated / measured - 1:+.0%}"


def errors(points: Points, costs: Costs) -> str:
    """Return a line that gives the errors of the fitted and of the predicted points."""
    parts = []
    for fitted, name in ((True, "fitted"), (False, "predicted")):
        chosen = [point for point in points.rounds if point.fitted is fitted]
        found = [(simulate(point, costs), point) for point in chosen]
        line = [abs(simulated.line / point.line - 1) for simulated, point in found]
        rate = [abs(simulated.rate / point.rate - 1) for simulated, point in found]
        if found:
            parts.append(
                f"{name} points: processor time {_spread(line)}, deliveries per second"
                f" {_spread(rate)}"
            )
    return f"Error, median and highest. {'; '.join(parts)}."


def _spread(values: Sequence[float]) -> str:
    return f"{statistics.median(values):.0%} and {max(values):.0%}"


COSTS = {
    "turn": "a worker's turn",
    "read": "a line that a worker reads",
    "send": "a send to a member",
    "byte": "1,000 bytes in a send",
    "publish": "a publication, at the node that sends it",
    "follow": "a publication, at each node that receives it",
    "relay": "a line of a publication, at each node",
    "store": "a publication, in the engine",
    "push": "a publication, in the engine, for each node",
    "engine_byte": "1,000 bytes, in the engine, for the stream and each node",
}


def cost_rows(costs: Costs) -> list[Row]:
    """Return the table of the costs of the server and the engine."""
    rows: list[Row] = [("cost", "CPU µs")]
    for name, seconds in asdict(costs).items():
        if name in COSTS:
            scale = 1000 if "1,000" in COSTS[name] else 1
            rows.append((COSTS[name], f"{scale * 1e6 * seconds:.2f}"))
    return rows


def need_rows(needs: Sequence[Need]) -> list[Row]:
    """Return the table of the machines that rooms need."""
    head: Row = (
        "members",
        "lines/s",
        "nodes",
        "limit",
        "worker busy",
        "bridge busy",
        "engine cores",
        "GiB/node",
        "Gbit/s/node",
        "engine Gbit/s",
        "p99 ms",
    )
    return [head, *map(_need_row, needs)]


def _latency(found: Need) -> str:
    if found.p99 is None:
        return "-"
    return f"{1000 * found.p99:.0f}{' (too high)' if found.late else ''}"


def _need_row(found: Need) -> Row:
    return (
        f"{found.members:,}",
        f"{found.rate:,.0f}",
        f"{found.nodes:,}" if found.order.possible else "impossible",
        found.limit,
        f"{found.worker:.0%}",
        f"{found.order.bridge:.0%}",
        f"{found.order.engine:.2f}",
        f"{found.memory / 2**30:.2f}",
        f"{8 * found.network / 1e9:.2f}",
        f"{8 * found.order.network / 1e9:.2f}",
        _latency(found),
    )
