"""Servers with one defect each, and the clauses that the defect breaks.

Each server differs from the reference server in a few methods or attributes. `breaks` registers a
class. `broken` creates and registers a class that only changes attributes.

No defect depends on chance. A defect that affects only some messages depends on a count of one
member's messages, so other members and a busy machine do not matter. Each defect is as narrow as
possible, because only the tests of the registered clauses may fail: for example, the server that
strips spaces strips nothing else. But each defect is wide enough that these tests always fail.

The docstring of a server describes its defect; the server is the subject of the sentence. The
command ``python -m harness.reference --list`` prints the first line of each docstring.
"""

# ruff: noqa: ARG002, ARG005  (a defective method need not use all its arguments)

from __future__ import annotations

import contextlib
import ctypes
import itertools
import os
import re
import select
import signal
import socket
import sys
import threading
import time
import unicodedata
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from ipaddress import IPv6Address
from typing import Any, ClassVar, NoReturn

from harness.reference.dialects import CrLf, Echo, NameFirst
from harness.reference.server import BIDI, C1, KIB, SEPARATORS, VISIBLE, Member, Options, Server

REGISTRY: dict[str, tuple[type[Server], frozenset[str]]] = {}
"""Broken servers by name, each with the ids of the clauses that it breaks."""

WIDE = frozenset({"stops-at-silence", "dies-when-empty"})
"""Broken servers whose defect affects so much that tests of other clauses may also fail, or reach
no verdict."""


def breaks(what: str) -> Callable[[type[Server]], type[Server]]:
    """Register a broken server. what: its name, a colon, and the ids of the clauses it breaks."""
    name, _, clauses = what.partition(": ")

    def register(kind: type[Server]) -> type[Server]:
        REGISTRY[name] = (kind, frozenset(clauses.split()))
        return kind

    return register


def broken(
    what: str,
    about: str,
    base: type[Server] | tuple[type[Server], ...] = Server,
    **different: Any,
) -> None:
    """Create and register a subclass of `base` with other attributes.

    what: the argument of `breaks`. about: the docstring of the class. different: the attributes.
    """
    bases = base if isinstance(base, tuple) else (base,)
    breaks(what)(type(bases[0].__name__, bases, {"__doc__": about, **different}))


class Noting(Server):
    """A correct server that counts each member's messages. Subclasses use its other fields."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.said: Counter[Member] = Counter()
        """Number of messages of each member so far, the current message included."""
        self.noted: set[Member] = set()
        self.addresses: set[str] = set()
        self.held: dict[Member, Any] = {}
        """Delayed messages, by sender or by receiver."""
        self.kept: list[Any] = []

    def broadcast(self, sender: Member, message: bytes) -> None:
        self.said[sender] += 1
        super().broadcast(sender, message)


# --- joining -------------------------------------------------------------------------------------

broken(
    "fifty-clients: JOIN-1",
    "Refuses the 51st client with the line for a full room.",
    full=lambda self: len(self.members) >= 50 or Server.full(self),
)


@breaks("stops-at-silence: JOIN-1 JOIN-2")
class StopsAtSilence(Server):
    """Stops serving all clients when a new client joins, until the new client has sent data."""

    def enter(self, member: Member) -> None:
        super().enter(member)
        self.send(member)
        select.select([member.socket], [], [])


class Napping(Server):
    """A correct server that accepts a connection 20 ms late: the client may have left by then."""

    def accept(self) -> None:
        time.sleep(0.02)
        super().accept()


@breaks("dies-of-an-early-reset: JOIN-2")
class DiesOfAnEarlyReset(Napping):
    """Exits if a new client leaves before the server calls getpeername, as ncat does."""

    def join(self, member: Member) -> None:
        member.socket.getpeername()
        super().join(member)


@breaks("dies-of-a-port-scan: JOIN-2")
class DiesOfAPortScan(Napping):
    """Peeks at a new client's input before the welcome, and exits if the connection was reset."""

    def join(self, member: Member) -> None:
        with contextlib.suppress(BlockingIOError):
            member.socket.recv(1, socket.MSG_PEEK)
        super().join(member)


@breaks("dies-of-a-reset: JOIN-2 LEAVE-1")
class DiesOfAReset(Server):
    """Exits whenever a connection is reset."""

    def receive(self, member: Member, size: int) -> bytes | None:
        with contextlib.suppress(BlockingIOError):
            return member.socket.recv(size)
        return None


class SendsAtOnce(Server):
    """A correct server that sends each message at once, even to a member that has just left.

    The method `failed` handles a failed send; subclasses override it.
    """

    def deliver(self, receiver: Member, data: bytes) -> None:
        super().deliver(receiver, data)
        if not receiver.stuck:
            self.send(receiver)

    def send(self, member: Member) -> None:
        super().send(member)
        if member.broken:
            self.failed(member)

    def failed(self, member: Member) -> None:
        pass


@breaks("dies-of-sigpipe: JOIN-2 LEAVE-1")
class DiesOfSigpipe(SendsAtOnce):
    """Does not ignore SIGPIPE: a second send to a member that has left kills the server."""

    def run(self) -> NoReturn:
        signal.signal(signal.SIGPIPE, signal.SIG_DFL)
        super().run()

    def failed(self, member: Member) -> None:
        member.broken = False


