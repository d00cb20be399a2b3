"""Drivers for the client's tests: a listening socket in place of a room, and a pty as terminal.

There are no threads: the test acts as the server, and reads the screen while it waits. Every wait
is for an event: text on the screen, bytes from the client, or the end of a process.
"""

import fcntl
import os
import pty
import re
import select
import signal
import socket
import struct
import subprocess
import sys
import termios
import time
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any

import pyte

from chatroom.client.connection import CHUNK
from tests.integration.waiting import PATIENCE, until

ROOT = Path(__file__).parent.parent.parent
CLIENT = [sys.executable, "-m", "chatroom.client"]

#: Signals that end the client, each with the client's exit code.
ENDINGS = [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)]

LINES = b"0123456789abcde\n" * (CHUNK // 16)

# A terminal turns keys such as Ctrl-C into signals only for the session that it controls. A
# terminal becomes the controlling terminal of a session when the session's leader opens it. So a
# shell, as the leader, opens the terminal and then executes the program. (`preexec_fn` is unsafe
# with threads, and a shell starts faster than Python.)
TAKE_TERMINAL = ': <"$0" && exec "$@"'


class Display(pyte.Screen):
    """A screen that handles the right edge as real terminals do; pyte's own class does not."""

    def draw(self, data: str) -> None:
        for char in data:
            left = self.columns - self.cursor.x
            if left == 1 and unicodedata.east_asian_width(char) in "WF":
                # A wide character does not fit into the last column, so it goes to the next row.
                self.cursor.x = self.columns
            if left == 0 and unicodedata.combining(char):
                # The row is full, but a combining accent needs no cell of its own.
                row = self.buffer[self.cursor.y]
                last = row[self.columns - 1]
                row[self.columns - 1] = last._replace(
                    data=unicodedata.normalize("NFC", last.data + char)
                )
            else:
                super().draw(char)

    @property
    def rows(self) -> list[str]:
        """Rows down to the cursor's row or to the last row with text, whichever is lower."""
        # pyte's `display` would be slow: it renders all rows, and most rows are empty.
        drawn = [
            "".join(self.buffer[row][column].data for column in range(self.columns)).rstrip()
            for row in range(max([self.cursor.y, *self.buffer]) + 1)
        ]
        while not drawn[-1] and len(drawn) > self.cursor.y + 1:
            drawn.pop()
        return drawn

    @property
    def place(self) -> tuple[int, int]:
        """Row and column of the cursor."""
        return self.cursor.y, self.cursor.x


class Peer:
    """The room's end of a client's connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        connection.settimeout(PATIENCE)

    def send(self, text: str | bytes) -> None:
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def receive(self, size: int) -> bytes:
        """Receive exactly `size` bytes, or fewer if the client closes its side earlier."""
        heard = b""
        while len(heard) < size and (data := self.socket.recv(min(size - len(heard), 1 << 16))):
            heard += data
        return heard

    def receive_all(self) -> bytes:
        """Receive until the client closes its side."""
        return self.receive(sys.maxsize)

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Room:
    """A listening socket in place of a room."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self._peers: list[Peer] = []
        self.address = [str(part) for part in self._listener.getsockname()]

    def use_small_buffers(self) -> None:
        """Give later connections a small receive buffer, so that a client's sends soon block."""
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 16)

    def accept(self) -> Peer:
        peer = Peer(self._listener.accept()[0])
        self._peers.append(peer)
        return peer

    def close(self) -> None:
        self._listener.close()
        for peer in self._peers:
            peer.close()


