"""A history, indexed to find what surrounds a violation. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.simulation.history import Event, as_bytes
from harness.simulation.scenario.vocabulary import name_in

MOMENTS = ("kill-worker", "kill-workers", "hangup")
"""Faults of the target that have no duration."""

Span = tuple[float, float, str]
"""Begin, end and text; both times are equal for a moment."""


@dataclass(frozen=True)
class Group:
    """Violations of one kind that concern one message, or one violation without a message.

    who: affected sessions. says: description of the first violation.
    """

    kind: str
    clause: str
    t: float
    message: str
    says: str
    who: tuple[int, ...]


@dataclass
class Person:
    """A session: a member from `since` (None: never) to `until` (None: the end of the run)."""

    number: int
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


def grouped(violations: Iterable[Mapping[str, Any]]) -> list[Group]:
    """Group violations; order the groups by their first violations."""
    found: dict[tuple[object, ...], list[Mapping[str, Any]]] = {}
    for violation in violations:
        about = violation["message"] or (violation["who"], violation["says"])
        found.setdefault((violation["kind"], violation["clause"], about), []).append(violation)
    return [
        Group(
            those[0]["kind"],
            those[0]["clause"],
            those[0]["t"],
            those[0]["message"],
            those[0]["says"],
            tuple(dict.fromkeys(violation["who"] for violation in those)),
        )
        for those in found.values()
    ]


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
        if "fault" not in event or "who" in event:
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
                about = (event.get("address", ""), event.get("population", ""), event.get("link"))
                self.people[who] = Person(who, *about)
            case "welcomed":
                self.person(who).since = event["t"]
            case "leaves" | "ended":
                person = self.person(who)
                person.until = event["t"] if person.until is None else person.until

    def person(self, who: int) -> Person:
        """Return the session of that number, created if unknown."""
        return self.people.setdefault(who, Person(who))

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
