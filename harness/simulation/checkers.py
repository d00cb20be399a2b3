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
- A message is in the room or it is not: what one has heard is due to all, and so
  is all that the same sender said before it.

Speed: a history may hold a million deliveries. What is done for each of them is
done by sets, dicts and slices; only what is amiss is looked at one by one, and a
line that is no message as it was due is read once, however many heard it.
"""

from __future__ import annotations

import errno
import os
import re
from bisect import bisect_left, bisect_right
from collections import Counter
from dataclasses import dataclass, field
from graphlib import CycleError, TopologicalSorter
from itertools import accumulate, pairwise

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

DIES_WITHIN = 2.0
"""Seconds before the end of a run that broke off, in which the target may have been dying."""

KERNELS = 12 << 20
"""Bytes that kernels may hold for a slow reader, beyond what the server lets it lag (LOAD-2)."""

KILLS = ("kill-worker", "kill-workers", "stop-worker", "stop", "hangup")
"""Faults of the target of which nobody may be disconnected (LOAD-4)."""

FELT_WITHIN = 5.0
"""Seconds within which who is disconnected after such a fault is taken for its victim."""

OURS = ("the harness itself", os.strerror(errno.EADDRNOTAVAIL), os.strerror(errno.EADDRINUSE))
"""How a refusal begins that was none of the target's: this machine lacked something."""

CUTS = ("cut-off", "reset", "half-close")
"""Faults of a link that end a connection, or its sender's side."""
SLOW = ("slow", "stall")
"""Faults of a link for which a server may put somebody out (LOAD-2)."""

BAD = "\ufffd"
"""What stands for bytes that are not UTF-8 (TEXT-2)."""
_BAD_RUN = re.compile(BAD + "+")
_TOKEN_BEGUN = re.compile(r"\d+(\.\d*)?")

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
    """Of each kind, the first SHOWN that were found; in order of time."""
    unfit: str = ""
    """Why the harness itself could not do what it was to do; empty: it could."""


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


@dataclass(frozen=True)
class Line:
    """A line that is no message as it was due.

    message: the one whose token it has, by index; None: it has no known one.
    prefix, text: what stands before the token, and from it on; where there is no
    token, as the profile parts them. truly: the prefix is its sender's. due: the
    whole text that it is, or begins; empty where it is neither.
    """

    message: int | None
    prefix: bytes
    text: str
    truly: bool = False
    due: str = ""


@dataclass
class Pieces:
    """A message that one session hears in pieces. whole: its text; at: of which so much was heard.

    certain: its token was heard whole; else it is only one of those that it may be.
    """

    message: int
    whole: str
    at: int
    certain: bool


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
    calmed: bool = False
    """Whether that is over."""
    said: list[int] = field(default_factory=list)
    """Its messages, by index, in order."""
    heard: list[int] = field(default_factory=list)
    """Messages, by index, in order, whole ones and those that were harmed."""
    pieces: dict[bytes, list[Pieces]] = field(default_factory=dict)
    """What it has heard in pieces, by the prefix that they had."""
    partly: set[int] = field(default_factory=set)
    """Messages of which it has heard the rest only."""

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


Observer = tuple[Session, dict[int, int]]
"""A session, and at which place in its hearing each message stands."""


def judge(history: History, profile: Profile | None = None) -> Judgement:
    """All that the history shows; `profile`: of a server that speaks otherwise than ours."""
    return _Judge(history, profile).judge()


