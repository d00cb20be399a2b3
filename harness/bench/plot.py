"""Deliveries per second against clients, one line per server, as an SVG image. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from html import escape
from itertools import cycle

from harness.bench.report import figures
from harness.bench.trial import Result
from harness.report.charts import Scale, short

WIDTH, HEIGHT = 900, 560
LEFT, RIGHT, TOP, BOTTOM = 70, 120, 50, 60

COLOURS = ("#1f5fbf", "#b3261e", "#177245", "#8a6100", "#7a3fa0", "#555b66")
"""Colours of the servers, in order; they are brightened on a dark background."""

APART = 16
"""Minimum distance between two names at the ends of lines, in SVG's user units."""

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #444; } .title { font-size: 16px; }
.grid { stroke: #ccc; stroke-width: .6; } .back { fill: #fff; }
@media (prefers-color-scheme: dark) {
  text { fill: #bbb; } .grid { stroke: #444; } .back { fill: #15171a; }
  .server { filter: brightness(1.7); }
}
"""


def plot(results: Sequence[Result]) -> str:
    """Return the crowds among the results as an SVG image."""
    servers = dict.fromkeys(result.server for result in results)
    found = {server: _rates(results, server) for server in servers}
    found = {server: rates for server, rates in found.items() if rates}
    clients = sorted({count for rates in found.values() for count in rates})
    values = [rate for rates in found.values() for those in rates.values() for rate in those]
    x = Scale(min(clients, default=1), max(clients, default=10), LEFT, WIDTH - RIGHT, log=True)
    y = Scale(min(values, default=1), max(values, default=10), HEIGHT - BOTTOM, TOP, log=True)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<style>{_STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{HEIGHT}"/>',
        f'<text class="title" x="{LEFT}" y="26">Deliveries per second, when all clients '
        "send at once</text>",
        *_axes(clients, values, x, y),
    ]
    ends = {server: y(statistics.median(rates[max(rates)])) for server, rates in found.items()}
    places = spaced(ends)
    for colour, (server, rates) in zip(cycle(COLOURS), found.items(), strict=False):
        parts += [
            '<g class="server">',
            *_line(rates, x, y, colour),
            f'<text x="{x(max(rates)) + 8}" y="{places[server] + 4}" '
            f'style="fill: {colour}">{escape(server)}</text>',
            "</g>",
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def spaced(ends: Mapping[str, float]) -> dict[str, float]:
    """Return the places of names at the ends of lines, moved down so that none covers another."""
    places: dict[str, float] = {}
    free = float("-inf")
    for server, place in sorted(ends.items(), key=lambda end: end[1]):
        places[server] = max(place, free)
        free = places[server] + APART
    return places


def _rates(results: Sequence[Result], server: str) -> dict[int, list[float]]:
    found = {}
    for workload in dict.fromkeys(result.workload for result in results):
        kind, _, clients = workload.partition(" ")
        if kind == "crowd" and (rates := figures(results, workload, server, "rate")):
            found[int(clients)] = list(rates.values())
    return dict(sorted(found.items()))


def _axes(clients: Sequence[int], values: Sequence[float], x: Scale, y: Scale) -> list[str]:
    low = HEIGHT - BOTTOM + 22
    steps = [step * 10.0**power for power in range(12) for step in (1, 3)]
    lowest, highest = min(values, default=1), max(values, default=1)
    middle = (LEFT + WIDTH - RIGHT) / 2
    return [
        *(f'<text x="{x(n)}" y="{low}" text-anchor="middle">{n}</text>' for n in clients),
        f'<text x="{middle}" y="{HEIGHT - 14}" text-anchor="middle">clients</text>',
        *(
            f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(step)}" y2="{y(step)}"/>'
            f'<text x="{LEFT - 8}" y="{y(step) + 4}" text-anchor="end">{short(step)}</text>'
            for step in steps
            if lowest <= step <= highest
        ),
    ]


def _line(rates: Mapping[int, Sequence[float]], x: Scale, y: Scale, colour: str) -> list[str]:
    """Return the medians as a line, in a band from the lowest to the highest."""
    middle = " ".join(f"{x(n)},{y(statistics.median(those))}" for n, those in rates.items())
    above = [f"{x(n)},{y(max(those))}" for n, those in rates.items()]
    below = [f"{x(n)},{y(min(those))}" for n, those in reversed([*rates.items()])]
    return [
        f'<polygon points="{" ".join([*above, *below])}" fill="{colour}" opacity=".15"/>',
        f'<polyline points="{middle}" fill="none" stroke="{colour}" stroke-width="2"/>',
        *(
            f'<circle cx="{x(n)}" cy="{y(statistics.median(those))}" r="3" fill="{colour}"/>'
            for n, those in rates.items()
        ),
    ]
