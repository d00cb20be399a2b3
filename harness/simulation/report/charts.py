"""The charts of a whole run, all with the same time axis. Pure.

A history may have a million deliveries, so the charts do not show each of them. They show counts
and latencies in at most BINS intervals.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from itertools import pairwise

from harness.report.charts import Chart, Point, over_time, tail
from harness.simulation.history import Event
from harness.simulation.judge.figures import Figures, rank

BINS = 600
"""Maximum number of intervals in a chart."""

SIZES = (0.25, 0.5, 1, 2, 5, 10, 20, 30, 60, 120, 300, 600, 1800, 3600)
"""Possible lengths of an interval, in seconds."""

ChartMark = tuple[float, float, str, str]
"""A mark in all charts: begin (s), end (s), style, text."""


def size_of_bins(until: float) -> float:
    """Return the length of an interval, in seconds, for a run that lasts `until`."""
    least = 1.0 if until > 60 else 0.5 if until > 20 else 0.25
    return next((size for size in SIZES if size >= least and until / size <= BINS), SIZES[-1])


class Charts:
    def __init__(
        self, events: Sequence[Event], figures: Figures, until: float, marks: Sequence[ChartMark]
    ) -> None:
        self._events = events
        self._figures = figures
        self._until = until
        self._marks = marks
        self._size = size_of_bins(until)
        self._bins = range(int(until / self._size) + 1)

    def all(self, *, with_lag: bool) -> list[Chart]:
        """Draw all charts; none if no client received a line.

        `with_lag`: true to include a chart of the harness's own delay.
        """
        if not any("hears" in event for event in self._events):
            return []
        lag = [self._lag()] if with_lag else []
        return [self._latencies(), *lag, self._deliveries(), self._members(), *self._costs()]

    def spread(self) -> Chart | None:
        """Draw the latencies from the fastest message to the slowest; None if there are none."""
        corrected = sorted(1000 * (message.last - message.due) for message in self._figures.heard)
        raw = sorted(1000 * (message.last - message.sent) for message in self._figures.closed_loop)
        if not corrected:
            return None
        return tail(
            "Latency to the last receiver, from the fastest message to the slowest",
            "ms",
            [("corrected", "sends", corrected), ("raw", "receives", raw)],
        )

    def _bin(self, t: float) -> int:
        return max(0, int(t / self._size))

    def _middle(self, place: int) -> float:
        """Return the middle of an interval, in seconds; at most the end of the run."""
        return min(round((place + 0.5) * self._size, 3), self._until)

    def _per_second(self, counts: Counter[int]) -> list[Point]:
        return [(self._middle(place), counts[place] / self._size) for place in self._bins]

    def _draw(
        self,
        title: str,
        unit: str,
        *lines: tuple[str, str, Sequence[Point]],
        log: bool = False,
    ) -> Chart:
        return over_time(title, unit, lines, self._until, self._marks, log=log)

    def _latencies(self) -> Chart:
        values: dict[int, list[float]] = {}
        for message in self._figures.heard:
            took = 1000 * (message.last - message.due)
            values.setdefault(self._bin(message.due), []).append(took)
        parts = [(self._middle(place), sorted(those)) for place, those in sorted(values.items())]

        def line(part: float) -> list[Point]:
            return [(second, rank(those, part)) for second, those in parts]

        return self._draw(
            "Latency to the last receiver, by due time",
            "ms",
            ("slowest", "faint", line(100)),
            ("p99", "sends", line(99)),
            ("p50", "receives", line(50)),
            log=True,
        )

    def _lag(self) -> Chart:
        most: dict[int, float] = {}
        for event in self._events:
            if "lag" in event:
                place = self._bin(event["t"])
                most[place] = max(most.get(place, 0.0), 1000 * event["lag"])
        points = [(self._middle(place), lag) for place, lag in sorted(most.items())]
        title = "Largest delay of the harness itself"
        return self._draw(title, "ms", ("", "sends", points), log=True)

    def _deliveries(self) -> Chart:
        counts: Counter[int] = Counter()
        for event in self._events:
            if "hears" in event:
                counts[self._bin(event["t"])] += len(event["hears"])
        points = self._per_second(counts)
        return self._draw("Messages delivered", "per second", ("", "sends", points))

    def _members(self) -> Chart:
        here: set[int] = set()
        most: dict[int, int] = {}
        joins: Counter[int] = Counter()
        leaves: Counter[int] = Counter()
        for event in self._events:
            match event.get("what"):
                case "welcomed":
                    here.add(event["who"])
                    joins[self._bin(event["t"])] += 1
                case "leaves" | "ended" if event["who"] in here:
                    here.remove(event["who"])
                    leaves[self._bin(event["t"])] += 1
                case _:
                    continue
            most[self._bin(event["t"])] = len(here)
        return self._draw(
            "Members, and joins and leaves per second",
            "clients",
            ("members", "sends", [*self._kept(most)]),
            ("joins", "receives", self._per_second(joins)),
            ("leaves", "faint", self._per_second(leaves)),
        )

    def _kept(self, values: Mapping[int, int]) -> Iterator[Point]:
        """Yield a point for each interval; an interval without a value has the previous value."""
        last = 0
        for place in self._bins:
            last = values.get(place, last)
            yield self._middle(place), float(last)

    def _costs(self) -> Iterator[Chart]:
        looks = [
            (max(0.0, event["t"]), event["costs"])
            for event in self._events
            if "costs" in event and event["t"] <= self._until
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
            ("The target’s open descriptors", "", [(t, look["descriptors"]) for t, look in looks]),
            ("Processors that the target keeps busy", "", cores),
        ):
            yield self._draw(title, unit, ("", "sends", points))
