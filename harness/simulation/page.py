"""report.html: one simulation on one page, to be read by a person. Pure.

One file with no script, which continues the look of the other reports. A history
may have a million deliveries: all is binned by the second before it is drawn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from harness.charts import Chart, Point, over_time, tail
from harness.page import render
from harness.simulation.checkers import KINDS
from harness.simulation.figures import RECEIVERS, Figures, Heard, rank
from harness.simulation.history import Event, History

TIMELINES = 10
"""Violations that are shown with what was around them."""

AROUND = 14
"""Events that are shown around one."""

HEARERS = 12
"""Sessions that are named with a message."""

MOMENTS = ("kill-worker", "kill-workers", "hangup")
"""Faults of the target that are over as soon as they have begun."""


@dataclass(frozen=True)
class Around:
    """What happened around a violation: (second, who, what, words), the message's own marked."""

    id: str
    events: list[tuple[str, str, str, str, bool]]


def report(results: Mapping[str, Any], history: History, figures: Figures) -> str:
    """The page of a run; `results`: as in results.json."""
    until = max([1.0, *(event["t"] for event in history.events[-1:])])
    marks = [*_marks(history, until)]
    charts = [
        _latencies(figures.heard, until, marks),
        _deliveries(figures, until, marks),
        _members(history.events, until, marks),
        *_costs(history.events, until, marks),
    ]
    corrected = sorted(1000 * (one.last - one.due) for one in figures.heard)
    raw = sorted(1000 * (one.last - one.sent) for one in figures.closed_loop)
    spread = tail(
        "How long until the last listener had heard it: of 100 messages, so many were as quick",
        "ms",
        [("corrected", "says", corrected), ("raw", "hears", raw)],
    )
    return render(
        "simulation.html",
        results=results,
        counts=[(kind, results[kind]) for kind in KINDS],
        clauses=KINDS,
        receivers=RECEIVERS,
        charts=charts if figures.deliveries else [],
        spread=spread if corrected else None,
        phases=history.header.get("phases", []),
        around=[*_around(results["violations"][:TIMELINES], history.events)],
    )


# --- charts --------------------------------------------------------------------------------------

Marks = Sequence[tuple[float, float, str, str]]


def _marks(history: History, until: float) -> Iterator[tuple[float, float, str, str]]:
    """What was done to the target, and where phases begin."""
    at = 0.0
    for name, seconds in history.header.get("phases", []):
        if name:
            yield at, at, "phase", name
        at += seconds
    begun: dict[str, float] = {}
    for event in history.events:
        if "fault" not in event or "who" in event:
            continue
        fault = event["fault"]
        if event["what"] == "ends":
            begin = begun.pop(fault, event["t"])
            yield begin, event["t"], "band", f"{fault}, {begin:.1f} to {event['t']:.1f} s"
        elif fault in MOMENTS:
            yield event["t"], event["t"], "moment", f"{fault} at {event['t']:.1f} s"
        else:
            begun[fault] = event["t"]
    for fault, begin in begun.items():
        yield begin, until, "band", f"{fault} from {begin:.1f} s on"


def _latencies(heard: Sequence[Heard], until: float, marks: Marks) -> Chart:
    by_second: dict[int, list[float]] = {}
    for one in heard:
        by_second.setdefault(int(one.due), []).append(1000 * (one.last - one.due))
    seconds = [(second + 0.5, sorted(values)) for second, values in sorted(by_second.items())]

    def line(part: float) -> list[Point]:
        return [(second, rank(values, part)) for second, values in seconds]

    return over_time(
        "Until the last listener had heard what was due in that second",
        "ms",
        [("slowest", "faint", line(100)), ("p99", "says", line(99)), ("p50", "hears", line(50))],
        until,
        marks,
        log=True,
    )


def _deliveries(figures: Figures, until: float, marks: Marks) -> Chart:
    points = [
        (second + 0.5, float(figures.deliveries[second]))
        for second in range(max(figures.deliveries, default=0) + 1)
    ]
    return over_time("Deliveries", "per second", [("", "says", points)], until, marks)


