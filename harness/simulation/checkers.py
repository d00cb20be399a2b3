"""What a history shows: whether all that was said was heard as it has to be. Pure.

What can be proved counts as a violation; what overlaps with a join, a leave or a
fault, so that the protocol allows either, counts as undecided, and never as
passed. What a proof rests on (PROTOCOL.md):

- Who has read the whole welcome is a member (WELCOME-3): all that is said from
  then on is due to it.
- The messages of one sender arrive in the order in which it sent them (CAST-4):
  who has heard a later one will not hear an earlier one any more.
- There is one order for all (CAST-5): who has heard what, for another, came
  behind a message will not hear that message any more.
- A message is in the room or it is not: what one has heard is due to all.

Speed: a history may hold a million deliveries. What is done for each of them is
done by sets, dicts and slices; only what is amiss is looked at one by one.
"""

from __future__ import annotations

import re
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import pairwise

from harness.profile import Profile
from harness.simulation.history import COMPLETE, Event, History, as_bytes
from harness.simulation.words import TOKEN, harmless

SHOWN = 50
"""Violations of one kind that are described; all are counted."""

LETTERS = 60
"""Of a text that is quoted."""

OBSERVERS = 4
"""Sessions by whose order it is found out what came before what: those that heard most."""

MAY_FLUSH = 0.1
"""Seconds between two pieces of a message, as the harness saw it, from which on a server may take
the first for unfinished text, and deliver it (LINE-5; ours: after 0.2 s)."""

CLEANED_WITHIN = 2.0
"""Seconds after which a half-closed connection has to be ended (LEAVE-4)."""

GREETED_WITHIN = 5.0
"""Seconds after which who was let in has to be greeted."""

KERNELS = 12 << 20
"""Bytes that kernels may hold for a slow reader, beyond what the server lets it lag (LOAD-2)."""

CUTS = ("cut-off", "reset", "half-close")
"""Faults of a link that end a connection, or its sender's side."""
SLOW = ("slow", "stall")
"""Faults of a link for which a server may put somebody out (LOAD-2)."""

LOST, DUPLICATED, MISORDERED = "lost", "duplicated", "misordered"
MISPREFIXED, ECHOED, TORN = "misprefixed", "echoed", "torn"
DISCONNECTED, UNWELCOMED, REFUSED = "disconnected", "unwelcomed", "refused"
UNCLEANED, UNBOUNDED = "uncleaned", "unbounded"

KINDS = {
    LOST: "CAST-1",
    DUPLICATED: "CAST-1",
    MISORDERED: "CAST-5",
    MISPREFIXED: "PREFIX-2",
    ECHOED: "CAST-2",
    TORN: "CAST-3",
    DISCONNECTED: "LEAVE-1",
    UNWELCOMED: "WELCOME-1",
    REFUSED: "JOIN-1",
    UNCLEANED: "LEAVE-4",
    UNBOUNDED: "LOAD-2",
}
"""Each kind of violation, and the clause that it breaks most often."""


@dataclass(frozen=True)
class Violation:
    """`t`: seconds of the run. who: the session that was wronged. message: its name, or empty."""

    kind: str
    clause: str
    t: float
    who: int
    message: str
    says: str


@dataclass
class Judgement:
    messages: int = 0
    deliveries: int = 0
    undecided: int = 0
    """Deliveries of which nobody can know whether they were due, or whole."""
    counts: Counter[str] = field(default_factory=Counter)
    """Violations of each kind."""
    violations: list[Violation] = field(default_factory=list)
    """Of each kind, the first SHOWN; in order of time."""


@dataclass
class Message:
    name: str
    sender: int
    number: int
    t: float
    """When it was taken up."""
    text: bytes
    sent: float | None = None
    gap: float = 0.0


