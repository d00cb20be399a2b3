"""A history, indexed to find what surrounds a violation. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.simulation.history import Event, as_bytes
from harness.simulation.scenario.vocabulary import name_in

MOMENTS = ("kill-worker", "kill-workers", "kill-engine", "kill-bridge", "hangup")
"""Faults of the target that have no duration."""

Span = tuple[float, float, str]
"""Begin, end and text; both times are equal for a moment."""


@dataclass(frozen=True)
class Group:
    """The first violation of a cause.

    who: sessions that it affects in the same way. others: further sessions that its description
    names. count: number of violations with this cause.
    """

    kind: str
    clause: str
    t: float
    message: str
    says: str
    who: tuple[int, ...]
    others: tuple[int, ...] = ()
    count: int = 1


@dataclass
class Person:
    """A session of a client: a member from `since` (None: never) to `until` (None: the end of the
    run)."""

    number: int
    name: str = ""
    address: str = ""
    population: str = ""
    link: str | None = None
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True)
class Delivery:
    """A message received by a session. line: as received, if it is not the expected one."""

    t: float
    who: int
    line: str = ""


def grouped(
    causes: Iterable[Mapping[str, Any]], violations: Iterable[Mapping[str, Any]]
) -> list[Group]:
    """Return a group for each cause; both as in results.json."""
    listed: dict[object, list[Mapping[str, Any]]] = {}
    for violation in violations:
        listed.setdefault(_cause(violation), []).append(violation)
    groups = []
    for cause in causes:
        those = listed[_cause(cause)]
        first = those[0]
        who = [found["who"] for found in those if found["message"] == first["message"]]
        groups.append(
            Group(
                *_cause(cause)[:2],
                first["t"],
                first["message"],
                first["says"],
                tuple(dict.fromkeys(who)),
                tuple(first["others"]),
                cause["count"],
            )
        )
    return groups


def _cause(found: Mapping[str, Any]) -> tuple[str, str, str]:
    """Return what identifies a cause, of a cause or a violation."""
    return found["kind"], found["clause"], found["cause"]


def chosen(groups: Sequence[Group], count: int) -> list[int]:
    """Return the indices of `count` groups: the first of each kind, then the second of each, …"""
    seen: Counter[str] = Counter()
    turns = []
    for place, group in enumerate(groups):
        turns.append((seen[group.kind], place))
        seen[group.kind] += 1
    return sorted(place for _, place in sorted(turns)[:count])


def target_faults(events: Iterable[Event], until: float) -> list[Span]:
    """Return the faults of the target, in order of time."""
    found = []
    begun: dict[str, list[float]] = {}
    for event in events:
        if "fault" not in event or "who" in event or event["what"] == "misses":
            continue
        t, kind = event["t"], event["fault"]
        if kind in MOMENTS:
            found.append((t, t, kind))
        elif event["what"] == "begins":
            begun.setdefault(kind, []).append(t)
        elif begun.get(kind):
            found.append((begun[kind].pop(0), t, kind))
    found += [(t, until, kind) for kind, those in begun.items() for t in those]
    return sorted(found)


class Recording:
    """Events, indexed by time, session and message."""

    def __init__(self, events: Sequence[Event], messages: Iterable[str]) -> None:
        self.events = events
        self.times = [event["t"] for event in events]
        self.said: dict[str, Event] = {}
        self.people: dict[int, Person] = {}
        self.heard: dict[str, list[Delivery]] = {name: [] for name in messages if name}
        self.faults = target_faults(events, self.times[-1] if events else 0.0)
        for event in events:
            if "hears" in event:
                self._hears(event)
            elif "says" in event:
                self.said[event["says"]] = event
            elif "what" in event and "who" in event and "fault" not in event:
                self._moves(event)

    def _hears(self, event: Event) -> None:
        for heard in event["hears"]:
            name, line = named(heard)
            if name in self.heard:
                self.heard[name].append(Delivery(event["t"], event["who"], line))

    def _moves(self, event: Event) -> None:
        who = event["who"]
        match event["what"]:
            case "connects":
                name, address, population = (
                    event.get(key, "") for key in ("name", "address", "population")
                )
                self.people[who] = Person(who, name, address, population, event.get("link"))
            case "welcomed":
                self.person(who).since = event["t"]
            case "leaves" | "ended":
                person = self.person(who)
                person.until = event["t"] if person.until is None else person.until

    def person(self, who: int) -> Person:
        """Return the session of that number, created if unknown."""
        return self.people.setdefault(who, Person(who))

    def name(self, who: int) -> str:
        """Return the name of a session's client."""
        return self.person(who).name or f"session {who}"

    def between(self, begin: float, end: float) -> Sequence[Event]:
        """Return the events from `begin` to `end`, both included."""
        return self.events[bisect_left(self.times, begin) : bisect_right(self.times, end)]


def named(heard: Any) -> tuple[str, str]:
    """Return the name of a received message, and its line if that was unexpected.

    The name is empty if the line is not a message.
    """
    if isinstance(heard, str):
        return heard, ""
    return name_in(as_bytes(heard["line"])), heard["line"]
