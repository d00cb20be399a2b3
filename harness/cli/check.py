"""Judge a saved history again: that of a run of `simulate`.

Exit status: 0 if all was heard as it has to be; 1 if it was not; 2 if that can't
be told, or the file is no history.
"""

from __future__ import annotations

import argparse

from harness.cli.arguments import add_shared, load_profile, write_json
from harness.simulation import history


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_shared(parser, "history", "--profile", "--json")


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from harness.simulation.judge import judge
    from harness.simulation.judge.figures import figures
    from harness.simulation.judge.results import exit_status, lines, results

    profile = load_profile(parser, options)
    try:
        recorded = history.read(options.history)
    except history.HistoryError as error:
        parser.error(str(error))
    found = results(recorded, judge(recorded, profile), figures(recorded))
    for line in lines(found):
        print(line)
    if options.json:
        write_json(parser, options.json, found)
    return exit_status(found)
