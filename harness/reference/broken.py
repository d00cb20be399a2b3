"""Servers that are wrong in one thing each, and the clauses that this breaks.

Each differs from the reference in a method or two: `broken` registers those that an expression
describes, `breaks` the classes of the others. None leaves anything to chance: where a defect shows
now and then, a counter of what one member has said says when, so that neither the words of others
nor a busy machine have a say in it. As each is here to be found by one check and by no other, it is
as narrow as it can be and still be certain to show: the server that strips spaces leaves the rest
alone.

`WIDE` names those in whose rooms so little works that a check of another clause may fail too, or
not come to a verdict.
"""

# ruff: noqa: ARG002, ARG005  (a method that does it wrong has no use for all that it is given)

from __future__ import annotations

import contextlib
import ctypes
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

from harness.reference.server import BIDI, C1, KIB, SEPARATORS, VISIBLE, Member, Options, Server

REGISTRY: dict[str, tuple[type[Server], frozenset[str]]] = {}
"""The broken servers by name, each with the ids of the clauses that it breaks."""

WIDE = frozenset({"stops-at-silence", "dies-when-empty"})


def breaks(what: str) -> Callable[[type[Server]], type[Server]]:
    """Register a class: `what` is its name, and the clauses that it breaks."""
    name, _, clauses = what.partition(": ")

    def register(kind: type[Server]) -> type[Server]:
        REGISTRY[name] = (kind, frozenset(clauses.split()))
        return kind

    return register


def broken(what: str, about: str, base: type[Server] = Server, **different: Any) -> None:
    """Register a class that differs from its base in these attributes."""
    breaks(what)(type(base.__name__, (base,), {"__doc__": about, **different}))


class Noting(Server):
    """Right, but notes who has said how much, and has room for more notes."""

    def __init__(self, options: Options) -> None:
        super().__init__(options)
        self.said: Counter[Member] = Counter()
        """Messages of each member, the one that is being delivered included."""
        self.noted: set[Member] = set()
        self.addresses: set[str] = set()
        self.held: dict[Member, Any] = {}
        """Messages that wait."""
        self.kept: list[Any] = []

    def broadcast(self, sender: Member, message: bytes) -> None:
        self.said[sender] += 1
        super().broadcast(sender, message)


# --- joining -------------------------------------------------------------------------------------

broken(
    "fifty-clients: JOIN-1",
    "Takes 50 clients and not one more; to the next it says so.",
    full=lambda self: len(self.members) >= 50 or Server.full(self),
)


@breaks("stops-at-silence: JOIN-1 JOIN-2")
class StopsAtSilence(Server):
    """Waits for a newcomer's first words, and serves nobody until it has heard them."""

    def enter(self, member: Member) -> None:
        super().enter(member)
        self.send(member)
        select.select([member.socket], [], [])


class Napping(Server):
    """Right, but takes its time to accept: a client in a hurry is gone by then."""

    def accept(self) -> None:
        time.sleep(0.02)
        super().accept()


@breaks("dies-of-an-early-reset: JOIN-2")
class DiesOfAnEarlyReset(Napping):
    """Asks the system who has connected, and ends when nobody is there any more, as ncat does."""

    def join(self, member: Member) -> None:
        member.socket.getpeername()
        super().join(member)


@breaks("dies-of-a-port-scan: JOIN-2")
class DiesOfAPortScan(Napping):
    """Looks what a newcomer has to say before it welcomes it, and ends when it was reset."""

    def join(self, member: Member) -> None:
        with contextlib.suppress(BlockingIOError):
            member.socket.recv(1, socket.MSG_PEEK)
        super().join(member)


@breaks("dies-of-a-reset: JOIN-2 LEAVE-1")
class DiesOfAReset(Server):
    """Ends when a connection is reset, whenever that is."""

    def receive(self, member: Member, size: int) -> bytes | None:
        with contextlib.suppress(BlockingIOError):
            return member.socket.recv(size)
        return None


@breaks("no-reuseaddr: JOIN-3")
class NoReuseaddr(Server):
    """Does not set SO_REUSEADDR: its port is taken for a minute after it has stopped."""

    def configure(self, listener: socket.socket) -> None:
        super().configure(listener)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)


@breaks("ipv4-only: JOIN-4")
class Ipv4Only(Server):
    """Knows only IPv4: `::` is all its IPv4 addresses, and `::1` is 127.0.0.1."""

    def resolve(self) -> tuple[int, tuple[str, int]]:
        host = {"::": "0.0.0.0", "::1": "127.0.0.1"}.get(self.options.host, self.options.host)
        return socket.AF_INET, (host, self.options.port)


