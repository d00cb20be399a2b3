"""Judge a saved history again: that of a run of `simulate`.

Exit status: 0 if all was heard as it has to be; 1 if it was not; 2 if that can't
be told, or the file is no history.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from harness import profile as profiles
from harness.cli.arguments import writable
from harness.simulation import history


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("history", metavar="HISTORY", type=Path, help="a history.jsonl")
    parser.add_argument("--profile", metavar="NAME|FILE", help="how it speaks (chatroom)")
    parser.add_argument(
        "--json", metavar="FILE", type=writable, help="write it as results.json to FILE"
    )


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    from harness.simulation.judge import judge
    from harness.simulation.judge.figures import figures
    from harness.simulation.judge.results import exit_status, lines, results

    try:
        profile = profiles.load(options.profile or profiles.DEFAULT)
        recorded = history.read(options.history)
    except (history.HistoryError, profiles.ProfileError) as error:
        parser.error(str(error))
    found = results(recorded, judge(recorded, profile), figures(recorded))
    for line in lines(found):
        print(line)
    if options.json:
        options.json.write_text(json.dumps(found, indent=2) + "\n", encoding="utf-8")
    return exit_status(found)
