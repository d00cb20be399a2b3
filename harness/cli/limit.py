"""Search for the highest load that a server sustains, in messages per second.

All clients talk, each at the same rate, on a fixed schedule. A load counts as held if
the server delivers all messages correctly, and 99 of 100 messages reach their last
receiver within --p99 ms. The load is doubled until a load is not held; then the search
continues between the last two loads until they differ by a tenth. If the harness could
not keep its schedule, the load does not count as held, and the output names the
harness as the reason; more --processes may then help.

Exit status: 0 if a load was held; 1 if no load was held; 2 if the harness could not
judge the first load, or for wrong arguments; 3 if the target did not start.
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
    add,
    add_shared,
    add_target,
    load_profile,
    require_temporary_folder,
    seconds,
    started,
    whole,
    write_json,
)
from harness.cli.optional_deps import needs_extra
from harness.descriptors import raise_descriptor_limit
from harness.profile import Profile
from harness.simulation.scenario.plan import plan
from harness.simulation.scenario.scenario import Phase, Population, Scenario

FIRST = 16.0
"""Load at which the search begins, in messages per second of all clients together."""

MOST = 1_000_000.0
"""Maximum load to try, in messages per second of all clients together."""

CLOSE = 1.1
"""Ratio of the lowest load that was not held to the highest load that was held. At this ratio, the
search ends."""

JOINS_PER_SECOND = 300
"""Number of clients that join per second, before any client sends."""

HELD, SERVER, HARNESS = "held", "server", "harness"
"""Outcomes of a load: held, or the reason why it was not held."""


@dataclass(frozen=True)
class Step:
    """One load that was tried.

    messages: messages per second of all clients together. p99: 99th percentile of the latency to
    the last receiver, in milliseconds; None: no message was received. why: reason why the load was
    not held; empty if it was held.
    """

    clients: int
    messages: float
    outcome: str
    p99: float | None
    why: str = ""

    @property
    def deliveries(self) -> float:
        """Deliveries per second."""
        return self.messages * (self.clients - 1)


@dataclass(frozen=True)
class Limit:
    """The outcome of a search."""

    held: Step | None
    """The highest load that was held; None: no load was held."""
    stopped: Step | None
    """The lowest load that was not held; None: every load was held."""


def search(attempt: Callable[[float], Step], first: float = FIRST, most: float = MOST) -> Limit:
    """Search for the highest load between `first` and `most` that is held. attempt: tries a load.

    A load that was not held is tried once more, because the machine may have been busy
    for a moment.
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
    """Return a scenario in which all clients join, and then talk for `length` seconds."""
    return Scenario(
        "limit",
        "all talk at a fixed rate",
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
    add(parser, "--clients", "N", whole(2), 100, "number of clients")
    bound = "milliseconds within which 99 of 100 messages must reach their last receiver"
    add(parser, "--p99", "MS", whole(1), 100, bound)
    add(parser, "--seconds", "S", seconds, 5, "duration of each load, in seconds")
    add(parser, "--processes", "N", whole(1), 1, "number of processes that run the clients")


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    needs_extra(parser)
    profile = load_profile(parser, options)
    raise_descriptor_limit()
    require_temporary_folder(parser)
    with started(parser, options, options.timeout_scale):
        pass  # Start and stop the server once, so that a failed start is reported early.
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
    """Try a load on a fresh target, and return the outcome."""
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
        print(f"  the recording is in {folder}", file=sys.stderr, flush=True)
    return step


def judged(results: dict[str, object], clients: int, messages: float, bound: float) -> Step:
    """Return the outcome of a load from the results of its run. bound: highest p99 of a load that
    is held, in milliseconds."""
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
    """Return a line that describes one load."""
    load = f"{step.messages:,.0f} messages/s, {step.deliveries:,.0f} deliveries/s: "
    if step.outcome == HELD:
        return load + f"held, p99 {step.p99:.1f} ms"
    return load + f"not held because of the {step.outcome}: {step.why}"


def conclusion(limit: Limit) -> str:
    lines = []
    if limit.held:
        step = limit.held
        each = step.messages / step.clients
        lines.append(f"limit: {step.clients} clients × {each:.3g} messages/s = {described(step)}")
    else:
        lines.append("no load was held")
    if limit.stopped:
        lines.append(f"stopped at {described(limit.stopped)}")
    return "\n".join(lines)