def _members(events: Sequence[Event], until: float, marks: Marks) -> Chart:
    here: set[int] = set()
    most: Counter[int] = Counter()
    joins: Counter[int] = Counter()
    leaves: Counter[int] = Counter()
    for event in events:
        second = int(max(0.0, event["t"]))
        match event.get("what"):
            case "welcomed":
                here.add(event["who"])
                joins[second] += 1
            case "leaves" | "ended" if event["who"] in here:
                here.remove(event["who"])
                leaves[second] += 1
        most[second] = len(here)
    seconds = range(int(until) + 1)
    return over_time(
        "Members, and how many came and went",
        "per second",
        [
            ("members", "says", _kept([(second, most.get(second)) for second in seconds])),
            ("came", "hears", [(second + 0.5, float(joins[second])) for second in seconds]),
            ("went", "faint", [(second + 0.5, float(leaves[second])) for second in seconds]),
        ],
        until,
        marks,
    )


def _kept(values: Sequence[tuple[int, int | None]]) -> list[Point]:
    """A number that stays as it was where nothing is said of it."""
    points, last = [], 0.0
    for second, value in values:
        last = last if value is None else float(value)
        points.append((second + 0.5, last))
    return points


def _costs(events: Sequence[Event], until: float, marks: Marks) -> Iterator[Chart]:
    looks = [(event["t"], event["costs"]) for event in events if "costs" in event]
    if len(looks) < 2:
        return
    memory = [(max(0.0, t), look["memory"] / (1 << 20)) for t, look in looks]
    yield over_time("The target's memory", "MiB", [("", "says", memory)], until, marks)
    cores = [
        (then, (after["cpu"] - before["cpu"]) / max(then - t, 0.001))
        for (t, before), (then, after) in pairwise(looks)
    ]
    yield over_time("The target's processors", "in use", [("", "says", cores)], until, marks)


# --- around a violation --------------------------------------------------------------------------


def _around(violations: Sequence[Mapping[str, Any]], events: Sequence[Event]) -> Iterator[Around]:
    for number, one in enumerate(violations, 1):
        sender = int(one["message"].partition(".")[0]) if one["message"] else one["who"]
        of_it = [event for event in events if _concerns(event, one, sender)]
        middle = next(
            (at for at, event in enumerate(of_it) if event["t"] >= one["t"]), len(of_it) - 1
        )
        first = max(0, middle - AROUND // 2)
        yield Around(
            f"violation-{number}",
            [
                (
                    f"{event['t']:.3f}",
                    f"session {event['who']}" if "who" in event else "the target",
                    *_described(event, one["message"]),
                )
                for event in of_it[first : first + AROUND]
            ],
        )


def _concerns(event: Event, violation: Mapping[str, Any], sender: int) -> bool:
    """Whether an event is of the sender, or of who was wronged, or of the target."""
    if "costs" in event or "sent" in event:
        return False
    who = event.get("who")
    if who == violation["who"]:
        return True
    if "hears" in event:
        return bool(violation["message"]) and violation["message"] in event["hears"]
    return who in (None, sender)


def _described(event: Event, message: str) -> tuple[str, str, bool]:
    """What happened, in words, and whether it is of the message."""
    if "says" in event:
        return "says", f"{event['says']}  {event['text'][:120]}", event["says"] == message
    if "hears" in event:
        names = [
            name if isinstance(name, str) else f"“{name['line'][:120]}”" for name in event["hears"]
        ]
        shown = names[:HEARERS]
        if message in names and message not in shown:
            shown = [*shown[:-1], "…", message]
        more = f" … {len(names)} in all" if len(names) > len(shown) else ""
        return "hears", "  ".join(shown) + more, message in names
    if "fault" in event:
        return event["fault"], event["what"], False
    return event["what"], str(event.get("how") or event.get("why") or ""), False
