"""The outcome of a simulation: its history, verdict, figures, and files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness.profile import Profile
from harness.simulation import history
from harness.simulation.history import History
from harness.simulation.judge import judge
from harness.simulation.judge.figures import Figures, figures
from harness.simulation.judge.results import exit_status, lines, results
from harness.simulation.report import page
from harness.simulation.run.run import Run

RESULTS = "results.json"
REPORT = "report.html"


@dataclass(frozen=True)
class Outcome:
    results: dict[str, Any]
    """Results as in results.json."""
    history: History
    figures: Figures

    @property
    def exit_status(self) -> int:
        return exit_status(self.results)

    def lines(self) -> Iterator[str]:
        """Yield the lines that describe the outcome on a terminal."""
        return lines(self.results)

    def write(self, folder: Path) -> None:
        """Write results.json and report.html into the run's folder. Raise OSError on failure."""
        text = json.dumps(self.results, indent=2) + "\n"
        (folder / RESULTS).write_text(text, encoding="utf-8")
        report = page.report(self.results, self.history, self.figures)
        (folder / REPORT).write_text(report, encoding="utf-8")


def simulated(run: Run) -> Outcome:
    """Run a simulation and judge its history. Raise CannotJudge if a resource is missing."""
    run.run()
    return judged(history.read(run.path), run.profile)


def judged(recorded: History, profile: Profile) -> Outcome:
    measured = figures(recorded)
    found = results(recorded, judge(recorded, profile), measured, profile)
    return Outcome(found, recorded, measured)
