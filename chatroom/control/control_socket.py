"""The control socket: a Unix socket on which the main process answers the room owner's requests.

A request is a line of JSON, and an answer is a line of JSON. A connection may send any number of
requests, one after another. Only the room's user and root are admitted: the folder is private, and
the kernel reports the peer's user. The main process never waits for a connection: it sends the rest
of an answer when the connection is writable, and reads the next request afterwards.
"""

import contextlib
import json
import os
import socket
import struct
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from chatroom.config.sizes import KIB
from chatroom.system.accepting import Accepting
from chatroom.system.endpoint import Endpoint
from chatroom.system.event_loop import READ, WRITE, EventLoop
from chatroom.system.listening import listen, remove_file

MAX_CONNECTIONS = 16
MAX_REQUEST = 64 * KIB
"""Maximum size of a request (bytes); a connection that sends a longer request is closed."""

_CREDENTIALS = struct.Struct("3i")
"""Linux's struct ucred: pid, uid, gid."""

ANSWER_WITHIN = 10.0
"""Timeout (s) of a command that waits for the room's answer."""

Answer = dict[str, Any]


class ControlServer:
    """The room's end. `answer` is called with each request and returns the answer; both are JSON
    objects."""

    def __init__(self, loop: EventLoop, answer: Callable[[Answer], Answer]) -> None:
        self._loop = loop
        self._answer = answer
        self._connections: dict[socket.socket, _Connection] = {}
        self._close_listener = contextlib.ExitStack()

    def listen(self, path: Path) -> None:
        """Start accepting connections. Call it once. Raises ListenError."""
        listener = listen(Endpoint(path=str(path)), 0)
        self._close_listener.callback(remove_file, str(path), os.stat(path).st_ino)
        self._close_listener.callback(listener.close)
        accepting = Accepting(self._loop, listener, self._on_connection)
        self._close_listener.callback(accepting.close)
        accepting.open()

    def close(self) -> None:
        """Close the listener and all connections, and remove the socket's file."""
        self._close_listener.close()
        for end in list(self._connections):
            self._drop(end)

    def _on_connection(self, end: socket.socket, _peer: object) -> None:
        end.setblocking(False)
        if not _is_ours(end):
            end.close()
        elif len(self._connections) >= MAX_CONNECTIONS:
            with contextlib.suppress(OSError):
                end.send(b'{"error": "too many connections"}\n')
            end.close()
        else:
            self._connections[end] = _Connection()
            self._loop.watch(end, partial(self._turn, end))

    def _turn(self, end: socket.socket) -> None:
        """Receive, answer and send, as far as possible without waiting."""
        connection = self._connections[end]
        try:
            if not (connection.unsent or connection.has_request):
                connection.add(end.recv(MAX_REQUEST))
            if not connection.unsent and connection.has_request:
                answer = self._answer_to(connection.next())
                connection.unsent = json.dumps(answer).encode() + b"\n"
            if connection.unsent:
                connection.unsent = connection.unsent[end.send(connection.unsent) :]
        except BlockingIOError:
            pass
        except (OSError, ValueError):
            self._drop(end)
            return
        busy = connection.unsent or connection.has_request
        self._loop.change(end, WRITE if busy else READ)

    def _answer_to(self, line: bytes) -> Answer:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            return {"error": "a request must be a JSON object"}
        return self._answer(request)

    def _drop(self, end: socket.socket) -> None:
        del self._connections[end]
        self._loop.forget(end)
        end.close()


class _Connection:
    def __init__(self) -> None:
        self.unsent = b""
        """Unsent rest of an answer."""
        self._received = b""

    @property
    def has_request(self) -> bool:
        """True if a complete request has arrived."""
        return b"\n" in self._received

    def next(self) -> bytes:
        """Return the first request, and remove it."""
        line, _, self._received = self._received.partition(b"\n")
        return line

    def add(self, data: bytes) -> None:
        """Add received data. Raises ValueError at EOF, or if a request is too long."""
        self._received += data
        if not data or (len(self._received) > MAX_REQUEST and not self.has_request):
            raise ValueError


def _is_ours(end: socket.socket) -> bool:
    """Return whether the peer runs as the room's user or as root.

    On systems without SO_PEERCRED, only the mode of the folder keeps other users out.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    data = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(data)[1] in (os.getuid(), 0)


class ControlClient:
    """The end of the socket in a command such as chatroom.status. All methods may raise OSError."""

    def __init__(self, path: Path) -> None:
        """Connect to the socket at `path`."""
        self._end = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self._end.settimeout(ANSWER_WITHIN)
        try:
            self._end.connect(str(path))
        except OSError:
            self._end.close()
            raise
        self._file = self._end.makefile("rb")

    def ask(self, request: Answer) -> Answer:
        """Return the answer to a request. Raises EOFError if the room has ended."""
        answer: Answer = json.loads(self.ask_raw(request))
        return answer

    def ask_raw(self, request: Answer) -> bytes:
        """Return the answer to a request as JSON. Raises EOFError if the room has ended."""
        # After these errors, an answer with the room's reason may still arrive.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self._end.sendall(json.dumps(request).encode() + b"\n")
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        return line

    def close(self) -> None:
        self._file.close()
        self._end.close()
