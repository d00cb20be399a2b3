"""The facts of a history: messages, sessions, and faults."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.simulation.history import COMPLETE, Event, History, as_bytes

MAY_FLUSH = 0.1
"""Shortest pause (s) between two pieces of a message after which a server may deliver the first
piece as unfinished text (LINE-5; ours waits 0.2 s). The harness measures the pause."""

KILLS = (
    "kill-worker",
    "kill-workers",
    "stop-worker",
    "kill-engine",
    "stop-engine",
    "kill-bridge",
    "stop",
    "hangup",
)
"""Faults of the target that must disconnect nobody (LOAD-4)."""

CUTS = ("cut-off", "reset", "half-close")
"""Faults of a link that end a connection, or the client's side of it."""


@dataclass
class Message:
    name: str
    sender: int
    t: float
    """Time at which its sender began to send it."""
    text: bytes
    sent: float | None = None
    gap: float = 0.0


@dataclass
class PartialMessage:
    """A message that one session receives in pieces.

    whole: its text. at: number of characters received so far. certain: true if its token was
    received whole; otherwise, it is only a candidate.
    """

    message: int
    whole: str
    at: int
    certain: bool


@dataclass
class Session:
    """A connection. `Deliveries` and `Reassembly` fill heard, pieces and partly."""

    number: int
    name: str = ""
    population: str = ""
    address: str = ""
    link: str | None = None
    port: int | None = None
    connects: float = 0.0
    connected: float | None = None
    welcomed: float | None = None
    leaves: float | None = None
    how: str = ""
    ended: float | None = None
    rest: str = ""
    """Incomplete line that was received before the end of the connection."""
    stalled: float | None = None
    """Time at which its link's fault began."""
    calmed: bool = False
    """True once the link's fault is over."""
    said: list[int] = field(default_factory=list)
    """Indices of the messages that it sent, in order."""
    heard: list[int] = field(default_factory=list)
    """Indices of the messages that it received, in order, damaged ones included."""
    pieces: dict[bytes, list[PartialMessage]] = field(default_factory=dict)
    """Messages received in pieces, by their prefix."""
    partly: set[int] = field(default_factory=set)
    """Messages of which only the rest was received."""

    def __str__(self) -> str:
        about = ", ".join(filter(None, (self.population, self.address)))
        return f"{self.name or f'session {self.number}'} ({about})"

    @property
    def until(self) -> float:
        """Time until which the session must receive messages, except for those under way."""
        times = (self.leaves, self.ended, self.stalled if self.link in CUTS else None)
        return min((time for time in times if time is not None), default=float("inf"))

    @property
    def stays(self) -> bool:
        """True if the session must have received everything, to the end."""
        return self.link is None and self.until == float("inf")


class Facts:
    """The content of a history. Received lines remain events, in `hears`."""

    def __init__(self, history: History) -> None:
        self.complete = history.end == COMPLETE
        self.messages: list[Message] = []
        """Messages in order of time: a lower index means an earlier message."""
        self.index: dict[str, int] = {}
        """Index of each message, by its name."""
        self.sessions: dict[int, Session] = {}
        self.unwelcomed: list[tuple[float, Session]] = []
        """Sessions that received other text before the welcome, each with the time."""
        self.refused: list[tuple[float, Session, str]] = []
        """Sessions that were refused, each with the time and the reason."""
        self.kills: list[tuple[float, str]] = []
        """Time and kind of each fault of the target."""
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
        # Read last: facts about a message may be recorded after it was received.
        self.hears = [event for event in events if "hears" in event]
        """Events of received lines."""

    def session(self, number: int) -> Session:
        """Return the session of that number, created if unknown."""
        session = self.sessions.get(number)
        if session is None:
            session = self.sessions[number] = Session(number)
        return session

    def describe(self, index: int) -> str:
        """Return a message's name and its sender, for a report."""
        message = self.messages[index]
        return f"{message.name} of {self.sessions[message.sender]}"

    def latest(self, session: Session) -> dict[int, int]:
        """Return the last message that a session has received from each sender."""
        messages = self.messages
        return {messages[index].sender: index for index in sorted(session.heard)}

    def is_restarting(self, begin: float, end: float) -> bool:
        """Return whether a restart of the target overlaps with this interval."""
        return any(begin <= up and down <= end for down, up in self._restarts)

    def was_cut(self, index: int) -> bool:
        """Return whether a message may never have reached the server."""
        message = self.messages[index]
        sender = self.sessions[message.sender]
        if sender.ended is None:
            cut = sender.how == "reset"
        else:  # after a half-close, the server may close its side at any time
            cut = sender.how != "half-close" or self.is_restarting(message.t, sender.ended)
        # A faulty network may deliver late, or not at all.
        return cut or message.sent is None or sender.link is not None

    def may_be_in_pieces(self, message: Message) -> bool:
        """Return whether a server may deliver the message in pieces (LINE-5, LEAVE-2)."""
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
        self.index[name] = len(self.messages)
        self.session(sender).said.append(len(self.messages))
        text = as_bytes(event["text"])
        self.messages.append(Message(name, sender, event["t"], text))

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
            self.kills.append((t, fault))

    def _happened(self, session: Session, event: Event) -> None:
        t = event["t"]
        match event["what"]:
            case "connects":
                session.connects, session.address = t, event["address"]
                session.name, session.population = event.get("name", ""), event["population"]
                session.link = event.get("link")
            case "connected":
                session.connected, session.port = t, event.get("port")
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
