"""Medians, spreads and ratios of the measurements, and tables of them. Pure."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from harness.bench.open_loop import PERCENTILES, trusted
from harness.bench.servers import FLOOR
from harness.bench.trial import MEASURED, NOT_INSTALLED, Result

Row = tuple[str, ...]

ADDED = ("p50", "p99")
"""Percentiles for which the table shows the first server's latency minus each other server's."""


def human(number: float) -> str:
    """Return a number with three digits and a suffix: 15.9 M, 765 k, 21.3 k, 950."""
    for unit, name in ((1e6, " M"), (1e3, " k")):
        # 999,500 and more would round to "1000 k".
        if number >= unit * 0.9995:
            return _digits(number / unit) + name
    return _digits(number)


def _digits(number: float) -> str:
    if number >= 99.95:
        return f"{number:.0f}"
    return f"{number:.1f}" if number >= 9.995 else f"{number:.2f}"


def times(ratio: float) -> str:
    return f"{_digits(ratio)} × as fast"


def bytes_each(number: float) -> str:
    return f"{number / 1024:.1f} KiB"


def figures(results: Sequence[Result], workload: str, server: str, name: str) -> dict[int, float]:
    """Return the figure `name` of a server, by repetition. Failed repetitions are left out."""
    return {
        result.repetition: result.figures[name]
        for result in results
        if (result.workload, result.server) == (workload, server) and name in result.figures
    }


def ratio(results: Sequence[Result], workload: str, reference: str, server: str) -> float | None:
    """Return the reference's rate divided by the server's: the median of all repetitions."""
    ours = figures(results, workload, reference, "rate")
    theirs = figures(results, workload, server, "rate")
    ratios = [ours[repetition] / theirs[repetition] for repetition in ours.keys() & theirs.keys()]
    return statistics.median(ratios) if ratios else None


def trouble(results: Sequence[Result], workload: str, server: str) -> str:
    """Return a phrase that describes a server's failures in a workload; empty if it had none."""
    own = [r for r in results if (r.workload, r.server) == (workload, server)]
    bad = [r for r in own if r.status != MEASURED]
    if not bad:
        return ""
    first = bad[0]
    if first.status == NOT_INSTALLED:
        return f"{first.status} ({first.reason})"
    share = f" {len(bad)} of {len(own)}" if len(own) > 1 else ""
    return f"{first.status}{share}: {first.reason}"


def speed_rows(results: Sequence[Result]) -> list[Row]:
    """Return the table of speeds, with ratios to the first server and to the floor."""
    servers = list(dict.fromkeys(result.server for result in results))
    references = list(dict.fromkeys([servers[0], *({FLOOR.name} & {*servers})]))
    against = [f"{reference} is" for reference in references]
    rows: list[Row] = [
        (
            "workload",
            "server",
            "deliveries/s",
            "lowest to highest",
            "CPU µs/message",
            *against,
            "load busy",
        )
    ]
    for workload in dict.fromkeys(result.workload for result in results):
        for server in servers:
            rates = list(figures(results, workload, server, "rate").values())
            note = trouble(results, workload, server)
            row = [workload, server, "-", "", "", *("" for _ in references), ""]
            if rates:
                busy = figures(results, workload, server, "busy").values()
                costs = figures(results, workload, server, "cpu_per_message").values()
                row[2] = human(statistics.median(rates))
                row[3] = f"{human(min(rates))} to {human(max(rates))}"
                row[4] = _digits(1e6 * statistics.median(costs)) if costs else "-"
                row[5:-1] = [_against(results, workload, other, server) for other in references]
                row[-1] = f"{statistics.median(busy):.0%}"
            rows.append((*row, note))
    return _with_notes(rows)


def _against(results: Sequence[Result], workload: str, reference: str, server: str) -> str:
    found = ratio(results, workload, reference, server)
    return "" if found is None or reference == server else times(found)


def idle_rows(results: Sequence[Result]) -> list[Row]:
    """Return the table of idle clients: their memory, and the first and last joins per second."""
    rows: list[Row] = [
        ("workload", "server", "memory per client", "first joins/s", "last joins/s", "of each")
    ]
    for workload, server in _pairs(results):
        blocks = figures(results, workload, server, "block").values()
        rows.append(
            (
                workload,
                server,
                spread(figures(results, workload, server, "memory"), bytes_each),
                spread(figures(results, workload, server, "first_rate"), human),
                spread(figures(results, workload, server, "last_rate"), human),
                f"{statistics.median(blocks):.0f}" if blocks else "-",
                trouble(results, workload, server),
            )
        )
    return _with_notes(rows)


