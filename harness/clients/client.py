"""One scripted client, and a log of the bytes that it sends and receives.

A client knows no clauses. It sends, collects what it receives, and waits for tokens; the test
decides what a token proves. Each wait has a timeout: `within` seconds; by default, the patience of
the `Clock`. The texts of a test are canonical: see `harness.clients.dialect`.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import time
from collections import deque
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field

from harness.clients.dialect import Echoes, Login, Reader, to_server
from harness.clients.strangers import Record
from harness.errors import JoinError, RefusedError, SendError, Violation
from harness.linger import reset_on_close
from harness.profile import WRITTEN, Profile

CHUNK = 1 << 18
"""Maximum number of bytes per read."""

KEPT = 256
"""Maximum number of bytes that the wire log stores for one event."""

MAX_EVENTS = 2000
"""Maximum number of events in the wire log of one test. Half of them are the first events of the
test, and half are the last."""

MOST = 64 << 20
"""Maximum number of received bytes that a client stores: more than any test sends. At this number,
the client stops reading."""


@dataclass(frozen=True)
class Event:
    """An event on a connection. `time`: seconds since the start of the test. `size`: number of
    bytes that were sent or received; `data`: the first of them."""

    time: float
    client: str
    what: str
    """`sends`, `receives`, or an event of the connection, such as `resets`."""
    data: bytes = b""
    size: int = 0


@dataclass
class Log:
    """The events on all connections of one test, in order."""

    start: float = field(default_factory=time.monotonic)
    first: list[Event] = field(default_factory=list)
    last: deque[Event] = field(default_factory=lambda: deque(maxlen=MAX_EVENTS // 2))
    dropped: int = 0

    ended: bool = False
    """True once the test has ended; further events are not stored."""
    record: Record | None = None
    """Text on all connections of the run; None if no stranger can be in the room."""

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
    """Timeouts in seconds, all multiplied by `scale`.

    patience: how long to wait for an event that must occur. window: how long to watch for an event
    that must not occur.
    """

    scale: float = 1.0

    @property
    def patience(self) -> float:
        return 5.0 * self.scale

    @property
    def window(self) -> float:
        return 0.3 * self.scale


class Client:
    """A connection to the target. `connect` creates it."""

    def __init__(
        self,
        name: str,
        address: str,
        server: tuple[str, int],
        connection: socket.socket,
        clock: Clock,
        log: Log,
        profile: Profile,
        login_name: str = "",
    ) -> None:
        self.name = name
        self.address = address
        """The source address, as the server should see it."""
        self.server = server
        """The endpoint to which the client is connected."""
        self.login_name = login_name
        """Name that the client sends in the login, if the profile's login contains a name."""
        self.heard = bytearray()
        """Received canonical text that has not been taken yet."""
        self.echoes = Echoes(profile.echo) if profile.echo is not None else None
        """The echoes of the client's own lines, which are removed from `heard`."""
        self.ended = ""
        """End of the connection by the server: "closed" or "reset"; empty while it is open."""
        self.flooded = False
        """True while the client does not read because `heard` has reached MOST bytes."""
        self._profile = profile
        self._reader = Reader(profile)
        self._socket = connection
        self._clock = clock
        self._log = log
        self._news = asyncio.Event()
        self._loop = asyncio.get_running_loop()
        self._reading = False
        self._finished = False
        self._line_ends = False
        """True if the next line end must be dropped, because the text before it has been taken."""
        self.resume()

    @property
    def port(self) -> int:
        """Source port."""
        port: int = self._socket.getsockname()[1]
        return port

    @property
    def reading(self) -> bool:
        """True while the client reads: it is not paused, and its connection has not ended."""
        return self._reading

    @property
    def bare_line_ends(self) -> int:
        """Number of received LFs without CR, if the profile says CR LF."""
        return self._reader.bare_line_ends

    def __repr__(self) -> str:
        return self.name

    @property
    def identity(self) -> bytes | None:
        """Text that a correct prefix of this client contains; None if the profile does not
        determine the text."""
        groups = self._profile.prefix.groupindex.keys()
        if "name" in groups:
            return self.login_name.encode() if self._profile.sends_name else None
        known = {"ip": self.address, "port": str(self.port)}
        return ":".join(known[key] for key in known if key in groups).encode() or None

    # --- sending -------------------------------------------------------------

    async def log_in(self) -> None:
        """Answer the questions of the profile's login. Raise JoinError if a question does not
        arrive in time."""
        login = Login(self._profile, self.login_name)
        while not login.done:
            answer: bytes | None = None

            def asked() -> bool:
                nonlocal answer
                answer = login.answer(self.heard)
                return answer is not None

            if not await self.waits(asked) or answer is None:
                raise JoinError(
                    f"the server did not ask {self.name} as the profile's login says{self._fate()}",
                    login.awaited,
                    bytes(self.heard),
                )
            await self._send(answer)

    async def say(self, text: bytes) -> None:
        """Send a text, in one segment if it is short.

        Raise SendError if the server does not read, or if the connection fails.
        """
        if self.echoes:
            self.echoes.say(text)
        if self._log.record:
            self._log.record.sends(self.name, text)
        await self._send(text)

    async def _send(self, text: bytes) -> None:
        text = to_server(text, self._profile)
        self._log.add(self.name, "sends", text)
        try:
            async with asyncio.timeout(self._clock.patience):
                await self._loop.sock_sendall(self._socket, text)
        except TimeoutError:
            raise SendError(f"the server stopped reading from {self.name}") from None
        except OSError as error:
            self._end("reset")
            raise SendError(
                f"the connection of {self.name} failed while it sent: {error.strerror}"
            ) from None

    async def say_in_pieces(self, pieces: Iterable[bytes], pause: float) -> float:
        """Send pieces with pauses between them; return the longest pause, in seconds."""
        longest, before = 0.0, time.monotonic()
        for piece in pieces:
            await self.say(piece)
            now = time.monotonic()
            longest, before = max(longest, now - before), now
            await asyncio.sleep(pause)
        return longest

    def finish(self) -> None:
        """Close the sending side (FIN); continue to receive."""
        if self._socket.fileno() < 0 or self._finished:
            return
        self._finished = True
        self._log.add(self.name, "closes its side")
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the connection. The kernel sends a FIN, or a RST if received data is unread."""
        if self._socket.fileno() >= 0:
            self._log.add(self.name, "closes")
            self.pause()
            self._socket.close()

    def reset(self) -> None:
        """Reset the connection (RST)."""
        self._log.add(self.name, "resets")
        with contextlib.suppress(OSError):
            reset_on_close(self._socket)
        self.pause()
        self._socket.close()

    # --- receiving -----------------------------------------------------------

    def pause(self) -> None:
        """Stop reading."""
        if self._reading:
            self._reading = False
            self._loop.remove_reader(self._socket)

    def resume(self) -> None:
        """Start reading again, unless the connection has ended."""
        if not self._reading and not self.ended:
            self._reading = True
            self._loop.add_reader(self._socket, self._read)

    async def hears(self, token: bytes, within: float | None = None) -> bytes:
        """Take all input up to the end of `token`. Raise Violation if the token does not arrive in
        time."""
        if not await self.comes(token, within):
            raise Violation(
                f"{self.name} did not receive the expected text{self._fate()}",
                token,
                bytes(self.heard),
            )
        return self.take(self.heard.index(token) + len(token))

    async def hears_line(self, token: bytes, within: float | None = None) -> bytes:
        """Take all input up to the end of `token`, as `hears` does; drop a line end after it."""
        heard = await self.hears(token, within)
        self.skip_line_end()
        return heard

    def skip_line_end(self) -> None:
        """Drop a line end at the beginning of the input; if the input is empty, drop it when it
        arrives."""
        self._line_ends = True
        self._drop_line_end()

    def _drop_line_end(self) -> None:
        if self._line_ends and self.heard and self.heard != b"\r":  # the LF may arrive later
            self._line_ends = False
            if self.heard.startswith((b"\n", b"\r\n")):
                del self.heard[: self.heard.index(b"\n") + 1]

    async def comes(self, token: bytes, within: float | None = None) -> bool:
        """Return whether `token` has arrived or arrives in time. Take no input."""
        searched = 0

        def came() -> bool:
            nonlocal searched
            place = self.heard.find(token, searched)
            # The unfinished line may be an echo, which is removed: then the token may begin there.
            end = len(self.heard) if self.echoes is None else self.heard.rfind(b"\n") + 1
            searched = max(0, end - len(token) + 1)
            return place >= 0

        return await self.waits(came, within)

    async def hears_end(self, within: float | None = None) -> bytes:
        """Take all input up to the end of the connection. Raise Violation if the server does not
        end the connection in time."""
        if not await self.ends(within):
            raise Violation(f"the server did not close the connection of {self.name}")
        return self.take(len(self.heard))

    async def ends(self, within: float | None = None) -> bool:
        """Return whether the server has ended the connection or ends it in time."""
        return await self.waits(lambda: bool(self.ended), within)

    async def waits(self, condition: Callable[[], bool], within: float | None = None) -> bool:
        """Wait until `condition` holds; return False at the timeout or the end of the connection.

        The condition is evaluated whenever data arrives. Raise Violation if MOST bytes arrive.
        """
        deadline = self._loop.time() + (self._clock.patience if within is None else within)
        while not condition():
            left = deadline - self._loop.time()
            if self.flooded:
                raise Violation(f"{self.name} received {MOST >> 20} MiB without the expected text")
            if self.ended or left <= 0:
                return False
            self._news.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(left):
                    await self._news.wait()
        return True

    def take(self, size: int) -> bytes:
        """Remove and return the next `size` received bytes."""
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
            self._log.add(self.name, "receives", data)
            text = self._reader.feed(data)
            self.heard += text
            if self._log.record:
                self._log.record.receives(self.name, text)
            if self.echoes:
                self.echoes.remove(self.heard, len(text))
            self._drop_line_end()
            self._news.set()
            if len(self.heard) >= MOST:
                self._log.add(self.name, "stops reading: flooded")
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
    profile: Profile = WRITTEN,
    receive_buffer: int = 0,
    login_name: str = "",
) -> Client:
    """Connect a client, without login, and without waiting for its welcome.

    source: address to bind to; None: the system's choice. receive_buffer: SO_RCVBUF in bytes,
    for a client that must buffer little; 0: the system's default. Raise Violation if the server
    does not accept the connection in time, RefusedError if it refuses or resets the connection, and
    OSError if `source` is not an address of this machine.
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
            # When a listener is closed, the kernel resets the connections in its queue.
            gone = isinstance(error, (ConnectionRefusedError, ConnectionResetError))
            kind = RefusedError if gone else Violation
            raise kind(f"{name} could not connect: {reason}") from None
    except BaseException:
        connection.close()
        raise
    log.add(name, "connects", f"{connection.getsockname()[0]}".encode())
    address = connection.getsockname()[0]
    return Client(name, address, server, connection, clock, log, profile, login_name)
