"""Histories that tests write step by step, without a run."""

from __future__ import annotations

from harness.profile import Profile
from harness.simulation.history import COMPLETE, VERSION, Event, History, as_text
from harness.simulation.judge import Judgement, judge
from harness.simulation.scenario.names import name_of
from harness.simulation.scenario.vocabulary import numbers_of


class Story:
    """A history. Each method adds events, each a millisecond after the previous event."""

    def __init__(self, people: int = 0) -> None:
        self.t = 0.0
        self.events: list[Event] = []
        self.addresses: dict[int, str] = {}
        self.texts: dict[str, bytes] = {}
        for who in range(people):
            self.join(who)

    def add(self, **event: object) -> None:
        self.t += 0.001
        self.events.append({"t": self.t, **event})

    def what(self, who: int, what: str, **more: object) -> None:
        self.add(who=who, what=what, **more)

    def connect(self, who: int, link: str | None = None) -> None:
        self.addresses[who] = f"127.0.0.{who + 2}"
        about = {"name": name_of(who, 1), "population": "p", "address": self.addresses[who]}
        self.what(who, "connects", **about, link=link)
        self.what(who, "connected", port=1000 + who)

    def join(self, who: int, link: str | None = None) -> None:
        self.connect(who, link)
        self.what(who, "welcomed")

    def say(self, name: str, text: bytes = b"hi", *, sent: bool = True, gap: float = 0.0) -> None:
        who = numbers_of(name)[0]
        self.texts[name] = name.encode() + b":" + text
        self.add(who=who, says=name, due=self.t, lag=0.0, text=as_text(self.texts[name]))
        if sent:
            self.add(who=who, sent=name, gap=gap)

    def hear(self, who: int, *names: str) -> None:
        self.add(who=who, hears=[*names])

    def line(self, who: int, line: bytes) -> None:
        self.add(who=who, hears=[{"line": as_text(line)}])

    def all_hear(self, *names: str, but: int | None = None) -> None:
        """Let each client, except `but`, hear these messages of others."""
        for who in self.addresses:
            if who != but:
                self.hear(who, *(name for name in names if numbers_of(name)[0] != who))

    def fault(self, fault: str, what: str = "begins", **more: object) -> None:
        self.add(fault=fault, what=what, **more)

    def judged(self, end: str = COMPLETE, profile: Profile | None = None) -> Judgement:
        return judge(History({"history": VERSION}, self.events, end), profile)

    def found(self, end: str = COMPLETE, profile: Profile | None = None) -> dict[str, int]:
        """Return the number of violations of each kind, and of undecided deliveries."""
        judgement = self.judged(end, profile)
        assert sum(judgement.counts.values()) >= len(judgement.violations)
        undecided = {"undecided": judgement.undecided} if judgement.undecided else {}
        return dict(judgement.counts) | undecided
