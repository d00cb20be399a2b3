"""Facts from the wire log of a failed test: the message, its sender and its receivers."""

from __future__ import annotations

import codecs
import re
from collections import Counter
from dataclasses import dataclass
from functools import cached_property

from harness.clients.dialect import without_colours
from harness.conformance.plugin import Result
from harness.target.crash import find
from harness.wording import listed, quoted

LEAVES = {
    "closes its side": "closed its side of the connection",
    "closes": "closed its connection",
    "resets": "reset its connection",
}
"""Events with which a client leaves, and the words for them."""


LONG = 64
"""Maximum number of bytes to search for in another text: of a longer text, only the beginning is
searched for."""


_NOTHING_MORE = re.compile(r"(?:Node\.js v\S+|exit status \d+|(?:note|SUMMARY): .*)?", re.DOTALL)
"""Pattern of the text between a crash and the end of the output."""

_LISTENER = re.compile(
    r"(?P<name>[A-Z]\d*) (?:did not receive|has connected|receives no|missed a|was not welcomed"
    r"|was welcomed|received text)"
)


@dataclass(frozen=True)
class Event:
    """An event of `Result.wire`."""

    client: str
    what: str
    data: bytes
    size: int


@dataclass(frozen=True)
class Message:
    """A text that one client sent, in one piece or more.

    first, last: indexes in the wire log of the first and the last piece. pieces: number of pieces.
    text: the bytes that the log contains. size: number of all bytes.
    """

    speaker: str
    first: int
    last: int
    text: bytes
    size: int
    pieces: int = 1

    @property
    def whole(self) -> bool:
        return len(self.text) == self.size

    @property
    def is_utf8(self) -> bool:
        """True if the part of the text in the log is UTF-8."""
        return is_utf8(self.text, whole=self.whole)

    @property
    def lines(self) -> list[bytes]:
        """The finished lines of the text, without their line ends."""
        return [line.removesuffix(b"\r") for line in self.text.split(b"\n")[:-1]]