def latency_rows(results: Sequence[Result]) -> list[Row]:
    """Return the table of latencies, at shares of each server's capacity or at one pace for all.

    At one pace, the last column shows by how much the latency of the first server exceeds that of
    each other server. A latency is marked with ``?`` if the load generator's own delay makes it
    uncertain.
    """
    servers = list(dict.fromkeys(result.server for result in results))
    loads = loads_of(results)
    paced = any(load.endswith("/s") for load in loads)
    rows: list[Row] = [
        (
            "workload",
            "server",
            "messages" if paced else "of capacity",
            *(f"{name} ms" for name in PERCENTILES),
            *([f"{servers[0]} adds ms, {' and '.join(ADDED)}"] if paced else []),
        )
    ]
    for workload, server in _pairs(results):
        note = trouble(results, workload, server)
        for load in loads:
            cells = []
            for name in PERCENTILES:
                found = figures(results, workload, server, f"{name} at {load}")
                late = figures(results, workload, server, f"late {name} at {load}")
                sure = all(trusted(found[repetition], late[repetition]) for repetition in found)
                cells.append(spread(found, _digits) + ("" if sure else " ?"))
            if paced:
                more = [
                    _added(results, workload, servers[0], server, f"{name} at {load}")
                    for name in ADDED
                ]
                cells.append("" if server == servers[0] else " and ".join(more))
            shown = load if paced else f"{float(load):.0%}"
            rows.append((workload, server, shown, *cells, note))
    return _with_notes(rows)


def loads_of(results: Sequence[Result]) -> list[str]:
    """Return the loads at which latencies were measured: shares of the capacity, or rates.

    Examples: "0.1", "200/s".
    """
    names = [name for result in results for name in result.figures if name.startswith("p50 at ")]
    return list(dict.fromkeys(name.removeprefix("p50 at ") for name in names))


def _added(results: Sequence[Result], workload: str, reference: str, server: str, name: str) -> str:
    """Return the reference's latency minus the server's: the median of all repetitions."""
    ours = figures(results, workload, reference, name)
    theirs = figures(results, workload, server, name)
    more = [ours[repetition] - theirs[repetition] for repetition in ours.keys() & theirs.keys()]
    return f"{statistics.median(more):+.2f}" if more else "-"


def start_rows(results: Sequence[Result]) -> list[Row]:
    """Return the table of the seconds until each server was ready."""
    rows: list[Row] = [("workload", "server", "ready after s")]
    for workload, server in _pairs(results):
        found = figures(results, workload, server, "start")
        rows.append(
            (workload, server, spread(found, "{:.3f}".format), trouble(results, workload, server))
        )
    return _with_notes(rows)


def _pairs(results: Sequence[Result]) -> list[tuple[str, str]]:
    """Return each pair of a workload and a server."""
    return list(dict.fromkeys((result.workload, result.server) for result in results))


def spread(found: Mapping[int, float], show: Callable[[float], str]) -> str:
    """Return the median of the values in `found`, with the lowest and the highest; "-" if empty."""
    values = found.values()
    if not values:
        return "-"
    middle = show(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({show(min(values))} to {show(max(values))})"


def _with_notes(rows: list[Row]) -> list[Row]:
    """Add the title "note" to the last column, or drop the column if all its cells are empty."""
    head, *body = rows
    if any(row[-1] for row in body):
        return [(*head, "note"), *body]
    return [head, *(row[:-1] for row in body)]


def table(rows: Sequence[Row], left: Sequence[str] = ("workload", "server", "note")) -> str:
    """Return rows as a Markdown table. Columns with a title in `left` are aligned to the left."""
    head, *body = [[cell.replace("|", "/") for cell in row] for row in rows]
    widths = [max(map(len, column)) for column in zip(head, *body, strict=True)]
    is_left = [title in left for title in head]

    def show(row: Sequence[str]) -> str:
        cells = zip(row, widths, is_left, strict=True)
        return "| " + " | ".join(c.ljust(w) if lj else c.rjust(w) for c, w, lj in cells) + " |"

    rule = [
        "-" * (width + 2) if lj else "-" * (width + 1) + ":"
        for width, lj in zip(widths, is_left, strict=True)
    ]
    return "\n".join([show(head), "|" + "|".join(rule) + "|", *map(show, body)])


def tables(results: Sequence[Result]) -> str:
    """Return the tables of all results: speed, latency, idle clients, starts."""
    shown = (
        (("crowd", "solo", "stream"), speed_rows),
        (("latency",), latency_rows),
        (("idle",), idle_rows),
        (("start",), start_rows),
    )
    found = (
        ([result for result in results if result.workload.split()[0] in kinds], rows)
        for kinds, rows in shown
    )
    return "\n\n".join(table(rows(those)) for those, rows in found if those)


def summary(result: Result) -> str:
    """Return the line that shows a finished trial while others still run."""
    where = f"{result.workload}, repetition {result.repetition + 1}, {result.server}: "
    if result.status != MEASURED:
        return where + f"{result.status}: {result.reason}"
    if result.workload.startswith("latency"):
        p99 = (_digits(result.figures[f"p99 at {load}"]) for load in loads_of([result]))
        return where + f"p99 {' and '.join(p99)} ms"
    if "start" in result.figures:
        return where + f"ready after {result.figures['start']:.3f} s"
    if "rate" in result.figures:
        return where + f"{human(result.figures['rate'])} deliveries/s"
    return where + f"{human(result.figures['last_rate'])} joins/s at the end"


def as_json(
    results: Sequence[Result], machine: dict[str, Any], settings: dict[str, float]
) -> dict[str, Any]:
    """Return all measurements, the machine and the settings, for a JSON file.

    Times are in seconds, latencies in ms, memory in bytes.
    """
    trials = [vars(result) for result in results]
    return {"machine": machine, "settings": settings, "trials": trials}
