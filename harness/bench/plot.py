"""Plot of deliveries per second against the number of clients, as an SVG image. Pure."""

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

PLOTTED = {
    "crowd": "Deliveries per second, when all clients send at once",
    "solo": "Deliveries per second, when one client sends",
}
"""Kinds of workloads in the plot, each with the title of its panel."""

COLOURS = ("#1f5fbf", "#b3261e", "#177245", "#8a6100", "#7a3fa0", "#555b66")
"""Colours of the servers' lines, for a white background. A dark style brightens them."""

APART = 16
"""Minimum vertical distance between two server names, in SVG's user units."""

_STYLE = """
text { font: 13px system-ui, sans-serif; fill: #444; } .title { font-size: 16px; }
.grid { stroke: #ccc; stroke-width: .6; } .back { fill: #fff; }
@media (prefers-color-scheme: dark) {
  text { fill: #bbb; } .grid { stroke: #444; } .back { fill: #15171a; }
  .server { filter: brightness(1.7); }
}
"""


def plot(results: Sequence[Result]) -> str:
    """Return the results as an SVG image: a panel for crowds, and one for solos below it."""
    servers = dict.fromkeys(result.server for result in results)
    panels = {
        kind: {server: rates for server in servers if (rates := _rates(results, kind, server))}
        for kind in PLOTTED
    }
    panels = {kind: found for kind, found in panels.items() if found} or {"crowd": {}}
    shown = [server for server in servers if any(server in found for found in panels.values())]
    colours = dict(zip(shown, cycle(COLOURS), strict=False))
    height = HEIGHT * len(panels)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img">',
        f"<style>{_STYLE}</style>",
        f'<rect class="back" width="{WIDTH}" height="{height}"/>',
    ]
    for number, (kind, found) in enumerate(panels.items()):
        parts += [
            f'<g transform="translate(0 {number * HEIGHT})">',
            *_panel(PLOTTED[kind], found, colours),
            "</g>",
        ]
    return "\n".join([*parts, "</svg>"]) + "\n"


def _panel(
    title: str, found: Mapping[str, Mapping[int, list[float]]], colours: Mapping[str, str]
) -> list[str]:
    """Return the SVG elements of a panel. found: the rates of each server, by number of clients."""
    clients = sorted({count for rates in found.values() for count in rates})
    values = [rate for rates in found.values() for those in rates.values() for rate in those]
    x = Scale(min(clients, default=1), max(clients, default=10), LEFT, WIDTH - RIGHT, log=True)
    y = Scale(min(values, default=1), max(values, default=10), HEIGHT - BOTTOM, TOP, log=True)
    parts = [
        f'<text class="title" x="{LEFT}" y="26">{title}</text>',
        *_axes(clients, values, x, y),
    ]
    ends = {server: y(statistics.median(rates[max(rates)])) for server, rates in found.items()}
    places = spaced(ends)
    for server, rates in found.items():
        colour = colours[server]
        parts += [
            '<g class="server">',
            *_line(rates, x, y, colour),
            f'<text x="{x(max(rates)) + 8}" y="{places[server] + 4}" '
            f'style="fill: {colour}">{escape(server)}</text>',
            "</g>",
        ]
    return parts


def spaced(ends: Mapping[str, float]) -> dict[str, float]:
    """Return the y coordinate of each server's name, at the end of its line or below.

    ends: y coordinate of the end of each line. A name is moved down if it would cover another name.
    """
    places: dict[str, float] = {}
    free = float("-inf")
    for server, place in sorted(ends.items(), key=lambda end: end[1]):
        places[server] = max(place, free)
        free = places[server] + APART
    return places


def _rates(results: Sequence[Result], kind: str, server: str) -> dict[int, list[float]]:
    found = {}
    for workload in dict.fromkeys(result.workload for result in results):
        own, _, clients = workload.partition(" ")
        if own == kind and (rates := figures(results, workload, server, "rate")):
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
    """Return a server's median rates as a line, in a band from its lowest to its highest rates."""
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
