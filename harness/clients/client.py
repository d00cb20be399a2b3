"""One scripted client, and a log of all that went over its wire.

A client never judges. It says what it is told to, gathers what comes, and waits
for tokens: what a token proves is the test's business. All waiting is bounded
by the `Clock`'s patience.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from harness.errors import RefusedError, Violation

CHUNK = 1 << 18
"""Bytes read in one call."""

KEPT = 256
"""Bytes of one event that the wire log keeps."""

MAX_EVENTS = 2000
"""Events that the wire log of one test keeps: half of them the first, and half the last."""

MOST = 64 << 20
"""Bytes that a client holds untaken; past that it reads no more: no test has so much to hear."""


@dataclass(frozen=True)
class Event:
    """One thing that happened on a wire: `time` in seconds from the test's start."""

    time: float
    client: str
    what: str
    """`says`, `hears`, or what happened to the connection."""
    data: bytes = b""
    size: int = 0


@dataclass
class Log:
    """What happened on all wires of one test, in order."""

    start: float = field(default_factory=time.monotonic)
    first: list[Event] = field(default_factory=list)
    last: deque[Event] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS // 2))
    dropped: int = 0

    ended: bool = False
    """Whether what happens from now on is of no interest."""

    def add(self, client: str, what: str, data: bytes = b"") -> None:
        if self.ended:
            return
        event = Event(time.monotonic() - self.start, client, what, data[:KEPT], len(data))
        if len(self.first) < MAX_EVENTS // 2:
            self.first.append(event)
            return
        self.dropped += len(self.last) == self.last.maxlen
        self.last.append(event)

    def events(self) -> list[Event]:
        return [*self.first, *self.last]


@dataclass(frozen=True)
class Clock:
    """How long things may take, in seconds; all are multiples of one scale.

    patience: for what has to come. window: in which what must not come would
    have.
    """

    scale: float = 1.0

    @property
    def patience(self) -> float:
        return 5.0 * self.scale

    @property
    def window(self) -> float:
        return 0.3 * self.scale