@contextmanager
def no_signal_ignored() -> Iterator[None]:
    """Start processes with no signal ignored, even if the tests themselves run under nohup."""
    ignored = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
        if signal.getsignal(number) is signal.SIG_IGN
    ]
    for number in ignored:
        signal.signal(number, lambda *_: None)  # A child process does not inherit handlers.
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def running(
    command: Sequence[str], *, env: dict[str, str] | None = None, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """Run a process in the root of the checkout, and end it when the context exits."""
    environment = {**os.environ, "TERM": "xterm", **(env or {})}
    with no_signal_ignored():
        started = subprocess.Popen(command, cwd=ROOT, env=environment, **options)
    with started as process:
        try:
            yield process
        finally:
            process.terminate()
            with suppress(subprocess.TimeoutExpired):
                process.wait(PATIENCE / 2)
            process.kill()
            for stream in (process.stdin, process.stdout, process.stderr):
                if stream is not None:
                    with suppress(BrokenPipeError):
                        stream.close()


def without_connecting_line(said: str) -> str:
    """Remove "connecting to …", which a slow attempt prints, from the client's messages."""
    return re.sub(r"\Achatroom\.client: connecting to .+ …\s+", "", said)


def unread(stream: IO[bytes] | None) -> int:
    """Return the number of unread bytes in a pipe."""
    assert stream is not None
    return int.from_bytes(fcntl.ioctl(stream, termios.FIONREAD, bytes(4)), sys.byteorder)


def read_until(process: subprocess.Popen[bytes], token: bytes) -> bytes:
    """Read a process's output until the output ends with the token."""
    assert process.stdout is not None
    written = b""
    while not written.endswith(token):
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        assert ready, f"no {token!r} in time after {written!r}"
        data = os.read(process.stdout.fileno(), 1)
        assert data, f"the output ended without {token!r} after {written!r}"
        written += data
    return written


class Typist:
    """A program at a terminal, and the user who types there."""

    def __init__(
        self,
        command: list[str],
        *,
        columns: int = 60,
        rows: int = 10,
        says_size: bool = True,
        env: dict[str, str] | None = None,
        **redirected: Any,
    ) -> None:
        self._master, self._slave = pty.openpty()
        self.screen = Display(columns, rows)
        self._stream = pyte.ByteStream(self.screen)
        if says_size:
            self._set_size(columns, rows)
        self.found = self.modes()
        self.written = b""
        self._running = running(
            ["sh", "-c", TAKE_TERMINAL, os.ttyname(self._slave), *command],
            env=env,
            start_new_session=True,
            **{"stdin": self._slave, "stdout": self._slave, "stderr": self._slave} | redirected,
        )
        self.process = self._running.__enter__()

    def modes(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def is_blocking(self) -> bool:
        """Return True if the open file that the terminal's programs share is blocking."""
        return os.get_blocking(self._slave)

    def type(self, keys: str | bytes) -> None:
        os.write(self._master, keys.encode() if isinstance(keys, str) else keys)

    def wait(self, done: Callable[[], bool]) -> None:
        """Read the screen until `done` returns True."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
            assert ready, "not seen in time; the screen:\n" + "\n".join(self.screen.rows)
            data = os.read(self._master, 1 << 16)
            self.written += data
            self._stream.feed(data)

    def sees(self, *rows: str) -> None:
        """Wait until the screen has exactly these rows."""
        self.wait(lambda: self.screen.rows == list(rows))

    def is_stuck(self) -> bool:
        """Return True if the terminal accepts no output, because of Ctrl-S or a full buffer."""
        return not select.select([], [self._slave], [], 0)[1]

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self) -> None:
        os.close(self._master)
        self._master = -1

    def end(self) -> int:
        """Wait for the end of the program, read the rest of its output, return the exit code."""
        code = self.process.wait(PATIENCE)
        while self._master >= 0 and select.select([self._master], [], [], 0)[0]:
            data = os.read(self._master, 1 << 16)
            self.written += data
            self._stream.feed(data)
        return code

    def close(self) -> None:
        self._running.__exit__(None, None, None)
        if self._master >= 0:
            os.close(self._master)
        os.close(self._slave)


StartTypist = Callable[..., Typist]
"""Type of the fixture that starts a program at a terminal."""


# After Ctrl-S, or while its ssh connection hangs, a terminal reads no output. The terminal may then
# have space when a write begins, but too little for the whole write.


def fill(typist: Typist, peer: Peer, said: bytes = LINES * 3) -> None:
    """Send lines to the client until its terminal accepts no more output."""
    peer.send(said)

    # When a few bytes move from one of the terminal's buffers to the next, the kernel does not wake
    # a blocked writer. More text makes the client write again.
    def filled() -> bool:
        peer.send(os.urandom(5000).hex() + "\n")
        return typist.is_stuck()

    until(filled, "the terminal accepts no output")
