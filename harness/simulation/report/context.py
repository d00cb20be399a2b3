"""What was around a violation: who said it, who heard it when, and who did not. Pure.

Violations of one message are one group, however many sessions it was wrong for. A
group is shown by a picture, with a lane for each of some sessions, and by what
these sessions heard just before the message and just behind it.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any

from harness.report.charts import RIGHT, WIDTH, Mark, Scale, Tick, steps
from harness.simulation.history import Event, as_bytes
from harness.simulation.judge import MISORDERED
from harness.simulation.scenario.vocabulary import TOKEN

LEFT, LANE, TOP, BOTTOM = 110, 18, 26, 24
"""Of the picture: where lanes begin, a lane's height, what is above the lanes and below."""

TICK = 80
"""Between two of its ticks, at least."""

WRONGED, OTHERS = 6, 6
"""Sessions that get a lane, at most: of those that were wronged, and of those that heard it."""

NEIGHBOURS = 3
"""Messages that are shown before the one in question, and as many behind it."""

QUOTED = 10
"""Messages of which the words are shown."""

LETTERS = 120
"""Of a message, or of a line."""

EVENTS = 14
"""Events that are listed around one."""

DOTS = 60
"""Other messages that are drawn in one lane."""

MOMENTS = ("kill-worker", "kill-workers", "hangup")
"""Faults of the target that are over as soon as they have begun."""

FELT = 5.0
"""Seconds before something that is about no message, in which its cause is looked for."""

SOONEST, LATEST = 0.01, 10.0
"""Seconds that a picture shows on either side, at least and at most."""


@dataclass(frozen=True)
class Group:
    """Violations of one kind that are about one message, or one that is about none.

    who: the sessions that were wronged. said: of the first of them.
    """

    kind: str
    clause: str
    t: float
    message: str
    says: str
    who: tuple[int, ...]


@dataclass
class Person:
    """A session; from `since` on a member, until `until`; None: never, and to the end."""

    number: int
    address: str
    population: str
    link: str | None
    since: float | None = None
    until: float | None = None


@dataclass(frozen=True)
class Hearing:
    """A session has heard a message; line: as it came, where that was not as it was due."""

    t: float
    who: int
    line: str = ""


@dataclass(frozen=True)
class Dot:
    """style: says, hears, other (another message), wrong, never (it did not come)."""

    style: str
    x: float
    title: str


@dataclass(frozen=True)
class Lane:
    """A session's; from `begin` to `end` it is a member."""

    name: str
    style: str
    y: int
    begin: float
    end: float
    dots: list[Dot]


@dataclass(frozen=True)
class Picture:
    lanes: list[Lane]
    marks: list[Mark]
    ticks: list[Tick]
    height: int


@dataclass(frozen=True)
class Row:
    """What a session heard of the message, and in which order: before it, it, and behind it."""

    name: str
    about: str
    style: str
    heard: str
    before: list[str]
    it: str
    behind: list[str]


@dataclass(frozen=True)
class Quote:
    message: str
    sender: str
    t: str
    text: str
    is_it: bool


@dataclass(frozen=True)
class Line:
    """An event, in words."""

    t: str
    who: str
    what: str
    words: str
    is_it: bool


@dataclass(frozen=True)
class ViolationContext:
    group: Group
    picture: Picture | None
    rows: list[Row]
    rest: str
    """Of those who have no row, in words."""
    quotes: list[Quote]
    lines: list[Line]
    others: list[str]
    """Messages besides its own that it is about."""


def grouped(violations: Iterable[Mapping[str, Any]]) -> list[Group]:
    """In the order of their first ones."""
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
    """The places of so many, in order: the first of each kind before the second of any."""
    seen: Counter[str] = Counter()
    turns = []
    for place, group in enumerate(groups):
        turns.append((seen[group.kind], place))
        seen[group.kind] += 1
    return sorted(place for _, place in sorted(turns)[:count])


