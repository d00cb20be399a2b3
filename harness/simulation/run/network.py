"""The faulty network's process, which carries clients' connections with the faults of their links.

`proxy.py` starts this process with the target's addresses, a seed and the links. It listens
on a free port of 127.0.0.1 for each link and prints ``{"ports": [...]}``. A client that
connects to one of them is connected to the target *from the same address*, by another
port, and carried in both directions with that link's fault. The begin and the end of each fault
are printed as lines of JSON:

    {"t", "address", "port", "fault", "what": "begins" | "ends"}

t: time, in seconds of the monotonic clock. address, port: the client's. A fault ends when
its time is over or its connection ends; a `cut-off` and a `reset` only begin. The process
ends at EOF on standard input, or by SIGTERM. Exit status: 0, or 2 after one line with the
reason, such as a lack of descriptors or ports.

A FIN is passed on as a FIN, after all bytes before it; a RST as a RST. A side is not read from
while the other side does not read: the process holds at most 64 KiB in one direction (1 MiB in
a `delay`), and each of the kernel's two buffers about as much. A `slow` or `stall` reads
nothing ahead and has a small buffer.

Cost: two descriptors per connection, some 22 MiB of memory in all, and 20 to 40 µs of
processor time for each message that is carried to one client. 300 clients that all receive
30 messages per second take a fifth of a processor, and the last of them receives each
message 10 ms late. So the network suits hundreds of sending clients, but not measurements
of speed.

Limits: it needs Linux, where all of 127.0.0.0/8 is local, and a target with an IPv4
address. If several clients connect at once, the kernel decides which is first. So a seed
determines the set of courses, but not which client gets which. While the process does not
read from a side, it notices a RST of this side only at the next write. Until the target has
accepted, the client's connection is silent; if the target refuses, the connection is reset.
The process blocks when its output pipe is full; `Proxy` reads from it.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import itertools
import json
import os
import pickle
import signal
import socket
import struct
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from harness.descriptors import raise_descriptor_limit
from harness.errors import CannotJudge
from harness.simulation.run.direction import Direction
from harness.simulation.run.gates import CHUNK, CONNECTION_FAULTS, Course, draw, gates
from harness.simulation.scenario.scenario import Link

BUFFER = 1 << 16
"""Size to set for each of the kernel's buffers, in bytes; the kernel doubles it."""

SMALL_BUFFER = 1 << 12
"""The same for input to a slow client: small, so that the server notices the backpressure."""

BACKLOG = 1024
"""Number of clients that may connect at once."""

CANNOT_JUDGE = 2
"""Exit status if the network can't go on."""


