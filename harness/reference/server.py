"""The reference server: one process, one thread. It keeps every clause except LOAD-4.

Each method does one thing, so that a subclass can override one method to add one defect (see
`harness.reference.broken`). Bytes pass through these methods:

    read → hear → frame → say → broadcast → deliver → send

None of the methods from `hear` to `deliver` removes a member, so the list of members does not
change during a broadcast. Lagging members are disconnected at the end of the turn. A failed
connection is closed when the server reads from it.
"""

from __future__ import annotations

import codecs
import contextlib
import heapq
import itertools
import selectors
import signal
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from ipaddress import IPv6Address, ip_address
from selectors import EVENT_READ, EVENT_WRITE
from typing import Any, NoReturn

from harness.descriptors import raise_descriptor_limit
from harness.linger import reset_on_close

KIB = 1024
CHUNK = 64 * KIB
"""Maximum number of bytes read or sent in one call."""

C1, BIDI = (
    range(0x80, 0xA0),
    (0x61C, 0x200E, 0x200F, *range(0x202A, 0x202F), *range(0x2066, 0x206A)),
)
SEPARATORS = (0x2028, 0x2029)
VISIBLE = {code: 0x2400 + code for code in range(0x20) if code != ord("\t")}
VISIBLE |= {0x7F: 0x2421} | dict.fromkeys((*C1, *BIDI, *SEPARATORS), 0xFFFD)
"""Control characters and their replacements (TEXT-3)."""


@dataclass(frozen=True)
class Options:
    host: str
    port: int
    max_clients: int = 1000
    max_lag: int = 4096 * KIB
    rate: int = 64 * KIB
    burst: int = 256 * KIB
    flush_after: float = 0.2
    """Seconds of silence after which text without LF is delivered (LINE-5)."""
    announce: bool = False


LONGEST_WAIT = 1.0
"""Maximum time (s) of a wait. A signal that arrives just before a wait is handled only after it."""


class Member:
    """A client's connection. Two connections from one address are two members (CAST-6)."""

    def __init__(self, number: int, connection: socket.socket, address: str, port: int) -> None:
        self.number = number
        self.socket = connection
        self.address = address
        self.port = port
        self.decoder: codecs.IncrementalDecoder
        """UTF-8 decoder. It keeps an incomplete character until its other bytes arrive (LINE-2)."""
        self.text = ""
        """Beginning of a line whose end has not arrived."""
        self.held = b""
        """A CR that a LF may follow, in a dialect with CR LF."""
        self.due = 0.0
        """Time at which to flush the unfinished line (LINE-5)."""
        self.timed = False
        """True while a timer that flushes the unfinished line is set."""
        self.queue = bytearray()
        """Bytes to send that the socket has not accepted yet (LOAD-1)."""
        self.stuck = False
        """True while the socket accepts no more bytes."""
        self.broken = False
        """True once a send has failed. There may still be input to read (LEAVE-2)."""
        self.allowance = 0.0
        """Number of bytes that the server was allowed to read (LOAD-3) at `allowance_time`."""
        self.allowance_time = 0.0
        """Time at which `allowance` was last computed."""
        self.paused = False
        """True while the server does not read from the member, because its allowance is used up."""
        self.watched = 0
        """Events for which the selector watches the socket."""
        self.gone = False
        """True once the server has closed the connection."""


