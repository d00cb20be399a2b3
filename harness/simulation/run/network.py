"""The process of the faulty network. It forwards connections with the faults of their links.

`proxy.py` starts this process with the target's addresses, a seed and the links. The process
listens on a free port of 127.0.0.1 for each link, and prints ``{"ports": [...]}``. When a client
connects to one of these ports, the process connects to the target *from the client's address*, with
another port. It forwards data in both directions, with the fault of the link. It prints the begin
and the end of each fault as a line of JSON:

    {"t", "address", "port", "fault", "what": "begins" | "ends"}

t: time, in seconds of the monotonic clock. address, port: those of the client. A fault ends when
its time is over or its connection ends; a `cut-off` and a `reset` have no end. The process ends at
EOF on standard input, or on SIGTERM. Its exit status is 0; or 2 after a line with the reason, such
as a lack of descriptors or ports.

A FIN is forwarded as a FIN, after all bytes before it; a RST is forwarded as a RST. While one side
does not read, the process stops reading from the other side. So it keeps at most 64 KiB in one
direction (1 MiB in a `delay`), and each of the kernel's two buffers keeps about as much. In a
`slow` or `stall`, the process reads no bytes in advance, and the buffer is small.

Cost: two descriptors per connection, about 22 MiB of memory in all, and 20 to 40 µs of
processor time for each message to one client. 300 clients that each receive 30 messages per second
take a fifth of a processor, and the last of them receives each message 10 ms late. So the network
suits hundreds of sending clients, but not measurements of speed.

Limits:

- It needs Linux, where all of 127.0.0.0/8 is local, and a target with an IPv4 address.
- If several clients connect at once, the kernel decides which of them is accepted first. So a seed
  determines the courses, but not the client of each course.
- While the process does not read from a side, it notices a RST of this side only at the next write.
- A client receives nothing until the target has accepted the connection. If the target refuses it,
  the client's connection is reset.
- The process blocks when its output pipe is full, so `Proxy` must read from the pipe.
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
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from harness.descriptors import raise_descriptor_limit
from harness.errors import CannotJudge
from harness.linger import reset_on_close
from harness.simulation.run.direction import Direction
from harness.simulation.run.gates import CHUNK, CONNECTION_FAULTS, Course, draw, gates
from harness.simulation.scenario.scenario import Link

BUFFER = 1 << 16
"""Size (bytes) to set for each of the kernel's buffers. The kernel doubles this size."""

SMALL_BUFFER = 1 << 12
"""Size (bytes) to set for the receive buffer of a connection to the target, if its client is slow.
It is small, so that the server soon notices that the client does not read."""

BACKLOG = 1024
"""Maximum number of clients that wait to be accepted, per link."""

CANNOT_JUDGE = 2
"""Exit status of a network that has failed."""


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
        """Forward connections until `stop` or `fail` is called; raise the exception of `fail`."""
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
        """End the process with an error. why: the exception that `run` raises."""
        if not self._over.done():
            self._over.set_exception(why)

    def _broken(self, _loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """Handle an exception in a callback, which is a defect of the harness: end the process."""
        self.fail(context.get("exception") or CannotJudge(context["message"]))

    def _input(self) -> None:
        if not os.read(0, CHUNK):
            self.stop()

    def _listen(self, number: int) -> None:
        listener = socket.create_server(("127.0.0.1", 0), backlog=BACKLOG)
        self._listeners.append(listener)
        listener.setblocking(False)
        _set_buffers(listener, BUFFER)  # accepted sockets inherit the sizes
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
    """The connection of a client to this process, and the connection of this process to the target.

    The constructor raises OSError if descriptors or ports are used up, or if this machine does not
    have the client's address.
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
            self._network.fail(OSError(error, os.strerror(error)))  # all local ports are in use
        elif error:
            self.reset()  # the target has refused the connection
        else:
            self._to_server.start()
            self._to_client.start()

    # --- the fault -----------------------------------------------------------

    def _begin(self) -> None:
        fault = self._course.fault
        # A gate compares each time with `course.begins`, so its fault begins exactly then. Other
        # faults begin now.
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
            self._client.recv(CHUNK)  # if there is unread input, a close sends a RST, not a FIN
        reset_on_close(self._server)
        self.close()

    def reset(self) -> None:
        reset_on_close(self._client)
        reset_on_close(self._server)
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


def _set_buffers(connection: socket.socket, receive: int) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER)


def _print(record: Mapping[str, object]) -> None:
    # If the parent has ended, this process ends at EOF on standard input.
    with contextlib.suppress(BrokenPipeError):
        os.write(1, json.dumps(record).encode() + b"\n")


def _ipv4(endpoint: tuple[str, int]) -> tuple[str, int]:
    """Return an endpoint with its IPv4 address. Raise CannotJudge if it has none."""
    host, port = endpoint
    try:
        found = socket.getaddrinfo(host, port, socket.AF_INET, socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        raise CannotJudge(f"the target must have an IPv4 address, but {host!r} has none") from None
    return str(found[0][4][0]), port


async def _carry(endpoints: Sequence[tuple[str, int]], seed: int, links: Sequence[Link]) -> None:
    await Network([*map(_ipv4, endpoints)], seed, links).run()


def main() -> int:
    """Read the job from standard input, forward connections until EOF; return the exit status."""
    try:
        raise_descriptor_limit()
        asyncio.run(_carry(*pickle.load(sys.stdin.buffer)))
    except (CannotJudge, OSError, EOFError) as error:
        print(f"the proxy failed: {error}", file=sys.stderr)
        return CANNOT_JUDGE
    return 0


if __name__ == "__main__":
    sys.exit(main())