class _Judge:
    def __init__(self, history: History, profile: Profile | None) -> None:
        self._complete = history.end == COMPLETE
        self._profile = profile or Profile("")
        self._is_ours = self._profile.prefix.pattern == Profile("").prefix.pattern
        """Whether a prefix is the sender's address, as in PROTOCOL.md."""
        self._judgement = Judgement()
        self._messages: list[Message] = []
        """In order of time; so an index tells what was said before what."""
        self._index: dict[str, int] = {}
        self._sessions: dict[int, Session] = {}
        self._restarts: list[tuple[float, float]] = []
        self._kills: list[float] = []
        self._lines: dict[str, Line | None] = {}
        """What was read of each line; None: it is a notice."""
        self._divisible: dict[bytes, list[int]] = {}
        """Messages that may come in pieces, by their prefix."""
        events = sorted(history.events, key=lambda event: event["t"])
        self._end = events[-1]["t"] if events else 0.0
        for event in events:
            if "says" in event:
                self._said(event)
        for event in events:
            if "hears" not in event:
                self._take(event)
        # How a message came may be known only after some have heard of it.
        for index, message in enumerate(self._messages):
            if self._may_be_in_pieces(message):
                self._divisible.setdefault(self._prefix_of(message), []).append(index)
        for event in events:
            if "hears" in event:
                self._hear(self._session(event["who"]), event)

    def judge(self) -> Judgement:
        judgement, sessions = self._judgement, self._sessions.values()
        judgement.messages = len(self._messages)
        for session in sessions:
            self._check_repeats(session)
            judgement.deliveries += len(session.heard)
        ordered = self._check_order()
        self._check_losses(ordered)
        for session in sessions:
            self._check_pieces(session)
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
        session = self._sessions.get(number)
        if session is None:
            session = self._sessions[number] = Session(number)
        return session

    def _said(self, event: Event) -> None:
        name, sender = event["says"], event["who"]
        number = int(name.partition(".")[2])
        self._index[name] = len(self._messages)
        self._session(sender).said.append(len(self._messages))
        text = as_bytes(event["text"])
        self._messages.append(Message(name, sender, number, event["t"], text))

    def _take(self, event: Event) -> None:
        if "sent" in event:
            index = self._index.get(event["sent"])
            if index is not None:
                message = self._messages[index]
                message.sent, message.gap = event["t"], event["gap"]
        elif "fault" in event:
            self._fault(event)
        elif "what" in event:
            self._happened(self._session(event["who"]), event)

    def _fault(self, event: Event) -> None:
        t, fault, begins = event["t"], event["fault"], event["what"] == "begins"
        if "who" in event:
            session = self._session(event["who"])
            if begins and session.stalled is None:
                session.stalled = t
            session.calmed = not begins
        elif fault == "restart" and begins:
            self._restarts.append((t, float("inf")))
        elif fault == "restart" and self._restarts:
            self._restarts[-1] = (self._restarts[-1][0], t)
        elif fault in KILLS and begins:
            self._kills.append(t)

    def _happened(self, session: Session, event: Event) -> None:
        t = event["t"]
        match event["what"]:
            case "connects":
                session.connects, session.address = t, event["address"]
                session.link = event.get("link")
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
                self._refused(session, t, event["why"])

    def _refused(self, session: Session, t: float, why: str) -> None:
        """Who comes is let in (JOIN-1), but while the target is started again."""
        if why.startswith(OURS):
            self._judgement.unfit = self._judgement.unfit or f"{session} could not come: {why}"
        elif session.link is None and not self._is_restarting(session.connects, t):
            self._violated(REFUSED, t, session.number, f"{session} was not let in: {why}")

    def _is_restarting(self, begin: float, end: float) -> bool:
        """Whether the target is started again in this time, at least for a part of it."""
        return any(begin <= up and down <= end for down, up in self._restarts)

    # --- what was heard ------------------------------------------------------

    def _hear(self, session: Session, event: Event) -> None:
        index = self._index
        try:
            session.heard += [index[name] for name in event["hears"]]
        except (KeyError, TypeError):  # some are no messages as they were due
            for heard in event["hears"]:
                if isinstance(heard, dict):
                    self._strange(session, event["t"], heard["line"])
                elif heard in index:
                    session.heard.append(index[heard])

    def _strange(self, session: Session, t: float, line: str) -> None:
        """A line that is no message as it was due."""
        try:
            found = self._lines[line]
        except KeyError:
            found = self._lines[line] = self._read(as_bytes(line))
        if found is None or (session.pieces and self._goes_on(session, found)):
            return
        if session.greeted_late and self._is_welcome(line):
            session.greeted_late = False
        elif found.message is not None and (found.truly or not self._is_rest(session, t, found)):
            session.heard.append(found.message)
            if not found.truly:
                self._check_prefix(session, t, found.message, found.prefix)
            if found.text != found.due:
                self._check_text(session, t, found)
        elif found.message is None and not (
            self._begins_in_token(session, found) or self._is_rest(session, t, found)
        ):
            says = f"{session} heard a line that nobody said: “{_shown(as_bytes(line))}”"
            self._violated(TORN, t, session.number, says)

    def _is_welcome(self, line: str) -> bool:
        welcome = self._profile.welcome
        return welcome is not None and welcome.match(as_bytes(line)) is not None

    def _read(self, line: bytes) -> Line | None:
        if any(one.fullmatch(line + b"\n") for one in self._profile.notices):
            return None
        head = self._profile.prefix.match(line)
        begin = head.end() if head else 0
        for token in TOKEN.finditer(line):
            index = self._index.get(token[0][:-1].decode())
            if index is None:
                continue
            prefix, text = line[: token.start()], _plain(line[token.start() :])
            due = self._due(index, text)
            if due or token.start() == begin:
                return Line(index, prefix, text, self._is_prefix(prefix, index), due)
        return Line(None, line[:begin], _plain(line[begin:]))

    def _due(self, index: int, text: str) -> str:
        """The text of a message, as it was said or harmless, whichever this one is or begins."""
        said = self._messages[index].text
        both = _plain(harmless(said)), _plain(said)
        return next((one for one in both if one == text), "") or next(
            (one for one in both if _begins(text, one)), ""
        )

    def _prefix_of(self, message: Message) -> bytes:
        """By which its pieces are known; empty where a server speaks otherwise."""
        address = self._sessions[message.sender].address
        return b"<%s>" % address.encode() if self._is_ours else b""

    def _is_prefix(self, prefix: bytes, index: int) -> bool:
        """PREFIX-1, PREFIX-2; who speaks otherwise is right by its own way."""
        if self._is_ours:
            return prefix == self._prefix_of(self._messages[index])
        return self._profile.prefix.fullmatch(prefix) is not None

    def _check_prefix(self, session: Session, t: float, index: int, prefix: bytes) -> None:
        says = f"{session} heard {self._whose(index)} with the prefix “{_shown(prefix)}”"
        self._violated(MISPREFIXED, t, session.number, says, self._messages[index].name)

    def _check_text(self, session: Session, t: float, found: Line) -> None:
        """A text is what was said (CAST-3, TEXT), or its beginning where it may come in pieces."""
        assert found.message is not None
        message = self._messages[found.message]
        if found.due and self._may_be_in_pieces(message):
            begins = found.due.startswith(found.text)
            text = found.text if begins else found.text.removesuffix(BAD)
            pieces = Pieces(found.message, found.due, len(text), certain=True)
            session.pieces.setdefault(found.prefix, []).append(pieces)
            return
        was, came = _shown(message.text), _shown(found.text.encode())
        says = f"{session} heard {self._whose(found.message)} as “{came}”, not as “{was}”"
        self._violated(TORN, t, session.number, says, message.name)

    # --- pieces --------------------------------------------------------------

    def _may_be_in_pieces(self, message: Message) -> bool:
        """Whether a server may have taken its beginning for all of it (LINE-5, LEAVE-2)."""
        sender = self._sessions[message.sender]
        return (
            message.sent is None
            or message.gap >= MAY_FLUSH
            or sender.link is not None
            or sender.how == "reset"
        )

    def _goes_on(self, session: Session, found: Line) -> bool:
        """Whether it is the next piece of what this session has heard the beginning of."""
        head = self._profile.prefix.match(found.prefix)
        text = found.text if head is None else found.prefix[head.end() :].decode() + found.text
        for pieces in session.pieces.get(head[0] if head else found.prefix, ()):
            whole, at = pieces.whole, pieces.at
            # A run of what is no UTF-8 may be cut, too, and is one U+FFFD in each piece.
            again = 0 < at <= len(whole) and whole[at - 1] == text[:1] == BAD
            for place in (at, at - 1) if again else (at,):
                if text and whole.startswith(text, place):
                    pieces.at = place + len(text)
                    if pieces.at == len(whole) and not pieces.certain:
                        session.heard.append(pieces.message)
                    return True
        return False

    def _begins_in_token(self, session: Session, found: Line) -> bool:
        """Whether it is the beginning of a message, cut within its token."""
        if not _TOKEN_BEGUN.fullmatch(found.text):
            return False
        known = {*session.heard}
        candidates = [
            Pieces(index, _plain(harmless(self._messages[index].text)), len(found.text), False)
            for index in self._divisible.get(found.prefix if self._is_ours else b"", ())
            if self._messages[index].name.startswith(found.text) and index not in known
        ]
        session.pieces.setdefault(found.prefix, []).extend(candidates)
        return bool(candidates)

    def _is_rest(self, session: Session, t: float, found: Line) -> bool:
        """Whether it is a later piece of a message that was begun before this session came: when
        the server heard of that is not known."""
        those = self._divisible.get(found.prefix if self._is_ours else b"", ())
        welcomed, latest = session.welcomed or 0.0, self._latest(session) if those else {}
        partly = {
            index
            for index in those
            if latest.get(self._messages[index].sender, -1) < index
            and self._messages[index].t <= welcomed
            and found.text in _plain(harmless(self._messages[index].text))
        }
        # Of a message that was taken for whole before its LF came, the LF is the rest.
        is_end = not found.text and any(self._messages[index].t <= t for index in those)
        self._judgement.undecided += bool(partly or is_end)
        session.partly |= partly
        return bool(partly or is_end)

    def _check_pieces(self, session: Session) -> None:
        """The pieces have to add up (CAST-3), unless the sender or this session was cut off."""
        latest = {self._messages[index].sender: index for index in session.heard}
        for pieces in (one for some in session.pieces.values() for one in some):
            index = pieces.message
            if not pieces.certain:
                self._judgement.undecided += pieces.at == len(pieces.whole)
                continue
            more = latest.get(self._messages[index].sender, -1) > index
            cut = self._was_cut(index) or not session.stays or not self._complete
            if pieces.at == len(pieces.whole) or (cut and not more):
                self._judgement.undecided += 1
                continue
            came = _shown(pieces.whole[: pieces.at].encode())
            says = f"{session} heard only “{came}” of {self._whose(index)}"
            self._about(TORN, session, index, says)

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
            own = {*session.said}
            heard[:] = [index for index in once if index not in own]

    def _about(self, kind: str, session: Session, index: int, says: str, clause: str = "") -> None:
        message = self._messages[index]
        self._violated(kind, message.t, session.number, says, message.name, clause)

    def _check_order(self) -> bool:
        """One order explains what everyone heard (CAST-5), and each sender's own (CAST-4); return
        whether it does."""
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
            return False
        return True

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

    def _check_losses(self, ordered: bool) -> None:
        """Each message reaches all who were members before it was said (CAST-1, WELCOME-3)."""
        times = [message.t for message in self._messages]
        observers: list[Observer] = []
        if ordered:  # else what one has heard says nothing of what another will hear
            longest = sorted(self._sessions.values(), key=lambda one: -len(one.heard))
            observers = [
                (one, {index: at for at, index in enumerate(one.heard)})
                for one in longest[:OBSERVERS]
            ]
        newest: dict[int, int] = {}
        for session in self._sessions.values():
            for sender, index in self._latest(session).items():
                newest[sender] = max(index, newest.get(sender, -1))
        sent = sorted((one.sent, at) for at, one in enumerate(self._messages) if one.sent)
        # Of what was sent from then on, the first that was taken up.
        begun = [len(times), *accumulate((at for _, at in reversed(sent)), min)][::-1]
        for session in self._sessions.values():
            if session.welcomed is None:
                continue
            on_the_way = begun[bisect_left(sent, (session.connects, 0))]
            came = bisect_right(times, session.connects)
            first = bisect_right(times, session.welcomed)
            last = bisect_left(times, session.until)
            begin = min([on_the_way, came, first, *session.heard])
            known = {*session.heard, *session.said} | session.partly
            missing = [index for index in range(begin, last) if index not in known]
            if missing:
                _Losses(self, session, observers, newest).check(missing, came, first)

    def _latest(self, session: Session) -> dict[int, int]:
        """Of each sender, the last message that a session has heard; none was said later."""
        messages = self._messages
        return {messages[index].sender: index for index in sorted(session.heard)}

    def _was_cut(self, index: int) -> bool:
        """Whether it may never have come to the server, though it was taken up."""
        message = self._messages[index]
        sender = self._sessions[message.sender]
        if sender.ended is None:
            cut = sender.how == "reset"
        else:  # who has closed its side may be ended at any time afterwards
            cut = sender.how != "half-close" or self._is_restarting(message.t, sender.ended)
        # What a bad network holds comes late, or never.
        return cut or message.sent is None or sender.link is not None

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
            or (not self._complete and ended > self._end - DIES_WITHIN)
        ):
            return
        felt = [t for t in self._kills if ended - FELT_WITHIN <= t <= ended]
        after = f", {ended - felt[-1]:.3f} s after the target was struck" if felt else ""
        says, clause = f"{session} was disconnected{after}", "LOAD-4" if felt else ""
        self._violated(DISCONNECTED, ended, session.number, says, clause=clause)

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
            or session.calmed
            or session.ended is not None
            or session.leaves is not None
        ):
            return
        owed = sum(
            len(one.text)
            for one in self._messages
            if one.t > session.stalled and one.sent is not None and one.sender != session.number
        )
        if owed > limit + KERNELS:
            says = f"{session} lags by {owed} bytes, and was not put out"
            self._violated(UNBOUNDED, self._end, session.number, says)

    def _is_beginning(self, session: Session) -> bool:
        """Whether the rest that it heard begins a line that is due."""
        rest = as_bytes(session.rest)
        found = self._read(rest)
        if session.welcomed is None or found is None:
            return True  # of the welcome, which was never whole
        if found.message is not None:
            return found.due != ""
        if not self._is_ours:
            return True
        text, messages = found.text, self._messages
        if not found.prefix:
            prefixes = {self._prefix_of(one) for one in messages}
            return any(prefix.startswith(rest) for prefix in prefixes)
        return any(
            one.name.startswith(text) for one in messages if found.prefix == self._prefix_of(one)
        ) or any(
            text in _plain(harmless(messages[index].text))
            for index in self._divisible.get(found.prefix, ())
        )