@dataclass
class Session:
    number: int
    address: str = ""
    link: str | None = None
    connects: float = 0.0
    connected: float | None = None
    welcomed: float | None = None
    leaves: float | None = None
    how: str = ""
    ended: float | None = None
    rest: str = ""
    """What had come of a line when it was ended."""
    greeted_late: bool = False
    """Whether the welcome is yet to come, behind what should have followed it."""
    stalled: float | None = None
    """When its link's fault began."""
    said: list[int] = field(default_factory=list)
    """Its messages, by index, in order."""
    heard: list[int] = field(default_factory=list)
    """Messages, by index, in order, whole ones and those that were harmed."""

    def __str__(self) -> str:
        return f"session {self.number} ({self.address})"

    @property
    def until(self) -> float:
        """Up to when what is said is due to it, but for what was on the way."""
        times = (self.leaves, self.ended, self.stalled if self.link in CUTS else None)
        return min((time for time in times if time is not None), default=float("inf"))

    @property
    def stays(self) -> bool:
        """Whether it has to have heard all, to the end."""
        return self.link is None and self.until == float("inf")


def judge(history: History, profile: Profile | None = None) -> Judgement:
    """All that the history shows; `profile`: of a server that speaks otherwise than ours."""
    return _Judge(history, profile).judge()