class Client:
    """A connection to the target, from `address`. Made by `connect`."""

    def __init__(
        self, name: str, address: str, connection: socket.socket, clock: Clock, log: Log
    ) -> None:
        self.name = name
        self.address = address
        """The source address, as the server should see it."""
        self.heard = bytearray()
        """All that has come and was not taken yet."""
        self.ended = ""
        """How the connection ended: "closed" or "reset"; empty while it has not."""
        self.flooded = False
        """Whether more has come than it holds."""
        self._socket = connection
        self._clock = clock
        self._log = log
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._reading = False
        self._finished = False
        self._line_ends = False
        """Whether the next byte, if it is LF, ends a line that was taken already."""
        self.resume()

    @property
    def port(self) -> int:
        """Its source port."""
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def reading(self) -> bool:
        """Whether what comes is read: neither it nor the server has ended the connection."""
        return self._reading

    def __repr__(self) -> str:
        return self.name

    # --- saying --------------------------------------------------------------

    async def say(self, text: bytes) -> None:
        """Send it, in one segment if it is short. Raises Violation where it is not taken."""
        self._log.add(self.name, "says", text)
        try:
            async with asyncio.timeout(self._clock.patience):
                await self._loop.sock_sendall(self._socket, text)
        except TimeoutError:
            raise Violation(f"the server read nothing more from {self.name}") from None
        except OSError as error:
            self._end("reset")
            raise Violation(
                f"the connection of {self.name} was lost while it spoke: {error.strerror}"
            ) from None

    async def say_in_pieces(self, pieces: Iterable[bytes], pause: float) -> float:
        """Send pieces with pauses between; return the longest pause that it became."""
        longest, before = 0.0, time.monotonic()
        for piece in pieces:
            await self.say(piece)
            now = time.monotonic()
            longest, before = max(longest, now - before), now
            await asyncio.sleep(pause)
        return longest

    def finish(self) -> None:
        """Close the side that speaks (FIN), and still listen."""
        if self._socket.fileno() < 0 or self._finished:
            return
        self._finished = True
        self._log.add(self.name, "closes its side")
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """End the connection: FIN, unless something is unread."""
        if self._socket.fileno() >= 0:
            self._log.add(self.name, "closes")
            self.pause()
            self._socket.close()

    def reset(self) -> None:
        """End the connection the hard way: RST."""
        self._log.add(self.name, "resets")
        with contextlib.suppress(OSError):
            self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.pause()
        self._socket.close()

    # --- hearing -------------------------------------------------------------

    def pause(self) -> None:
        """Read nothing more."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket)

    def resume(self) -> None:
        """Read again."""
        if not self._reading and not self.ended:
            self._reading = True
            self._loop.add_reader(self._socket, self._read)

    async def hears(self, token: bytes, within: float | None = None) -> bytes:
        """Take all up to and with `token`. Raises Violation where it does not come."""
        if not await self.comes(token, within):
            raise Violation(f"{self.name} did not hear it{self._fate()}", token, bytes(self.heard))
        return self.take(self.heard.index(token) + len(token))

    async def hears_line(self, token: bytes, within: float | None = None) -> bytes:
        """As `hears`, for a token that was said as a line: its LF, if it has one, is dropped."""
        heard = await self.hears(token, within)
        self.skip_line_end()
        return heard

    def skip_line_end(self) -> None:
        """Drop what comes next, if it is a line end."""
        self._line_ends = True
        self._drop_line_end()

    def _drop_line_end(self) -> None:
        if self._line_ends and self.heard and self.heard != b"\r":  # its LF may come yet
            self._line_ends = False
            if self.heard.startswith((b"\n", b"\r\n")):
                del self.heard[: self.heard.index(b"\n") + 1]

    async def comes(self, token: bytes, within: float | None = None) -> bool:
        """Whether `token` comes, or has come; it is not taken."""
        searched = 0

        def came() -> bool:
            nonlocal searched
            place = self.heard.find(token, searched)
            searched = max(0, len(self.heard) - len(token) + 1)
            return place >= 0

        return await self.waits(came, within)

    async def hears_end(self, within: float | None = None) -> bytes:
        """Take all up to the end of the connection. Raises Violation where it does not end."""
        if not await self.ends(within):
            raise Violation(f"the server did not close the connection of {self.name}")
        return self.take(len(self.heard))

    async def ends(self, within: float | None = None) -> bool:
        """Whether the server ends the connection in time."""
        return await self.waits(lambda: bool(self.ended), within)

    async def waits(self, condition: Callable[[], bool], within: float | None = None) -> bool:
        """Wait until `condition` holds, which is asked whenever something has come."""
        deadline = self._loop.time() + (self._clock.patience if within is None else within)
        while not condition():
            left = deadline - self._loop.time()
            if self.flooded:
                raise Violation(f"{self.name} heard {MOST >> 20} MiB, and not what was due")
            if self.ended or left <= 0:
                return False
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._news.wait()
        return True

    def take(self, size: int) -> bytes:
        """Take the next bytes of what has come."""
        taken = bytes(self.heard[:size])
        del self.heard[:size]
        if self.flooded and len(self.heard) < MOST and self._socket.fileno() >= 0:
            self.flooded = False
            self.resume()
        return taken

    def _fate(self) -> str:
        return f", and its connection was {self.ended}" if self.ended else ""

    def _read(self) -> None:
        try:
            data = self._socket.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError:
            self._end("reset")
            return
        if data:
            self._log.add(self.name, "hears", data)
            self.heard += data
            self._drop_line_end()
            self._news.set()
            if len(self.heard) >= MOST:
                self._log.add(self.name, "reads no more: it is flooded")
                self.flooded = True
                self.pause()
        else:
            self._end("closed")

    def _end(self, how: str) -> None:
        if not self.ended:
            self._log.add(self.name, f"is {how} by the server")
        self.pause()
        self.ended = self.ended or how
        self._news.set()


async def connect(
    name: str,
    server: tuple[str, int],
    source: str | None,
    clock: Clock,
    log: Log,
    receive_buffer: int = 0,
) -> Client:
    """A client that has connected; nothing is known of its welcome.

    source: the address to bind to; None: as the system likes. receive_buffer:
    its bytes, for one that can hold little of what it does not read. Raises
    Violation where the server does not accept it, RefusedError where nobody listens,
    OSError where `source` is not ours.
    """
    family = socket.AF_INET6 if ":" in server[0] else socket.AF_INET
    connection = socket.socket(family, socket.SOCK_STREAM)
    try:
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if receive_buffer:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        if source is not None:
            connection.bind((source, 0))
        try:
            async with asyncio.timeout(clock.patience):
                await asyncio.get_running_loop().sock_connect(connection, server)
        except (TimeoutError, ConnectionError) as error:
            reason = os.strerror(error.errno) if error.errno else "no answer"
            # A listener that goes away while one waits in its queue resets the connection.
            gone = isinstance(error, (ConnectionRefusedError, ConnectionResetError))
            kind = RefusedError if gone else Violation
            raise kind(f"{name} could not connect: {reason}") from None
    except BaseException:
        connection.close()
        raise
    log.add(name, "connects", f"{connection.getsockname()[0]}".encode())
    return Client(name, connection.getsockname()[0], connection, clock, log)