broken(
    "refuses-in-silence: JOIN-5",
    "Closes a newcomer's connection without a word when it is full.",
    refusal=b"",
)


@breaks("refuses-without-end: JOIN-5")
class RefusesWithoutEnd(Noting):
    """Says why, and leaves the connection open."""

    def refuse(self, connection: socket.socket) -> None:
        self.kept.append(connection)
        with contextlib.suppress(OSError):
            connection.send(self.refusal)


broken(
    "dies-when-full: JOIN-5",
    "Ends when one more comes than it holds.",
    refuse=lambda self, connection: sys.exit("no room for one more"),
)
broken(
    "never-full: JOIN-5",
    "Lets everyone in, whatever --max-clients says.",
    full=lambda self: False,
)

# --- welcome -------------------------------------------------------------------------------------

broken(
    "no-welcome: WELCOME-1 WELCOME-3 WELCOME-4",
    "Greets nobody: there is nothing by which a newcomer knows that it is in.",
    greeting=b"",
)
broken("welcome-twice: WELCOME-1", "Greets each newcomer twice.", greeting=2 * Server.greeting)


@breaks("welcome-late: WELCOME-1")
class WelcomeLate(Noting):
    """Greets a newcomer 50 ms after it has become a member, or behind the first line it heard."""

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
    """Shows a newcomer the last line that was said, and greets it then."""

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
    """Sends the welcome to all who are there, when somebody comes."""

    def welcome(self, member: Member) -> None:
        super().welcome(member)
        self.end_lines()
        for other in self.members:
            super().welcome(other)


@breaks("late-member: WELCOME-3")
class LateMember(Noting):
    """Registers a newcomer behind the first message that is said after it was welcomed."""

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
    "Does not end the welcome, as the tutorial's server does not.",
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
    """Delivers every five-hundredth message of a member twice, if it is a line."""

    def broadcast(self, sender: Member, message: bytes) -> None:
        super().broadcast(sender, message)
        if self.said[sender] % 500 == 0 and message.endswith(b"\n"):
            Server.broadcast(self, sender, message)


@breaks("forgets-one: CAST-1")
class ForgetsOne(Noting):
    """Forgets one of eight and more, but not of a crowd, in every fortieth message of a member."""

    def recipients(self, sender: Member) -> list[Member]:
        found = super().recipients(sender)
        if 8 <= len(found) < 50 and self.said[sender] % 40 == 0:
            del found[len(found) // 2]
        return found


@breaks("echoes: CAST-2")
class Echoes(Server):
    """Sends a line back to its sender too, unless nobody else is there."""

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
    "Makes one space of many, as a server does that splits and joins words.",
    sanitize=lambda self, text: Server.sanitize(self, re.sub(" +", " ", text)),
)
broken(
    "lowercases: CAST-3",
    "Writes ASCII text in lower case.",
    sanitize=lambda self, text: Server.sanitize(self, text.lower() if text.isascii() else text),
)
broken(
    "obeys-commands: CAST-3",
    "Takes /quit, and what is said behind it, for a command, which is not shown to others.",
    sanitize=lambda self, text: Server.sanitize(self, text.partition("/quit")[0]),
)


@breaks("swaps-neighbours: CAST-4")
class SwapsNeighbours(Noting):
    """Every 23rd message of a member waits for its next one, which overtakes it.

    Where eight and more hear it: with fewer, who speaks may wait until it is heard.
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
    """To every second member, a line of one sender waits up to 50 ms for another sender's line."""

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
    "Sends nothing to the address that it came from.",
    recipients=lambda self, sender: [
        member for member in Server.recipients(self, sender) if member.address != sender.address
    ],
)


@breaks("one-per-address: CAST-6 JOIN-4")
class OnePerAddress(Server):
    """Knows one connection for each address, the latest: the others hear nothing any more."""

    def recipients(self, sender: Member) -> list[Member]:
        latest = {member.address: member for member in self.members}
        return [member for member in super().recipients(sender) if latest[member.address] is member]


@breaks("dies-alone: CAST-7")
class DiesAlone(Server):
    """Divides by the number of those who hear a member, and ends where there is none."""

    share = 0.0

    def broadcast(self, sender: Member, message: bytes) -> None:
        if sender in self.members:
            self.share = 1 / len(self.recipients(sender))
        super().broadcast(sender, message)


