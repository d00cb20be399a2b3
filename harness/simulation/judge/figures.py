"""The figures of a run: latencies, the harness's own delay, the target's costs. Pure.

A *corrected* latency is the time from the moment at which a message was due until it was received.
So it includes any delay before the message was sent. A *raw* latency is what a closed loop would
measure, in which a sender waits until its message is received before it sends the next one. It is
the time from the moment at which a message was sent until it was received. Raw latencies leave out
each message that was due before its sender's previous message was received. During a stall of the
server, this leaves out nearly all delayed messages.

Both kinds of latencies leave out clients with a faulty link, as senders and as receivers, because
the link delays their messages. They also leave out a delivery whose text is incomplete or changed.

Percentiles are nearest-rank percentiles: p99 is the smallest of the values such that at least 99 %
of all values are equal to it or less.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache, partial

from harness.simulation.history import Event, History, as_bytes
from harness.simulation.judge.facts import MAY_FLUSH
from harness.simulation.judge.lines import plain, texts_of
from harness.simulation.scenario.vocabulary import TOKEN
from harness.wording import counted

RANKS = {"p50": 50.0, "p99": 99.0, "p999": 99.9, "max": 100.0}

CLOCK = 1e-5
"""Seconds by which two equal times may differ in a history, because times are rounded."""

RECEIVERS = ("first", "median", "last")
"""Receivers of each message whose latency is measured, in order of receipt."""

Percentiles = dict[str, float | None]


@dataclass(frozen=True)
class Heard:
    """One message, and the times at which it was received, in seconds of the run.

    due: time at which its last byte was to be sent. begun: time at which its first byte was sent.
    sent: time at which the kernel had accepted all its bytes. first, median, last: time at which
    the first, the median and the last receiver received it.
    """

    name: str
    sender: int
    due: float
    begun: float
    sent: float
    first: float
    median: float
    last: float


@dataclass
class Figures:
    """Figures of a run. Latencies are in ms, by receiver (RECEIVERS) and percentile (RANKS)."""

    corrected: dict[str, Percentiles]
    raw: dict[str, Percentiles]
    lag: Percentiles
    """Delay with which the harness itself sent messages, in ms."""
    heard: list[Heard]
    """All messages that were received, except final messages, in order of due times."""
    closed_loop: list[Heard]
    """Messages of `heard` that count for the raw latencies."""
    by_population: dict[str, dict[str, Percentiles]]
    """Corrected latencies of the messages of each population. The latencies of other clients are
    visible here even if those of a throttled flooder dominate `corrected`."""
    costs: dict[str, float]
    """Costs of the target. Memory (bytes) and descriptors: the first and the last measurement, and
    the maximum. Processor time between these measurements: in seconds, and as the mean number of
    processors in use."""
    faults: Counter[str]
    """Number of times that each fault of the target or of a link began."""
    sessions: int
    most: int
    """Maximum number of members at the same time."""
    contradiction: str
    """Description of a message that was received before it was sent; empty if there is none."""


def figures(history: History) -> Figures:
    """Return the figures of a history."""
    events = history.events
    populations = {
        event["who"]: event["population"]
        for event in events
        if event.get("what") == "connects" and event["link"] is None
    }
    near = {*populations}
    heard = _heard(events, _times(events, near), near)
    closed_loop = _closed_loop(heard)
    by_population: dict[str, list[Heard]] = {name: [] for name in populations.values()}
    for message in heard:
        by_population[populations[message.sender]].append(message)
    return Figures(
        corrected=_corrected(heard),
        raw={receiver: _latencies(closed_loop, receiver, "sent") for receiver in RECEIVERS},
        lag=percentiles([1000 * event["lag"] for event in events if "lag" in event]),
        heard=heard,
        closed_loop=closed_loop,
        by_population={name: _corrected(those) for name, those in by_population.items() if those},
        costs=_costs([event for event in events if "costs" in event]),
        faults=Counter(event["fault"] for event in events if event.get("what") == "begins"),
        sessions=sum(event.get("what") == "connects" for event in events),
        most=_most_members(events),
        contradiction=_contradiction(heard),
    )


def percentiles(values: Sequence[float]) -> Percentiles:
    """Return the percentiles in RANKS of these values; each is None if there are no values."""
    if not values:
        return dict.fromkeys(RANKS)
    ordered = sorted(values)
    return {name: round(rank(ordered, part), 3) for name, part in RANKS.items()}


def rank(ordered: Sequence[float], part: float) -> float:
    """Return the nearest-rank percentile `part` (0 to 100) of ascending values."""
    return ordered[max(0, math.ceil(len(ordered) * part / 100) - 1)]


def _times(events: Sequence[Event], near: set[int]) -> dict[str, list[float]]:
    """Return the times at which the sessions `near` received each message, in order."""
    times: dict[str, list[float]] = {}
    texts = {event["says"]: event["text"] for event in events if "says" in event}
    senders = {event["says"]: event["who"] for event in events if "says" in event}
    named = cache(partial(_whole, texts=texts))
    for event in events:
        if "hears" in event and event["who"] in near:
            t = event["t"]
            for heard in event["hears"]:
                name = heard if isinstance(heard, str) else named(heard["line"])
                if senders.get(name) != event["who"]:  # in some dialects, senders receive an echo
                    times.setdefault(name, []).append(t)
    return times


def _whole(line: str, texts: dict[str, str]) -> str:
    """Return the name of the message whose whole text a line contains; empty if there is none.

    texts: the text of each message, by its name.
    """
    found = TOKEN.search(data := as_bytes(line))
    name = found[1].decode() if found else ""
    if found is None or name not in texts:
        return ""
    came = plain(data[found.start() :])
    return name if came.startswith(texts_of(as_bytes(texts[name]))) else ""


def _heard(events: Sequence[Event], times: dict[str, list[float]], near: set[int]) -> list[Heard]:
    sent = {event["sent"]: event for event in events if "sent" in event}
    found = []
    for event in events:
        name = event.get("says")
        if name in times and event["who"] in near and not event.get("final"):
            when = times[name]
            middle = when[(len(when) - 1) // 2]
            last = sent.get(name, event)  # the event at which all its bytes were sent
            if when[0] < event["due"] and last.get("gap", 0.0) >= MAY_FLUSH:
                continue  # the server delivered its text before its LF was sent (LINE-5)
            # Another process may record the receipt before this process records the sending.
            taken = min(float(last["t"]), when[0])
            sending = event["due"], event["t"], taken
            found.append(Heard(name, event["who"], *sending, when[0], middle, when[-1]))
    return sorted(found, key=lambda message: message.due)


def _contradiction(heard: Sequence[Heard]) -> str:
    early = [
        (message.name, by)
        for message in heard
        if (by := max(message.due, message.begun) - message.first) > CLOCK
    ]
    if not early:
        return ""
    more = f" ({counted(len(early), 'such message')})" if len(early) > 1 else ""
    return f"{early[0][0]} was received {1000 * early[0][1]:.1f} ms before it was sent{more}"


def _closed_loop(heard: Sequence[Heard]) -> list[Heard]:
    """Return the messages that were due after their sender's previous message was received."""
    free: dict[int, float] = {}
    found = []
    for message in heard:
        if message.due >= free.get(message.sender, -math.inf):
            free[message.sender] = message.first
            found.append(message)
    return found