def strikes(events: Iterable[Event], until: float) -> list[tuple[float, float, str]]:
    """What was done to the target: from, to, and which fault; a moment ends as it begins."""
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
    """A history, with what is to be known of these messages at hand."""

    def __init__(self, events: Sequence[Event], messages: Iterable[str]) -> None:
        self.events = events
        self.times = [event["t"] for event in events]
        self.said: dict[str, Event] = {}
        self.people: dict[int, Person] = {}
        self.heard: dict[str, list[Hearing]] = {name: [] for name in messages if name}
        self.faults = strikes(events, self.times[-1] if events else 0.0)
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
                self.heard[name].append(Hearing(event["t"], event["who"], line))

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
        return self.people.setdefault(who, Person(who, "", "", None))

    def between(self, begin: float, end: float) -> Sequence[Event]:
        return self.events[bisect_left(self.times, begin) : bisect_right(self.times, end)]


def named(heard: Any) -> tuple[str, str]:
    """The message that something heard is; and the line, where it came otherwise than it was due.

    A line that is no message has no name.
    """
    if isinstance(heard, str):
        return heard, ""
    token = TOKEN.search(as_bytes(heard["line"]))
    return (token[0][:-1].decode() if token else ""), heard["line"]


def around(group: Group, recording: Recording) -> ViolationContext:
    """What there is to show of it."""
    said = recording.said.get(group.message)
    heard = recording.heard.get(group.message, [])
    begin, end = window(group, said, heard, recording)
    people = shown_people(group, said, heard)
    near = recording.between(begin, end)
    sequences = _sequences(near, people)
    expected = _expected(group, said, heard)
    rows = [
        _row(recording.person(who), group, said, heard, sequences[who], expected)
        for who in people
        if said is None or who != said["who"] or who in group.who
    ]
    return ViolationContext(
        group,
        _picture(group, said, heard, recording, people, sequences, (begin, end, expected)),
        rows,
        _rest(group, said, heard, recording, people),
        _quotes(group, rows, recording),
        _lines(group, said, recording),
        mentioned(group),
    )


def mentioned(group: Group) -> list[str]:
    """The messages that stand in a wrong order to the group's own."""
    if group.kind != MISORDERED:
        return []
    names = re.findall(r"(?<![\d.])\d+\.\d+(?![\d.])", group.says)
    return [name for name in dict.fromkeys(names) if name != group.message]


def window(
    group: Group, said: Event | None, heard: Sequence[Hearing], recording: Recording
) -> tuple[float, float]:
    """From when to when it is shown: all that is of the message, and what is next to it."""
    begin = said["t"] if said else group.t
    end = max([begin, group.t, *(one.t for one in heard)])
    if not said:  # what was done to the target shortly before may be why
        causes = [first for first, _, _ in recording.faults if begin - FELT <= first <= begin]
        begin = max(causes, default=begin)
    until = min(end, begin + LATEST)
    wronged = {*group.who[:WRONGED]}
    before = [
        event["t"]
        for event in recording.between(begin - LATEST, begin)
        if "hears" in event and event["who"] in wronged
    ]
    behind = [
        event["t"]
        for event in recording.between(until, until + LATEST)
        if "hears" in event and event["who"] in wronged
    ]
    first = before[-NEIGHBOURS:][0] if before else begin
    last = behind[:NEIGHBOURS][-1] if behind else until
    spare = max(SOONEST, 0.05 * (last - first))
    return first - spare, last + spare


def shown_people(group: Group, said: Event | None, heard: Sequence[Hearing]) -> list[int]:
    """The sender, some of those who were wronged, and of the others who is named, the first and the
    last."""
    sender = [said["who"]] if said else []
    wronged = [who for who in group.who if who not in sender][:WRONGED]
    others = [who for who in dict.fromkeys(one.who for one in heard) if who not in group.who]
    others = [who for who in others if who not in sender]
    named_ones = [
        who for who in map(int, re.findall(r"session (\d+)", group.says)) if who in others
    ]
    half = OTHERS // 2
    some = others if len(others) <= OTHERS else [*named_ones, *others[:half], *others[-half:]]
    return [*sender, *wronged, *dict.fromkeys(some)]


Course = list[tuple[float, str, str]]
"""What a session heard: when, the message's name, and the line where it was not as it was due."""


def _sequences(events: Iterable[Event], people: Sequence[int]) -> dict[int, Course]:
    found: dict[int, Course] = {who: [] for who in people}
    for event in events:
        if "hears" in event and event["who"] in found:
            found[event["who"]] += [(event["t"], *named(heard)) for heard in event["hears"]]
    return found