@breaks("kicks-the-lonely: CAST-7")
class KicksTheLonely(Server):
    """Takes it for an error that a member talks alone, and disconnects it."""

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
    "Writes [IP].",
    prefix=lambda self, sender, receiver: b"[%s]" % sender.address.encode(),
)
broken(
    "no-prefix: PREFIX-1 PREFIX-2 PREFIX-3 PREFIX-4",
    "Does not say who speaks.",
    prefix=lambda self, sender, receiver: b"",
)
broken(
    "prefix-twice: PREFIX-1 PREFIX-4",
    "Says twice who speaks.",
    prefix=lambda self, sender, receiver: 2 * Server.prefix(self, sender, receiver),
)
broken(
    "user-numbers: PREFIX-2 PREFIX-3",
    "Writes <user5>, as ncat does, and no address.",
    prefix=lambda self, sender, receiver: b"<user%d>" % sender.number,
)


class WrongPrefix(Server):
    """Right where it listens at an IPv6 address; else it shows another address."""

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
    "Writes <127.0.0.1>, its own address, whoever speaks.",
    WrongPrefix,
    shown=lambda self, sender, receiver: "127.0.0.1",
)
broken(
    "receivers-address: PREFIX-2 PREFIX-4",
    "Writes the address of the member who hears it.",
    WrongPrefix,
    shown=lambda self, sender, receiver: receiver.address,
)
broken(
    "latest-address: PREFIX-2 PREFIX-4",
    "Keeps the address in one variable for all: whoever speaks, it is the latest newcomer's.",
    WrongPrefix,
    shown=lambda self, sender, receiver: [*self.members, sender][len(self.members) - 1].address,
)


@breaks("keeps-mapped: PREFIX-3")
class KeepsMapped(Server):
    """Writes <::ffff:127.0.0.1> where IPv4 arrives mapped into IPv6."""

    def prefix(self, sender: Member, receiver: Member) -> bytes:
        mapped = self.listener.family == socket.AF_INET6 and ":" not in sender.address
        return f"<{'::ffff:' * mapped}{sender.address}>".encode()


@breaks("long-ipv6: PREFIX-3")
class LongIpv6(Server):
    """Writes <0000:0000:0000:0000:0000:0000:0000:0001>."""

    def prefix(self, sender: Member, receiver: Member) -> bytes:
        if ":" not in sender.address:
            return super().prefix(sender, receiver)
        return f"<{IPv6Address(sender.address).exploded}>".encode()


# --- messages ------------------------------------------------------------------------------------

broken(
    "strips-lf: LINE-1 LINE-3 LINE-4 LINE-6 PREFIX-4",
    "Strips the LF from a line: the next message is delivered on the same one.",
    broadcast=lambda self, sender, message: Server.broadcast(
        self, sender, message.removesuffix(b"\n")
    ),
    end_lines=lambda self: self.midline.clear(),
)
broken(
    "pictures-crlf: LINE-1",
    "Shows the CR of CR LF as its control picture.",
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
    "Prints a line that has its LF already: an empty line follows each.",
    broadcast=lambda self, sender, message: Server.broadcast(
        self, sender, message.replace(b"\n", b"\n\n")
    ),
)


@breaks("reads-are-messages: LINE-2 LINE-3 PREFIX-4")
class ReadsAreMessages(Server):
    """Takes what one read returns for one message, as the tutorial's server does."""

    def frame(self, member: Member, data: bytes) -> list[bytes]:
        message = b"".join(super().frame(member, data) + self.flush(member))
        return [message] if message else []


broken(
    "impatient: LINE-2",
    "Does not wait for the rest of a line.",
    frame=lambda self, member, data: Server.frame(self, member, data) + self.flush(member),
)


@breaks("prefix-once-per-read: LINE-3 PREFIX-4")
class PrefixOncePerRead(Server):
    """Leaves the prefix out before the second line of what it has read, and the next ones."""

    def frame(self, member: Member, data: bytes) -> list[bytes]:
        messages = super().frame(member, data)
        if max(map(len, messages), default=0) > 1 * KIB:
            return messages  # a line that is cut is another matter (LINE-7)
        return [b"".join(messages)] if messages else []


