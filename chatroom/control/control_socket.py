"""The control socket: a Unix socket by which a room's owner asks the main process, and commands it.

A request is a line of JSON, and so is its answer; a connection may bring any
number of them, one after another. Only the same user gets in (and root): the
folder is private, and the kernel says which user has connected. The room never
waits: an answer that can't be sent at once is sent later, and the connection's
next request is not read before that.
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
"""Bytes of a request; a connection that sends a longer one is closed."""

_CREDENTIALS = struct.Struct("3i")
"""Linux's struct ucred: pid, uid, gid."""

ANSWER_WITHIN = 10.0
"""Seconds that a command waits for the room."""

Answer = dict[str, Any]


class Control:
    """The room's end; `answer(request)` is called with a JSON object."""

    def __init__(self, loop: EventLoop, answer: Callable[[Answer], Answer]) -> None:
        self._loop = loop
        self._answer = answer
        self._connections: dict[socket.socket, _Connection] = {}
        self._close_listener = contextlib.ExitStack()

    def listen(self, path: Path) -> None:
        """Accept connections from now on. To be called once. Raises ListenError."""
        listener = listen(Endpoint(path=str(path)), 0)
        self._close_listener.callback(remove_file, str(path), os.stat(path).st_ino)
        self._close_listener.callback(listener.close)
        accepting = Accepting(self._loop, listener, self._on_connection)
        self._close_listener.callback(accepting.close)
        accepting.open()

    def close(self) -> None:
        """Close all connections, and leave no file behind."""
        self._close_listener.close()
        for end in list(self._connections):
            self._drop(end)

    def _on_connection(self, end: socket.socket, _peer: object) -> None:
        end.setblocking(False)
        if not _is_ours(end):
            end.close()
        elif len(self._connections) >= MAX_CONNECTIONS:
            with contextlib.suppress(OSError):
                end.send(b'{"error": "too many ask already"}\n')
            end.close()
        else:
            self._connections[end] = _Connection()
            self._loop.watch(end, partial(self._turn, end))

    def _turn(self, end: socket.socket) -> None:
        """Receive, answer, send: as far as that goes without waiting."""
        connection = self._connections[end]
        try:
            if not (connection.unsent or connection.asks):
                connection.take(end.recv(MAX_REQUEST))
            if not connection.unsent and connection.asks:
                answer = self._answer_to(connection.next())
                connection.unsent = json.dumps(answer).encode() + b"\n"
            if connection.unsent:
                connection.unsent = connection.unsent[end.send(connection.unsent) :]
        except BlockingIOError:
            pass
        except (OSError, ValueError):
            self._drop(end)
            return
        busy = connection.unsent or connection.asks
        self._loop.change(end, WRITE if busy else READ)

    def _answer_to(self, line: bytes) -> Answer:
        try:
            request = json.loads(line)
        except (ValueError, RecursionError):
            request = None
        if not isinstance(request, dict):
            return {"error": "a request is a JSON object"}
        return self._answer(request)

    def _drop(self, end: socket.socket) -> None:
        del self._connections[end]
        self._loop.forget(end)
        end.close()


class _Connection:
    def __init__(self) -> None:
        self.unsent = b""
        """The rest of an answer."""
        self._received = b""

    @property
    def asks(self) -> bool:
        """Tell whether a request has come whole."""
        return b"\n" in self._received

    def next(self) -> bytes:
        """Return the request that came first."""
        line, _, self._received = self._received.partition(b"\n")
        return line

    def take(self, data: bytes) -> None:
        """Add data. Raises ValueError when no more will come, or too much without a line end."""
        self._received += data
        if not data or (len(self._received) > MAX_REQUEST and not self.asks):
            raise ValueError


def _is_ours(end: socket.socket) -> bool:
    """Tell whether the same user is at the other end, or root.

    Without SO_PEERCRED, the folder's mode ensures that.
    """
    if not hasattr(socket, "SO_PEERCRED"):
        return True
    data = end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _CREDENTIALS.size)
    return _CREDENTIALS.unpack(data)[1] in (os.getuid(), 0)


class Asker:
    """The command's end. Its methods raise OSError."""

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
        """Return the answer to a request. Raises EOFError where the room has ended."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # it may have said why
            self._end.sendall(json.dumps(request).encode() + b"\n")
        line = self._file.readline()
        if not line.endswith(b"\n"):
            raise EOFError
        answer: Answer = json.loads(line)
        return answer

    def close(self) -> None:
        self._file.close()
        self._end.close()
