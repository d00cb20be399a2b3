"""report.html: one simulation on one page, to be read by a person. Pure.

One file with no script, which continues the look of the other reports. All charts
share one axis of time. A history may have a million deliveries: what is drawn is
put into at most BINS parts of the run first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from harness.report.charts import LEFT, RIGHT, WIDTH, Chart, Mark, Point, Scale, over_time, tail
from harness.report.page import render
from harness.simulation.history import Event, History
from harness.simulation.judge import KINDS
from harness.simulation.judge.figures import RECEIVERS, Figures, Heard, rank
from harness.simulation.report.context import ViolationContext
from harness.simulation.report.picture import Picture
from harness.simulation.report.recording import (
    Group,
    Recording,
    Span,
    chosen,
    grouped,
    strikes,
)
from harness.simulation.scenario.scenario import LINK_FAULTS

TIMELINES = 10
"""Violations that are shown with what was around them."""

LISTED = 100
"""That have a line, at most."""

BINS = 600
"""Parts of the run that a chart tells apart, at most."""

SIZES = (0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
"""Seconds that such a part may last."""

LETTER = 6.8
"""Width of a letter in a picture, in its units."""

ROW = 30
"""Height of a row of the strip that tells what happened."""


@dataclass(frozen=True)
class Label:
    x: float
    says: str


@dataclass(frozen=True)
class Row:
    """Of the strip: all that happened of one kind."""

    name: str
    y: int
    marks: list[Mark]


def report(results: Mapping[str, Any], history: History, figures: Figures) -> str:
    """The page of a run; `results`: as in results.json."""
    events = history.events
    until = span(events)
    groups = grouped(results["violations"])
    shown = chosen(groups, TIMELINES)
    recording = Recording(events, [groups[place].message for place in shown])
    contexts = [ViolationContext(groups[place], recording) for place in shown]
    phases = _phases(history, until)
    struck = strikes(events, until)
    marks = [*_marks(phases, struck, groups)]
    charts = [
        _latencies(figures.heard, until, marks),
        _deliveries(events, until, marks),
        _members(events, until, marks),
        *_costs(events, until, marks),
    ]
    if results["verdict"] == "invalid":
        charts.insert(1, _lag(events, until, marks))
    return render(
        "simulation.html",
        results=results,
        kinds=KINDS,
        receivers=RECEIVERS,
        populations=figures.by_population if len(figures.by_population) > 1 else {},
        groups=groups[:LISTED],
        more_groups=max(0, len(groups) - LISTED),
        anchors={place: f"violation-{number}" for number, place in enumerate(shown, 1)},
        around=[(context, Picture(context)) for context in contexts],
        strip=strip(struck, groups, until),
        labels=labels(phases, struck, until),
        charts=charts if figures.deliveries else [],
        spread=_spread(figures),
        faults={
            name: {
                kind: times
                for kind, times in sorted(results["faults"].items())
                if (kind in LINK_FAULTS) == of_links
            }
            for name, of_links in (("the target", False), ("single connections", True))
        },
    )


def span(events: Sequence[Event]) -> float:
    """Seconds that the charts show: to the end, less the time when it was waited for nothing."""
    last = next((event["t"] for event in reversed(events) if "costs" not in event), 0.0)
    return max(1.0, last)


# --- what happened when --------------------------------------------------------------------------

Marks = Sequence[tuple[float, float, str, str]]


def _phases(history: History, until: float) -> list[Span]:
    at, found = 0.0, []
    for name, seconds in history.header.get("phases", []):
        if name and at < until:
            found.append((at, min(until, at + seconds), name))
        at += seconds
    return found


def _marks(
    phases: Sequence[Span], struck: Sequence[Span], groups: Sequence[Group]
) -> Iterator[tuple[float, float, str, str]]:
    """What goes through all charts."""
    for begin, _, name in phases:
        yield begin, begin, "phase", name
    for begin, end, kind in struck:
        yield begin, end, "band" if end > begin else "moment", _told(begin, end, kind)
    for second in sorted({round(group.t, 1) for group in groups}):
        yield second, second, "wrong", f"a violation at {second:.1f} s"


def _told(begin: float, end: float, kind: str) -> str:
    return f"{kind}, {begin:.1f} to {end:.1f} s" if end > begin else f"{kind} at {begin:.1f} s"


def labels(phases: Sequence[Span], struck: Sequence[Span], until: float) -> list[Label]:
    """The names of what goes through the charts: as many as have room, the rarest first."""
    often = Counter(kind for _, _, kind in struck)
    x = Scale(0, until, LEFT, WIDTH - RIGHT)
    found: list[Label] = []
    for begin, _, says in [*phases, *sorted(struck, key=lambda span: often[span[2]])]:
        at = x(max(0.0, begin))
        wide = LETTER * len(says)
        label = Label(round(at + 3 if at + 3 + wide <= WIDTH else at - 3 - wide, 1), says)
        if not any(label.x < _end(other) and other.x < _end(label) for other in found):
            found.append(label)
    return found


def _end(label: Label) -> float:
    """Where the next label may begin."""
    return label.x + LETTER * (len(label.says) + 1)


def strip(struck: Sequence[Span], groups: Sequence[Group], until: float) -> list[Row]:
    """A row for each kind of what happened."""
    x = Scale(0, until, LEFT, WIDTH - RIGHT)

    def row(name: str, spans: Iterable[Span], style: str) -> Row:
        marks = []
        for begin, end, says in spans:
            at = x(max(0.0, begin))
            marks.append(Mark(at, max(2.5, round(x(end) - at, 1)), style, says))
        return Row(name, ROW * len(rows), marks)

    rows: list[Row] = []
    for kind in dict.fromkeys(kind for _, _, kind in struck):
        those = [span for span in struck if span[2] == kind]
        told = [(begin, end, _told(begin, end, kind)) for begin, end, _ in those]
        rows.append(row(f"{kind} × {len(those)}", told, "struck"))
    if groups:
        told = [(group.t, group.t, f"{group.kind}: {group.says}") for group in groups]
        rows.append(row("violations", told[: 2 * BINS], "wrong"))
    return rows


# --- charts --------------------------------------------------------------------------------------


def size_of_bins(until: float) -> float:
    """Seconds that a part of the run lasts: a second, less in a short run, more in a long one."""
    least = 1.0 if until > 60 else 0.5 if until > 20 else 0.25
    return next((size for size in SIZES if size >= least and until / size <= BINS), SIZES[-1])


class Bins:
    """Parts of the run, in which something is summed up."""

    def __init__(self, until: float) -> None:
        self.size = size_of_bins(until)
        self.all = range(int(until / self.size) + 1)

    def __call__(self, t: float) -> int:
        return max(0, int(t / self.size))

    def middle(self, place: int) -> float:
        return round((place + 0.5) * self.size, 3)

    def per_second(self, counts: Counter[int], until: float) -> list[Point]:
        """The last part may be cut short."""
        return [(min(self.middle(place), until), counts[place] / self.size) for place in self.all]


def _latencies(heard: Sequence[Heard], until: float, marks: Marks) -> Chart:
    bins = Bins(until)
    values: dict[int, list[float]] = {}
    for message in heard:
        values.setdefault(bins(message.due), []).append(1000 * (message.last - message.due))
    parts = [(min(bins.middle(at), until), sorted(those)) for at, those in sorted(values.items())]

    def line(part: float) -> list[Point]:
        return [(second, rank(those, part)) for second, those in parts]

    return over_time(
        "How long a message took to its last listener, by when it was due",
        "ms",
        [("slowest", "faint", line(100)), ("p99", "says", line(99)), ("p50", "hears", line(50))],
        until,
        marks,
        log=True,
    )


def _lag(events: Sequence[Event], until: float, marks: Marks) -> Chart:
    bins = Bins(until)
    most: dict[int, float] = {}
    for event in events:
        if "lag" in event:
            place = bins(event["t"])
            most[place] = max(most.get(place, 0.0), 1000 * event["lag"])
    points = [(min(bins.middle(place), until), lag) for place, lag in sorted(most.items())]
    title = "How late the harness itself was, at most"
    return over_time(title, "ms", [("", "says", points)], until, marks, log=True)


def _deliveries(events: Sequence[Event], until: float, marks: Marks) -> Chart:
    bins = Bins(until)
    counts: Counter[int] = Counter()
    for event in events:
        if "hears" in event:
            counts[bins(event["t"])] += len(event["hears"])
    points = bins.per_second(counts, until)
    return over_time("Messages delivered", "per second", [("", "says", points)], until, marks)


def _members(events: Sequence[Event], until: float, marks: Marks) -> Chart:
    bins = Bins(until)
    here: set[int] = set()
    most: dict[int, int] = {}
    joins: Counter[int] = Counter()
    leaves: Counter[int] = Counter()
    for event in events:
        match event.get("what"):
            case "welcomed":
                here.add(event["who"])
                joins[bins(event["t"])] += 1
            case "leaves" | "ended" if event["who"] in here:
                here.remove(event["who"])
                leaves[bins(event["t"])] += 1
            case _:
                continue
        most[bins(event["t"])] = len(here)
    return over_time(
        "Members in the room, and how many came and went per second",
        "people",
        [
            ("members", "says", [*_kept(most, bins, until)]),
            ("came", "hears", bins.per_second(joins, until)),
            ("went", "faint", bins.per_second(leaves, until)),
        ],
        until,
        marks,
    )


def _kept(values: Mapping[int, int], bins: Bins, until: float) -> Iterator[Point]:
    """A number that stays as it was where nothing is said of it."""
    last = 0
    for place in bins.all:
        last = values.get(place, last)
        yield min(bins.middle(place), until), float(last)


def _costs(events: Sequence[Event], until: float, marks: Marks) -> Iterator[Chart]:
    looks = [
        (max(0.0, event["t"]), event["costs"])
        for event in events
        if "costs" in event and event["t"] <= until
    ]
    looks = looks[:: -(-len(looks) // BINS) or 1]
    if len(looks) < 2:
        return
    cores = [
        (then, (after["cpu"] - before["cpu"]) / max(then - t, 0.001))
        for (t, before), (then, after) in pairwise(looks)
    ]
    for title, unit, points in (
        ("The target’s memory", "MiB", [(t, look["memory"] / (1 << 20)) for t, look in looks]),
        ("Descriptors it has open", "", [(t, look["descriptors"]) for t, look in looks]),
        ("Processors it keeps busy", "", cores),
    ):
        yield over_time(title, unit, [("", "says", points)], until, marks)


def _spread(figures: Figures) -> Chart | None:
    corrected = sorted(1000 * (message.last - message.due) for message in figures.heard)
    raw = sorted(1000 * (message.last - message.sent) for message in figures.closed_loop)
    if not corrected:
        return None
    return tail(
        "How long messages took to their last listener, from the quickest to the slowest",
        "ms",
        [("corrected", "says", corrected), ("raw", "hears", raw)],
    )
