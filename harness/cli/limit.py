"""Search for the highest load that a server holds: so many people, who say ever more.

All talk, each as often as the others, by a schedule that does not wait. A load
is held where all of it was heard as it has to be, and 99 of 100 messages by
their last listener within --p99. The load is doubled until one is not held, then
the gap is halved until it is a tenth. What stopped it was the server, or the
harness, which could not keep its schedule: then --processes may take it further.

Exit status: 0 if some load was held; 1 if none was; 2 if the harness could not judge
before, or an argument is wrong; 3 if the target did not start.
"""

from __future__ import annotations

import argparse
import math
import shutil
import sys
import tempfile
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from harness.cli.arguments import (
    add_shared,
    add_target,
    load_profile,
    seconds,
    started,
    whole,
    write_json,
)
from harness.cli.optional_deps import needs_extra
from harness.profile import Profile
from harness.simulation.scenario.plan import plan
from harness.simulation.scenario.scenario import Phase, Population, Scenario
from harness.target.processes import raise_descriptor_limit

FIRST = 16.0
"""Messages a second, of all together, with which the search begins."""

MOST = 1_000_000.0
"""Messages a second at which it ends."""

CLOSE = 1.1
"""How many times as high the load that is not held may be as the one that is, at the end."""

JOINS_PER_SECOND = 300
"""That they arrive with, before anyone speaks."""

HELD, SERVER, HARNESS = "held", "server", "harness"
"""What became of a load, or what stopped it."""


@dataclass(frozen=True)
class Step:
    """One load that was tried. messages: a second, of all together. p99: in ms, of the last
    listener; None: nothing was heard. why: it was not held; empty: it was."""

    clients: int
    messages: float
    outcome: str
    p99: float | None
    why: str = ""

    @property
    def deliveries(self) -> float:
        """A second."""
        return self.messages * (self.clients - 1)


@dataclass(frozen=True)
class Limit:
    held: Step | None
    """The highest load that was held."""
    stopped: Step | None
    """The lowest that was not; None: the search ended before."""


def search(attempt: Callable[[float], Step], first: float = FIRST, most: float = MOST) -> Limit:
    """The highest load between `first` and `most`, as far as `attempt` tells.

    A load that was not held is tried once more: a busy moment of the machine is
    no limit of the server.
    """

    def tried(messages: float) -> Step:
        step = attempt(messages)
        return step if step.outcome == HELD else attempt(messages)

    held: Step | None = None
    stopped: Step | None = None
    messages = first
    while messages <= most:
        step = tried(messages)
        if step.outcome == HELD:
            held = step
        else:
            stopped = step
        if stopped is None:
            messages *= 2
        elif held is None or stopped.messages <= held.messages * CLOSE:
            break
        else:
            messages = math.sqrt(held.messages * stopped.messages)
    return Limit(held, stopped)


def scenario_of(clients: int, messages: float, length: float) -> Scenario:
    """All come, and then all talk for so many seconds."""
    return Scenario(
        "limit",
        "all talk ever more",
        (Phase("all come", 0.5 + clients / JOINS_PER_SECOND, 0.0), Phase("all talk", length)),
        (
            Population(
                "crowd",
                clients,
                phase="all come",
                arrives=(0.0, 0.8),
                rate=messages / clients,
            ),
        ),
    )


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_target(parser)
    add_shared(parser, "--profile", "--seed", "--timeout-scale", "--json")
    parser.set_defaults(seed=1)
    parser.add_argument(
        "--clients", metavar="N", type=whole(2), default=100, help="people (%(default)s)"
    )
    parser.add_argument(
        "--p99",
        metavar="MS",
        type=whole(1),
        default=100,
        help="milliseconds in which the last listener has to hear 99 of 100 (%(default)s)",
    )
    parser.add_argument(
        "--seconds",
        metavar="S",
        type=seconds,
        default=5.0,
        help="how long they talk at each load (%(default)g)",
    )
    parser.add_argument(
        "--processes",
        metavar="N",
        type=whole(1),
        default=1,
        help="processes that drive the clients (%(default)s)",
    )


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    needs_extra(parser)
    profile = load_profile(parser, options)
    raise_descriptor_limit()
    with started(parser, options, options.timeout_scale):
        pass  # It can be started, and stopped: tried once, before it is loaded.
    found = search(lambda messages: _attempt(options, parser, profile, messages))
    print(conclusion(found))
    if options.json:
        write_json(parser, options.json, asdict(found))
    if found.held:
        return 0
    return 2 if found.stopped and found.stopped.outcome == HARNESS else 1


def _attempt(
    options: argparse.Namespace,
    parser: argparse.ArgumentParser,
    profile: Profile,
    messages: float,
) -> Step:
    """Put a load on a fresh target, and tell what became of it."""
    from harness.simulation.outcome import simulated
    from harness.simulation.run.run import Run

    planned = plan(scenario_of(options.clients, messages, options.seconds), options.seed)
    folder = Path(tempfile.mkdtemp(prefix="limit-"))
    keep = False
    try:
        with started(parser, options, options.timeout_scale) as target:
            run = Run(
                planned,
                target,
                profile,
                folder,
                lambda _: None,
                options.processes,
                options.timeout_scale,
            )
            found = simulated(run)
        step = judged(found.results, options.clients, messages, options.p99)
        keep = found.results["verdict"] == "fail"
    finally:
        if not keep:
            shutil.rmtree(folder)
    print(described(step), file=sys.stderr, flush=True)
    if keep:
        print(f"  what was recorded is in {folder}", file=sys.stderr, flush=True)
    return step


def judged(results: dict[str, object], clients: int, messages: float, bound: float) -> Step:
    """What the results of a run say of its load; `bound`: of p99, in ms."""
    latencies = results["latency_ms"]
    assert isinstance(latencies, dict)
    p99 = latencies["corrected"]["last"]["p99"]
    match results["verdict"]:
        case "invalid":
            outcome, why = HARNESS, str(results["why"])
        case "pass" if p99 is not None and p99 > bound:
            outcome, why = SERVER, f"p99 was {p99:.0f} ms"
        case "pass":
            outcome, why = HELD, ""
        case _:
            outcome, why = SERVER, str(results["why"])
    return Step(clients, messages, outcome, p99, why)


def described(step: Step) -> str:
    """A line on one load."""
    load = f"{step.messages:,.0f} messages/s, {step.deliveries:,.0f} deliveries/s: "
    if step.outcome == HELD:
        return load + f"held, p99 {step.p99:.1f} ms"
    return load + f"not held, by the {step.outcome}: {step.why}"


def conclusion(limit: Limit) -> str:
    lines = []
    if limit.held:
        step = limit.held
        each = step.messages / step.clients
        lines.append(f"holds {step.clients} clients × {each:.3g} messages/s = {described(step)}")
    else:
        lines.append("holds no load that was tried")
    if limit.stopped:
        lines.append(f"stopped at {described(limit.stopped)}")
    return "\n".join(lines)