broken(
    "loses-empty-lines: LINE-4",
    "Takes an empty line for nothing.",
    frame=lambda self, member, data: [
        message for message in Server.frame(self, member, data) if message != b"\n"
    ],
)
broken(
    "waits-for-lf: LINE-5 LINE-6",
    "Waits for the LF for ever, or until its sender leaves.",
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
    """Ends an unfinished line for its sender too."""

    def broadcast(self, sender: Member, message: bytes) -> None:
        super().broadcast(sender, message)
        if not message.endswith(b"\n") and not sender.gone:
            self.midline.add(sender)


broken(
    "cuts-at-1024: LINE-7",
    "Reads 1,024 bytes of a line, and takes the rest for another.",
    limit=1 * KIB,
)
broken(
    "loses-the-excess: LINE-7",
    "Loses what is beyond the limit in a line.",
    cut=lambda self, line: Server.cut(self, line)[:1],
)

# --- text ----------------------------------------------------------------------------------------

broken(
    "latin-1: LINE-2 TEXT-1 TEXT-2 TEXT-3",
    "Takes all bytes for Latin-1.",
    frame=lambda self, member, data: Server.frame(self, member, data.decode("latin-1").encode()),
)
broken(
    "ascii-only: LINE-2 TEXT-1 TEXT-2 TEXT-3",
    "Writes a question mark for all that is not ASCII.",
    encode=lambda self, text: self.sanitize(text).encode("ascii", "replace"),
)
broken(
    "drops-joiners: TEXT-1",
    "Leaves out zero-width joiners, as characters that nobody sees: emoji fall apart.",
    sanitize=lambda self, text: Server.sanitize(self, text).replace("\u200d", ""),
)
broken(
    "normalises: TEXT-1",
    "Writes e and U+0301 as é.",
    sanitize=lambda self, text: unicodedata.normalize("NFC", Server.sanitize(self, text)),
)


@breaks("tears-characters: LINE-2 TEXT-1")
class TearsCharacters(Server):
    """Decodes each 1,024 bytes on their own, and each read: a character may lie across."""

    def frame(self, member: Member, data: bytes) -> list[bytes]:
        torn = (data[start : start + KIB] for start in range(0, len(data), KIB))
        text = "".join(piece.decode(errors="replace") for piece in torn)
        return super().frame(member, text.encode())


broken("dies-of-bad-bytes: TEXT-2", "Ends when it can't decode what it has read.", errors="strict")


@breaks("kicks-bad-bytes: TEXT-2")
class KicksBadBytes(Server):
    """Disconnects a member who says what it can't decode."""

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


broken("passes-bad-bytes: TEXT-2", "Passes bytes on that are not UTF-8.", errors="surrogateescape")
broken("ignores-bad-bytes: TEXT-2", "Leaves out bytes that are not UTF-8.", errors="ignore")
broken(
    "passes-controls: PREFIX-4 TEXT-3",
    "Passes all control characters on.",
    sanitize=lambda self, text: text,
)


class Passing(Server):
    """Passes `passed` on."""

    passed: tuple[int, ...] = ()

    def sanitize(self, text: str) -> str:
        table = {code: shown for code, shown in VISIBLE.items() if code not in self.passed}
        return text.translate(table)


broken(
    "passes-cr: PREFIX-4 TEXT-3",
    "Passes CR on: it goes back to where the prefix is, and writes another over it.",
    Passing,
    passed=(0x0D,),
)
broken("passes-bidi: TEXT-3", "Passes on what turns the direction of text.", Passing, passed=BIDI)
broken(
    "passes-separators: PREFIX-4 TEXT-3",
    "Passes on U+2028 and U+2029, which begin a line on some terminals.",
    Passing,
    passed=SEPARATORS,
)
broken(
    "passes-c1: PREFIX-4 TEXT-3",
    "Passes on U+0080 to U+009F, among them CSI and NEL.",
    Passing,
    passed=C1,
)
broken(
    "drops-controls: TEXT-3",
    "Leaves control characters out, and does not show that there were any.",
    sanitize=lambda self, text: text.translate(dict.fromkeys(VISIBLE, "")),
)
broken(
    "pictures-tabs: CAST-3 TEXT-3",
    "Shows TAB as its control picture, which is no control character but text.",
    sanitize=lambda self, text: Server.sanitize(self, text).replace("\t", "␉"),
)

# --- leaving -------------------------------------------------------------------------------------


@breaks("dies-when-empty: LEAVE-1")
class DiesWhenEmpty(Server):
    """Ends when the last member has left, as if that were all."""

    def close(self, member: Member) -> None:
        super().close(member)
        if not self.members:
            sys.exit("nobody is there")


@breaks("skips-after-leave: LEAVE-1")
class SkipsAfterLeave(Server):
    """Removes from a list while it goes through it: once, the member after the leaver is skipped.

    Where two and more came after it: a leaver that came last, or was just followed by somebody
    new, harms nobody.
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
    """Looks at what it has read 20 ms later, and not at all if its sender has left by then."""

    def hear(self, member: Member, data: bytes) -> None:
        self.later(0.02, lambda: self.look(member, data))

    def look(self, member: Member, data: bytes) -> None:
        if not member.gone:
            super().hear(member, data)


broken(
    "drops-the-unfinished: LEAVE-2",
    "Forgets the unfinished line of a leaver.",
    last_words=lambda self, member: [],
)


@breaks("leaks-sockets: LEAVE-3")
class LeaksSockets(Server):
    """Keeps a descriptor of each connection that has ended."""

    def close(self, member: Member) -> None:
        if not member.gone:
            with contextlib.suppress(OSError):
                os.dup(member.socket.fileno())
                member.socket.shutdown(socket.SHUT_RDWR)
        super().close(member)


@breaks("leaks-threads: LEAVE-3")
class LeaksThreads(Server):
    """Has a thread for each member, which opens a pipe and waits for ever for something in it."""

    def enter(self, member: Member) -> None:
        super().enter(member)
        threading.Thread(target=os.read, args=(os.pipe()[0], 1), daemon=True).start()


@breaks("spins-after-leave: LEAVE-3")
class SpinsAfterLeave(Server):
    """Never waits again once a member has left, as the tutorial's threads do not."""

    spinning = False

    def close(self, member: Member) -> None:
        super().close(member)
        self.spinning = True

    def patience(self) -> float | None:
        return 0.0 if self.spinning else super().patience()


@breaks("keeps-a-megabyte: LEAVE-3 LOAD-2")
class KeepsAMegabyte(Noting):
    """Keeps a megabyte for each member that was there, for ever."""

    def close(self, member: Member) -> None:
        super().close(member)
        self.kept.append(b"\1" * 1024 * KIB)


@breaks("keeps-its-side-open: LEAVE-3 LEAVE-4 LOAD-2")
class KeepsItsSideOpen(Noting):
    """Does not close its own side when a member has closed its."""

    def close(self, member: Member) -> None:
        self.kept.append(member.socket.dup())
        super().close(member)


@breaks("closes-late: LEAVE-4")
class ClosesLate(KeepsItsSideOpen):
    """Closes its own side when the next member has closed its."""

    def close(self, member: Member) -> None:
        super().close(member)
        for late in self.kept[:-1]:
            late.close()
        del self.kept[:-1]


@breaks("bans-who-comes-back: LEAVE-5")
class BansWhoComesBack(Noting):
    """Lets nobody in from an address from which a member has spoken and left."""

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


@breaks("blocking-sends: LOAD-1 LOAD-2")
class BlockingSends(Server):
    """Waits until a member takes what it is sent, and freezes behind one who does not read."""

    def send(self, member: Member) -> None:
        with contextlib.suppress(OSError):  # it may have left, and its socket is closed
            member.socket.setblocking(True)
        super().send(member)
        with contextlib.suppress(OSError):
            member.socket.setblocking(False)


broken(
    "unbounded-queue: LOAD-2",
    "Keeps all that a member does not read, however much it is.",
    lags=lambda self, member: False,
)
broken(
    "drops-for-the-slow: LOAD-2",
    "Loses what a member lags too far to hear, and leaves it connected.",
    put_out=lambda self, member: member.queue.clear(),
)
broken(
    "kicks-flooders: LOAD-3",
    "Disconnects a member who is beyond its allowance.",
    rest=lambda self, member: self.leave(member),
)


@breaks("loses-the-flood: LOAD-3")
class LosesTheFlood(Server):
    """Reads what is beyond a member's allowance, and throws it away."""

    def rest(self, member: Member) -> None:
        with contextlib.suppress(OSError):
            while member.socket.recv(64 * KIB):
                pass
        super().rest(member)


@breaks("no-allowance: LOAD-3")
class NoAllowance(Server):
    """Slows nobody down."""

    def allowance(self, member: Member) -> float:
        member.allowance = 1 << 30
        return member.allowance


@breaks("twice-its-rate: LOAD-3")
class TwiceItsRate(Server):
    """Slows a member down to twice the rate that it may have."""

    def __init__(self, options: Options) -> None:
        super().__init__(replace(options, rate=2 * options.rate))


@breaks("one-worker: LOAD-4")
class OneWorker(Server):
    """Has a worker process, which holds all connections: when it dies, they are lost."""

    worker = 0

    def serve(self) -> NoReturn:
        while True:
            self.worker = os.fork()
            if not self.worker:
                signal.signal(signal.SIGTERM, signal.SIG_DFL)
                ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: not to outlive us
                super().serve()
            os.waitpid(self.worker, 0)

    def stop(self, *_: object) -> NoReturn:
        if self.worker:
            os.kill(self.worker, signal.SIGKILL)
        super().stop()