class _Losses:
    """Of what one session has not heard: which is lost, and which may have been on the way."""

    def __init__(
        self,
        judge: _Judge,
        session: Session,
        observers: list[Observer],
        newest: dict[int, int],
    ) -> None:
        self._judge = judge
        self._session = session
        self._newest = newest
        """Of each sender, the last message that anyone has heard."""
        self._certain = session.stays and judge._complete
        self._latest = judge._latest(session)
        self._earliest = {
            judge._messages[index].sender: index for index in sorted(session.heard, reverse=True)
        }
        known = {*session.heard}
        self._reached: list[tuple[Observer, int, int]] = []
        """Of each observer the first and the last place that this session has heard, too."""
        for observer in observers:
            places = [observer[1][index] for index in known & observer[1].keys()]
            if places:
                self._reached.append((observer, min(places), max(places)))

    def check(self, missing: list[int], came: int, first: int) -> None:
        """came, first: what was the next to be said when it came, and when it was welcomed."""
        judge, messages = self._judge, self._judge._messages
        for index in missing:
            message = messages[index]
            is_due = index >= first or self._was_member(index)
            if is_due and (self._passed(index) or (self._certain and self._is_there(index))):
                judge._about(LOST, self._session, index, self._told(index))
            elif is_due or index >= came or (message.sent or 0.0) >= self._session.connects:
                judge._judgement.undecided += 1

    def _is_there(self, index: int) -> bool:
        """Whether the server must have it: so it is due to all."""
        newest = self._newest.get(self._judge._messages[index].sender, -1)
        return newest >= index or not self._judge._was_cut(index)

    def _was_member(self, index: int) -> bool:
        """Whether it was, though not welcomed yet: it has heard what came before."""
        earliest = self._earliest.get(self._judge._messages[index].sender)
        return (earliest is not None and earliest < index) or any(
            places.get(index, -1) > first for (_, places), first, _ in self._reached
        )

    def _passed(self, index: int) -> bool:
        """Whether it has heard what came behind (CAST-4, CAST-5)."""
        return self._latest.get(self._judge._messages[index].sender, -1) > index or any(
            places.get(index, last) < last for (_, places), _, last in self._reached
        )

    def _told(self, index: int) -> str:
        """What there is to say of a loss, and by what it is known."""
        judge, session = self._judge, self._session
        says = f"{judge._whose(index)} never reached {session}"
        if judge._judgement.counts[LOST] >= SHOWN:
            return says  # it is not shown
        sender = judge._messages[index].sender
        heard = {*session.heard}
        own = [one for one in judge._sessions[sender].said if one in heard]
        at = bisect_left(own, index)
        near = [judge._messages[one].name for one in own[max(0, at - 1) : at + 1]]
        if near:
            return f"{says}, who heard {' and '.join(near)}"
        for (other, places), _, last in self._reached:
            if places.get(index, last) < last:
                behind = judge._messages[other.heard[last]].name
                return f"{says}, who heard {behind}, which came behind it for {other}"
        return says


def _shown(text: bytes) -> str:
    """The beginning of a text, harmless to a terminal."""
    start = text.decode("utf-8", "replace")[:LETTERS]
    return "".join(one if one.isprintable() else "\ufffd" for one in start)


def _plain(text: bytes) -> str:
    """A text in which a run of U+FFFD is one: servers differ in how many stand for what is no
    UTF-8."""
    plain = text.decode("utf-8", "replace")
    return _BAD_RUN.sub(BAD, plain) if BAD * 2 in plain else plain


def _begins(text: str, whole: str) -> bool:
    """Whether a text is the beginning of another; its last character may be torn."""
    return whole.startswith((text, text.removesuffix(BAD)))