def _corrected(heard: Sequence[Heard]) -> dict[str, Percentiles]:
    return {receiver: _latencies(heard, receiver, "due") for receiver in RECEIVERS}


def _latencies(heard: Sequence[Heard], receiver: str, since: str) -> Percentiles:
    return percentiles(
        [1000 * (getattr(message, receiver) - getattr(message, since)) for message in heard]
    )


def _costs(events: Sequence[Event]) -> dict[str, float]:
    if not events:
        return {}
    looks: list[dict[str, float]] = [event["costs"] for event in events]
    cpu, seconds = looks[-1]["cpu"] - looks[0]["cpu"], events[-1]["t"] - events[0]["t"]
    found = {
        "cpu_seconds": round(cpu, 3),
        "cpu_cores": round(cpu / seconds, 3) if seconds else 0.0,
    }
    for name in ("memory", "descriptors"):
        values = [look[name] for look in looks]
        found |= {
            f"{name}_first": values[0],
            f"{name}_last": values[-1],
            f"{name}_most": max(values),
        }
    return found


def _most_members(events: Sequence[Event]) -> int:
    most, here = 0, set()
    for event in events:
        match event.get("what"):
            case "welcomed":
                here.add(event["who"])
                most = max(most, len(here))
            case "leaves" | "ended":
                here.discard(event["who"])
    return most
