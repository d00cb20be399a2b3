"""The context of a violation: the message in question, its sender and its receivers. Pure.

Violations with the same cause and the same message form one group, in which several sessions may be
affected. The context of a group consists of the messages that some sessions received just before
and after the message in question, the texts of these messages, and the events around the violation.
`picture.py` draws the context.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import islice

from harness.simulation.history import Event
from harness.simulation.judge import MISORDERED
from harness.simulation.report.recording import Group, Recording, named
from harness.wording import counted

AFFECTED, OTHERS = 6, 6
"""Maximum number of affected sessions to show, and of other sessions that received the message."""

NEIGHBOURS = 3
"""Maximum number of messages to show before the message in question, and after it."""

QUOTED = 10
"""Maximum number of messages whose text is shown."""

LETTERS = 120
"""Maximum number of characters of a message or line to show."""

EVENTS = 14
"""Maximum number of events to list around a violation."""

CAUSE_WITHIN = 5.0
"""Maximum time (s) from a fault to a violation that may be its effect, if the violation concerns no
message."""

SOONEST, LATEST = 0.01, 10.0
"""Minimum and maximum time (s) to show before a violation, and after it."""


@dataclass(frozen=True)
class Row:
    """The messages that one session received around the message in question.

    heard: time from the sending of this message to its receipt, as text. before, behind: messages
    received before it and after it. it: this message, as it was received.
    """

    name: str
    about: str
    style: str
    heard: str
    before: list[str]
    it: str
    behind: list[str]


@dataclass(frozen=True)
class Quote:
    """The text of a message. is_it: true for the message in question."""

    message: str
    sender: str
    t: str
    text: str
    is_it: bool


@dataclass(frozen=True)
class EventLine:
    """An event as text. is_it: true if the event is about the message in question."""

    t: str
    who: str
    what: str
    words: str
    is_it: bool


Course = list[tuple[float, str, str]]
"""Messages that a session received: time, name, and the line if it is not the expected line."""


class ViolationContext:
    """A group of violations, with all data that the report shows about it."""

    def __init__(self, group: Group, recording: Recording) -> None:
        self.group = group
        self.recording = recording
        self.said = recording.said.get(group.message)
        self.heard = recording.heard.get(group.message, [])
        self.t: float = self.said["t"] if self.said else group.t
        """Time at which the message was sent, or time of a violation without a message."""
        self.begin, self.end = self._window()
        self.people = self._people()
        """Numbers of the sessions to show. The sender is the first."""
        self.courses = self._courses()
        """Messages that each of these sessions received, between `begin` and `end`."""
        self.expected = self.heard[len(self.heard) // 2].t if self.heard else self.t
        """Median time of the message's receipts; if there are none, the time it was sent."""
        self.others = self._mentioned()
        """Other messages that the violation mentions."""
        self.rows = [
            self._row(who)
            for who in self.people
            if self.said is None or who != self.said["who"] or who in group.who
        ]
        self.rest = self._rest()
        """Text about the sessions without a row."""
        self.quotes = self._quotes()
        self.lines = self._lines()

    def is_it(self, name: str) -> bool:
        """Return whether `name` is the name of the message in question."""
        return bool(name) and name == self.group.message

    def _mentioned(self) -> list[str]:
        """Return the other messages that a violation of the order (MISORDERED) names."""
        if self.group.kind != MISORDERED:
            return []
        names = re.findall(r"msg\d+\.\d+", self.group.says)
        return [name for name in dict.fromkeys(names) if name != self.group.message]

    def _window(self) -> tuple[float, float]:
        """Return begin and end of the time to show.

        This time includes all receipts of the message in question, and of the messages next to it.
        """
        begin = self.t
        end = max([begin, self.group.t, *(delivery.t for delivery in self.heard)])
        if not self.said:  # the cause may be a fault of the target just before
            faults = self.recording.faults
            causes = [first for first, _, _ in faults if begin - CAUSE_WITHIN <= first <= begin]
            begin = max(causes, default=begin)
        until = min(end, begin + LATEST)
        before = self._receipts(begin - LATEST, begin)[-NEIGHBOURS:]
        behind = self._receipts(until, until + LATEST)[:NEIGHBOURS]
        first = before[0] if before else begin
        last = behind[-1] if behind else until
        spare = max(SOONEST, 0.05 * (last - first))
        return first - spare, last + spare

    def _receipts(self, begin: float, end: float) -> list[float]:
        """Return the times at which affected sessions received any line."""
        affected = {*self.group.who[:AFFECTED]}
        events = self.recording.between(begin, end)
        return [event["t"] for event in events if "hears" in event and event["who"] in affected]

    def _people(self) -> list[int]:
        """Return the sender, some affected sessions, and some other sessions.

        The other sessions are those that the violation names, and those that received the message
        first and last.
        """
        sender = [self.said["who"]] if self.said else []
        affected = [who for who in self.group.who if who not in sender][:AFFECTED]
        hearers = dict.fromkeys(delivery.who for delivery in self.heard)
        others = [who for who in hearers if who not in {*self.group.who, *sender}]
        if len(others) > OTHERS:
            half = OTHERS // 2
            others = [
                *(who for who in self.group.others if who in others),
                *others[:half],
                *others[-half:],
            ]
        return [*sender, *affected, *dict.fromkeys(others)]

    def _courses(self) -> dict[int, Course]:
        found: dict[int, Course] = {who: [] for who in self.people}
        for event in self.recording.between(self.begin, self.end):
            if "hears" in event and event["who"] in found:
                found[event["who"]] += [(event["t"], *named(heard)) for heard in event["hears"]]
        return found

    def _row(self, who: int) -> Row:
        group, person, course = self.group, self.recording.person(who), self.courses[who]
        place = next((at for at, (_, name, _) in enumerate(course) if self.is_it(name)), None)
        if place is None:
            cut = sum(t <= self.expected for t, _, _ in course)
            before, behind = course[:cut], course[cut:]
        else:
            before, behind = course[:place], course[place + 1 :]
        own = [delivery for delivery in self.heard if delivery.who == who]
        if not group.message:
            received, it = "", ""
        elif not own:
            received, it = "never", "–"
        else:
            received = ", ".join(_later(delivery.t - self.t) for delivery in own[:3])
            it = f"“{own[0].line[:LETTERS]}”" if own[0].line else group.message
        return Row(
            self.recording.name(who),
            ", ".join(filter(None, (person.population, person.address, person.link))),
            "wrong" if who in group.who else "",
            received,
            [called(name, line) for _, name, line in before[-NEIGHBOURS:]],
            it,
            [called(name, line) for _, name, line in behind[:NEIGHBOURS]],
        )

    def _rest(self) -> str:
        """Return a sentence about the sessions that are not shown."""
        if self.said is None:
            return ""
        affected = {*self.group.who}
        times = {delivery.who: delivery.t - self.t for delivery in self.heard}
        more = [seconds for who, seconds in times.items() if who not in {*self.people, *affected}]
        parts = []
        if more:
            parts.append(
                f"{len(more)} more received the message, {_later(min(more))} to {_later(max(more))}"
            )
        if count := len(affected - {*self.people}):
            parts.append(f"{count} more were affected in the same way")
        absent = [
            person
            for person in self.recording.people.values()
            if person.since is not None
            and person.since <= self.t
            and (person.until is None or person.until > self.t)
            and person.number not in times.keys() | {*affected, self.said["who"]}
        ]
        if absent:
            parts.append(f"{counted(len(absent), 'other member')} did not receive the message")
        return "; ".join(parts)

    def _quotes(self) -> list[Quote]:
        """Return the texts of the messages nearest to the violation, in order of time."""
        recording = self.recording
        names = dict.fromkeys([self.group.message, *self.others])
        for distance in range(NEIGHBOURS):
            for row in self.rows:
                names |= dict.fromkeys(row.before[::-1][distance : distance + 1])
                names |= dict.fromkeys(row.behind[distance : distance + 1])
        said = [recording.said[name] for name in names if name in recording.said][:QUOTED]
        return [
            Quote(
                event["says"],
                f"{recording.name(event['who'])} {recording.person(event['who']).address}",
                f"{event['t']:.3f}",
                event["text"][:LETTERS],
                self.is_it(event["says"]),
            )
            for event in sorted(said, key=lambda event: float(event["t"]))
        ]

    # --- the events ----------------------------------------------------------

    def _lines(self) -> list[EventLine]:
        """Return the events around the violation: of the sender, the first affected session and the
        target."""
        t, between = self.group.t, self.recording.between
        behind = [event for event in between(t, t + LATEST) if event["t"] > t]
        near = [*self._some(reversed(between(t - LATEST, t)))[::-1], *self._some(behind)]
        middle = sum(event["t"] < t for event in near)
        first = max(0, min(middle - EVENTS // 2, len(near) - EVENTS))
        return [
            EventLine(
                f"{event['t']:.3f}",
                self.recording.name(event["who"]) if "who" in event else "the target",
                *self._described(event),
            )
            for event in near[first : first + EVENTS]
        ]

    def _some(self, events: Iterable[Event]) -> list[Event]:
        """Return the first EVENTS of these events that concern the violation."""
        first = self.group.who[0]
        about = {self.said["who"] if self.said else first, first, None}
        theirs = (
            event
            for event in events
            if "costs" not in event
            and "sent" not in event
            and (event.get("who") in about or event.get("says") == self.group.message)
        )
        return list(islice(theirs, EVENTS))

    def _described(self, event: Event) -> tuple[str, str, bool]:
        """Return kind and text of an event, and whether it is about the message in question."""
        if "says" in event:
            return "sends", event["text"][:LETTERS], event["says"] == self.group.message
        if "hears" in event:
            return "receives", *self._described_hearing([*map(named, event["hears"])])
        if "fault" in event:
            return event["fault"], event["what"], False
        words = event.get("how") or event.get("why") or event.get("rest") or ""
        return event["what"], str(words), False

    def _described_hearing(self, heard: Sequence[tuple[str, str]]) -> tuple[str, bool]:
        shown = [f"“{line[:LETTERS]}”" if line else name for name, line in heard[: 2 * NEIGHBOURS]]
        places = [place for place, (name, _) in enumerate(heard) if self.is_it(name)]
        if places and places[0] >= len(shown):
            shown += ["…", self.group.message]
        more = f" … {len(heard)} in all" if len(heard) > len(shown) else ""
        return "  ".join(shown) + more, bool(places)


def called(name: str, line: str) -> str:
    """Return a message's name, or the beginning of its line if it has no name."""
    return name or f"“{line[:20]}”"


def _later(seconds: float) -> str:
    return f"+{seconds:.2f} s" if seconds >= 1 else f"+{1000 * seconds:.1f} ms"
