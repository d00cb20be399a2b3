"""A bad network for simulated clients, in user space: a process between them and the target.

``python -m harness.simulation.run.proxy JSON``, where JSON is
``{"target": [HOST, PORT], "seed": 1, "links": [{"fault": "slow", ...}, ...]}``
(see `links.Link` for the keys), listens on a free port of 127.0.0.1 for each
link and says ``{"ports": [...]}``. Who connects to one of them is connected to
the target *from the same address*, by another port, and carried both ways with
that link's fault. It tells what it does, a line of JSON each:

    {"t", "address", "port", "fault", "what": "begins" | "ends"}

t: seconds of the monotonic clock, from which on, or until which, the fault is
there. port: the client's own. A fault ends when its time is over or its
connection is; a `cut-off` and a `reset` only begin. It all ends when standard
input does, or by SIGTERM. Exit: 0, or 2 with one line that says why it can't go
on: nonsense on the command line, no descriptors or ports.

FIN is passed on as FIN, after all that came before it; RST as RST. Who can't be
passed anything is not read from: what is on its way in one direction is at most
64 KiB here (1 MiB of a `delay`) and about as much in each of the kernel's two
buffers, and a `slow` or `stall` reads nothing ahead and has a small buffer.

What it costs: two descriptors a connection, some 22 MiB of memory in all, and 20
to 40 µs of one processor for each message that is carried to one client. 300
clients that all hear 30 messages a second take a fifth of it, and the last of the
300 hears each 10 ms later than it would. So it is for hundreds of clients that
talk, and not for measuring how fast a room is.

Its limits: Linux, where all of 127.0.0.0/8 is ours; a target with an IPv4
address. Which connection of a link is the first is for the kernel to say where
several come at once, so a seed says which courses there are, not whose each is.
Where it does not read it does not see a RST either, until it writes. A target
that has not accepted yet is a connection that stays silent; one that refuses, a
connection that is reset. Who reads nothing of what it tells stops it, once a pipe
is full: `Proxy` does read.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import json
import os
import signal
import socket
import struct
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Mapping, Sequence
from math import inf
from typing import Any

from harness.errors import Unfit
from harness.simulation.run.gates import (
    BEFALL,
    CHUNK,
    CLOSED,
    RESET,
    Course,
    Gate,
    Link,
    LinkError,
    draw,
    gates,
    parse,
)
from harness.target.interrupts import shielded
from harness.target.processes import comes, raise_descriptor_limit, status_within

BUFFER = 1 << 16
"""Bytes of each of the kernel's buffers, which doubles it."""

SMALL_BUFFER = 1 << 12
"""As BUFFER, for what comes from the server to one that is slow: it is to feel it."""

BACKLOG = 1024
"""Clients that may come at once."""

START_LIMIT = 20.0
"""Seconds within which it has to be ready."""

STOP_LIMIT = 5.0
"""Seconds within which it has to end by itself."""

KEPT_WORDS = 20
"""Lines that it says, other than what it tells, of which the last are kept."""

UNFIT = 2
"""The exit status where it can't go on."""


