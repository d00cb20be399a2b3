"""The floor: a minimal server that sends the same bytes through as many sockets.

    python -m harness.bench.floor SPEAKERS

The floor reads until it has all SPEAKERS lines of a round, or until no line has arrived for PAUSE
seconds. Then it puts the prefix that all clients have in common before each line, and sends each
client the lines of all other clients in one call. It treats the data of each read as one line,
because the load generator's lines are short. It checks and limits nothing, is a single process, and
works only with this load generator.

The floor's figure is the cost of the kernel, the interpreter and the load generator. The closer
another server's figure is to the floor's, the less time that server spends on its own logic. A
server with several processes may be faster than the floor, if there are processors for them.
"""

from __future__ import annotations

import contextlib
import select
import socket
import sys

from harness.descriptors import raise_descriptor_limit

HEAD = b"<127.0.0.1>"
WELCOME = b"Welcome\n"
CHUNK = 1 << 16

PAUSE = 0.005
"""Seconds without a line after which an incomplete round is delivered. Rounds are incomplete before
and after the timed part, when fewer clients send."""


class Floor:
    """The floor's server. `speakers`: number of clients that send a line in a round."""

    def __init__(self, listener: socket.socket, speakers: int) -> None:
        self._listener = listener
        self._speakers = speakers
        self._clients: dict[int, socket.socket] = {}
        self._said: dict[int, bytes] = {}
        """Prefix and data received in this round, by the sender's descriptor."""
        self._owed: dict[int, bytes] = {}
        """Data that a client's socket has not accepted yet, by the socket's descriptor."""
        self._poll = select.epoll()
        self._poll.register(listener, select.EPOLLIN)

    def run(self) -> None:
        said = self._said
        while True:
            events = self._poll.poll(PAUSE if said else None)
            for fd, _ in events:
                if fd == self._listener.fileno():
                    self._accept()
                elif fd in self._owed:
                    self._send(fd, [])
                else:
                    self._read(fd)
            if len(said) >= self._speakers or (said and not events):
                self._deliver()

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        client.setblocking(False)
        # With Nagle's algorithm, a line would wait until the client's kernel has acknowledged the
        # line before it: up to 40 ms if the client itself sends nothing.
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.send(WELCOME)
        self._clients[client.fileno()] = client
        self._poll.register(client, select.EPOLLIN)

    def _read(self, fd: int) -> None:
        try:
            data = self._clients[fd].recv(CHUNK)
        except ConnectionError:
            data = b""
        if data:
            self._said[fd] = HEAD + data
        else:
            self._poll.unregister(fd)
            self._clients.pop(fd).close()

    def _deliver(self) -> None:
        view, at = memoryview(b"".join(self._said.values())), 0
        others = self._clients.keys() - self._said.keys()
        for fd, line in self._said.items():
            end = at + len(line)
            self._send(fd, [part for part in (view[:at], view[end:]) if part])
            at = end
        for fd in others:
            self._send(fd, [view])
        self._said.clear()

    def _send(self, fd: int, parts: list[bytes | memoryview]) -> None:
        """Send owed data and `parts` to a client; keep the rest that its socket does not accept."""
        client = self._clients.get(fd)
        before = self._owed.pop(fd, None)
        if before:
            parts = [before, *parts]
        if client is None or not parts:
            return
        size, taken = sum(map(len, parts)), 0
        with contextlib.suppress(BlockingIOError, ConnectionError):
            taken = client.sendmsg(parts)
        if taken < size:
            self._owed[fd] = b"".join(parts)[taken:]
        if (before is None) == (taken < size):
            self._poll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if taken < size else 0))


def main(speakers: str) -> None:
    raise_descriptor_limit()
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        print(f"listening on 127.0.0.1:{listener.getsockname()[1]}", flush=True)
        Floor(listener, int(speakers)).run()


if __name__ == "__main__":
    main(sys.argv[1])
