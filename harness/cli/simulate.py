"""Simulate people in a room: a scenario is run, its history judged, its figures shown.

SCENARIO is one of those that ship (`scenarios` lists them) or a file of TOML.
Every send and every receipt is recorded, and judged when all is over: whether
each message has reached everyone else once, in one order, unharmed, with the
true prefix. Latencies count from when a message was due, whatever held it up.
The same seed gives the same schedule. --report writes history.jsonl, results.json
and report.html.

Exit status: 0 if all that was said was heard as it has to be; 1 if it was not;
2 if that can't be told: the harness could not keep its schedule, nothing was
heard, the target ended, or an argument is wrong; 3 if the target did not start.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from harness.cli.arguments import (
    add_shared,
    add_target,
    load_profile,
    make_folder,
    require_descriptors,
    seconds,
    started,
    whole,
)
from harness.cli.optional_deps import needs_extra
from harness.cli.streams import say
from harness.profile import Profile
from harness.simulation.history import HISTORY
from harness.simulation.scenario.plan import plan
from harness.simulation.scenario.scenario import Scenario, load


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", metavar="SCENARIO", help="one that ships, or a file")
    add_target(parser)
    add_shared(parser, "--profile", "--seed", "--report", "--timeout-scale")
    parser.add_argument(
        "--duration", metavar="S", type=seconds, help="seconds that people talk (the scenario's)"
    )
    parser.add_argument(
        "--clients", metavar="N", type=whole(1), help="people in all (the scenario's)"
    )
    parser.add_argument(
        "--processes",
        metavar="N",
        type=whole(1),
        default=0,
        help="processes that drive the clients (one for each 1,000 connections)",
    )


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    needs_extra(parser)
    try:
        scenario = _chosen(options)
    except ValueError as error:
        parser.error(str(error))
    profile = load_profile(parser, options)
    require_descriptors(parser, scenario.clients)
    if options.report:
        make_folder(parser, options.report)
    folder = options.report or Path(tempfile.mkdtemp(prefix="simulation-"))
    try:
        return _simulate(options, parser, scenario, profile, folder)
    except OSError as error:
        print(f"{parser.prog}: can't write to {folder}: {error.strerror}", file=sys.stderr)
        return 2
    finally:
        _keep_or_not(folder, asked=bool(options.report))


def _simulate(
    options: argparse.Namespace,
    parser: argparse.ArgumentParser,
    scenario: Scenario,
    profile: Profile,
    folder: Path,
) -> int:
    from harness.simulation.outcome import simulated
    from harness.simulation.run.progress import live
    from harness.simulation.run.run import Run

    seed, patience = options.seed, options.timeout_scale
    with started(parser, options, patience) as target:
        print(f"{scenario.name} of {target}, seed {seed}", file=sys.stderr, flush=True)
        with live(sys.stderr, scenario.seconds) as told:
            found = simulated(
                Run(
                    plan(scenario, seed),
                    target,
                    profile,
                    folder,
                    told,
                    options.processes,
                    patience,
                )
            )
    for line in found.lines():
        print(line)
    if options.report:
        found.write(folder)
    elif found.exit_status == 0:
        (folder / HISTORY).unlink()
    return found.exit_status


def _keep_or_not(folder: Path, *, asked: bool) -> None:
    """What was recorded is kept, where anything went wrong; an empty folder is not."""
    if asked:
        return
    if any(folder.iterdir()):
        say(f"what was recorded is in {folder}")
    else:
        folder.rmdir()


def _chosen(options: argparse.Namespace) -> Scenario:
    """The scenario with what the options change of it. Raises ValueError."""
    scenario = load(options.scenario)
    if options.clients:
        scenario = scenario.peopled(options.clients)
    return scenario.lasting(options.duration) if options.duration else scenario
