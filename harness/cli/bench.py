"""Time chat servers side by side: deliveries per second, memory, joining.

Runs without arguments: the workloads crowd 100, crowd 900, solo 100, latency 100
and idle 300 on the chatroom, ncat, Redis and NATS, as far as they are installed,
and on the floor, which is what a server would cost that has nothing to do. In
crowd N, each of N clients says a line of 64 bytes, all at once, and again when
all have received all; in solo N, one speaks, and again when the others have
heard it. A run in which anything is missing, doubled or sent to the wrong client
shows no figure.

Exit status: 0 if the first server was measured throughout, whatever became of
the others; 1 if it failed; 2 for wrong arguments, or if the load itself broke
off; 3 if the first server is not installed or did not start.
"""

from __future__ import annotations

import argparse
import os
import platform
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from harness.bench import report
from harness.bench.plot import plot
from harness.bench.servers import RECIPES, Recipe, custom, version_of
from harness.bench.trial import FAILED, MEASURED, LoadError, Plan, Result, Workload, run_all
from harness.cli.arguments import (
    add_shared,
    number,
    require_descriptors,
    whole,
    writable,
    write,
    write_json,
)

DEFAULT_WORKLOADS = (
    Workload("crowd", 100),
    Workload("crowd", 900),
    Workload("solo", 100),
    Workload("latency", 100),
    Workload("idle", 300),
)

SWEEP = tuple(Workload("crowd", clients) for clients in (10, 30, 100, 300, 900))
"""What is plotted, where nothing else is asked for."""

BUSY = 0.5
"""The load average, before the start, above which other processes spoil the figures."""

SETTINGS = ("repeat", "seconds", "rounds", "workers", "patience", "limit")
"""The arguments that bear on every run, and so are written down with the figures."""


_seconds = number("a number of seconds", lambda found: 0 <= found < 1e6)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    clients = whole(2)
    add_shared(parser, "--repeat", "--json")
    parser.set_defaults(repeat=3)
    parser.add_argument(
        "--crowd", metavar="N", type=clients, nargs="+", default=[], help="N clients, all speak"
    )
    parser.add_argument(
        "--solo", metavar="N", type=clients, nargs="+", default=[], help="N clients, one speaks"
    )
    parser.add_argument(
        "--latency",
        metavar="N",
        type=clients,
        nargs="+",
        default=[],
        help="N clients speak by a schedule that does not wait, at a tenth and at half of what the "
        "server delivers in a solo of N: how long until a line is heard",
    )
    parser.add_argument(
        "--idle",
        metavar="N",
        type=clients,
        nargs="+",
        default=[],
        help="N clients join and are silent: memory each, and joins per second of the first "
        "and of the last 1,000",
    )
    parser.add_argument(
        "--server",
        metavar="NAME",
        type=_server,
        nargs="+",
        help=f"of {', '.join(RECIPES)} (all by default), or NAME=COMMAND for any other server of "
        "the chatroom's protocol, {host}, {port}, {workers}, {clients} and {python} filled in; "
        "without {port}, it has to print 'listening on HOST:PORT'. The others are compared with "
        "the first",
    )
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=_seconds,
        default=2.0,
        help="how long each timed part lasts, at least (%(default)g)",
    )
    parser.add_argument(
        "--rounds",
        metavar="N",
        type=whole(1),
        default=3,
        help="rounds in each timed part, at least (%(default)s)",
    )
    parser.add_argument(
        "--workers",
        metavar="N",
        type=whole(1),
        default=2,
        help="worker processes of the chatroom (%(default)s)",
    )
    parser.add_argument(
        "--patience",
        metavar="S",
        type=_seconds,
        default=10.0,
        help="seconds of silence after which what is due is missing (%(default)g)",
    )
    parser.add_argument(
        "--limit",
        metavar="S",
        type=_seconds,
        default=300.0,
        help="seconds that one run may take (%(default)g)",
    )
    parser.add_argument(
        "--plot",
        metavar="FILE.svg",
        type=writable,
        help="draw deliveries per second against clients into FILE.svg: of the crowds that are "
        "named, or else of those of 10, 30, 100, 300 and 900",
    )


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    if platform.system() != "Linux":
        parser.error("needs Linux, for its epoll and /proc")
    workloads = [
        Workload(kind, count)
        for kind in ("crowd", "solo", "latency", "idle")
        for count in getattr(options, kind)
    ]
    for workload in workloads:
        require_descriptors(parser, workload.clients, f"argument --{workload.kind}: ")
    servers = options.server or list(RECIPES.values())
    names = [recipe.name for recipe in servers]
    if len(set(names)) < len(names):
        parser.error("argument --server: two servers of one name")
    plan = Plan(
        workloads or (SWEEP if options.plot else DEFAULT_WORKLOADS),
        servers,
        options.repeat,
        options.seconds,
        options.rounds,
        options.workers,
        options.patience,
        options.limit,
    )
    machine = describe_machine(servers)
    try:
        results = run_all(plan, _tell)
    except LoadError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    print(report.tables(results))
    print(f"\n{footnote(machine, options.repeat)}")
    if options.plot:
        write(parser, options.plot, plot(results))
    if options.json:
        settings = {name: getattr(options, name) for name in SETTINGS}
        write_json(parser, options.json, report.as_json(results, machine, settings))
    return exit_status(results, servers[0].name)


def exit_status(results: Sequence[Result], reference: str) -> int:
    statuses = {result.status for result in results if result.server == reference}
    if statuses <= {MEASURED}:
        return 0
    return 1 if FAILED in statuses else 3


def describe_machine(servers: Sequence[Recipe]) -> dict[str, Any]:
    return {
        "system": f"{platform.system()} {platform.release()}",
        "processor": _processor(Path("/proc/cpuinfo")),
        "cores": len(os.sched_getaffinity(0)),
        "python": platform.python_version(),
        "load_average": os.getloadavg()[0],
        "versions": {recipe.name: version_of(recipe) for recipe in servers},
    }


def _processor(info: Path) -> str:
    found = re.search(
        r"^model name\s*: (.+)$", info.read_text() if info.exists() else "", re.MULTILINE
    )
    return found[1] if found else platform.machine()


def footnote(machine: dict[str, Any], repeat: int) -> str:
    parts = [
        f"Median of {repeat}",
        f"{machine['cores']} cores of {machine['processor']}",
        machine["system"],
        f"Python {machine['python']}",
    ]
    for name, text in machine["versions"].items():
        if number := re.search(r"\d+(\.\d+)+", text):
            parts.append(f"{name} {number[0]}")
    note = ", ".join(parts) + "."
    if machine["load_average"] > BUSY:
        note += (
            f" The machine was busy with other things (load average {machine['load_average']:.1f} "
            "before the start), so these figures are too low, and not by the same factor."
        )
    return note


def _tell(result: Result) -> None:
    print(report.summary(result), file=sys.stderr, flush=True)


def _server(text: str) -> Recipe:
    name, _, command = text.partition("=")
    if not name or not command:
        if text not in RECIPES:
            known = ", ".join(RECIPES)
            raise argparse.ArgumentTypeError(f"has to be {known} or NAME=COMMAND, not {text!r}")
        return RECIPES[text]
    try:
        return custom(name, command)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