def _expected(group: Group, said: Event | None, heard: Sequence[Hearing]) -> float:
    """When who has not heard it should have: in the middle of all others."""
    if heard:
        return heard[len(heard) // 2].t
    return float(said["t"]) if said else group.t


def _row(
    person: Person,
    group: Group,
    said: Event | None,
    heard: Sequence[Hearing],
    sequence: Course,
    expected: float,
) -> Row:
    own = [one for one in heard if one.who == person.number]
    since = said["t"] if said else group.t
    place = next(
        (at for at, (_, name, _) in enumerate(sequence) if name and name == group.message),
        None,
    )
    if place is None:
        cut = sum(t <= expected for t, _, _ in sequence)
        before, behind = sequence[:cut], sequence[cut:]
    else:
        before, behind = sequence[:place], sequence[place + 1 :]
    if not group.message:
        told, it = "", ""
    elif not own:
        told, it = "never", "–"
    else:
        told = ", ".join(_later(one.t - since) for one in own[:3])
        it = f"“{own[0].line[:LETTERS]}”" if own[0].line else group.message
    return Row(
        f"session {person.number}",
        ", ".join(filter(None, (person.address, person.population, person.link))),
        "wrong" if person.number in group.who else "",
        told,
        [_called(name, line) for _, name, line in before[-NEIGHBOURS:]],
        it,
        [_called(name, line) for _, name, line in behind[:NEIGHBOURS]],
    )


def _called(name: str, line: str) -> str:
    return name or f"“{line[:20]}”"


def _later(seconds: float) -> str:
    return f"+{seconds:.2f} s" if seconds >= 1 else f"+{1000 * seconds:.1f} ms"


def _rest(
    group: Group,
    said: Event | None,
    heard: Sequence[Hearing],
    recording: Recording,
    people: Sequence[int],
) -> str:
    """How many more there are of whom, and when they heard it."""
    if said is None:
        return ""
    t = said["t"]
    times = {one.who: one.t - t for one in heard}
    more = [seconds for who, seconds in times.items() if who not in {*people, *group.who}]
    told = []
    if more:
        told.append(f"{len(more)} more heard it, {_later(min(more))} to {_later(max(more))}")
    wronged = len({*group.who} - {*people})
    if wronged:
        told.append(f"{wronged} more were wronged in the same way")
    absent = [
        person
        for person in recording.people.values()
        if person.since is not None
        and person.since <= t
        and (person.until is None or person.until > t)
        and person.number not in times.keys() | {*group.who, said["who"]}
    ]
    if absent:
        told.append(f"{len(absent)} other members did not hear it")
    return "; ".join(told)


def _quotes(group: Group, rows: Sequence[Row], recording: Recording) -> list[Quote]:
    """The words of the messages that the rows name, the nearest first, in order of time."""
    names = dict.fromkeys([group.message, *mentioned(group)])
    for distance in range(NEIGHBOURS):
        for row in rows:
            names |= dict.fromkeys([*row.before[::-1][distance : distance + 1]])
            names |= dict.fromkeys([*row.behind[distance : distance + 1]])
    said = [recording.said[name] for name in names if name in recording.said][:QUOTED]
    return [
        Quote(
            event["says"],
            f"session {event['who']} {recording.person(event['who']).address}",
            f"{event['t']:.3f}",
            event["text"][:LETTERS],
            event["says"] == group.message,
        )
        for event in sorted(said, key=lambda event: float(event["t"]))
    ]


# --- the picture ---------------------------------------------------------------------------------


def _picture(
    group: Group,
    said: Event | None,
    heard: Sequence[Hearing],
    recording: Recording,
    people: Sequence[int],
    sequences: Mapping[int, Course],
    times: tuple[float, float, float],
) -> Picture | None:
    people = people or list(group.who[:WRONGED])
    if not people:
        return None
    begin, end, expected = times
    x = Scale(begin, end, LEFT, WIDTH - RIGHT)
    hearers = {one.who for one in heard}
    lanes = []
    for number, who in enumerate(people):
        person = recording.person(who)
        since = end if person.since is None else max(begin, min(end, person.since))
        until = end if person.until is None else max(begin, min(end, person.until))
        dots = [*_dots(group, sequences.get(who, []), wrong=who in group.who, x=x)]
        if said and said["who"] == who:
            dots.append(Dot("says", x(said["t"]), f"{who} says {group.message}"))
        elif group.message and who in group.who and who not in hearers:
            dots.append(Dot("never", x(expected), f"session {who} has not heard {group.message}"))
        elif not group.message and who in group.who:
            dots.append(Dot("wrong", x(min(end, group.t)), group.says))
        style = "wrong" if who in group.who else ""
        y = TOP + LANE // 2 + LANE * number
        lanes.append(Lane(f"session {who}", style, y, x(min(since, until)), x(until), dots))
    zero = said["t"] if said else group.t
    return Picture(
        lanes,
        [*_marks(recording.faults, begin, end, x)],
        [*_ticks(zero, begin, end, x)],
        TOP + LANE * len(lanes) + BOTTOM,
    )


def _dots(group: Group, sequence: Course, *, wrong: bool, x: Scale) -> Iterator[Dot]:
    """What one heard; of the other messages as many as can be told apart."""
    others = [one for one in sequence if one[1] != group.message or not group.message]
    step = -(-len(others) // DOTS) or 1
    for t, name, line in others[::step]:
        yield Dot("other", x(t), f"{t:.4f} s: hears {_called(name, line)}")
    for t, name, line in sequence:
        if name and name == group.message:
            style = "wrong" if wrong else "hears"
            yield Dot(style, x(t), f"{t:.4f} s: hears {line[:LETTERS] or name}")


def _marks(
    faults: Iterable[tuple[float, float, str]], begin: float, end: float, x: Scale
) -> Iterator[Mark]:
    for first, last, kind in faults:
        if first <= end and last >= begin:
            at = x(max(begin, first))
            width = round(x(min(end, last)) - at, 1)
            yield Mark(at, width, "band" if width else "moment", kind)


def _ticks(zero: float, begin: float, end: float, x: Scale) -> Iterator[Tick]:
    """From when it was said: that is told in seconds of the run, the rest from there."""
    yield Tick(x(max(begin, min(end, zero))), f"{zero:.3f} s")
    room = int((x(end) - x(zero)) / TICK)
    for seconds in steps(end - zero, room)[1:] if room > 0 else []:
        says = f"+{seconds:g} s" if seconds >= 1 else f"+{1000 * seconds:g} ms"
        yield Tick(x(zero + seconds), says)


# --- the events ----------------------------------------------------------------------------------


def _lines(group: Group, said: Event | None, recording: Recording) -> list[Line]:
    """The events around it that are of its sender, of who was wronged first, or of the target."""
    sender = said["who"] if said else group.who[0]
    about = {sender, group.who[0], None}
    before = recording.between(group.t - LATEST, group.t)
    behind = recording.between(group.t, group.t + LATEST)
    behind = behind[sum(event["t"] == group.t for event in behind) :]

    def some(events: Iterable[Event]) -> list[Event]:
        theirs = (event for event in events if _concerns(event, about, group.message))
        return list(islice(theirs, EVENTS))

    near = [*some(reversed(before))[::-1], *some(behind)]
    middle = sum(event["t"] < group.t for event in near)
    first = max(0, min(middle - EVENTS // 2, len(near) - EVENTS))
    return [
        Line(
            f"{event['t']:.3f}",
            f"session {event['who']}" if "who" in event else "the target",
            *_described(event, group.message),
        )
        for event in near[first : first + EVENTS]
    ]


def _concerns(event: Event, about: set[int | None], message: str) -> bool:
    if "costs" in event or "sent" in event:
        return False
    if "says" in event and event["says"] == message:
        return True
    return event.get("who") in about


def _described(event: Event, message: str) -> tuple[str, str, bool]:
    """What happened, in words, and whether it is of the message."""
    if "says" in event:
        return "says", event["text"][:LETTERS], event["says"] == message
    if "hears" in event:
        heard = [named(one) for one in event["hears"]]
        shown = [f"“{line[:LETTERS]}”" if line else name for name, line in heard[: 2 * NEIGHBOURS]]
        names = [name for name, _ in heard]
        has_it = bool(message) and message in names
        if has_it and names.index(message) >= len(shown):
            shown += ["…", message]
        more = f" … {len(heard)} in all" if len(heard) > len(shown) else ""
        return "hears", "  ".join(shown) + more, has_it
    if "fault" in event:
        return event["fault"], event["what"], False
    return (
        event["what"],
        str(event.get("how") or event.get("why") or event.get("rest") or ""),
        False,
    )
