"""Time chat servers side by side: deliveries per second, memory, joins, starts.

Without arguments, the workloads are crowd 100, crowd 900, solo 100, latency 100,
idle 300 and start. The servers are the chatroom; those of ncat, Redis and NATS that
are installed; plain, the short script harness/bench/plain.py; and floor, which sends
the same bytes without a server's logic. In crowd N, all N clients send a line of 64
bytes at the same time; a round ends when all clients have received all lines. In
solo N, one client sends and the others receive. In stream N, one client sends lines
as fast as it can. CPU µs/message is the processor time of all processes of the server
for each line that a client sends. If a line was lost, duplicated or sent to the wrong
client in a run, no figure of the run is shown.

With --cluster N, the servers are one chatroom of N nodes (this needs nats-server, and
nats-py of the extra "cluster"); a chatroom without a cluster; plain-redis and
plain-nats, the short script harness/bench/pubsub.py in N processes that Redis or NATS
connects; and Redis and NATS themselves. The clients connect to the nodes in turn. The
workloads are crowd 100, crowd 900, stream 2, and latency 100 with --pace 200.

If the bench is interrupted, it prints the figures that it has measured.

Exit status: 0 if the first server was measured in all workloads, even if another
server failed; 1 if the first server failed; 2 for wrong arguments, or if the load
generator itself failed; 3 if the first server is not installed or did not start.
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
from harness.bench.plot import PLOTTED, plot
from harness.bench.servers import ALONE, CLUSTERED, RECIPES, Recipe, custom, version_of
from harness.bench.trial import FAILED, MEASURED, LoadError, Plan, Result, Workload, run_all
from harness.cli.arguments import (
    add,
    add_shared,
    number,
    require_descriptors,
    require_temporary_folder,
    whole,
    writable,
    write,
    write_json,
)

KINDS = {
    "crowd": "send, all at the same time",
    "solo": "are in the room, and one of them sends",
    "stream": "are in the room, and one of them sends as fast as it can",
    "latency": "send on a fixed schedule, at 10%% and at 50%% of the server's throughput in solo "
    "N; measures the time until a line is received",
    "idle": "join and stay silent; measures memory per client, and joins per second of the first "
    "and of the last 1,000 clients",
}
"""Description of each kind of workload with clients; 'N clients' precedes it in the help."""

START = Workload("start")

DEFAULT_WORKLOADS = (
    Workload("crowd", 100),
    Workload("crowd", 900),
    Workload("solo", 100),
    Workload("latency", 100),
    Workload("idle", 300),
    START,
)

NODES = 2
"""Number of nodes of a cluster if --cluster is given without a number."""

PACE = 200
"""Messages per second at which --cluster measures latencies."""

CLUSTER_WORKLOADS = (
    Workload("crowd", 100),
    Workload("crowd", 900),
    Workload("stream", 2),
    Workload("latency", 100),
)
"""Workloads for --cluster if no workload is given."""

SIZES = (2, 10, 30, 100, 300, 900)
SWEEP = tuple(Workload(kind, clients) for kind in PLOTTED for clients in SIZES)
"""Workloads for --plot if no workload is given."""

BUSY = 0.5
"""Load average before the start above which other processes distort the figures."""

SETTINGS = ("repeat", "seconds", "rounds", "workers", "cluster", "pace", "patience", "limit")
"""Arguments that affect every run; the JSON file records them."""


_seconds = number("a number of seconds", lambda found: 0 <= found < 1e6)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared(parser, "--repeat", "--json")
    parser.set_defaults(repeat=3)
    counts: dict[str, Any] = {"metavar": "N", "type": whole(2), "nargs": "+", "default": []}
    for kind, about in KINDS.items():
        parser.add_argument(f"--{kind}", help=f"N clients {about}", **counts)
    parser.add_argument(
        "--start",
        action="store_true",
        help="measures the seconds from the start of each server's command until the server "
        "prints that it is ready, or listens if it prints nothing",
    )
    parser.add_argument(
        "--server",
        metavar="NAME",
        type=_server,
        nargs="+",
        help=f"servers to measure: {', '.join(RECIPES)} (default: all except those that only "
        "--cluster measures), or NAME=COMMAND for a server with the chatroom's protocol; {host}, "
        "{port}, {workers}, {nodes}, {clients} and {python} are replaced in the command; a server "
        "without {port} must print 'listening on HOST:PORT', with ', HOST:PORT' for each further "
        "address. The other servers are compared with the first",
    )
    parser.add_argument(
        "--cluster",
        metavar="N",
        type=whole(1),
        nargs="?",
        const=NODES,
        help=f"compare a room of N nodes (without N: {NODES}) with a single server: see above",
    )
    parser.add_argument(
        "--pace",
        metavar="N",
        type=whole(1),
        help="measure latencies at a rate of N messages per second, all clients together, for "
        "each server; the table then shows by how much the first server's latency exceeds that of "
        "each other server",
    )
    add(parser, "--seconds", "S", _seconds, 2, "minimum number of seconds of each timed part")
    add(parser, "--rounds", "N", whole(1), 3, "minimum number of rounds in each timed part")
    add(parser, "--workers", "N", whole(1), 2, "number of worker processes of the chatroom")
    silence = "seconds without a received line after which a line counts as lost"
    add(parser, "--patience", "S", _seconds, 10, silence)
    add(parser, "--limit", "S", _seconds, 300, "maximum number of seconds for one run")
    parser.add_argument(
        "--plot",
        metavar="FILE.svg",
        type=writable,
        help="draw a chart of deliveries per second over the number of clients, with a line for "
        "each server. Without other workloads, this measures crowd and solo with 2, 10, 30, 100, "
        "300 and 900 clients",
    )


def plan_of(options: argparse.Namespace, parser: argparse.ArgumentParser) -> Plan:
    """Return the measurements to make. Exits with status 2 if they can't be made here."""
    if platform.system() != "Linux":
        parser.error("needs Linux, for its epoll and /proc")
    workloads = [Workload(kind, count) for kind in KINDS for count in getattr(options, kind)]
    workloads += [START] * options.start
    for workload in workloads:
        require_descriptors(parser, workload.clients, f"argument --{workload.kind}: ")
    require_temporary_folder(parser)
    default = CLUSTER_WORKLOADS if options.cluster else DEFAULT_WORKLOADS
    servers = options.server or list(CLUSTERED if options.cluster else ALONE)
    if options.pace is None:
        options.pace = PACE if options.cluster else 0
    names = [recipe.name for recipe in servers]
    if len(set(names)) < len(names):
        parser.error("argument --server: two servers have the same name")
    return Plan(
        workloads or (SWEEP if options.plot else default),
        servers,
        options.repeat,
        options.seconds,
        options.rounds,
        options.workers,
        options.cluster or NODES,
        options.pace,
        options.patience,
        options.limit,
    )


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    plan = plan_of(options, parser)
    machine = describe_machine(plan.servers)
    measured: list[Result] = []

    def note(result: Result) -> None:
        measured.append(result)
        _print_result(result)

    try:
        results = run_all(plan, note)
    except LoadError as error:
        print(f"{parser.prog}: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        if measured:
            _print_tables(measured, f"Interrupted: median of at most {options.repeat}", machine)
        raise
    _print_tables(results, f"Median of {options.repeat}", machine)
    if options.plot:
        write(parser, options.plot, plot(results))
    if options.json:
        settings = {name: getattr(options, name) for name in SETTINGS}
        write_json(parser, options.json, report.as_json(results, machine, settings))
    return exit_status(results, plan.servers[0].name)


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


def footnote(statistic: str, machine: dict[str, Any]) -> str:
    parts = [
        statistic,
        f"{machine['cores']} cores of {machine['processor']}",
        machine["system"],
        f"Python {machine['python']}",
    ]
    for name, text in machine["versions"].items():
        if number := re.search(r"\d+(\.\d+)+( \((compiled|pure)\))?", text):
            parts.append(f"{name} {number[0]}")
    note = ", ".join(parts) + "."
    if machine["load_average"] > BUSY:
        note += (
            f" The machine was busy with other work (load average {machine['load_average']:.1f} "
            "before the start): these figures are too low, and each by a different factor."
        )
    return note


def _print_tables(results: Sequence[Result], statistic: str, machine: dict[str, Any]) -> None:
    print(report.tables(results))
    print(f"\n{footnote(statistic, machine)}")


def _print_result(result: Result) -> None:
    print(report.summary(result), file=sys.stderr, flush=True)


def _server(text: str) -> Recipe:
    name, _, command = text.partition("=")
    if not name or not command:
        if text not in RECIPES:
            known = ", ".join(RECIPES)
            raise argparse.ArgumentTypeError(f"must be {known} or NAME=COMMAND, not {text!r}")
        return RECIPES[text]
    try:
        return custom(name, command)
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None
