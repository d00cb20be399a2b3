"""The moments at which faults struck: they show which cases a run has tested. Pure.

A fault is a client's leave, a fault of a link that cuts a client off, or a fault of the target.
A moment is a state that a client is in while the fault strikes, such as "joining". For a leave and
for a fault of a link, only the client that leaves or is cut off counts; for a fault of the target,
all clients count. The table contains, for each fault, the number of times that it struck at each
moment. With the key `reach`, a scenario lists pairs of fault and moment that a run must reach.
"""

from __future__ import annotations

from bisect import bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping

from harness.simulation.history import History, as_bytes
from harness.simulation.judge.facts import Facts, Session
from harness.simulation.scenario.scenario import MOMENTS, STRIKES, Pair
from harness.simulation.scenario.vocabulary import name_in

Interval = tuple[float, float]
"""Begin and end, in seconds since the run's start."""

SLOW = ("slow", "stall")
"""Faults of a link that make a client lag."""


def reached(history: History) -> dict[str, dict[str, int]]:
    """Return the table of faults and moments. Its rows are in the order of STRIKES.

    The row of a fault contains these numbers. `times`: how often the fault struck. The name of a
    moment: how often the fault struck at this moment. `missed`: how often the target had no process
    for the fault.
    """
    facts = Facts(history)
    states = _states(facts, history)
    anybody = {moment: _union(span for _, span in those) for moment, those in states.items()}
    of_session = {moment: _by_session(those) for moment, those in states.items()}
    found: dict[str, Counter[str]] = {}
    for fault, who, span in _strikes(facts, history):
        counts = found.setdefault(fault, Counter())
        counts["times"] += 1
        for moment in MOMENTS:
            spans = anybody[moment] if who is None else of_session[moment].get(who, [])
            counts[moment] += _meets(spans, span)
    for event in history.events:
        if event.get("what") == "misses":
            found.setdefault(event["fault"], Counter())["missed"] += 1
    keys = ("times", "missed", *MOMENTS)
    return {fault: {key: found[fault][key] for key in keys} for fault in STRIKES if fault in found}


def required(history: History, table: Mapping[str, Mapping[str, int]]) -> dict[str, int]:
    """Return how often each pair in the scenario's `reach` was reached."""
    pairs = map(Pair.parse, history.header.get("reach", []))
    return {str(pair): table.get(pair.fault, {}).get(pair.moment, 0) for pair in pairs}


# --- faults --------------------------------------------------------------------------------------


def _strikes(facts: Facts, history: History) -> Iterator[tuple[str, int | None, Interval]]:
    """Yield each fault with its session (None for a fault of the target) and its time."""
    begun: dict[str, list[float]] = {}
    for event in history.events:
        t: float = event["t"]
        if event.get("what") == "leaves":
            yield event["how"], event["who"], (t, t)
        elif event.get("fault") not in STRIKES:
            continue
        elif "who" in event:
            if event["what"] == "begins":
                yield event["fault"], event["who"], (t, t)
        elif event["what"] == "begins":
            begun.setdefault(event["fault"], []).append(t)
        elif event["what"] == "ends" and begun.get(event["fault"]):
            yield event["fault"], None, (begun[event["fault"]].pop(0), t)
    for fault, times in begun.items():
        lasts = facts.end if fault.startswith("stop") or fault == "restart" else 0.0
        yield from ((fault, None, (t, max(t, lasts))) for t in times)


# --- moments -------------------------------------------------------------------------------------


State = tuple[int, Interval]
"""Number of a session, and the interval in which it was in a state."""


def _states(facts: Facts, history: History) -> dict[str, list[State]]:
    """Return, for each moment, the sessions that were in this state, with the times."""
    return {
        "joining": [
            (session.number, (session.connects, _first(session.welcomed, session, facts)))
            for session in facts.sessions.values()
        ],
        "sending": [
            (
                message.sender,
                (message.t, _first(message.sent, facts.sessions[message.sender], facts)),
            )
            for message in facts.messages
        ],
        "delivering": [*_delivering(facts)],
        "lagging": [*_lagging(facts, history)],
    }


def _delivering(facts: Facts) -> Iterator[State]:
    last: dict[str, float] = {}
    for event in facts.hears:
        for heard in event["hears"]:
            name = heard if isinstance(heard, str) else name_in(as_bytes(heard["line"]))
            last[name] = event["t"]
    for message in facts.messages:
        if message.name in last:
            yield message.sender, (message.t, last[message.name])


def _lagging(facts: Facts, history: History) -> Iterator[State]:
    begun: dict[int, float] = {}
    for event in history.events:
        if event.get("fault") in SLOW and "who" in event:
            if event["what"] == "begins":
                begun[event["who"]] = event["t"]
            elif event["who"] in begun:
                yield event["who"], (begun.pop(event["who"]), event["t"])
    for who, t in begun.items():
        yield who, (t, facts.end)


def _first(end: float | None, session: Session, facts: Facts) -> float:
    """Return the end of a state: `end`, the session's end or the run's, whichever comes first."""
    times = (end, session.leaves, session.ended)
    return min((t for t in times if t is not None), default=facts.end)


def _by_session(states: Iterable[tuple[int, Interval]]) -> dict[int, list[Interval]]:
    found: dict[int, list[Interval]] = {}
    for who, span in states:
        found.setdefault(who, []).append(span)
    return {who: _union(spans) for who, spans in found.items()}


def _union(spans: Iterable[Interval]) -> list[Interval]:
    """Merge overlapping intervals; return the result in ascending order."""
    found: list[Interval] = []
    for first, last in sorted(spans):
        if found and first <= found[-1][1]:
            found[-1] = found[-1][0], max(found[-1][1], last)
        else:
            found.append((first, last))
    return found


def _meets(spans: list[Interval], span: Interval) -> bool:
    """Return whether `span` overlaps with one of `spans`, which are as returned by `_union`."""
    at = bisect_right(spans, span[1], key=lambda each: each[0])
    return at > 0 and spans[at - 1][1] >= span[0]