class Proxy:
    """The process, for its parent. `start` it, or enter it as a context."""

    def __init__(
        self, target: tuple[str, int], seed: int, links: Sequence[Mapping[str, object]]
    ) -> None:
        self.ports: list[int] = []
        """Where it listens, a port for each link in their order, once it has started."""
        job = {"target": list(target), "seed": seed, "links": [dict(link) for link in links]}
        self._job = json.dumps(job)
        self._process: subprocess.Popen[bytes] | None = None
        self._events: deque[dict[str, Any]] = deque()
        self._words: deque[str] = deque(maxlen=KEPT_WORDS)
        self._told = threading.Event()  # its ports, or that it has ended

    def __enter__(self) -> Proxy:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        """Raises Unfit where it does not listen within START_LIMIT."""
        with shielded():
            self._start()
        in_time = comes(self._told.is_set, START_LIMIT)
        if not self.ports:
            how = self.death(STOP_LIMIT) if in_time else f"was not ready for {START_LIMIT:g} s"
            self.stop()
            raise Unfit(f"the proxy {how}")

    def _start(self) -> None:
        try:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "harness.simulation.run.proxy", self._job],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,  # what interrupts us is for us to pass on
            )
        except OSError as error:
            raise Unfit(f"the proxy can't be started: {error.strerror}") from None
        self._reader = threading.Thread(target=self._read, args=[self._process], daemon=True)
        self._reader.start()

    def events(self) -> list[dict[str, Any]]:
        """What it has told since this was asked last."""
        return [self._events.popleft() for _ in range(len(self._events))]

    def death(self, limit: float = 0.0) -> str:
        """How it ended, with its last words; empty if it runs for `limit` seconds more."""
        if self._process is None:
            return ""
        status = status_within(self._process, limit)
        if status is None:
            return ""
        self._reader.join(STOP_LIMIT)
        said = f", saying: {self._words[-1]}" if self._words else ""
        return f"ended (exit status {status}){said}"

    def stop(self) -> None:
        """End it, and all that it carries; what it told can still be asked for."""
        if self._process is not None:
            with shielded():
                self._stop(self._process)

    def _stop(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.close()
        if status_within(process, STOP_LIMIT) is None:
            process.kill()
            process.wait()
        self._reader.join(STOP_LIMIT)
        process.stdout.close()

    def _read(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            try:
                told = json.loads(line)
            except ValueError:
                told = None
            if not isinstance(told, dict):
                self._words.append(line.decode(errors="backslashreplace").rstrip())
            elif "ports" in told:
                self.ports = told["ports"]
                self._told.set()
            else:
                self._events.append(told)
        self._told.set()


# --- the process ---------------------------------------------------------------------------------


class _Network:
    """All links, and the connections that came by them."""

    def __init__(self, target: tuple[str, int], seed: int, links: Sequence[Link]) -> None:
        self.target = target
        self.loop = asyncio.get_running_loop()
        self.connections: set[_Connection] = set()
        self._seed = seed
        self._links = links
        self._came = [0] * len(links)
        self._listeners: list[socket.socket] = []
        self._over: asyncio.Future[None] = self.loop.create_future()

    async def run(self) -> None:
        """Until it is stopped. Raises Unfit, OSError."""
        self.loop.set_exception_handler(self._broken)
        for one in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(one, self.stop)
        try:
            self._watch_input()
            for number in range(len(self._links)):
                self._listen(number)
            _say({"ports": [listener.getsockname()[1] for listener in self._listeners]})
            await self._over
        finally:
            for listener in self._listeners:
                self.loop.remove_reader(listener)
                listener.close()
            for connection in [*self.connections]:
                connection.close()

    def stop(self) -> None:
        if not self._over.done():
            self._over.set_result(None)

    def fail(self, why: BaseException) -> None:
        """It can't go on."""
        if not self._over.done():
            self._over.set_exception(why)

    def _broken(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """A defect of ours."""
        self.fail(context.get("exception") or Unfit(context["message"]))

    def _watch_input(self) -> None:
        try:
            self.loop.add_reader(0, self._input)
        except OSError:
            raise Unfit("standard input has to be a pipe or a terminal: its end ends all") from None

    def _input(self) -> None:
        if not os.read(0, CHUNK):
            self.stop()

    def _listen(self, number: int) -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._listeners.append(listener)
        listener.setblocking(False)
        _set_buffers(listener, BUFFER)  # those that it accepts inherit them
        self.loop.add_reader(listener, self._accept, number)

    def _accept(self, number: int) -> None:
        try:
            client, address = self._listeners[number].accept()
        except (BlockingIOError, ConnectionError):  # it has gone again
            return
        except OSError as error:
            self.fail(error)
            return
        course = draw(self._links[number], self.loop.time(), self._seed, number, self._came[number])
        self._came[number] += 1
        try:
            _Connection(self, client, address, course)
        except OSError as error:
            self.fail(error)


class _Connection:
    """A client that came, and its connection to the target.

    Raises OSError where we lack descriptors, ports, or the client's address.
    """

    def __init__(
        self, network: _Network, client: socket.socket, address: tuple[str, int], course: Course
    ) -> None:
        self.loop = network.loop
        self.over = False
        self._network = network
        self._address = address
        self._course = course
        self._present = False
        """Whether the fault has begun, and not ended."""
        self._began = 0.0
        """When it was told to have begun."""
        self._client = client
        self._server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        says, hears = gates(course)
        self._says = _Direction(self, client, self._server, says)
        self._hears = _Direction(self, self._server, client, hears)
        self._says.back, self._hears.back = self._hears, self._says
        self._timer = self.loop.call_at(course.begins, self._begin)
        network.connections.add(self)
        for one in (client, self._server):
            one.setblocking(False)
            one.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        small = course.fault in ("slow", "stall")
        _set_buffers(self._server, SMALL_BUFFER if small else BUFFER)
        self._server.bind((address[0], 0))
        self._connect()

    def _connect(self) -> None:
        error = self._server.connect_ex(self._network.target)
        if error in (errno.EINPROGRESS, errno.EINTR):
            self.loop.add_writer(self._server, self._connected)
        else:
            self._greet(error)

    def _connected(self) -> None:
        self.loop.remove_writer(self._server)
        self._greet(self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _greet(self, error: int) -> None:
        if error in (errno.EADDRNOTAVAIL, errno.EADDRINUSE):
            self._network.fail(OSError(error, os.strerror(error)))  # we lack ports
        elif error:
            self.reset()  # the target refuses
        else:
            self._says.start()
            self._hears.start()

    # --- the fault -----------------------------------------------------------

    def _begin(self) -> None:
        fault = self._course.fault
        if fault == "none":
            return
        # Of what is carried, the gates know when it begins, however late we are.
        self._began = self.loop.time() if fault in BEFALL else self._course.begins
        self._tell("begins", self._began)
        match fault:
            case "cut-off":
                self._cut_off()
            case "reset":
                self.reset()
            case _:
                self._present = True
                self._timer = self.loop.call_at(self._course.ends, self._end)
                if fault == "half-close":
                    self._says.drop()

    def _end(self) -> None:
        if self._present:
            self._present = False
            self._tell("ends", max(self._began, min(self.loop.time(), self._course.ends)))

    def _tell(self, what: str, t: float) -> None:
        host, port = self._address
        fault = self._course.fault
        _say({"t": t, "address": host, "port": port, "fault": fault, "what": what})

    # --- its end -------------------------------------------------------------

    def _cut_off(self) -> None:
        with contextlib.suppress(OSError):
            self._client.recv(CHUNK)  # else what it has just said would make its FIN a RST
        _linger(self._server)
        self.close()

    def reset(self) -> None:
        _linger(self._client)
        _linger(self._server)
        self.close()

    def close_if_done(self) -> None:
        if self._says.done and self._hears.done:
            self.close()

    def close(self) -> None:
        if self.over:
            return
        self.over = True
        self._end()
        self._timer.cancel()
        self._says.stop()
        self._hears.stop()
        self.loop.remove_writer(self._server)
        self._client.close()
        self._server.close()
        self._network.connections.discard(self)


class _Direction:
    """From one socket of a connection to the other, as its gate allows."""

    back: _Direction
    """The other direction of the same connection."""

    def __init__(
        self, connection: _Connection, source: socket.socket, sink: socket.socket, gate: Gate
    ) -> None:
        self._connection = connection
        self._loop = connection.loop
        self._source = source
        self._sink = sink
        self._gate = gate
        self._heard_all = False
        """Whether the source has ended, or is gone."""
        self._finished = False
        """Whether the sink has been told so."""
        self._dropping = False
        """Whether what the source says is read and dropped."""
        self._active = False
        self._reading = False
        self._writing = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def done(self) -> bool:
        return self._heard_all and self._finished

    def start(self) -> None:
        """Both sides are there."""
        self._active = True
        self.turn()

    def turn(self) -> None:
        """Pass on what is due, and see to it that this is called again when more can be done."""
        if not self._active:
            return
        self._gate.now = self._loop.time()
        blocked = False
        while not blocked and (data := self._gate.due()):
            try:
                self._gate.took(self._sink.send(data))
            except BlockingIOError:
                blocked = True
            except OSError:
                self.back.lost()
                return
        ending = self._gate.ending()
        if ending == RESET:
            self._connection.reset()
            return
        if ending == CLOSED and not self._finished:
            self._finished = True
            with contextlib.suppress(OSError):  # it is gone: whoever reads from it will see
                self._sink.shutdown(socket.SHUT_WR)
        room = self._dropping or self._gate.room() > 0
        self._watch(reading=room and not self._heard_all, writing=blocked)
        self._wake_at(self._gate.wake())
        self._connection.close_if_done()

    def drop(self) -> None:
        """End the source for the sink, and read on so that its end is seen."""
        if not self._heard_all:
            self._dropping = True
            self._gate.now = self._loop.time()
            self._gate.end(CLOSED)
            self.turn()

    def lost(self) -> None:
        """The source is gone: it says nothing more, and hears nothing more."""
        self._heard_all = True
        self._gate.now = self._loop.time()
        self._gate.end(RESET)
        self.back.stop()
        self.turn()

    def stop(self) -> None:
        """Neither read nor pass on any more."""
        self._active = False
        self._watch(reading=False, writing=False)
        self._wake_at(inf)

    def _read(self) -> None:
        self._gate.now = self._loop.time()
        room = CHUNK if self._dropping else min(self._gate.room(), CHUNK)
        if room > 0:  # it may be less than when it was asked last
            try:
                self._take(self._source.recv(room))
            except BlockingIOError:
                return
            except OSError:
                self.lost()
                return
        self.turn()

    def _take(self, data: bytes) -> None:
        self._heard_all = not data
        if self._dropping:
            return
        if data:
            self._gate.put(data)
        else:
            self._gate.end(CLOSED)

    def _watch(self, reading: bool, writing: bool) -> None:
        if reading != self._reading:
            self._reading = reading
            if reading:
                self._loop.add_reader(self._source, self._read)
            else:
                self._loop.remove_reader(self._source)
        if writing != self._writing:
            self._writing = writing
            if writing:
                self._loop.add_writer(self._sink, self.turn)
            else:
                self._loop.remove_writer(self._sink)

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when < inf:
            self._timer = self._loop.call_at(when, self.turn)


def _linger(connection: socket.socket) -> None:
    """Make its closing a RST."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _set_buffers(connection: socket.socket, receive: int) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)


def _job(arguments: Sequence[str]) -> tuple[tuple[str, int], int, list[Link]]:
    """Target, seed and links. Raises Unfit."""
    try:
        (text,) = arguments
        job = json.loads(text)
        target, seed, links = job["target"], job["seed"], job["links"]
        host, port = target
        if not isinstance(seed, int) or not isinstance(links, list) or not 0 < port < 65536:
            raise TypeError
    except (ValueError, KeyError, TypeError):
        raise Unfit(
            'one argument is needed, {"target": [HOST, PORT], "seed": NUMBER, "links": [...]}'
        ) from None
    try:
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, TypeError, UnicodeError):
        raise Unfit(f"the target has to have an IPv4 address, and {host!r} has none") from None
    courses = []
    for number, link in enumerate(links):
        try:
            courses.append(parse(link))
        except LinkError as error:
            raise Unfit(f"link {number}: {error}") from None
    return (str(found[0][4][0]), port), seed, courses


def _say(told: Mapping[str, object]) -> None:
    with contextlib.suppress(BrokenPipeError):  # then standard input ends, too
        os.write(1, json.dumps(told).encode() + b"\n")


def main(arguments: Sequence[str]) -> int:
    """Carry until standard input ends; return the exit status."""

    async def run() -> None:
        await _Network(*job).run()

    try:
        job = _job(arguments)
        raise_descriptor_limit()
        asyncio.run(run())
    except (Unfit, OSError) as error:
        print(f"the proxy can't go on: {error}", file=sys.stderr)
        return UNFIT
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