class Network:
    """The links, and the connections through them."""

    def __init__(
        self, endpoints: Sequence[tuple[str, int]], seed: int, links: Sequence[Link]
    ) -> None:
        self.endpoints = itertools.cycle(endpoints)
        self.loop = asyncio.get_running_loop()
        self.connections: set[Connection] = set()
        self._seed = seed
        self._links = links
        self._came = [0] * len(links)
        self._listeners: list[socket.socket] = []
        self._over: asyncio.Future[None] = self.loop.create_future()

    async def run(self) -> None:
        """Carry connections until stopped. Raise CannotJudge or OSError if that fails."""
        self.loop.set_exception_handler(self._broken)
        for ending in (signal.SIGTERM, signal.SIGINT):
            self.loop.add_signal_handler(ending, self.stop)
        self.loop.add_reader(0, self._input)
        try:
            for number in range(len(self._links)):
                self._listen(number)
            _print({"ports": [listener.getsockname()[1] for listener in self._listeners]})
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
        """End the process with an error."""
        if not self._over.done():
            self._over.set_exception(why)

    def _broken(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """End because of an exception in a callback, which is a defect of the harness."""
        self.fail(context.get("exception") or CannotJudge(context["message"]))

    def _input(self) -> None:
        if not os.read(0, CHUNK):
            self.stop()

    def _listen(self, number: int) -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._listeners.append(listener)
        listener.setblocking(False)
        _set_buffers(listener, BUFFER)  # accepted sockets inherit them
        self.loop.add_reader(listener, self._accept, number)

    def _accept(self, number: int) -> None:
        try:
            client, address = self._listeners[number].accept()
        except (BlockingIOError, ConnectionError):  # the client has left already
            return
        except OSError as error:
            self.fail(error)
            return
        course = draw(self._links[number], self.loop.time(), self._seed, number, self._came[number])
        self._came[number] += 1
        try:
            Connection(self, client, address, course)
        except OSError as error:
            self.fail(error)


class Connection:
    """A client's connection, and its connection to the target.

    Raises OSError without descriptors, ports, or the client's address.
    """

    def __init__(
        self, network: Network, client: socket.socket, address: tuple[str, int], course: Course
    ) -> None:
        self.loop = network.loop
        self.over = False
        self._network = network
        self._address = address
        self._course = course
        self._present = False
        """True while the fault is active."""
        self._began = 0.0
        """Time at which the fault began, as reported."""
        self._client = client
        self._server = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        to_server, to_client = gates(course)
        self._to_server = Direction(
            client, self._server, to_server, self.reset, self._close_if_done
        )
        self._to_client = Direction(
            self._server, client, to_client, self.reset, self._close_if_done
        )
        self._to_server.back, self._to_client.back = self._to_client, self._to_server
        self._timer = self.loop.call_at(course.begins, self._begin)
        network.connections.add(self)
        for side in (client, self._server):
            side.setblocking(False)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        small = course.fault in ("slow", "stall")
        _set_buffers(self._server, SMALL_BUFFER if small else BUFFER)
        self._server.bind((address[0], 0))
        self._connect()

    def _connect(self) -> None:
        error = self._server.connect_ex(next(self._network.endpoints))
        if error in (errno.EINPROGRESS, errno.EINTR):
            self.loop.add_writer(self._server, self._connected)
        else:
            self._start_or_fail(error)

    def _connected(self) -> None:
        self.loop.remove_writer(self._server)
        self._start_or_fail(self._server.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))

    def _start_or_fail(self, error: int) -> None:
        if error in (errno.EADDRNOTAVAIL, errno.EADDRINUSE):
            self._network.fail(OSError(error, os.strerror(error)))  # no port is left
        elif error:
            self.reset()  # the target has refused the connection
        else:
            self._to_server.start()
            self._to_client.start()

    # --- the fault -----------------------------------------------------------

    def _begin(self) -> None:
        fault = self._course.fault
        # Gates begin their faults on time; other faults begin now.
        self._began = self.loop.time() if fault in CONNECTION_FAULTS else self._course.begins
        self._report("begins", self._began)
        match fault:
            case "cut-off":
                self._cut_off()
            case "reset":
                self.reset()
            case _:
                self._present = True
                self._timer = self.loop.call_at(self._course.ends, self._end)
                if fault == "half-close":
                    self._to_server.drop()

    def _end(self) -> None:
        if self._present:
            self._present = False
            self._report("ends", max(self._began, min(self.loop.time(), self._course.ends)))

    def _report(self, what: str, t: float) -> None:
        host, port = self._address
        fault = self._course.fault
        _print({"t": t, "address": host, "port": port, "fault": fault, "what": what})

    # --- its end -------------------------------------------------------------

    def _cut_off(self) -> None:
        with contextlib.suppress(OSError):
            self._client.recv(CHUNK)  # with unread input, close would send a RST
        _linger(self._server)
        self.close()

    def reset(self) -> None:
        _linger(self._client)
        _linger(self._server)
        self.close()

    def _close_if_done(self) -> None:
        if self._to_server.done and self._to_client.done:
            self.close()

    def close(self) -> None:
        if self.over:
            return
        self.over = True
        self._end()
        self._timer.cancel()
        self._to_server.stop()
        self._to_client.stop()
        self.loop.remove_writer(self._server)
        self._client.close()
        self._server.close()
        self._network.connections.discard(self)


def _linger(connection: socket.socket) -> None:
    """Make close reset the connection."""
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))


def _set_buffers(connection: socket.socket, receive: int) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)


def _print(record: Mapping[str, object]) -> None:
    with contextlib.suppress(
        BrokenPipeError
    ):  # the parent has ended: EOF on standard input follows
        os.write(1, json.dumps(record).encode() + b"\n")


def _ipv4(endpoint: tuple[str, int]) -> tuple[str, int]:
    """Return an endpoint with its IPv4 address. Raise CannotJudge if it has none."""
    host, port = endpoint
    try:
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise CannotJudge(f"the target must have an IPv4 address, and {host!r} has none") from None
    return str(found[0][4][0]), port


async def _carry(endpoints: Sequence[tuple[str, int]], seed: int, links: Sequence[Link]) -> None:
    await Network([*map(_ipv4, endpoints)], seed, links).run()


def main() -> int:
    """Read the job from standard input, and carry connections until EOF; return the exit status."""
    try:
        raise_descriptor_limit()
        asyncio.run(_carry(*pickle.load(sys.stdin.buffer)))
    except (CannotJudge, OSError, EOFError) as error:
        print(f"the proxy can't go on: {error}", file=sys.stderr)
        return CANNOT_JUDGE
    return 0


if __name__ == "__main__":
    sys.exit(main())
