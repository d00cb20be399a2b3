"""A history, indexed to find the messages and events around a violation. Pure."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from harness.simulation.history import Event, as_bytes
from harness.simulation.scenario.vocabulary import name_in

INSTANT_FAULTS = ("kill-worker", "kill-workers", "kill-engine", "kill-bridge", "hangup")
"""Faults of the target that have no duration."""

Span = tuple[float, float, str]
"""Begin, end and text. Both times are equal for a fault without duration."""


@dataclass(frozen=True)
class Group:
    """The first violation of a cause, and the violations of this cause for the same message.

    who: sessions that these violations affect. others: further sessions that the description
    (`says`) names. count: number of all violations with this cause.
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
    """A session of a client.

    since: time at which it became a member; None if it did not. until: time at which it ended; None
    if it lasted until the end of the run.
    """

    number: int
    name: str = ""
    address: str = ""
    population: str = ""
    link: str | None = None
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True)
class Delivery:
    """A receipt of a message by a session. line: the line, if it is not the expected line."""

    t: float
    who: int
    line: str = ""


def grouped(
    causes: Iterable[Mapping[str, Any]], violations: Iterable[Mapping[str, Any]]
) -> list[Group]:
    """Return a group for each cause. causes, violations: the lists in results.json."""
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
    """Return the key that a cause and its violations have in common."""
    return found["kind"], found["clause"], found["cause"]


def chosen(groups: Sequence[Group], count: int) -> list[int]:
    """Return the indices of at most `count` groups.

    Choose the first group of each kind of violation, then the second group of each kind, and so on.
    """
    seen: Counter[str] = Counter()
    turns = []
    for place, group in enumerate(groups):
        turns.append((seen[group.kind], place))
        seen[group.kind] += 1
    return sorted(place for _, place in sorted(turns)[:count])


def target_faults(events: Iterable[Event], until: float) -> list[Span]:
    """Return the faults of the target, in order of time. until: end of faults without an end."""
    found = []
    begun: dict[str, list[float]] = {}
    for event in events:
        if "fault" not in event or "who" in event or event["what"] == "misses":
            continue
        t, kind = event["t"], event["fault"]
        if kind in INSTANT_FAULTS:
            found.append((t, t, kind))
        elif event["what"] == "begins":
            begun.setdefault(kind, []).append(t)
        elif begun.get(kind):
            found.append((begun[kind].pop(0), t, kind))
    found += [(t, until, kind) for kind, those in begun.items() for t in those]
    return sorted(found)


class Recording:
    """The events of a history, indexed by time, session and message.

    messages: names of the messages whose receipts are indexed.
    """

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
        """Return the session of that number. Create it if it is unknown."""
        return self.people.setdefault(who, Person(who))

    def name(self, who: int) -> str:
        """Return the name of a session's client."""
        return self.person(who).name or f"session {who}"

    def between(self, begin: float, end: float) -> Sequence[Event]:
        """Return the events from `begin` to `end`, both included."""
        return self.events[bisect_left(self.times, begin) : bisect_right(self.times, end)]


def named(heard: Any) -> tuple[str, str]:
    """Return the name of a received message, and the line if it is not the expected line.

    The name is empty if the line contains no message.
    """
    if isinstance(heard, str):
        return heard, ""
    return name_in(as_bytes(heard["line"])), heard["line"]
