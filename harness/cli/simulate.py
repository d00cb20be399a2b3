"""Run a scenario with simulated clients, judge the recorded history, print figures.

SCENARIO is a scenario of the harness (`scenarios` lists them) or a TOML file. All sent
and received data is recorded, and judged at the end: each message must reach every
other client once, in one order, unchanged, with the true prefix. A latency is measured
from the time at which the message was due, even if the message was sent late. The same
seed gives the same schedule. --report writes history.jsonl, results.json and
report.html.

Exit status: 0 if all messages were delivered correctly; 1 if not; 2 if the harness
could not judge (for example, because it could not keep its schedule, or because no
message was received), or for wrong arguments; 3 if the target did not start; 4 if all
messages were delivered correctly, but a MUST clause was judged in the form that it
takes in the profile's dialect, not as PROTOCOL.md states it.
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
    require_temporary_folder,
    seconds,
    started,
    whole,
)
from harness.cli.optional_deps import needs_extra
from harness.cli.streams import say
from harness.profile import Profile
from harness.simulation.history import HISTORY
from harness.simulation.scenario.plan import plan
from harness.simulation.scenario.scenario import (
    TARGET_FAULTS,
    WORKER_FAULTS,
    Scenario,
    load,
)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("scenario", metavar="SCENARIO", help="a scenario of the harness, or a file")
    add_target(parser)
    add_shared(parser, "--profile", "--seed", "--report", "--timeout-scale")
    parser.add_argument(
        "--duration",
        metavar="S",
        type=seconds,
        help="duration in seconds (default: the scenario's)",
    )
    parser.add_argument(
        "--clients",
        metavar="N",
        type=whole(1),
        help="total number of clients (default: the scenario's)",
    )
    parser.add_argument(
        "--worker-faults",
        action="store_true",
        help="also kill workers, engines and bridges, stop engines, and send SIGHUP, if the "
        "scenario lists these faults: only a server that can replace its processes survives them "
        "(LOAD-4)",
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
    else:
        require_temporary_folder(parser)
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
    from harness.simulation.judge.results import PASS
    from harness.simulation.outcome import simulated
    from harness.simulation.run.progress import live
    from harness.simulation.run.run import Run

    seed, patience = options.seed, options.timeout_scale
    with started(parser, options, patience) as target:
        print(f"{scenario.name} against {target}, seed {seed}", file=sys.stderr, flush=True)
        with live(sys.stderr, scenario.seconds) as on_status:
            found = simulated(
                Run(plan(scenario, seed), target, profile, folder, on_status, scale=patience)
            )
    for line in found.lines():
        print(line)
    if options.report:
        found.write(folder)
    elif found.results["verdict"] == PASS:
        (folder / HISTORY).unlink()
    return found.exit_status


def _keep_or_not(folder: Path, *, asked: bool) -> None:
    """Print where the recording is; if the folder is empty, remove it. asked: whether the user has
    named the folder."""
    if asked:
        return
    if any(folder.iterdir()):
        say(f"the recording is in {folder}")
    else:
        folder.rmdir()


def _chosen(options: argparse.Namespace) -> Scenario:
    """Return the scenario, changed as the options say. Raise ValueError if it is invalid."""
    scenario = load(options.scenario)
    if options.clients:
        scenario = scenario.peopled(options.clients)
    if not options.command:
        scenario = scenario.without(TARGET_FAULTS, "the harness has not started the server")
    if not options.worker_faults:
        scenario = scenario.without(WORKER_FAULTS, "only with --worker-faults")
    return scenario.lasting(options.duration) if options.duration else scenario