class _Judge:
    def __init__(self, history: History, profile: Profile | None) -> None:
        self._history = history
        self._complete = history.end == COMPLETE
        self._profile = profile or Profile("")
        self._judgement = Judgement()
        self._messages: list[Message] = []
        self._index: dict[str, int] = {}
        self._sessions: dict[int, Session] = {}
        self._restarts: list[tuple[float, float]] = []
        self._end = history.events[-1]["t"] if history.events else 0.0
        for event in history.events:
            if "says" in event:
                self._said(event)
        for event in history.events:
            self._take(event)

    def judge(self) -> Judgement:
        judgement, sessions = self._judgement, self._sessions.values()
        judgement.messages = len(self._messages)
        for session in sessions:
            self._check_repeats(session)
            judgement.deliveries += len(session.heard)
        self._check_order()
        self._check_losses()
        for session in sessions:
            self._check_connection(session)
        judgement.violations.sort(key=lambda one: (one.t, one.kind, one.who, one.message))
        return judgement

    def _violated(
        self, kind: str, t: float, who: int, says: str, message: str = "", clause: str = ""
    ) -> None:
        judgement = self._judgement
        judgement.counts[kind] += 1
        if judgement.counts[kind] <= SHOWN:
            found = Violation(kind, clause or KINDS[kind], t, who, message, says)
            judgement.violations.append(found)

    def _whose(self, index: int) -> str:
        """A message, and its sender's address."""
        message = self._messages[index]
        return f"message {message.name} of {self._sessions[message.sender].address}"

    # --- what happened -------------------------------------------------------

    def _session(self, number: int) -> Session:
        return self._sessions.setdefault(number, Session(number))

    def _said(self, event: Event) -> None:
        name, sender = event["says"], event["who"]
        number = int(name.partition(".")[2])
        self._index[name] = len(self._messages)
        self._session(sender).said.append(len(self._messages))
        text = as_bytes(event["text"])
        self._messages.append(Message(name, sender, number, event["t"], text))

    def _take(self, event: Event) -> None:
        if "hears" in event:
            self._hear(self._session(event["who"]), event)
        elif "sent" in event:
            message = self._messages[self._index[event["sent"]]]
            message.sent, message.gap = event["t"], event["gap"]
        elif "fault" in event:
            self._fault(event)
        elif "what" in event:
            self._happened(self._session(event["who"]), event)

    def _fault(self, event: Event) -> None:
        begins = event["what"] == "begins"
        if "who" in event:
            session = self._session(event["who"])
            if begins and session.stalled is None:
                session.stalled = event["t"]
        elif event["fault"] == "restart" and begins:
            self._restarts.append((event["t"], float("inf")))
        elif event["fault"] == "restart":
            self._restarts[-1] = (self._restarts[-1][0], event["t"])

    def _happened(self, session: Session, event: Event) -> None:
        t = event["t"]
        match event["what"]:
            case "connects":
                session.connects, session.address = t, event["address"]
                session.link = event["link"]
            case "connected":
                session.connected = t
            case "welcomed":
                session.welcomed = t
            case "unwelcomed":
                self._violated(
                    UNWELCOMED, t, session.number, f"{session} heard other things before a welcome"
                )
                session.welcomed = t
                session.greeted_late = True
            case "leaves":
                session.leaves, session.how = t, event["how"]
            case "ended":
                session.ended, session.rest = t, event.get("rest", "")
            case "refused":
                session.ended = t
                if session.link is None and not self._is_restarting(session.connects, t):
                    why = f"{session} was not let in: {event['why']}"
                    self._violated(REFUSED, t, session.number, why)

    def _is_restarting(self, begin: float, end: float) -> bool:
        return any(begin <= up and down <= end for down, up in self._restarts)

    # --- what was heard ------------------------------------------------------

    def _hear(self, session: Session, event: Event) -> None:
        index = self._index
        try:
            session.heard += [index[name] for name in event["hears"]]
        except (KeyError, TypeError):  # some are no messages as they were due
            for name in event["hears"]:
                if isinstance(name, dict):
                    self._strange(session, event["t"], as_bytes(name["line"]))
                elif name in index:
                    session.heard.append(index[name])

    def _strange(self, session: Session, t: float, line: bytes) -> None:
        """A line that is no message as it was due."""
        if any(one.fullmatch(line + b"\n") for one in self._profile.notices):
            return
        if session.greeted_late and self._profile.welcome and self._profile.welcome.match(line):
            session.greeted_late = False
            return
        found = self._profile.prefix.match(line)
        prefix, text = (found[0], line[found.end() :]) if found else (b"", line)
        token = TOKEN.match(text)
        index = self._index.get(token[0][:-1].decode()) if token else None
        if index is not None:
            session.heard.append(index)
            self._check_prefix(session, t, index, prefix)
            self._check_text(session, t, index, text)
        elif not self._continues(session, prefix, text):
            says = f"{session} heard a line that nobody said: “{_shown(line)}”"
            self._violated(TORN, t, session.number, says)

    def _check_prefix(self, session: Session, t: float, index: int, prefix: bytes) -> None:
        if self._profile.prefix.pattern != Profile("").prefix.pattern and prefix:
            return  # it speaks otherwise, and by its own way it is right
        address = self._sessions[self._messages[index].sender].address
        if prefix != b"<%s>" % address.encode():
            says = f"{session} heard {self._whose(index)} with the prefix “{_shown(prefix)}”"
            self._violated(MISPREFIXED, t, session.number, says, self._messages[index].name)

    def _check_text(self, session: Session, t: float, index: int, text: bytes) -> None:
        message = self._messages[index]
        if text == message.text or _plain(text) == _plain(harmless(message.text)):
            return
        if self._may_be_in_pieces(message) and _begins(text, harmless(message.text)):
            self._judgement.undecided += 1
            return
        was, came = _shown(message.text), _shown(text)
        says = f"{session} heard {self._whose(index)} as “{came}”, not as “{was}”"
        self._violated(TORN, t, session.number, says, message.name)

    def _may_be_in_pieces(self, message: Message) -> bool:
        """Whether a server may have taken its beginning for all of it (LINE-5, LEAVE-2)."""
        sender = self._sessions[message.sender]
        return message.sent is None or message.gap >= MAY_FLUSH or sender.link is not None

    def _continues(self, session: Session, prefix: bytes, text: bytes) -> bool:
        """Whether it is the rest of a message whose beginning this session has heard."""
        piece = _plain(text)
        for index in reversed(session.heard[-1000:]):
            message = self._messages[index]
            address = self._sessions[message.sender].address
            if prefix == b"<%s>" % address.encode():
                return self._may_be_in_pieces(message) and piece in _plain(harmless(message.text))
        return False

    # --- deliveries ----------------------------------------------------------

    def _check_repeats(self, session: Session) -> None:
        """Once (CAST-1), and not to its sender (CAST-2); then each is in `heard` once."""
        heard = session.heard
        once = dict.fromkeys(heard)
        if len(once) < len(heard):
            for index, times in Counter(heard).items():
                if times > 1:
                    says = f"{session} heard {self._whose(index)} {times} times"
                    self._about(DUPLICATED, session, index, says)
            heard[:] = once
        if not once.keys().isdisjoint(session.said):
            for index in session.said:
                if index in once:
                    says = f"{session} heard its own message {self._messages[index].name}"
                    self._about(ECHOED, session, index, says)
            heard[:] = [index for index in heard if index not in {*session.said}]

    def _about(self, kind: str, session: Session, index: int, says: str, clause: str = "") -> None:
        message = self._messages[index]
        self._violated(kind, message.t, session.number, says, message.name, clause)

    def _check_order(self) -> None:
        """One order explains what everyone heard (CAST-5), and each sender's own (CAST-4)."""
        edges: set[tuple[int, int]] = set()
        for session in self._sessions.values():
            edges.update(pairwise(session.heard))
            edges.update(pairwise(session.said))
        before: dict[int, list[int]] = {}
        for first, then in edges:
            before.setdefault(then, []).append(first)
        try:
            TopologicalSorter(before).prepare()
        except CycleError as error:
            if not self._check_senders_orders():
                self._check_orders(error.args[1])

    def _check_senders_orders(self) -> bool:
        """Whether somebody has heard a sender's messages in another order; all are told."""
        found = False
        for session in self._sessions.values():
            latest: dict[int, int] = {}
            for index in session.heard:
                sender = self._messages[index].sender
                last = latest.get(sender, -1)
                if index < last:
                    found = True
                    says = (
                        f"{session} heard {self._whose(index)} behind {self._messages[last].name}"
                    )
                    self._about(MISORDERED, session, index, says, "CAST-4")
                else:
                    latest[sender] = index
        return found

    def _check_orders(self, cycle: list[int]) -> None:
        """Who disagrees with most others about messages of several senders."""
        sessions = self._sessions.values()
        reference = max(sessions, key=lambda one: len({*cycle} & {*one.heard}))
        place = {index: at for at, index in enumerate(reference.heard)}
        knowledge = [frozenset(one.heard) for one in sessions]
        dissenters: dict[tuple[int, int], list[Session]] = {}
        for session in sessions:
            for pair in pairwise(index for index in session.heard if index in place):
                if place[pair[0]] > place[pair[1]]:
                    dissenters.setdefault(pair, []).append(session)
        for (first, then), those in dissenters.items():
            both = sum({first, then} <= known for known in knowledge)
            if len(those) > both / 2:
                self._disagrees(reference, then, first, those[0])
                continue
            for session in those:
                self._disagrees(session, first, then, reference)
        if not dissenters:
            names = " → ".join(self._messages[index].name for index in cycle[:6])
            says = f"no one order explains what was heard of {names}"
            self._about(MISORDERED, reference, cycle[0], says)

    def _disagrees(self, session: Session, first: int, then: int, other: Session) -> None:
        says = (
            f"{session} heard {self._whose(first)} before {self._messages[then].name}, "
            f"and {other} behind it"
        )
        self._about(MISORDERED, session, first, says)

    # --- losses --------------------------------------------------------------

    def _check_losses(self) -> None:
        order = sorted(range(len(self._messages)), key=lambda index: self._messages[index].t)
        times = [self._messages[index].t for index in order]
        longest = sorted(self._sessions.values(), key=lambda one: -len(one.heard))[:OBSERVERS]
        observers = [{index: at for at, index in enumerate(one.heard)} for one in longest]
        heard_by_any = {index for one in self._sessions.values() for index in one.heard}
        for session in self._sessions.values():
            if session.welcomed is None:
                continue
            first = bisect_right(times, session.welcomed)
            last = bisect_left(times, session.until)
            known = {*session.heard}
            missing = [index for index in order[first:last] if index not in known]
            due = [index for index in missing if self._messages[index].sender != session.number]
            if due:
                self._check_missing(session, due, known, observers, heard_by_any)
            joining = order[bisect_right(times, session.connects) : first]
            self._judgement.undecided += len({*joining} - known - {*session.said})

    def _check_missing(
        self,
        session: Session,
        due: list[int],
        known: set[int],
        observers: list[dict[int, int]],
        heard_by_any: set[int],
    ) -> None:
        """Of messages that a session has not heard: which are lost, and which may be on the way."""
        certain = session.stays and self._complete
        reached = [
            (places, max((places[index] for index in known & places.keys()), default=-1))
            for places in observers
        ]
        latest: dict[int, int] = {}
        for index in session.heard:
            latest[self._messages[index].sender] = index
        for index in due:
            passed = latest.get(self._messages[index].sender, -1) > index or any(
                places.get(index, at) < at for places, at in reached
            )
            came = index in heard_by_any or not self._was_cut(index)
            if passed or (certain and came):
                says = f"{self._whose(index)} never reached {session}"
                self._about(LOST, session, index, says)
            else:
                self._judgement.undecided += 1

    def _was_cut(self, index: int) -> bool:
        """Whether its sender went, or was cut off, so that it may never have come to the server."""
        message = self._messages[index]
        sender = self._sessions[message.sender]
        return (
            message.sent is None
            or sender.how == "reset"
            or sender.ended is not None
            or (sender.link in CUTS and sender.stalled is not None)
            or not self._complete
        )

    # --- connections ---------------------------------------------------------

    def _check_connection(self, session: Session) -> None:
        self._check_end(session)
        self._check_greeted(session)
        self._check_cleaned(session)
        self._check_bounded(session)
        if session.rest and not self._is_beginning(session):
            rest = _shown(as_bytes(session.rest))
            says = f"the last that {session} heard is the beginning of nothing: “{rest}”"
            self._violated(TORN, session.ended or 0.0, session.number, says)

    def _check_end(self, session: Session) -> None:
        """Nobody is disconnected who has not asked for it (LEAVE-1, LOAD-4)."""
        ended = session.ended
        if (
            ended is None
            or session.connected is None
            or session.leaves is not None
            or session.link in (*CUTS, *SLOW)
            or self._is_restarting(session.connects, ended)
            or not self._complete
        ):
            return
        says = f"{session} was disconnected"
        self._violated(DISCONNECTED, ended, session.number, says)

    def _check_greeted(self, session: Session) -> None:
        if (
            self._complete
            and session.stays
            and session.welcomed is None
            and session.connected is not None
            and session.connected < self._end - GREETED_WITHIN
        ):
            says = f"{session} was let in, and not greeted"
            self._violated(UNWELCOMED, session.connected, session.number, says)

    def _check_cleaned(self, session: Session) -> None:
        if (
            self._complete
            and session.how == "half-close"
            and session.link is None
            and session.ended is None
            and session.leaves is not None
            and session.leaves < self._end - CLEANED_WITHIN
        ):
            says = f"{session} has closed its side, and the server not its own"
            self._violated(UNCLEANED, session.leaves, session.number, says)

    def _check_bounded(self, session: Session) -> None:
        limit = self._profile.lag_limit
        if (
            not limit
            or session.link != "stall"
            or session.stalled is None
            or session.ended is not None
            or session.leaves is not None
        ):
            return
        owed = sum(len(one.text) for one in self._messages if one.t > session.stalled)
        if owed > limit + KERNELS:
            says = f"{session} lags by {owed} bytes, and was not put out"
            self._violated(UNBOUNDED, self._end, session.number, says)

    def _is_beginning(self, session: Session) -> bool:
        """Whether the rest that it heard begins a line that is due."""
        rest = as_bytes(session.rest)
        found = re.match(rb"<[^<>\n]*(?:>|$)", rest)
        if not found and self._profile.prefix.match(rest) is None:
            return False
        token = TOKEN.search(rest)
        if token is None:
            return True  # it ends in the prefix, or in the token
        index = self._index.get(token[0][:-1].decode())
        return index is not None and _begins(
            rest[token.start() :], harmless(self._messages[index].text)
        )


def _shown(text: bytes) -> str:
    """The beginning of a text, harmless to a terminal."""
    start = text.decode("utf-8", "replace")[:LETTERS]
    return "".join(one if one.isprintable() else "\ufffd" for one in start)


def _plain(text: bytes) -> str:
    """A text without U+FFFD, of which a server may write one or several for what is no UTF-8."""
    return text.decode("utf-8", "replace").replace("\ufffd", "")


def _begins(text: bytes, whole: bytes) -> bool:
    return _plain(whole).startswith(_plain(text))