broken(
    "dies-of-a-failed-send: JOIN-2 LEAVE-1",
    "Exits when a send fails because the receiver has left.",
    SendsAtOnce,
    failed=lambda self, member: sys.exit("can't send"),
)


@breaks("stops-at-a-failed-send: LEAVE-1")
class StopsAtAFailedSend(SendsAtOnce):
    """When a send to a member fails, sends nothing to the members that joined after this member."""

    has_failed = False

    def broadcast(self, sender: Member, message: bytes) -> None:
        self.has_failed = False
        super().broadcast(sender, message)

    def deliver(self, receiver: Member, data: bytes) -> None:
        if not self.has_failed:
            super().deliver(receiver, data)

    def failed(self, member: Member) -> None:
        self.has_failed = True
        member.broken = False


@breaks("silences-at-a-failed-send: JOIN-2 LEAVE-1")
class SilencesAtAFailedSend(SendsAtOnce):
    """When a send fails, reads no more from the message's sender, like a thread that has died."""

    speaker: Member | None = None

    def broadcast(self, sender: Member, message: bytes) -> None:
        self.speaker = sender
        super().broadcast(sender, message)
        self.speaker = None

    def failed(self, member: Member) -> None:
        member.broken = False
        if self.speaker and not self.speaker.gone:
            self.speaker.paused = True
            self.watch(self.speaker)


