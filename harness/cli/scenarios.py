"""List the scenarios of the harness, or print one of them.

`simulate` runs a scenario. A scenario is a TOML file that describes the clients and the
faults. To write a scenario, change a copy of one: `scenarios NAME > mine.toml`.
"""

from __future__ import annotations

import argparse

from harness.simulation.scenario.scenario import FOLDER, load, names


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "scenario", metavar="NAME", nargs="?", choices=names(), help="scenario to print"
    )


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:  # noqa: ARG001
    if options.scenario:
        print((FOLDER / f"{options.scenario}.toml").read_text(encoding="utf-8"), end="")
        return 0
    for name in names():
        scenario = load(name)
        print(f"{name:13} {scenario.clients:5} clients, {scenario.seconds:g} s  {scenario.about}")
    return 0
