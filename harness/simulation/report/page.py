"""report.html: a page about one simulation. Pure.

The page is one file without scripts, in the style of the other reports of the harness.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.report.charts import LEFT, RIGHT, WIDTH, Mark, Scale
from harness.report.page import render
from harness.simulation.history import Event, History
from harness.simulation.judge import KINDS
from harness.simulation.judge.figures import RECEIVERS, Figures
from harness.simulation.report.charts import BINS, ChartMark, Charts
from harness.simulation.report.context import ViolationContext
from harness.simulation.report.picture import Picture
from harness.simulation.report.recording import (
    Recording,
    Span,
    chosen,
    grouped,
    target_faults,
)
from harness.simulation.scenario.scenario import LINK_FAULTS

TIMELINES = 10
"""Maximum number of causes for which a violation is shown with its context."""

LISTED = 100
"""Maximum number of causes in the list."""

LETTER = 6.8
"""Assumed width of a letter, in SVG's user units."""

ROW = 30
"""Height of a row in the strip of faults and violations, in SVG's user units."""


STRIKES = {
    "close": "a client closed its connection",
    "reset": "a connection was reset",
    "half-close": "a client closed its side, and continued to receive",
    "cut-off": "the server's side of a connection was reset",
    "kill-worker": "SIGKILL to one process with connections of clients",
    "kill-workers": "SIGKILL to all processes with connections of clients",
    "stop-worker": "SIGSTOP to one process with connections of clients, SIGCONT later",
    "kill-engine": "SIGKILL to a process that serves the server's other processes",
    "stop-engine": "SIGSTOP to a process that serves the server's other processes, SIGCONT later",
    "kill-bridge": "SIGKILL to a process that is connected to an engine",
    "stop": "SIGSTOP to all processes, SIGCONT later",
    "hangup": "SIGHUP to the main process",
    "restart": "the server was stopped, and started again on the same port",
}
"""Description of each fault whose moment is recorded."""

MOMENTS = {
    "joining": "a client was joining",
    "sending": "a part of a line was sent",
    "delivering": "a message had not reached all clients",
    "lagging": "a client lagged",
}
"""Description of each moment; it follows the word "while"."""

Violated = tuple[float, str, str]
"""A violation: time (s), kind, description."""


@dataclass(frozen=True)
class Label:
    x: float
    text: str


@dataclass(frozen=True)
class StripRow:
    """A row of the strip: all faults of one kind, or the violations."""

    name: str
    y: int
    marks: list[Mark]


def report(results: Mapping[str, Any], history: History, figures: Figures) -> str:
    """Render the page of a run. `results`: the content of results.json."""
    events = history.events
    until = span(events)
    groups = grouped(results["causes"], results["violations"])
    shown = chosen(groups, TIMELINES)
    recording = Recording(events, [groups[place].message for place in shown])
    contexts = [ViolationContext(groups[place], recording) for place in shown]
    phases = _phases(history, until)
    faults = target_faults(events, until)
    violations = [(found["t"], found["kind"], found["says"]) for found in results["violations"]]
    charts = Charts(events, figures, until, [*_marks(phases, faults, violations)])
    return render(
        "simulation.html",
        results=results,
        kinds=KINDS,
        receivers=RECEIVERS,
        populations=figures.by_population if len(figures.by_population) > 1 else {},
        causes=results["causes"][:LISTED],
        more_causes=max(0, len(groups) - LISTED),
        anchors={place: f"violation-{number}" for number, place in enumerate(shown, 1)},
        around=[(context, Picture(context)) for context in contexts],
        strip=strip(faults, violations, until),
        labels=labels(phases, faults, until),
        charts=charts.all(with_lag=results["verdict"] == "invalid"),
        spread=charts.spread(),
        strikes=STRIKES,
        moments=MOMENTS,
        links={
            kind: times
            for kind, times in sorted(results["faults"].items())
            if kind in LINK_FAULTS and kind not in STRIKES
        },
    )


def span(events: Sequence[Event]) -> float:
    """Return the end of the time axis (s): the last event, except measurements of costs."""
    last = next((event["t"] for event in reversed(events) if "costs" not in event), 0.0)
    return max(1.0, last)


# --- faults and violations over time -------------------------------------------------------------


def _phases(history: History, until: float) -> list[Span]:
    at, found = 0.0, []
    for name, seconds in history.header.get("phases", []):
        if name and at < until:
            found.append((at, min(until, at + seconds), name))
        at += seconds
    return found


def _marks(
    phases: Sequence[Span], faults: Sequence[Span], violations: Sequence[Violated]
) -> Iterator[ChartMark]:
    """Yield the marks that each chart shows."""
    for begin, _, name in phases:
        yield begin, begin, "phase", name
    for begin, end, kind in faults:
        yield begin, end, "band" if end > begin else "moment", _describe(begin, end, kind)
    for second in sorted({round(t, 1) for t, _, _ in violations}):
        yield second, second, "wrong", f"a violation at {second:.1f} s"


def _describe(begin: float, end: float, kind: str) -> str:
    return f"{kind}, {begin:.1f} to {end:.1f} s" if end > begin else f"{kind} at {begin:.1f} s"


def labels(phases: Sequence[Span], faults: Sequence[Span], until: float) -> list[Label]:
    """Return labels for phases and faults. Leave out a label that would cover another one.

    Labels of rare faults are placed before those of frequent faults.
    """
    often = Counter(kind for _, _, kind in faults)
    x = Scale(0, until, LEFT, WIDTH - RIGHT)
    found: list[Label] = []
    for begin, _, text in [*phases, *sorted(faults, key=lambda span: often[span[2]])]:
        at = x(max(0.0, begin))
        wide = LETTER * len(text)
        label = Label(round(at + 3 if at + 3 + wide <= WIDTH else at - 3 - wide, 1), text)
        if not any(label.x < _end(other) and other.x < _end(label) for other in found):
            found.append(label)
    return found


def _end(label: Label) -> float:
    """Return the x coordinate at which the next label may begin."""
    return label.x + LETTER * (len(label.text) + 1)


def strip(faults: Sequence[Span], violations: Sequence[Violated], until: float) -> list[StripRow]:
    """Draw a row for each kind of fault, and a row for the violations."""
    x = Scale(0, until, LEFT, WIDTH - RIGHT)

    def row(name: str, spans: Iterable[Span], style: str) -> StripRow:
        marks = []
        for begin, end, text in spans:
            at = x(max(0.0, begin))
            marks.append(Mark(at, max(2.5, round(x(end) - at, 1)), style, text))
        return StripRow(name, ROW * len(rows), marks)

    rows: list[StripRow] = []
    for kind in dict.fromkeys(kind for _, _, kind in faults):
        those = [span for span in faults if span[2] == kind]
        labelled = [(begin, end, _describe(begin, end, kind)) for begin, end, _ in those]
        rows.append(row(f"{kind} × {len(those)}", labelled, "fault"))
    if violations:
        labelled = [(t, t, f"{kind}: {says}") for t, kind, says in violations]
        rows.append(row("violations", labelled[: 2 * BINS], "wrong"))
    return rows