class Case:
    """A failed result, and the facts about the message, its sender and its receivers in the log."""

    def __init__(self, result: Result) -> None:
        self.clause = result.clause
        self.detail = result.detail
        self.expected = bytes.fromhex(result.expected or "")
        self.actual = bytes.fromhex(result.actual or "")
        self.events = [
            Event(client, what, bytes.fromhex(digits), size)
            for _, client, what, digits, size in result.wire
        ]
        named = _LISTENER.match(self.detail)
        self.listener = named["name"] if named else ""
        """The client that did not receive something, if `detail` names it."""
        crash = find(result.output)
        behind = result.output[crash.end :].strip() if crash else ""
        self.crash = crash if crash and _NOTHING_MORE.fullmatch(behind) else None
        """The crash with which the server's output ends; None if it ends without a crash."""

    # --- connected clients ---------------------------------------------------

    @cached_property
    def address(self) -> dict[str, bytes]:
        """Addresses of the clients, in the order in which they connected; b"" if not logged."""
        found: dict[str, bytes] = {}
        for event in self.events:
            found.setdefault(event.client, event.data if event.what == "connects" else b"")
        return found

    def connected(self, at: int) -> list[str]:
        """Return the clients that are connected when an event occurs, in the order in which they
        connected. at: index of the event."""
        gone = {
            event.client
            for event in self.events[:at]
            if event.what in LEAVES or event.what.endswith("by the server")
        }
        begun = {event.client for event in self.events[:at]}
        return [client for client in self.address if client in begun - gone]

    @cached_property
    def leaver(self) -> Event | None:
        """The last event in which a client left, after the message was sent or shortly before."""
        message = self.message
        if message is None:
            return None
        sends = [n for n, event in enumerate(self.events[: message.first]) if event.what == "sends"]
        begin = sends[-2] if len(sends) > 1 else 0
        leaves = [event for event in self.events[begin:] if event.what in LEAVES]
        return leaves[-1] if leaves else None

    # --- sent and received messages ------------------------------------------

    @cached_property
    def message(self) -> Message | None:
        """The message that the failure is about; None if the log contains no message.

        This is the last message that contains the expected bytes. If there is none, this is the
        message with the most lines in the actual bytes; if several have as many, the last of them.
        If no message has a line there, this is the last message.
        """
        return next(filter(None, (self._expected_message, *reversed(self.messages))), None)

    @cached_property
    def _expected_message(self) -> Message | None:
        wanted = self.expected.strip() or self.expected
        for found in reversed(self.messages):
            if wanted and wanted in found.text:
                return found
        arrived = [
            (sum(len(line) > 2 and line in self.actual for line in found.lines), found)
            for found in reversed(self.messages)
        ]
        count, most = max(arrived, key=lambda pair: pair[0], default=(0, None))
        return most if count else None

    @property
    def is_about_the_message(self) -> bool:
        """True if the expected or the actual bytes show that the failure is about the message."""
        return self._expected_message is not None

    @property
    def sent_as_expected(self) -> bool:
        """True if the beginning of the expected bytes is in the logged part of the message."""
        return bool(self.message and self.expected and self.expected[:LONG] in self.message.text)

    @cached_property
    def messages(self) -> list[Message]:
        """All sent messages. The pieces of a line that a client sent in pieces are one message."""
        found: list[Message] = []
        for number, event in enumerate(self.events):
            if event.what != "sends":
                continue
            begun = next((m for m in reversed(found) if m.speaker == event.client), None)
            if begun and b"\n" not in begun.text and begun.whole and event.data.strip():
                found.remove(begun)
                text, size = begun.text + event.data, begun.size + event.size
                pieces = begun.pieces + 1
                found.append(Message(event.client, begun.first, number, text, size, pieces))
            else:
                found.append(Message(event.client, number, number, event.data, event.size))
        return found

    def pieces(self, message: Message) -> list[bytes]:
        """Return the pieces of a message, without line ends; pieces that are blank are left out."""
        sent = (
            event.data.rstrip(b"\r\n")
            for event in self.events[message.first : message.last + 1]
            if event.client == message.speaker and event.what == "sends"
        )
        return [piece for piece in sent if piece.strip()]

    def heard(self, client: str, since: int, until: int | None = None) -> bytes:
        """Return the logged bytes that a client received from one event to another.

        Colours are removed. If the server ends all lines with CR LF, CR LF is replaced by LF.
        """
        raw = b"".join(
            event.data
            for event in self.events[since:until]
            if event.client == client and event.what == "receives"
        )
        text = without_colours(raw)
        return text.replace(b"\r\n", b"\n") if self._ends_with_crlf else text

    @cached_property
    def _ends_with_crlf(self) -> bool:
        """True if there is a CR before every received LF."""
        received = b"".join(event.data for event in self.events if event.what == "receives")
        return b"\r\n" in received and not re.search(rb"(?<!\r)\n", received)

    @cached_property
    def received(self) -> dict[str, bytes]:
        """Bytes that each client except the sender received after the message was sent."""
        if self.message is None:
            return {}
        first = self.message.first
        return {
            client: self.heard(client, first)
            for client in self.connected(first)
            if client != self.message.speaker
        }

    def size(self, client: str, since: int | None = None) -> int:
        """Return the number of bytes that a client received since an event; None: since the message
        was sent."""
        if since is None:
            assert self.message
            since = self.message.first
        return sum(
            event.size
            for event in self.events[since:]
            if event.client == client and event.what == "receives"
        )

    @cached_property
    def output(self) -> bytes:
        """Bytes that the listener received since the message was sent.

        If `detail` names no listener, these are the bytes of the first client that received
        anything; empty if no client received anything.
        """
        if self.listener in self.received:
            return self.received[self.listener]
        return next((heard for heard in self.received.values() if heard), b"")

    @cached_property
    def prefixes(self) -> dict[str, bytes]:
        """The most frequent text before the lines of each client, as other clients received it."""
        found: dict[str, Counter[bytes]] = {}
        lines = [m for m in self.messages if len(m.lines) == 1 and m.pieces == 1 and m.lines[0]]
        for message in lines:
            for event in self.events[message.first :]:
                before, here, _ = event.data.partition(message.lines[0])
                if event.what == "receives" and here:
                    seen = found.setdefault(message.speaker, Counter())
                    seen[before.rpartition(b"\n")[2]] += 1
        # If two texts are equally frequent, take the later one: the first line may have been a
        # name, and the text before it the beginning of a notice.
        return {client: max(reversed(seen), key=seen.__getitem__) for client, seen in found.items()}

    @property
    def prefix(self) -> bytes:
        """The prefix of the message's sender; empty if it is not known."""
        if self.message is None:
            return b""
        if known := self.prefixes.get(self.message.speaker):
            return known
        begin = self.events[self.message.first].data[:16].partition(b"\n")[0]
        if begin not in self.output:
            return b""
        return self.output[: self.output.index(begin)].rpartition(b"\n")[2]

    @cached_property
    def change(self) -> tuple[bytes, bytes]:
        """The expected text and the text that arrived instead, without prefix and line end."""
        actual = self.actual
        if b"\n" not in self.expected:
            actual = actual.partition(b"\n")[0]
        if self.prefix and actual.startswith(self.prefix):
            actual = actual[len(self.prefix) :]
        return self.expected, actual

    def closed(self) -> list[str]:
        """Return the clients whose connections the server closed before the clients left."""
        found: dict[str, None] = {}
        left = set()
        for event in self.events:
            if event.what in LEAVES:
                left.add(event.client)
            elif event.what.endswith("by the server") and event.client not in left:
                found[event.client] = None
        return [*found]

    def before_the_end(self) -> Event | None:
        """Return the last action of a client before the server first closed an open connection.

        If one of the last two actions is a leave, return the leave.
        """
        closed = self.closed()
        ended = next(
            (
                number
                for number, event in enumerate(self.events)
                if event.what.endswith("by the server") and event.client in closed
            ),
            0,
        )
        done = [e for e in self.events[:ended] if e.what != "receives"][-2:]
        return next((e for e in done if e.what in LEAVES), done[-1] if done else None)

    def reception(self) -> str:
        """Return in words which clients received the message, and which received something else, or
        nothing."""
        got = [
            c
            for c, heard in self.received.items()
            if self.sent_as_expected and self.expected in heard
        ]
        others = [client for client in self.received if client not in got]
        rest = f"{listed(others)} did not"
        heard = self.received.get(self.listener, b"")
        if heard and others == [self.listener]:
            rest = f"{self.listener} received {quoted(heard, self.size(self.listener))}"
        if got and others:
            return f"{listed(got)} received it, but {rest}"
        same = [client for client, heard in self.received.items() if heard and heard == self.output]
        if same:
            return f"{listed(same)} received {quoted(self.output, self.size(same[0]))}"
        return "nobody received anything"


def is_utf8(text: bytes, *, whole: bool = True) -> bool:
    """Return whether a text is UTF-8. If it is not `whole`, its last character may be cut off."""
    try:
        codecs.getincrementaldecoder("utf-8")().decode(text, whole)
    except UnicodeDecodeError:
        return False
    return True


def described_action(event: Event) -> str:
    """Return the action of a client in words, in the past tense."""
    if event.what in LEAVES:
        return f"{event.client} {LEAVES[event.what]}"
    if event.what == "sends":
        return f"{event.client} sent {quoted(event.data, event.size)}"
    return (
        f"{event.client} connected" if event.what == "connects" else f"{event.client} {event.what}"
    )


def capitalized(text: str) -> str:
    """Return a text with a capital first letter, unless the text begins with a bytes literal."""
    return text if text.startswith(("b'", 'b"')) else text[:1].upper() + text[1:]


def with_full_stop(text: str) -> str:
    """Return a text with a full stop at its end, unless it is empty or already ends a sentence."""
    return text if text.endswith((".", "!", "?")) or not text else f"{text}."
