"""The facts of a history: messages, sessions, and the faults that were done to them."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.simulation.history import COMPLETE, Event, History, as_bytes

MAY_FLUSH = 0.1
"""Seconds between two pieces of a message, as the harness saw it, from which on a server may take
the first for unfinished text, and deliver it (LINE-5; ours: after 0.2 s)."""

KILLS = ("kill-worker", "kill-workers", "stop-worker", "stop", "hangup")
"""Faults of the target of which nobody may be disconnected (LOAD-4)."""

CUTS = ("cut-off", "reset", "half-close")
"""Faults of a link that end a connection, or its sender's side."""


@dataclass
class Message:
    name: str
    sender: int
    number: int
    t: float
    """Time at which it was taken up."""
    text: bytes
    sent: float | None = None
    gap: float = 0.0


@dataclass
class PartialMessage:
    """A message that one session hears in pieces. whole: its text; at: of which so much was heard.

    certain: its token was heard whole; else it is only one of those that it may be.
    """

    message: int
    whole: str
    at: int
    certain: bool


@dataclass
class Session:
    """A connection. heard, pieces, partly: filled by `Deliveries`."""

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
    """Beginning of a line that had come when it was ended."""
    stalled: float | None = None
    """Time at which its link's fault began."""
    calmed: bool = False
    """True once that is over."""
    said: list[int] = field(default_factory=list)
    """Its messages, by index, in order."""
    heard: list[int] = field(default_factory=list)
    """Messages, by index, in order, whole ones and those that were harmed."""
    pieces: dict[bytes, list[PartialMessage]] = field(default_factory=dict)
    """Messages that it has heard in pieces, by the prefix that these had."""
    partly: set[int] = field(default_factory=set)
    """Messages of which it has heard the rest only."""

    def __str__(self) -> str:
        return f"session {self.number} ({self.address})"

    @property
    def until(self) -> float:
        """Time up to which messages are due to it, but for those on the way."""
        times = (self.leaves, self.ended, self.stalled if self.link in CUTS else None)
        return min((time for time in times if time is not None), default=float("inf"))

    @property
    def stays(self) -> bool:
        """True where it has to have heard all, to the end."""
        return self.link is None and self.until == float("inf")


class Facts:
    """All of a history; of what each session heard, only the events, in `hears`."""

    def __init__(self, history: History) -> None:
        self.complete = history.end == COMPLETE
        self.messages: list[Message] = []
        """Messages in order of time; so an index tells what was said before what."""
        self.index: dict[str, int] = {}
        """Index of each message, by its name."""
        self.sessions: dict[int, Session] = {}
        self.unwelcomed: list[tuple[float, Session]] = []
        """Sessions that heard other things before a welcome, and when."""
        self.refused: list[tuple[float, Session, str]] = []
        """Sessions that were not let in, when and why."""
        self.kills: list[float] = []
        """Times at which the target was struck."""
        self._restarts: list[tuple[float, float]] = []
        events = sorted(history.events, key=lambda event: event["t"])
        self.end = events[-1]["t"] if events else 0.0
        """Time of the last event."""
        for event in events:
            if "says" in event:
                self._said(event)
        for event in events:
            if "hears" not in event:
                self._take(event)
        # Read later: how a message came may be known only after some have heard of it.
        self.hears = [event for event in events if "hears" in event]
        """Events of what was heard."""

    def session(self, number: int) -> Session:
        """Return the session of that number, of which nothing may be known yet."""
        session = self.sessions.get(number)
        if session is None:
            session = self.sessions[number] = Session(number)
        return session

    def whose(self, index: int) -> str:
        """Name a message, and its sender's address."""
        message = self.messages[index]
        return f"message {message.name} of {self.sessions[message.sender].address}"

    def latest(self, session: Session) -> dict[int, int]:
        """Return the last message of each sender that a session has heard."""
        messages = self.messages
        return {messages[index].sender: index for index in sorted(session.heard)}

    def is_restarting(self, begin: float, end: float) -> bool:
        """Return whether the target is started again in this time, at least for a part of it."""
        return any(begin <= up and down <= end for down, up in self._restarts)

    def was_cut(self, index: int) -> bool:
        """Return whether it may never have come to the server, though it was taken up."""
        message = self.messages[index]
        sender = self.sessions[message.sender]
        if sender.ended is None:
            cut = sender.how == "reset"
        else:  # who has closed its side may be ended at any time afterwards
            cut = sender.how != "half-close" or self.is_restarting(message.t, sender.ended)
        # What a bad network holds comes late, or never.
        return cut or message.sent is None or sender.link is not None

    def may_be_in_pieces(self, message: Message) -> bool:
        """Return whether a server may have taken its beginning for all of it (LINE-5, LEAVE-2)."""
        sender = self.sessions[message.sender]
        return (
            message.sent is None
            or message.gap >= MAY_FLUSH
            or sender.link is not None
            or sender.how == "reset"
        )

    # --- the events ----------------------------------------------------------

    def _said(self, event: Event) -> None:
        name, sender = event["says"], event["who"]
        number = int(name.partition(".")[2])
        self.index[name] = len(self.messages)
        self.session(sender).said.append(len(self.messages))
        text = as_bytes(event["text"])
        self.messages.append(Message(name, sender, number, event["t"], text))

    def _take(self, event: Event) -> None:
        if "sent" in event:
            index = self.index.get(event["sent"])
            if index is not None:
                message = self.messages[index]
                message.sent, message.gap = event["t"], event["gap"]
        elif "fault" in event:
            self._fault(event)
        elif "what" in event:
            self._happened(self.session(event["who"]), event)

    def _fault(self, event: Event) -> None:
        t, fault, begins = event["t"], event["fault"], event["what"] == "begins"
        if "who" in event:
            session = self.session(event["who"])
            if begins and session.stalled is None:
                session.stalled = t
            session.calmed = not begins
        elif fault == "restart" and begins:
            self._restarts.append((t, float("inf")))
        elif fault == "restart" and self._restarts:
            self._restarts[-1] = (self._restarts[-1][0], t)
        elif fault in KILLS and begins:
            self.kills.append(t)

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
                session.welcomed = t
                self.unwelcomed.append((t, session))
            case "leaves":
                session.leaves, session.how = t, event["how"]
            case "ended":
                session.ended, session.rest = t, event.get("rest", "")
            case "refused":
                session.ended = t
                self.refused.append((t, session, event["why"]))