class Server:
    profile = "reference"
    """Name of the profile that describes the server's dialect."""
    greeting = b"Welcome to socket practice\n"
    refusal = b"The room is full\n"
    limit = 8 * KIB
    """Maximum number of bytes in a line (LINE-7)."""
    errors = "replace"
    """Name of the codec error handler for bytes that are not UTF-8 (TEXT-2)."""
    pause = 0.05
    """Minimum duration (s) for which the server does not read from a throttled member (LOAD-3)."""

    def __init__(self, options: Options) -> None:
        self.options = options
        self.max_clients = min(options.max_clients, raise_descriptor_limit() - 32)
        self.members: dict[Member, None] = {}
        """Members of the room, in the order in which they joined."""
        self.midline: set[Member] = set()
        """Members that have received the beginning of a line, but not its end (LINE-6)."""
        self.unsent: dict[Member, None] = {}
        """Members whose queue got new data during this turn of the loop."""
        self.laggards: dict[Member, None] = {}
        """Members to disconnect at the end of this turn, because they lag too far (LOAD-2)."""
        self.member_numbers = itertools.count(1)
        self.timer_numbers = itertools.count()
        self.timers: list[tuple[float, int, Callable[[], None]]] = []
        """Heap of timers: the time, a number that keeps the order of equal times, the callback."""

    # --- the loop ------------------------------------------------------------

    def run(self) -> NoReturn:
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self.stop)
        self.listener = self.listen()
        self.announce()
        self.serve()

    def announce(self) -> None:
        if self.options.announce:
            host, port = self.listener.getsockname()[:2]
            print(f"listening on {f'[{host}]' if ':' in host else host}:{port}", flush=True)

    def stop(self, *_: object) -> NoReturn:
        sys.exit(0)

    def resolve(self) -> tuple[int, Any]:
        """Return family and address of HOST:PORT. Prefer IPv4 if a name has both (JOIN-4)."""
        host, port = self.options.host, self.options.port
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
        family, _, _, _, address = min(found, key=lambda info: info[0] != socket.AF_INET)
        return family, address

    def listen(self) -> socket.socket:
        """Return the listening socket. At the address `::`, it also accepts IPv4 clients."""
        family, address = self.resolve()
        listener = socket.socket(family, socket.SOCK_STREAM)
        self.configure(listener)
        if family == socket.AF_INET6:
            listener.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
        listener.bind(address)
        listener.listen(1024)  # JOIN-1: a crowd may connect at once
        listener.setblocking(False)
        return listener

    def configure(self, listener: socket.socket) -> None:
        """Set the options of the listening socket. The sockets that it accepts inherit them."""
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # JOIN-3
        listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_OOBINLINE, 1)  # CAST-3 for urgent data

    def serve(self) -> NoReturn:
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, EVENT_READ)
        while True:
            self.turn()

    def turn(self) -> None:
        ready = self.selector.select(self.patience())
        # Accept new clients first, so that they receive the messages that are read in this turn. In
        # a full room, handle members first, because members that leave make room for new clients.
        ready.sort(key=lambda pair: pair[0].data is not None, reverse=self.full())
        for key, events in ready:
            if key.data is None:
                self.accept()
                continue
            if events & EVENT_WRITE:
                self.send(key.data)
            if events & EVENT_READ:
                self.read(key.data)
        while self.timers and self.timers[0][0] <= time.monotonic():
            heapq.heappop(self.timers)[2]()
        while self.unsent or self.laggards:
            unsent, self.unsent = self.unsent, {}
            for member in unsent:
                if not member.stuck:
                    self.send(member)
            laggards, self.laggards = self.laggards, {}
            for member in laggards:
                self.disconnect(member)

    def patience(self) -> float:
        """Return the seconds until the next timer, at most LONGEST_WAIT."""
        due = self.timers[0][0] - time.monotonic() if self.timers else LONGEST_WAIT
        return min(max(0.0, due), LONGEST_WAIT)

    def later(self, seconds: float, call: Callable[[], None]) -> None:
        heapq.heappush(self.timers, (time.monotonic() + seconds, next(self.timer_numbers), call))

    # --- joining -------------------------------------------------------------

    def accept(self) -> None:
        while True:
            try:
                connection, address = self.listener.accept()
            except ConnectionError:  # JOIN-2: the client reset the connection before the accept
                continue
            except OSError:
                return
            connection.setblocking(False)
            if self.full():
                self.refuse(connection)
            else:
                host, port = canonical(address[0]), address[1]
                self.join(Member(next(self.member_numbers), connection, host, port))

    def full(self) -> bool:
        return len(self.members) >= self.max_clients

    def refuse(self, connection: socket.socket) -> None:
        """Send the line for a full room, and close the connection (JOIN-5).

        Read the input before the close: with unread input, the close would send a RST, which can
        destroy the line before the client reads it.
        """
        with contextlib.suppress(OSError):
            connection.send(self.refusal)
            connection.shutdown(socket.SHUT_WR)
            connection.recv(CHUNK)
        connection.close()

    def join(self, member: Member) -> None:
        member.decoder = codecs.getincrementaldecoder("utf-8")(self.errors)
        member.allowance, member.allowance_time = self.options.burst, time.monotonic()
        self.watch(member)
        self.welcome(member)
        self.enter(member)

    def welcome(self, member: Member) -> None:
        """Send the greeting (WELCOME-1, WELCOME-2)."""
        self.deliver(member, self.greeting)

    def enter(self, member: Member) -> None:
        """Add a connection to the members, which receive messages (WELCOME-3)."""
        self.members[member] = None

    def watch(self, member: Member) -> None:
        reading = 0 if member.paused else EVENT_READ
        events = reading | (EVENT_WRITE if member.stuck else 0)
        if not member.watched and events:
            self.selector.register(member.socket, events, member)
        elif member.watched and not events:
            self.selector.unregister(member.socket)
        elif member.watched != events:
            self.selector.modify(member.socket, events, member)
        member.watched = events

    # --- from a member -------------------------------------------------------

    def read(self, member: Member) -> None:
        """Read from a member, at most its allowance (LOAD-3).

        TCP slows the sender down, because unread data fills the socket's buffers.
        """
        size = min(CHUNK, int(self.allowance(member)))
        data = self.receive(member, size) if size else None
        if data == b"":
            self.leave(member)
        elif data:
            member.allowance -= len(data)
            self.hear(member, data)
        if member.allowance < 1:
            self.throttle(member)

    def receive(self, member: Member, size: int) -> bytes | None:
        """Return the bytes read: empty at EOF or after a reset, None if no bytes have arrived."""
        try:
            return member.socket.recv(size)
        except BlockingIOError:
            return None
        except OSError:
            return b""

    def allowance(self, member: Member) -> float:
        """Return the number of bytes that the server may now read from a member (LOAD-3)."""
        now = time.monotonic()
        member.allowance += (now - member.allowance_time) * self.options.rate
        member.allowance = min(member.allowance, self.options.burst)
        member.allowance_time = now
        return member.allowance

    def throttle(self, member: Member) -> None:
        """Stop reading from a member until it has allowance again (LOAD-3)."""
        if not member.gone and not member.paused:
            member.paused = True
            self.watch(member)
            seconds = max(self.pause, (1 - member.allowance) / self.options.rate)
            self.later(seconds, lambda: self.resume(member))

    def resume(self, member: Member) -> None:
        if not member.gone:
            member.paused = False
            self.watch(member)
            self.wait(member)  # the silence of LINE-5 does not include the pause

    def hear(self, member: Member, data: bytes) -> None:
        self.say(member, self.frame(member, data))
        self.wait(member)

    def wait(self, member: Member) -> None:
        """Restart the timer that flushes the member's unfinished line (LINE-5)."""
        member.due = time.monotonic() + self.options.flush_after
        if member.text and not member.timed:
            member.timed = True
            self.later(self.options.flush_after, lambda: self.expire(member))

    def expire(self, member: Member) -> None:
        left = member.due - time.monotonic()
        if member.gone or not member.text:
            member.timed = False
        elif left > 0 or member.paused:
            self.later(max(left, 0.01), lambda: self.expire(member))
        else:
            member.timed = False
            self.say(member, self.flush(member))

    def frame(self, member: Member, data: bytes) -> list[bytes]:
        """Return the messages that `data` completes (LINE-1 to LINE-4, LINE-7).

        Keep the unfinished line after them in `member.text`.
        """
        *lines, rest = (member.text + member.decoder.decode(data)).split("\n")
        texts = [piece for line in lines for piece in self.cut(line.removesuffix("\r"))]
        body = rest.removesuffix("\r")  # a LF may follow, and CR LF is a line end
        *pieces, last = self.cut(body)
        member.text = last + rest[len(body) :]
        return [self.encode(text) + b"\n" for text in texts + pieces]

    def cut(self, line: str) -> list[str]:
        """Cut a line into pieces of at most `limit` bytes, between characters (LINE-7)."""
        if len(line) * 4 <= self.limit:
            return [line]
        data, pieces = line.encode("utf-8", self.errors), []
        while len(data) > self.limit:
            end = self.limit
            while data[end] & 0xC0 == 0x80:
                end -= 1
            pieces.append(data[:end])
            data = data[end:]
        return [piece.decode("utf-8", self.errors) for piece in [*pieces, data]]

    def flush(self, member: Member) -> list[bytes]:
        """Return the unfinished line. Keep a CR or a partial character at its end (LINE-5)."""
        text = member.text.removesuffix("\r")
        member.text = member.text[len(text) :]
        return [self.encode(text)] if text else []

    def last_words(self, member: Member) -> list[bytes]:
        """Return the unfinished line of a member that leaves (LEAVE-2).

        This includes a CR or a partial character at its end.
        """
        text = member.text + member.decoder.decode(b"", True)
        return [self.encode(text)] if text else []

    def encode(self, text: str) -> bytes:
        return self.sanitize(text).encode("utf-8", self.errors)

    def sanitize(self, text: str) -> str:
        """Replace control characters (TEXT-3). This also protects the prefixes (PREFIX-4)."""
        return text.translate(VISIBLE)

    # --- to the members ------------------------------------------------------

    def say(self, sender: Member, messages: list[bytes]) -> None:
        for message in messages:
            self.end_lines()
            self.broadcast(sender, message)

    def end_lines(self) -> None:
        """Send a LF to each member that has received the beginning of a line only (LINE-6)."""
        for member in self.midline:
            self.deliver(member, b"\n")
        self.midline.clear()

    def broadcast(self, sender: Member, message: bytes) -> None:
        """Deliver a message to all recipients, before the next message (CAST-1, CAST-4, CAST-5)."""
        receivers = self.recipients(sender)
        for receiver in receivers:
            self.deliver(receiver, self.prefix(sender, receiver) + message)
        if not message.endswith(b"\n"):
            self.midline.update(receivers)

    def recipients(self, sender: Member) -> list[Member]:
        """Return all members except the sender (CAST-2, CAST-6). The list may be empty (CAST-7)."""
        return [member for member in self.members if member is not sender]

    def prefix(self, sender: Member, receiver: Member) -> bytes:  # noqa: ARG002
        """Return the prefix of a sender's messages (PREFIX-1, PREFIX-2).

        Some broken servers use another prefix for each receiver.
        """
        return b"<%s>" % sender.address.encode("ascii")

    def deliver(self, receiver: Member, data: bytes) -> None:
        if receiver.broken or receiver.gone or receiver in self.laggards:
            return
        receiver.queue += data
        self.unsent[receiver] = None
        if len(receiver.queue) > CHUNK and not receiver.stuck:
            self.send(receiver)
        if self.lags(receiver):
            self.laggards[receiver] = None

    def lags(self, member: Member) -> bool:
        """Return whether a member lags beyond the limit (LOAD-2)."""
        return len(member.queue) > self.options.max_lag

    def send(self, member: Member) -> None:
        """Send as much of the queue as the socket accepts; keep the rest (LOAD-1)."""
        member.stuck = False
        try:
            while member.queue:
                del member.queue[: member.socket.send(member.queue[:CHUNK])]
        except BlockingIOError:
            member.stuck = True
        except OSError:
            member.broken = True
            member.queue.clear()
        if not member.gone:
            self.watch(member)

    # --- leaving -------------------------------------------------------------

    def leave(self, member: Member) -> None:
        """Remove a member, deliver its unfinished line and close its connection.

        See LEAVE-1, LEAVE-2 and LEAVE-4.
        """
        if not member.gone:
            self.members.pop(member, None)
            self.midline.discard(member)
            self.say(member, self.last_words(member))
            self.send(member)
            self.close(member)

    def disconnect(self, member: Member) -> None:
        """Disconnect a member that lags too far; have the kernel drop its unsent data (LOAD-2)."""
        member.queue.clear()
        if not member.gone:
            with contextlib.suppress(OSError):
                reset_on_close(member.socket)
        self.leave(member)

    def close(self, member: Member) -> None:
        """Close a member's connection and free its resources (LEAVE-3)."""
        member.gone = True
        member.queue.clear()
        if member.watched:
            self.selector.unregister(member.socket)
            member.watched = 0
        member.socket.close()


def canonical(host: str) -> str:
    """Return an IP address in its shortest form, without a scope (PREFIX-3).

    An IPv4 address that is mapped into IPv6 is returned as IPv4.
    """
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)
