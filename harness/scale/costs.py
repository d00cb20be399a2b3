"""Costs in seconds of processor time, and their fit to measured points. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, fields

Counts = Mapping[str, float]
"""Number of times that each kind of work is done, by its name in `Costs`."""


@dataclass(frozen=True)
class Costs:
    """Processor time of each kind of work, in seconds."""

    turn: float = 20e-6
    """A turn of a worker: its system calls for waiting, locks and wake-ups."""
    read: float = 10e-6
    """A line that a worker reads and appends."""
    send: float = 5e-6
    """A send to a member; one send may contain many lines."""
    byte: float = 0.3e-9
    """A byte in a send."""
    publish: float = 300e-6
    """A publication, in its node's bridge."""
    follow: float = 200e-6
    """A publication, in the bridge of each node, and the turns that it causes."""
    relay: float = 1e-6
    """A line of a publication, in the bridge and the workers of each node."""
    store: float = 100e-6
    """A publication, in the engine."""
    push: float = 50e-6
    """A publication, in the engine, for each node that it is sent to."""
    engine_byte: float = 5e-9
    """A byte of a publication, in the engine, for the stream and for each node."""
    load_send: float = 5e-6
    """A line that the load generator sends."""
    load_receive: float = 3e-6
    """A read of the load generator."""
    load_byte: float = 0.1e-9
    """A byte that the load generator receives."""

    def of(self, counts: Counts, names: Sequence[str]) -> float:
        """Return the processor time of `counts`, for the kinds of work in `names` only."""
        costs: dict[str, float] = vars(self)
        return sum(costs[name] * counts.get(name, 0.0) for name in names)


WORKER = ("turn", "read", "send", "byte")
BRIDGE = ("publish", "follow", "relay")
ENGINE = ("store", "push", "engine_byte")
LOAD = ("load_send", "load_receive", "load_byte")

NAMES = tuple(field.name for field in fields(Costs))


def fit(costs: Costs, names: Sequence[str], samples: Sequence[tuple[Counts, float]]) -> Costs:
    """Return `costs`, with the costs in `names` fitted to the samples.

    A sample consists of the counts of some work and its measured processor time in seconds. The
    fit minimizes the sum of the squares of the relative errors; no cost is negative. The costs
    that are not in `names` do not change.
    """
    others = [name for name in NAMES if name not in names]
    rows = []
    for counts, seconds in samples:
        known = costs.of(counts, others)
        rows.append(([counts.get(name, 0.0) / seconds for name in names], 1 - known / seconds))
    found = least_squares([row for row, _ in rows], [value for _, value in rows])
    return Costs(**{**asdict(costs), **dict(zip(names, found, strict=True))})


def least_squares(rows: Sequence[Sequence[float]], values: Sequence[float]) -> list[float]:
    """Return the vector x that minimizes the sum of the squares of `rows`·x - `values`.

    No component of x is negative. The algorithm is coordinate descent: set each component in turn
    to its best value, until no component changes any more.
    """
    count = len(rows[0])
    # If all columns have the same Euclidean norm, the descent converges faster.
    sizes = [max(sum(row[n] ** 2 for row in rows) ** 0.5, 1e-300) for n in range(count)]
    columns = [[row[n] / sizes[n] for row in rows] for n in range(count)]
    x, residuals = [0.0] * count, list(values)
    for _ in range(100_000):
        largest_step = 0.0
        for n, column in enumerate(columns):
            step = sum(a * b for a, b in zip(column, residuals, strict=True))
            step = max(step, -x[n])
            x[n] += step
            residuals = [b - step * a for a, b in zip(column, residuals, strict=True)]
            largest_step = max(largest_step, abs(step))
        if largest_step < 1e-12:
            break
    return [value / size for value, size in zip(x, sizes, strict=True)]
