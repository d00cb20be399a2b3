"""Judge the history of a simulation again.

Exit status: 0 if all messages were delivered correctly; 1 if not; 2 if the harness
could not judge, or if the file is not a history; 4 if all messages were delivered
correctly, but a MUST clause was judged in the form that it takes in the profile's
dialect, not as PROTOCOL.md states it.
"""

from __future__ import annotations

import argparse

from harness.cli.arguments import add_shared, load_profile, read_history, write_json


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared(parser, "history", "--profile", "--json")


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from harness.simulation.judge import judge
    from harness.simulation.judge.figures import figures
    from harness.simulation.judge.results import exit_status, lines, results

    profile = load_profile(parser, options)
    recorded = read_history(parser, options)
    found = results(recorded, judge(recorded, profile), figures(recorded), profile)
    for line in lines(found):
        print(line)
    if options.json:
        write_json(parser, options.json, found)
    return exit_status(found)
