"""Compute the coordinates of the lines, marks and axes of a report's charts. Pure.

A chart measures WIDTH × HEIGHT in SVG's user units; y grows downwards.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

WIDTH = 1000
HEIGHT = 170
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 24, 26
"""Margins for the labels of the axes."""

Point = tuple[float, float]


@dataclass(frozen=True)
class Tick:
    """A label of an axis. at: its coordinate on the axis."""

    at: float
    text: str


@dataclass(frozen=True)
class Line:
    """One line of a chart. style: a class of the page's style sheet. places: the points, as the
    attribute `points` of an SVG polyline."""

    name: str
    style: str
    places: str


@dataclass(frozen=True)
class Mark:
    """An event, drawn from the x coordinate `at` over `width`; the width of a moment is 0."""

    at: float
    width: float
    style: str
    text: str


@dataclass
class Chart:
    title: str
    unit: str
    lines: list[Line]
    x: list[Tick]
    y: list[Tick]
    marks: list[Mark] = field(default_factory=list)

    @property
    def bottom(self) -> float:
        return HEIGHT - BOTTOM

    @property
    def right(self) -> float:
        return WIDTH - RIGHT


class Scale:
    """A map from values to coordinates: linear, or logarithmic if `log` is true."""

    def __init__(
        self, lowest: float, highest: float, begin: float, end: float, *, log: bool = False
    ) -> None:
        self._log = log
        self._lowest, self._highest = self._of(lowest), self._of(highest)
        if self._highest <= self._lowest:
            self._highest = self._lowest + 1
        self._begin, self._end = begin, end

    def _of(self, value: float) -> float:
        return math.log10(max(value, 1e-9)) if self._log else value

    def __call__(self, value: float) -> float:
        part = (self._of(value) - self._lowest) / (self._highest - self._lowest)
        return round(self._begin + (self._end - self._begin) * part, 1)


def over_time(
    title: str,
    unit: str,
    series: Sequence[tuple[str, str, Sequence[Point]]],
    until: float,
    marks: Iterable[tuple[float, float, str, str]] = (),
    *,
    log: bool = False,
) -> Chart:
    """Return a chart of values over time, from 0 to `until` seconds.

    series: for each line, (name, style, [(second, value)]). marks: for each event, (first second,
    last second, style, text).
    """
    values = [value for _, _, points in series for _, value in points if value > 0]
    lowest, highest, ys = _axis(values, log=log)
    x = Scale(0, until, LEFT, WIDTH - RIGHT)
    y = Scale(lowest, highest, HEIGHT - BOTTOM, TOP, log=log)
    return Chart(
        title,
        unit,
        [
            Line(name, style, " ".join(f"{x(at)},{y(max(value, lowest))}" for at, value in points))
            for name, style, points in series
        ],
        [Tick(x(at), f"{at:g} s") for at in steps(until, 8)],
        [Tick(y(value), short(value)) for value in ys],
        [
            Mark(x(max(0.0, a)), round(x(b) - x(max(0.0, a)), 1), style, text)
            for a, b, style, text in marks
        ],
    )


def tail(title: str, unit: str, series: Sequence[tuple[str, str, Sequence[float]]]) -> Chart:
    """Return a chart of distributions, one line for each. series: (name, style, sorted values).

    The x axis shows percentiles on a logarithmic scale: 90 %, 99 % and 99.9 % have equal distances.
    """
    values = [value for _, _, those in series for value in those if value > 0]
    lowest, highest, ys = _axis(values, log=True)
    most = max(1, *(len(those) for _, _, those in series))
    x = Scale(0, max(1.0, math.log10(most)), LEFT, WIDTH - RIGHT)
    y = Scale(lowest, highest, HEIGHT - BOTTOM, TOP, log=True)

    def place(rank: int, count: int) -> float:
        return x(-math.log10(max(1 - rank / count, 1 / count)))

    return Chart(
        title,
        unit,
        [
            Line(
                name,
                style,
                " ".join(
                    f"{place(rank, len(those))},{y(max(those[rank], lowest))}"
                    for rank in ranks(len(those))
                ),
            )
            for name, style, those in series
        ],
        [
            Tick(x(nines), text)
            for nines, text in enumerate(("all", "90 %", "99 %", "99.9 %", "99.99 %", "99.999 %"))
            if nines <= math.log10(max(most, 10))
        ],
        [Tick(y(value), short(value)) for value in ys],
    )


def ranks(count: int) -> list[int]:
    """Return the indexes of the values to draw, of `count` sorted values: few of the low values,
    and all of the highest."""
    found, left = [], count
    while left > 0:
        found.append(count - left)
        left = min(left - 1, int(left / 1.03))
    return found


def steps(most: float, count: int) -> list[float]:
    """Return about `count` round numbers from 0 to `most`."""
    if most <= 0:
        return [0.0]
    raw = most / count
    size = 10 ** math.floor(math.log10(raw))
    step = next(size * times for times in (1, 2, 5, 10) if size * times >= raw * 0.999)
    return [round(step * number, 9) for number in range(int(most / step + 1e-6) + 1)]


def short(value: float) -> str:
    """Return a number as short text, such as 1.5 k."""
    for size, letter in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if value >= size:
            return f"{value / size:g} {letter}"
    return f"{value:g}"


def _axis(values: Sequence[float], *, log: bool) -> tuple[float, float, list[float]]:
    """Return the lowest and the highest value of an axis, and the values to label."""
    if not log:
        ticks = steps(max(values, default=1.0), 4)
        highest = max(max(values, default=1.0), ticks[-1])
        return 0.0, highest, ticks
    low = math.floor(math.log10(min(values, default=1.0)))
    high = max(low + 1, math.ceil(math.log10(max(values, default=10.0))))
    return 10.0**low, 10.0**high, [10.0**power for power in range(low, high + 1)]
