"""Make HTML pages. Each page is one file, and loads no other file.

All values are escaped, so a server's bytes never become markup. The page's security policy
forbids scripts and external resources.
"""

from __future__ import annotations

import itertools
import statistics
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import jinja2

from harness.conformance.evidence import EXPLANATIONS, label
from harness.conformance.plugin import FAIL, PASS, Result
from harness.conformance.verdicts import ClauseVerdict, Verdict
from harness.report.difference import Difference, difference
from harness.report.matrix import notes
from harness.report.terminal import (
    BYTES,
    LEGEND,
    as_hex,
    clip,
    conclusion,
    last_lines,
    ranked,
    shows_expected,
)
from harness.report.wire import Row as WireRow
from harness.report.wire import WireEvent, around, describe, row
from harness.target.crash import find
from harness.wording import as_text, visible

if TYPE_CHECKING:
    from harness.report.matrix import Row

EVENTS = 60
"""Maximum number of events of a wire log on a page: the first 30 and the last 30."""
EVENTS_OF_A_FAILURE = 600
"""Maximum number of events of a failed test's wire log: the first 300 and the last 300."""

PAUSE = 10
"""Maximum length of a pause in a timeline, in multiples of the median pause."""
LANES = 40
"""Maximum number of clients in a timeline."""
LANE, LEFT, WIDTH = 14, 34, 900
"""Height of a lane, and x coordinates of both ends of its line, in SVG's user units."""

SHOWN_OUTPUT = 12
"""Maximum number of lines of the target's output to show."""


@dataclass(frozen=True)
class Lane:
    """The lane of a client in a timeline."""

    name: str
    y: int


@dataclass(frozen=True)
class Dot:
    """An event in a timeline. kind: `sends`, `receives` or `other`."""

    kind: str
    x: float
    y: int
    title: str


@dataclass(frozen=True)
class Timeline:
    """A timeline: a lane for each client, with a dot for each of its events. `left_out`: number of
    clients without a lane."""

    lanes: list[Lane]
    dots: list[Dot]
    height: int
    begin: str
    end: str
    left_out: int
    left: int = LEFT
    width: int = WIDTH


@dataclass(frozen=True)
class Test:
    """A test on the page.

    about: description of the test. bytes: for the expected and the received bytes, the name, the
    text and the bytes in hexadecimal. around: rows of the wire log around a failure. events: rows
    of the whole wire log; None stands for the rows that are left out. total: number of events.
    crashed: whether `output` is the message of a crash.
    """

    __test__ = False  # pytest would collect the class because of its name

    result: Result
    anchor: str
    about: str
    difference: Difference | None
    bytes: list[tuple[str, str, str]]
    around: list[WireRow]
    events: list[WireRow | None]
    total: int
    left_out: int
    timeline: Timeline | None
    output: list[str]
    crashed: bool


def report(verdict: Verdict, about: Mapping[str, Any], docs: Mapping[str, str]) -> str:
    """Return the page of a run. `docs`: descriptions of the tests, by name."""
    target = about["target"]
    broken = ranked(verdict)
    rest = [clause for clause in verdict.clauses if clause not in broken]
    return render(
        "report.html",
        verdict=verdict,
        title=conclusion(verdict)[0][0],
        target=visible(next(iter(target.values()))),
        conclusion="".join(text for text, _ in conclusion(verdict)).partition(": ")[2],
        dialect=about.get("dialect", []),
        about=[
            (name.replace("_", " "), _formatted(about[name]))
            for name in about
            if name not in ("target", "dialect") and about[name] is not None
        ],
        groups=[*_grouped(broken, rest)],
        broken=broken,
        evidence=[sentence.partition(": ")[::2] for sentence in EXPLANATIONS.values()],
        legend=LEGEND,
        tests={
            clause.clause.id: [
                _test(f"{clause.clause.id}-{number}", result, docs.get(result.test, ""))
                for number, result in enumerate(clause.results, 1)
            ]
            for clause in verdict.clauses
        },
    )


