"""The facts of a history: messages, sessions, and faults."""

from __future__ import annotations

from dataclasses import dataclass, field

from harness.simulation.history import COMPLETE, Event, History, as_bytes
from harness.simulation.scenario.scenario import TARGET_FAULTS

MAY_FLUSH = 0.1
"""Shortest pause (s) in a message after which a server may deliver the part before the pause as
unfinished text (LINE-5). It is half the silence of our server, because the pause is measured in the
harness."""

SIGNS = ("connected", "welcomed")
"""Events that show that the target runs."""

SURVIVABLE_FAULTS = tuple(fault for fault in TARGET_FAULTS if fault != "restart")
"""Faults of the target that must not disconnect a member (LOAD-4)."""

CUTS = ("cut-off", "reset", "half-close")
"""Faults of a link that end a connection, or the client's side of a connection."""


@dataclass
class Message:
    name: str
    sender: int
    t: float
    """Time at which its first byte was sent."""
    text: bytes
    sent: float | None = None
    """Time at which the kernel had accepted the whole message; None if it did not."""
    gap: float = 0.0
    """Longest pause (s) between two pieces of the message."""


@dataclass
class PartialMessage:
    """A message that one session receives in pieces.

    message: index of the message. whole: text of the message. at: number of characters received so
    far. certain: true if the whole token was received; otherwise, the pieces may belong to another
    message.
    """

    message: int
    whole: str
    at: int
    certain: bool


@dataclass
class Session:
    """A connection of a client. `Deliveries` and `Reassembly` fill `heard`, `pieces`, `partly`."""

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
    """Incomplete line that was received just before the end of the connection."""
    stalled: float | None = None
    """Time at which the fault of the session's link began."""
    calmed: bool = False
    """True if the fault of the session's link has ended."""
    said: list[int] = field(default_factory=list)
    """Indices of the messages that the session sent, in order."""
    heard: list[int] = field(default_factory=list)
    """Indices of the messages that the session received, in order, damaged messages included."""
    pieces: dict[bytes, list[PartialMessage]] = field(default_factory=dict)
    """Messages that the session received in pieces, by prefix."""
    partly: set[int] = field(default_factory=set)
    """Indices of messages of which the session may have received only the end."""

    def __str__(self) -> str:
        about = ", ".join(filter(None, (self.population, self.address)))
        return f"{self.name or f'session {self.number}'} ({about})"

    @property
    def until(self) -> float:
        """Time at which the session ended. It must receive the messages sent before this time."""
        times = (self.leaves, self.ended, self.stalled if self.link in CUTS else None)
        return min((time for time in times if time is not None), default=float("inf"))

    @property
    def stays(self) -> bool:
        """True if the session lasted until the end of the run, without a faulty link."""
        return self.link is None and self.until == float("inf")


class Facts:
    """The content of a history. `hears` contains the events of received lines, unchanged."""

    def __init__(self, history: History) -> None:
        self.complete = history.end == COMPLETE
        self.messages: list[Message] = []
        """Messages, in the order of the times at which they were sent."""
        self.index: dict[str, int] = {}
        """Index in `messages` of each message, by its name."""
        self.sessions: dict[int, Session] = {}
        self.unwelcomed: list[tuple[float, Session]] = []
        """Sessions that received other text before the welcome, each with the time of the text."""
        self.refused: list[tuple[float, Session, str]] = []
        """Sessions that could not connect, each with the time and the reason."""
        self.survivable_faults: list[tuple[float, str]] = []
        """Time and kind of each fault in SURVIVABLE_FAULTS."""
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
        # These events are handled after all others, because another process may record the sending
        # of a message after its receipt.
        self.hears = [event for event in events if "hears" in event]
        """Events of received lines."""
        self.last_sign = max(
            (event["t"] for event in events if "hears" in event or event.get("what") in SIGNS),
            default=0.0,
        )
        """Time at which the target last accepted a client, or sent a client something."""

    def session(self, number: int) -> Session:
        """Return the session of that number. Create it if it is unknown."""
        session = self.sessions.get(number)
        if session is None:
            session = self.sessions[number] = Session(number)
        return session

    def describe(self, index: int) -> str:
        """Return the name and the sender of a message, as text for a report."""
        message = self.messages[index]
        return f"{message.name} of {self.sessions[message.sender]}"

    def latest(self, session: Session) -> dict[int, int]:
        """Return the index of the last message from each sender that a session has received."""
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
        else:  # after a half-close, the server closes its side when it has read all messages
            cut = sender.how != "half-close" or self.is_restarting(message.t, sender.ended)
        # A faulty network may deliver a message late, or not at all.
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
        elif fault in SURVIVABLE_FAULTS and begins:
            self.survivable_faults.append((t, fault))

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