@breaks("no-reuseaddr: JOIN-3")
class NoReuseaddr(Server):
    """Does not set SO_REUSEADDR: the port stays in use for a minute after the server ends."""

    def configure(self, listener: socket.socket) -> None:
        super().configure(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


@breaks("ipv4-only: JOIN-4")
class Ipv4Only(Server):
    """Supports only IPv4: it listens at 0.0.0.0 instead of `::`, at 127.0.0.1 instead of `::1`."""

    def resolve(self) -> tuple[int, tuple[str, int]]:
        host = {"::": "0.0.0.0", "::1": "127.0.0.1"}.get(self.options.host, self.options.host)
        return socket.AF_INET, (host, self.options.port)


broken(
    "refuses-in-silence: JOIN-5",
    "Closes a new client's connection without a message when the room is full.",
    refusal=b"",
)


@breaks("refuses-without-end: JOIN-5")
class RefusesWithoutEnd(Noting):
    """Sends the line for a full room, but leaves the connection open."""

    def refuse(self, connection: socket.socket) -> None:
        self.kept.append(connection)
        with contextlib.suppress(OSError):
            connection.send(self.refusal)


broken(
    "dies-when-full: JOIN-5",
    "Exits when a client connects to a full room.",
    refuse=lambda self, connection: sys.exit("no room for one more"),
)
broken(
    "never-full: JOIN-5",
    "Accepts every client, and ignores --max-clients.",
    full=lambda self: False,
)

# --- welcome -------------------------------------------------------------------------------------

broken(
    "no-welcome: WELCOME-1 WELCOME-3 WELCOME-4",
    "Sends no welcome: a new client can't know that it has joined.",
    greeting=b"",
)
broken("welcome-twice: WELCOME-1", "Sends the welcome twice.", greeting=2 * Server.greeting)


@breaks("welcome-late: WELCOME-1")
class WelcomeLate(Noting):
    """Sends the welcome 50 ms after the join, or after the first line that the client receives."""

    def welcome(self, member: Member) -> None:
        self.noted.add(member)
        self.later(0.05, lambda: self.greet(member))

    def greet(self, member: Member) -> None:
        if member in self.noted:
            self.noted.remove(member)
            super().welcome(member)

    def broadcast(self, sender: Member, message: bytes) -> None:
        super().broadcast(sender, message)
        if message.endswith(b"\n"):
            for member in self.recipients(sender):
                self.greet(member)


@breaks("last-words-first: WELCOME-1")
class LastWordsFirst(Server):
    """Sends a new client the last line of the room before the welcome."""

    last = b""

    def welcome(self, member: Member) -> None:
        self.deliver(member, self.last)
        super().welcome(member)

    def broadcast(self, sender: Member, message: bytes) -> None:
        super().broadcast(sender, message)
        if message.endswith(b"\n"):
            self.last = self.prefix(sender, sender) + message


@breaks("greets-everyone: WELCOME-2")
class GreetsEveryone(Server):
    """Sends the welcome to all members when a client joins."""

    def welcome(self, member: Member) -> None:
        super().welcome(member)
        self.end_lines()
        for other in self.members:
            super().welcome(other)


@breaks("late-member: WELCOME-3")
class LateMember(Noting):
    """Does not deliver the first message after a client's welcome to this client."""

    def enter(self, member: Member) -> None:
        self.kept.append(member)

    def broadcast(self, sender: Member, message: bytes) -> None:
        super().broadcast(sender, message)
        for member in self.kept:
            if not member.gone:
                super().enter(member)
        self.kept.clear()


broken(
    "welcome-without-lf: WELCOME-4",
    "Does not end the welcome with LF, like the tutorial's server.",
    greeting=Server.greeting.strip(),
)

# --- broadcast -----------------------------------------------------------------------------------

broken(
    "drops-1-in-1000: CAST-1",
    "Loses every thousandth message of a member.",
    Noting,
    recipients=lambda self, sender: (
        Server.recipients(self, sender) if self.said[sender] % 1000 else []
    ),
)


@breaks("doubles-1-in-500: CAST-1")
class DoublesOneInFiveHundred(Noting):
    """Delivers every five-hundredth message of a member twice, if the message ends with LF."""

    def broadcast(self, sender: Member, message: bytes) -> None:
        super().broadcast(sender, message)
        if self.said[sender] % 500 == 0 and message.endswith(b"\n"):
            Server.broadcast(self, sender, message)


@breaks("forgets-one: CAST-1")
class ForgetsOne(Noting):
    """Leaves out one receiver of every 40th message of a member, if it has 8 to 49 receivers."""

    def recipients(self, sender: Member) -> list[Member]:
        found = super().recipients(sender)
        if 8 <= len(found) < 50 and self.said[sender] % 40 == 0:
            del found[len(found) // 2]
        return found


@breaks("echoes: CAST-2")
class Echoes(Server):
    """Also sends a line back to its sender, unless the sender is alone in the room."""

    def broadcast(self, sender: Member, message: bytes) -> None:
        super().broadcast(sender, message)
        if message.endswith(b"\n") and self.recipients(sender):
            self.deliver(sender, self.prefix(sender, sender) + message)


broken(
    "strips-spaces: CAST-3",
    "Strips the spaces around a text.",
    sanitize=lambda self, text: Server.sanitize(self, text.strip(" ") or text),
)
broken(
    "collapses-spaces: CAST-3",
    "Replaces several spaces by a single space, like a server that splits a text into words.",
    sanitize=lambda self, text: Server.sanitize(self, re.sub(" +", " ", text)),
)
broken(
    "lowercases: CAST-3",
    "Lowercases ASCII text.",
    sanitize=lambda self, text: Server.sanitize(self, text.lower() if text.isascii() else text),
)
broken(
    "obeys-commands: CAST-3",
    "Treats /quit and the text after it as a command, and does not deliver this text.",
    sanitize=lambda self, text: Server.sanitize(self, text.partition("/quit")[0]),
)


@breaks("swaps-neighbours: CAST-4")
class SwapsNeighbours(Noting):
    """Swaps every 23rd message of a member with the member's next message.

    It swaps none if there are fewer than 8 receivers, because a test with few members may wait for
    each message before it sends the next one.
    """

    def broadcast(self, sender: Member, message: bytes) -> None:
        if self.said[sender] % 23 == 22 and len(self.recipients(sender)) >= 8:
            self.said[sender] += 1
            self.held[sender] = message
        else:
            super().broadcast(sender, message)
            self.release(sender)

    def release(self, sender: Member) -> None:
        if sender in self.held:
            self.end_lines()
            Server.broadcast(self, sender, self.held.pop(sender))

    def leave(self, member: Member) -> None:
        self.release(member)
        super().leave(member)


@breaks("an-order-of-its-own: CAST-5")
class AnOrderOfItsOwn(Noting):
    """Holds back lines to every second member for up to 50 ms, so that others may arrive first."""

    def broadcast(self, sender: Member, message: bytes) -> None:
        receivers = self.recipients(sender)
        for receiver in receivers:
            text = self.prefix(sender, receiver) + message
            if not receiver.number % 2:
                self.deliver(receiver, text)
            elif message.endswith(b"\n"):
                self.hold(sender, receiver, text)
            else:
                self.release(receiver)
                self.deliver(receiver, text)
        if not message.endswith(b"\n"):
            self.midline.update(receivers)

    def hold(self, sender: Member, receiver: Member, text: bytes) -> None:
        if receiver in self.held and self.held[receiver][0] is not sender:
            self.deliver(receiver, text)
            self.release(receiver)
        else:
            self.release(receiver)
            self.held[receiver] = (sender, text)
            self.later(0.05, lambda: self.release(receiver))

    def release(self, receiver: Member) -> None:
        if receiver in self.held:
            if receiver in self.midline:
                self.midline.discard(receiver)
                self.deliver(receiver, b"\n")
            self.deliver(receiver, self.held.pop(receiver)[1])


broken(
    "tells-addresses: CAST-6 JOIN-4",
    "Sends no message to other members that have the sender's address.",
    recipients=lambda self, sender: [
        member for member in Server.recipients(self, sender) if member.address != sender.address
    ],
)


@breaks("one-per-address: CAST-6 JOIN-4")
class OnePerAddress(Server):
    """Delivers only to the latest connection from each address."""

    def recipients(self, sender: Member) -> list[Member]:
        latest = {member.address: member for member in self.members}
        return [member for member in super().recipients(sender) if latest[member.address] is member]


@breaks("one-copy-per-address: CAST-6")
class OneCopyPerAddress(Server):
    """Delivers only to the latest connection from each address other than the sender's."""

    def recipients(self, sender: Member) -> list[Member]:
        latest = {member.address: member for member in self.members}
        return [
            member
            for member in super().recipients(sender)
            if member.address == sender.address or latest[member.address] is member
        ]


@breaks("forgets-addresses: CAST-6")
class ForgetsAddresses(Server):
    """When a member leaves, also removes all earlier members that have the same address."""

    def leave(self, member: Member) -> None:
        earlier = itertools.takewhile(lambda other: other is not member, [*self.members])
        for other in [*earlier] if member in self.members else []:
            if other.address == member.address:
                del self.members[other]
        super().leave(member)


@breaks("dies-alone: CAST-7")
class DiesAlone(Server):
    """Divides by the number of receivers, and so exits if there are no receivers."""

    share = 0.0

    def broadcast(self, sender: Member, message: bytes) -> None:
        if sender in self.members:
            self.share = 1 / len(self.recipients(sender))
        super().broadcast(sender, message)


@breaks("kicks-the-lonely: CAST-7")
class KicksTheLonely(Server):
    """Disconnects a member that sends a message while it is alone in the room."""

    def hear(self, member: Member, data: bytes) -> None:
        super().hear(member, data)
        if len(self.members) == 1:
            self.leave(member)


# --- prefix --------------------------------------------------------------------------------------

broken(
    "space-after-prefix: PREFIX-1",
    "Puts a space between prefix and text.",
    prefix=lambda self, sender, receiver: Server.prefix(self, sender, receiver) + b" ",
)
broken(
    "square-brackets: PREFIX-1",
    "Writes [IP] instead of <IP>.",
    prefix=lambda self, sender, receiver: b"[%s]" % sender.address.encode(),
)
broken(
    "no-prefix: PREFIX-1 PREFIX-2 PREFIX-3 PREFIX-4",
    "Sends no prefix.",
    prefix=lambda self, sender, receiver: b"",
)
broken(
    "prefix-twice: PREFIX-1 PREFIX-4",
    "Sends the prefix twice.",
    prefix=lambda self, sender, receiver: 2 * Server.prefix(self, sender, receiver),
)
broken(
    "user-numbers: PREFIX-2 PREFIX-3",
    "Writes <user5>, as ncat does, instead of an address.",
    prefix=lambda self, sender, receiver: b"<user%d>" % sender.number,
)


class WrongPrefix(Server):
    """A server with a correct prefix if it listens at an IPv6 address.

    If it listens at an IPv4 address, the prefix contains the text that `shown` returns.
    """

    shown: ClassVar[Callable[..., str]]

    def prefix(self, sender: Member, receiver: Member) -> bytes:
        if self.listener.family == socket.AF_INET6:
            return super().prefix(sender, receiver)
        return b"<%s>" % self.shown(sender, receiver).encode()


broken(
    "port-in-prefix: PREFIX-2",
    "Writes <IP:port>.",
    WrongPrefix,
    shown=lambda self, sender, receiver: f"{sender.address}:{sender.port}",
)
broken(
    "always-localhost: PREFIX-2 PREFIX-4",
    "Writes its own address, <127.0.0.1>, for every sender.",
    WrongPrefix,
    shown=lambda self, sender, receiver: "127.0.0.1",
)
broken(
    "receivers-address: PREFIX-2 PREFIX-4",
    "Writes the receiver's address instead of the sender's.",
    WrongPrefix,
    shown=lambda self, sender, receiver: receiver.address,
)
broken(
    "latest-address: PREFIX-2 PREFIX-4",
    "Writes the address of the latest member, like a server that keeps it in a global variable.",
    WrongPrefix,
    shown=lambda self, sender, receiver: [*self.members, sender][len(self.members) - 1].address,
)


@breaks("keeps-mapped: PREFIX-3")
class KeepsMapped(Server):
    """Writes <::ffff:127.0.0.1> for an IPv4 address that arrives mapped into IPv6."""

    def prefix(self, sender: Member, receiver: Member) -> bytes:
        mapped = self.listener.family == socket.AF_INET6 and ":" not in sender.address
        return f"<{'::ffff:' * mapped}{sender.address}>".encode()


@breaks("long-ipv6: PREFIX-3")
class LongIpv6(Server):
    """Writes IPv6 addresses in full: <0000:0000:0000:0000:0000:0000:0000:0001>."""

    def prefix(self, sender: Member, receiver: Member) -> bytes:
        if ":" not in sender.address:
            return super().prefix(sender, receiver)
        return f"<{IPv6Address(sender.address).exploded}>".encode()


# --- messages ------------------------------------------------------------------------------------

broken(
    "strips-lf: LINE-1 LINE-3 LINE-4 LINE-6 PREFIX-4",
    "Strips the LF from a line: the next message continues the same line.",
    broadcast=lambda self, sender, message: Server.broadcast(
        self, sender, message.removesuffix(b"\n")
    ),
    end_lines=lambda self: self.midline.clear(),
)
broken(
    "pictures-crlf: LINE-1",
    "Replaces the CR of a CR LF by the control picture of CR.",
    frame=lambda self, member, data: Server.frame(self, member, data.replace(b"\r\n", b"\r\r\n")),
)


@breaks("keeps-crlf: TEXT-3")
class KeepsCrlf(Server):
    """Delivers CR LF as CR LF."""

    def frame(self, member: Member, data: bytes) -> list[bytes]:
        messages = super().frame(member, data.replace(b"\r\n", b"\r\r\n"))
        return [message.replace("␍\n".encode(), b"\r\n") for message in messages]


broken(
    "doubles-lf: LINE-1 PREFIX-4",
    "Adds a LF to a line that has one: an empty line follows each line.",
    broadcast=lambda self, sender, message: Server.broadcast(
        self, sender, message.replace(b"\n", b"\n\n")
    ),
)


@breaks("reads-are-messages: LINE-2 LINE-3 PREFIX-4")
class ReadsAreMessages(Server):
    """Treats the data of each read as one message, like the tutorial's server."""

    def frame(self, member: Member, data: bytes) -> list[bytes]:
        message = b"".join(super().frame(member, data) + self.flush(member))
        return [message] if message else []


broken(
    "impatient: LINE-2",
    "Delivers a partial line at once, as a message.",
    frame=lambda self, member, data: Server.frame(self, member, data) + self.flush(member),
)


class RelaysReads(Server):
    """Forwards the data of each read at once, with a prefix before each line that begins in it."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.begun: set[Member] = set()
        """Members that have sent the beginning of a line."""

    def frame(self, member: Member, data: bytes) -> list[bytes]:
        lines = member.decoder.decode(data).split("\n")
        message = b"\n".join(self.encode(line.removesuffix("\r")) for line in lines)
        return [message] if message else []

    def end_lines(self) -> None:
        self.midline.clear()

    def broadcast(self, sender: Member, message: bytes) -> None:
        for receiver in self.recipients(sender):
            prefix = self.prefix(sender, receiver)
            text = b"".join(prefix + line for line in message.splitlines(keepends=True))
            self.deliver(receiver, text[len(prefix) :] if sender in self.begun else text)
        (self.begun.discard if message.endswith(b"\n") else self.begun.add)(sender)


broken(
    "relays-with-prefixes: LINE-2 LINE-3 LINE-6 PREFIX-4",
    RelaysReads.__doc__ or "",
    RelaysReads,
)
broken(
    "relays-reads: LINE-2 LINE-3 LINE-6 PREFIX-1 PREFIX-2 PREFIX-3 PREFIX-4",
    "Forwards the data of each read at once, without prefixes.",
    RelaysReads,
    prefix=lambda self, sender, receiver: b"",
)


@breaks("prefix-once-per-read: LINE-3 PREFIX-4")
class PrefixOncePerRead(Server):
    """Writes only one prefix for all lines that arrive in one read."""

    def frame(self, member: Member, data: bytes) -> list[bytes]:
        messages = super().frame(member, data)
        if max(map(len, messages), default=0) > 1 * KIB:
            return messages  # the test of LINE-7 sends long lines, and must pass
        return [b"".join(messages)] if messages else []


broken(
    "loses-empty-lines: LINE-4",
    "Ignores an empty line.",
    frame=lambda self, member, data: [
        message for message in Server.frame(self, member, data) if message != b"\n"
    ],
)
broken(
    "waits-for-lf: LINE-5 LINE-6",
    "Delivers text without LF only when its sender leaves.",
    flush=lambda self, member: [],
)
broken(
    "adds-lf: LINE-5",
    "Adds a LF to text that has none.",
    flush=lambda self, member: [text + b"\n" for text in Server.flush(self, member)],
)
broken(
    "runs-on: LINE-6 PREFIX-4",
    "Does not end an unfinished line before the next message.",
    end_lines=lambda self: self.midline.clear(),
)


@breaks("shows-the-lf-to-its-sender: LINE-6")
class ShowsTheLfToItsSender(Server):
    """Also sends the LF that ends an unfinished line to the sender of this line."""

    def broadcast(self, sender: Member, message: bytes) -> None:
        super().broadcast(sender, message)
        if not message.endswith(b"\n") and not sender.gone:
            self.midline.add(sender)


broken(
    "cuts-at-1024: LINE-7",
    "Cuts lines at 1,024 bytes.",
    limit=1 * KIB,
)
broken(
    "loses-the-excess: LINE-7",
    "Drops the part of a line beyond the limit.",
    cut=lambda self, line: Server.cut(self, line)[:1],
)

# --- text ----------------------------------------------------------------------------------------

broken(
    "latin-1: LINE-2 TEXT-1 TEXT-2 TEXT-3",
    "Decodes all bytes as Latin-1.",
    frame=lambda self, member, data: Server.frame(self, member, data.decode("latin-1").encode()),
)
broken(
    "ascii-only: LINE-2 TEXT-1 TEXT-2 TEXT-3",
    "Replaces all characters that are not ASCII by a question mark.",
    encode=lambda self, text: self.sanitize(text).encode("ascii", "replace"),
)
broken(
    "drops-joiners: TEXT-1",
    "Removes zero-width joiners, and so splits emoji that consist of several characters.",
    sanitize=lambda self, text: Server.sanitize(self, text).replace("\u200d", ""),
)
broken(
    "normalises: TEXT-1",
    "Normalises text to NFC: e and U+0301 become the single character é.",
    sanitize=lambda self, text: unicodedata.normalize("NFC", Server.sanitize(self, text)),
)


@breaks("tears-characters: LINE-2 TEXT-1")
class TearsCharacters(Server):
    """Decodes the data of each read in pieces of 1,024 bytes, and so cuts characters."""

    piece = KIB

    def frame(self, member: Member, data: bytes) -> list[bytes]:
        torn = (data[start : start + self.piece] for start in range(0, len(data), self.piece))
        text = "".join(piece.decode(errors="replace") for piece in torn)
        return super().frame(member, text.encode())


for size in (2 * KIB, 4 * KIB):
    broken(
        f"tears-characters-at-{size}: LINE-2 TEXT-1",
        f"Decodes the data of each read in pieces of {size:,} bytes, and so cuts characters.",
        TearsCharacters,
        piece=size,
    )


broken(
    "dies-of-bad-bytes: TEXT-2", "Exits if it can't decode the bytes of a read.", errors="strict"
)


@breaks("kicks-bad-bytes: TEXT-2")
class KicksBadBytes(Server):
    """Disconnects a member that sends bytes that are not UTF-8."""

    errors = "strict"

    def hear(self, member: Member, data: bytes) -> None:
        try:
            super().hear(member, data)
        except UnicodeDecodeError:
            member.decoder.reset()
            self.leave(member)

    def last_words(self, member: Member) -> list[bytes]:
        with contextlib.suppress(UnicodeDecodeError):
            return super().last_words(member)
        return []


broken("passes-bad-bytes: TEXT-2", "Passes on bytes that are not UTF-8.", errors="surrogateescape")
broken("ignores-bad-bytes: TEXT-2", "Removes bytes that are not UTF-8.", errors="ignore")
broken(
    "passes-controls: PREFIX-4 TEXT-3",
    "Delivers all control characters unchanged.",
    sanitize=lambda self, text: text,
)


class Passing(Server):
    """A server that delivers the control characters in `passed` unchanged."""

    passed: tuple[int, ...] = ()

    def sanitize(self, text: str) -> str:
        table = {code: shown for code, shown in VISIBLE.items() if code not in self.passed}
        return text.translate(table)


broken(
    "passes-cr: PREFIX-4 TEXT-3",
    "Delivers CR unchanged; with a CR, a text can overwrite its prefix.",
    Passing,
    passed=(0x0D,),
)
broken("passes-bidi: TEXT-3", "Delivers bidirectional controls unchanged.", Passing, passed=BIDI)
broken(
    "passes-separators: PREFIX-4 TEXT-3",
    "Delivers U+2028 and U+2029 unchanged; some terminals begin a new line at these characters.",
    Passing,
    passed=SEPARATORS,
)
broken(
    "passes-c1: PREFIX-4 TEXT-3",
    "Delivers U+0080 to U+009F unchanged; among them are CSI and NEL.",
    Passing,
    passed=C1,
)
broken(
    "drops-controls: TEXT-3",
    "Removes control characters, without a replacement.",
    sanitize=lambda self, text: text.translate(dict.fromkeys(VISIBLE, "")),
)
broken(
    "pictures-tabs: CAST-3 TEXT-3",
    "Replaces TAB by its control picture, although TAB is an exception in TEXT-3.",
    sanitize=lambda self, text: Server.sanitize(self, text).replace("\t", "␉"),
)

# --- leaving -------------------------------------------------------------------------------------


@breaks("dies-when-empty: LEAVE-1")
class DiesWhenEmpty(Server):
    """Exits when the last member has left."""

    def close(self, member: Member) -> None:
        super().close(member)
        if not self.members:
            sys.exit("nobody is there")


@breaks("skips-after-leave: LEAVE-1")
class SkipsAfterLeave(Server):
    """After a leave, does not deliver the next message to the member that joined next.

    This happens only if two or more members joined after the leaver. Servers have this defect if
    they remove a member from a list while they iterate over the list.
    """

    skipped: Member | None = None

    def leave(self, member: Member) -> None:
        after = [other for other in self.members if other.number > member.number]
        super().leave(member)
        if len(after) >= 2:
            self.skipped = after[0]

    def recipients(self, sender: Member) -> list[Member]:
        found = super().recipients(sender)
        if self.skipped in found and not sender.gone:
            found.remove(self.skipped)
            self.skipped = None
        return found


@breaks("drops-last-words: LEAVE-2")
class DropsLastWords(Server):
    """Handles input 20 ms late, and drops this input if its sender has left by then."""

    def hear(self, member: Member, data: bytes) -> None:
        self.later(0.02, lambda: self.look(member, data))

    def look(self, member: Member, data: bytes) -> None:
        if not member.gone:
            super().hear(member, data)


broken(
    "drops-the-unfinished: LEAVE-2",
    "Drops the unfinished line of a member that leaves.",
    last_words=lambda self, member: [],
)


@breaks("leaks-sockets: LEAVE-3")
class LeaksSockets(Server):
    """Keeps an open descriptor of each connection that has ended."""

    def close(self, member: Member) -> None:
        if not member.gone:
            with contextlib.suppress(OSError):
                os.dup(member.socket.fileno())
                member.socket.shutdown(socket.SHUT_RDWR)
        super().close(member)


@breaks("leaks-threads: LEAVE-3")
class LeaksThreads(Server):
    """Starts a thread for each member; the thread waits on a pipe forever."""

    def enter(self, member: Member) -> None:
        super().enter(member)
        threading.Thread(target=os.read, args=(os.pipe()[0], 1), daemon=True).start()


@breaks("spins-after-leave: LEAVE-3")
class SpinsAfterLeave(Server):
    """Uses a whole processor once a member has left, like a thread of the tutorial's server."""

    spinning = False

    def close(self, member: Member) -> None:
        super().close(member)
        self.spinning = True

    def patience(self) -> float:
        return 0.0 if self.spinning else super().patience()


@breaks("keeps-a-megabyte: LEAVE-3 LOAD-2")
class KeepsAMegabyte(Noting):
    """Keeps a megabyte for each member that has left."""

    def close(self, member: Member) -> None:
        super().close(member)
        self.kept.append(b"\1" * 1024 * KIB)


@breaks("keeps-200-kib: LEAVE-3")
class Keeps200Kib(Noting):
    """Keeps 200 KiB for each member that has left."""

    def close(self, member: Member) -> None:
        super().close(member)
        self.kept.append(b"\1" * 200 * KIB)


@breaks("keeps-threads: LEAVE-3")
class KeepsThreads(Server):
    """Starts a thread for each member; the thread waits on a lock forever."""

    def enter(self, member: Member) -> None:
        super().enter(member)
        threading.Thread(target=threading.Event().wait, daemon=True).start()


@breaks("keeps-its-side-open: LEAVE-3 LEAVE-4 LOAD-2")
class KeepsItsSideOpen(Noting):
    """Does not close its side of a connection when the member has closed the other side."""

    def close(self, member: Member) -> None:
        self.kept.append(member.socket.dup())
        super().close(member)


@breaks("closes-late: LEAVE-4")
class ClosesLate(KeepsItsSideOpen):
    """Closes its side of a connection only when the next member leaves."""

    def close(self, member: Member) -> None:
        super().close(member)
        for late in self.kept[:-1]:
            late.close()
        del self.kept[:-1]


@breaks("bans-who-comes-back: LEAVE-5")
class BansWhoComesBack(Noting):
    """Refuses connections from the address of a member that has sent data and left."""

    def hear(self, member: Member, data: bytes) -> None:
        super().hear(member, data)
        self.noted.add(member)

    def leave(self, member: Member) -> None:
        if member in self.noted:
            self.addresses.add(member.address)
        super().leave(member)

    def join(self, member: Member) -> None:
        if member.address in self.addresses:
            member.socket.close()
        else:
            super().join(member)


# --- load ----------------------------------------------------------------------------------------


class Blocking(Server):
    """A correct server with a method that waits until a member has received all its messages."""

    def send_all(self, member: Member) -> None:
        with contextlib.suppress(OSError):  # the socket is closed if the member has left
            member.socket.setblocking(True)
        Server.send(self, member)
        with contextlib.suppress(OSError):
            member.socket.setblocking(False)


@breaks("blocking-sends: LOAD-1 LOAD-2")
class BlockingSends(Blocking):
    """Waits in each send until the socket accepts the data, and so stops for a slow reader."""

    def send(self, member: Member) -> None:
        self.send_all(member)


@breaks("joins-wait-for-the-slow: LOAD-1 LOAD-2")
class JoinsWaitForTheSlow(Blocking):
    """Waits, whenever a client joins, until each member has received all its messages."""

    def join(self, member: Member) -> None:
        for other in [each for each in self.members if each.stuck]:
            self.send_all(other)
        super().join(member)


broken(
    "unbounded-queue: LOAD-2",
    "Sets no limit on the queue of a member that does not read.",
    lags=lambda self, member: False,
)
broken(
    "drops-for-the-slow: LOAD-2",
    "Drops the queue of a member that lags too far, and leaves it connected.",
    disconnect=lambda self, member: member.queue.clear(),
)
broken(
    "kicks-flooders: LOAD-3",
    "Disconnects a member that exceeds its allowance.",
    throttle=lambda self, member: self.leave(member),
)


@breaks("loses-the-flood: LOAD-3")
class LosesTheFlood(Server):
    """Reads input beyond a member's allowance, and drops it."""

    def throttle(self, member: Member) -> None:
        with contextlib.suppress(OSError):
            while member.socket.recv(64 * KIB):
                pass
        super().throttle(member)


@breaks("no-allowance: LOAD-3")
class NoAllowance(Server):
    """Throttles no member."""

    def allowance(self, member: Member) -> float:
        member.allowance = 1 << 30
        return member.allowance


@breaks("twice-its-rate: LOAD-3")
class TwiceItsRate(Server):
    """Throttles a member to twice its rate."""

    def __init__(self, options: Options) -> None:
        super().__init__(replace(options, rate=2 * options.rate))


@breaks("one-worker: LOAD-4")
class OneWorker(Server):
    """Serves all members in one worker process: if this process dies, all are disconnected."""

    worker = 0

    def serve(self) -> NoReturn:
        while True:
            self.worker = os.fork()
            if not self.worker:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: die with the parent
                super().serve()
            os.waitpid(self.worker, 0)

    def stop(self, *_: object) -> NoReturn:
        if self.worker:
            os.kill(self.worker, signal.SIGKILL)
        super().stop()


# --- other dialects: names -----------------------------------------------------------------------


@breaks("names-in-the-accept-loop: JOIN-2")
class NamesInTheAcceptLoop(NameFirst):
    """Stops serving all members while it waits for a new client's name."""

    def welcome(self, member: Member) -> None:
        super().welcome(member)
        self.send(member)
        select.select([member.socket], [], [])


broken(
    "names-relays-reads: LINE-2 LINE-3 LINE-6 PREFIX-4",
    "Forwards the data of each read at once, with a name before each line that begins in it.",
    (RelaysReads, NameFirst),
)
broken(
    "names-dies-of-sigpipe: LEAVE-1",
    "Asks for names; a second send to a member that has left kills the server.",
    (DiesOfSigpipe, NameFirst),
)
broken(
    "names-keeps-200-kib: LEAVE-3",
    "Asks for names, and keeps 200 KiB for each member that has left.",
    (Keeps200Kib, NameFirst),
)
broken(
    "names-of-the-latest: PREFIX-2 PREFIX-4",
    "Writes the name of the latest member, like a server that keeps it in a global variable.",
    NameFirst,
    name=lambda self, sender: [*self.names.values()][-1],
)
broken(
    "names-of-receivers: PREFIX-2 PREFIX-4",
    "Writes the receiver's name instead of the sender's.",
    NameFirst,
    prefix=lambda self, sender, receiver: b"%s: " % self.name(receiver).encode(),
)
broken(
    "names-overwritten: PREFIX-4 TEXT-3",
    "Delivers CR unchanged; with a CR, a text can overwrite its sender's name.",
    (Passing, NameFirst),
    passed=(0x0D,),
)
broken(
    "names-echoed: CAST-2",
    "Also sends a line back to its sender, with the sender's name.",
    (Echoes, NameFirst),
)


@breaks("names-greet-everyone: WELCOME-2")
class NamesGreetEveryone(NameFirst):
    """Sends the welcome to all members when a new client has sent its name."""

    def hear(self, member: Member, data: bytes) -> None:
        was_asked = member in self.asked
        super().hear(member, data)
        if was_asked and member in self.members:
            for other in self.recipients(member):
                self.deliver(other, self.greeting)


@breaks("names-are-taken-forever: LEAVE-5")
class NamesAreTakenForever(NameFirst):
    """Disconnects a client that sends the name of a member that has left."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.taken: set[str] = set()

    def close(self, member: Member) -> None:
        self.taken.add(self.names.get(member, ""))
        super().close(member)

    def hear(self, member: Member, data: bytes) -> None:
        was_asked = member in self.asked
        super().hear(member, data)
        if was_asked and self.names.get(member) in self.taken:
            self.leave(member)


# --- other dialects: CR LF -----------------------------------------------------------------------

broken(
    "crlf-relays-reads: LINE-2 LINE-3 LINE-6 PREFIX-4",
    "Forwards the data of each read at once, and ends lines with CR LF.",
    (RelaysReads, CrLf),
)
broken(
    "crlf-dies-of-sigpipe: JOIN-2 LEAVE-1",
    "Writes CR LF; a second send to a member that has left kills the server.",
    (DiesOfSigpipe, CrLf),
)
broken(
    "crlf-keeps-200-kib: LEAVE-3",
    "Writes CR LF, and keeps 200 KiB for each member that has left.",
    (Keeps200Kib, CrLf),
)


@breaks("crlf-becomes-lf: LINE-1")
class CrlfBecomesLf(CrLf):
    """Ends messages with LF, although its profile declares CR LF; ends the welcome with CR LF."""

    def deliver(self, receiver: Member, data: bytes) -> None:
        welcome = data == self.greeting or data == self.refusal
        Server.deliver(self, receiver, data.replace(b"\n", b"\r\n") if welcome else data)


@breaks("crlf-after-an-lf-welcome: WELCOME-4")
class CrlfAfterAnLfWelcome(CrLf):
    """Ends the welcome with LF, although its profile declares CR LF; ends messages with CR LF."""

    def deliver(self, receiver: Member, data: bytes) -> None:
        if data == self.greeting:
            Server.deliver(self, receiver, data)
        else:
            super().deliver(receiver, data)


broken(
    "crlf-loses-empty-lines: LINE-4",
    "Writes CR LF, and ignores an empty line.",
    CrLf,
    frame=lambda self, member, data: [
        message for message in CrLf.frame(self, member, data) if message != b"\n"
    ],
)
broken(
    "crlf-strips-spaces: CAST-3",
    "Writes CR LF, and strips the spaces around a text.",
    CrLf,
    sanitize=lambda self, text: Server.sanitize(self, text.strip(" ") or text),
)

# --- other dialects: echo ------------------------------------------------------------------------

broken(
    "echo-relays-reads: LINE-2 LINE-3 PREFIX-4",
    "Forwards the data of each read at once, also back to its sender.",
    (Echo, RelaysReads),
)
broken(
    "echo-dies-of-sigpipe: JOIN-2 LEAVE-1",
    "Returns each line to its sender; a second send to a member that has left kills the server.",
    (DiesOfSigpipe, Echo),
)
broken(
    "echo-keeps-200-kib: LEAVE-3",
    "Returns each line to its sender, and keeps 200 KiB for each member that has left.",
    (Keeps200Kib, Echo),
)
broken(
    "echo-fails: CAST-2",
    "Does not return lines to their sender, although its profile declares an echo.",
    Echo,
    echo=lambda self, sender, message: None,
)
broken(
    "echo-of-an-echo: CAST-2",
    "Returns each line to its sender twice.",
    Echo,
    echo=lambda self, sender, message: self.deliver(sender, 2 * (self.own_prefix + message)),
)
broken(
    "echo-like-any-message: CAST-2",
    "Returns each line with the sender's address as prefix, not with the prefix in its profile.",
    Echo,
    echo=lambda self, sender, message: self.deliver(sender, self.prefix(sender, sender) + message),
)


@breaks("echo-to-one-more: CAST-1")
class EchoToOneMore(Echo):
    """Also sends the echo to another member, if the room has ten or more members."""

    def echo(self, sender: Member, message: bytes) -> None:
        super().echo(sender, message)
        if len(self.members) >= 10:
            super().echo(self.recipients(sender)[0], message)