def _grouped(
    broken: Sequence[ClauseVerdict], rest: Sequence[ClauseVerdict]
) -> Iterator[tuple[str, list[ClauseVerdict]]]:
    """Yield the clauses in the order of the page, in groups with a title."""
    for title, decides in (("Broken", True), ("Broken, but not counted", False)):
        if found := [clause for clause in broken if clause.decides == decides]:
            yield title, found
    for section, clauses in itertools.groupby(rest, key=lambda clause: clause.clause.section):
        yield section, [*clauses]


def matrix(
    names: Sequence[str], verdicts: Sequence[str], rows: Sequence[Row], dialects: Sequence[str] = ()
) -> str:
    """Return the page with the table of servers and clauses."""
    passed = [
        sum(cell is not None and cell["verdict"] == PASS for cell in cells)
        for cells in ([row.cells[number] for row in rows] for number in range(len(names)))
    ]
    return render(
        "matrix.html",
        names=names,
        verdicts=verdicts,
        passed=passed,
        rows=rows,
        notes=[*filter(None, notes(names, dialects))],
    )


def render(template: str, **values: Any) -> str:
    """Return the page that a template of templates/ makes from these values."""
    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"visible": visible, "label": label}
    return environment.get_template(template).render(**values)


def _test(anchor: str, result: Result, about: str) -> Test:
    events, total = _events(result)
    known = [event for event in events if event is not None]
    expected, actual = (bytes.fromhex(digits or "") for digits in (result.expected, result.actual))
    return Test(
        result,
        anchor,
        about,
        difference(expected, actual),
        [
            _bytes(name, digits)
            for name, digits in (("expected", result.expected), ("received", result.actual))
            if digits is not None and not shows_expected(result)
        ],
        around(result) if result.verdict == FAIL else [],
        [None if event is None else row(event) for event in events],
        total,
        total - len(known),
        timeline(known),
        last_lines(result.output, SHOWN_OUTPUT),
        find(result.output) is not None,
    )


def _formatted(value: object) -> str:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else str(value)


def _bytes(name: str, digits: str) -> tuple[str, str, str]:
    data, rest = clip(bytes.fromhex(digits), 4 * BYTES)
    return name, f'"{as_text(data)}"{rest}', "\n".join(as_hex(data))


def _events(result: Result) -> tuple[list[WireEvent | None], int]:
    """Return the events to show, with None in place of those left out, and the number of all
    events."""
    limit = EVENTS_OF_A_FAILURE if result.verdict == FAIL else EVENTS
    total = len(result.wire) + result.wire_dropped
    if total <= limit:
        return list(result.wire), total
    half = limit // 2
    return [*result.wire[:half], None, *result.wire[-half:]], total


def timeline(wire: Sequence[WireEvent]) -> Timeline | None:
    """Return the timeline of a wire log; None if the log is empty."""
    if not wire:
        return None
    clients = list(dict.fromkeys(client for _, client, *_ in wire))
    lanes = {name: Lane(name, LANE * (1 + number)) for number, name in enumerate(clients[:LANES])}
    dots = [
        Dot(
            event[2] if event[2] in ("sends", "receives") else "other",
            round(LEFT + 5 + place * (WIDTH - LEFT - 10), 1),
            lanes[event[1]].y,
            describe(event),
        )
        for event, place in zip(wire, _places([event[0] for event in wire]), strict=True)
        if event[1] in lanes
    ]
    return Timeline(
        list(lanes.values()),
        dots,
        LANE * (len(lanes) + 2),
        f"{wire[0][0]:.3f} s",
        f"{wire[-1][0]:.3f} s",
        len(clients) - len(lanes),
    )


def _places(times: Sequence[float]) -> list[float]:
    """Return the position of each time in a timeline, from 0 to 1. Long pauses are shortened."""
    pauses = [later - earlier for earlier, later in itertools.pairwise(times)]
    longest = PAUSE * statistics.median(pauses) if pauses else 0.0
    drawn = [min(pause, longest) if longest else pause for pause in pauses]
    whole = sum(drawn) or 1.0
    return [place / whole for place in itertools.accumulate(drawn, initial=0.0)]
