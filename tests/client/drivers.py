"""What the tests of the client drive it with: a room that is a socket, a terminal that is a pty.

There is no thread here: the test itself is the server, and looks at the screen when it waits.
Whatever is waited for is a token (text on the screen, bytes at the room, the end of a process).
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

#: The signals that end it, and with which exit code.
ENDINGS = [(signal.SIGINT, 0), (signal.SIGTERM, 143), (signal.SIGHUP, 129), (signal.SIGQUIT, 131)]

LINES = b"0123456789abcde\n" * (CHUNK // 16)

# A terminal makes signals of keys for the process that it controls. Not `preexec_fn`, which is
# unsafe with threads; a session's leader that opens a terminal is controlled by it. For each
# program that is started: a shell starts faster than Python does.
TAKE_TERMINAL = ': <"$0" && exec "$@"'


class Display(pyte.Screen):
    """A terminal's screen. Unlike pyte's own, at the right edge it does as terminals do."""

    def draw(self, data: str) -> None:
        for char in data:
            left = self.columns - self.cursor.x
            if left == 1 and unicodedata.east_asian_width(char) in "WF":
                # It does not fit: the next row is its.
                self.cursor.x = self.columns
            if left == 0 and unicodedata.combining(char):
                # The row is full, but an accent takes no room.
                row = self.buffer[self.cursor.y]
                last = row[self.columns - 1]
                row[self.columns - 1] = last._replace(
                    data=unicodedata.normalize("NFC", last.data + char)
                )
            else:
                super().draw(char)

    @property
    def rows(self) -> list[str]:
        """The rows down to the cursor's, or to the last one below it that is not empty."""
        # Not `display`: it is slow on a screen of many rows, and here most of them are empty.
        drawn = [
            "".join(self.buffer[row][column].data for column in range(self.columns)).rstrip()
            for row in range(max([self.cursor.y, *self.buffer]) + 1)
        ]
        while not drawn[-1] and len(drawn) > self.cursor.y + 1:
            drawn.pop()
        return drawn

    @property
    def place(self) -> tuple[int, int]:
        """The cursor's row and column."""
        return self.cursor.y, self.cursor.x


class Peer:
    """The room's end of a client's connection."""

    def __init__(self, connection: socket.socket) -> None:
        self.socket = connection
        connection.settimeout(PATIENCE)

    def say(self, text: str | bytes) -> None:
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def hear(self, size: int) -> bytes:
        """Exactly `size` bytes, or all that come before the client closes its side."""
        heard = b""
        while len(heard) < size and (data := self.socket.recv(min(size - len(heard), 1 << 16))):
            heard += data
        return heard

    def hear_all(self) -> bytes:
        """All that comes until the client closes its side."""
        return self.hear(sys.maxsize)

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()


class Room:
    """A port where clients are awaited."""

    def __init__(self) -> None:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(PATIENCE)
        self._peers: list[Peer] = []
        self.address = [str(part) for part in self._listener.getsockname()]

    def narrow(self) -> None:
        """Let those who connect from now on send little that is not read."""
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
    """Start processes with no signal ignored, as they would be where the tests run under nohup."""
    ignored = [
        number
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
        if signal.getsignal(number) is signal.SIG_IGN
    ]
    for number in ignored:
        signal.signal(number, lambda *_: None)  # A handler is not inherited.
    try:
        yield
    finally:
        for number in ignored:
            signal.signal(number, signal.SIG_IGN)


@contextmanager
def running(
    command: Sequence[str], *, env: dict[str, str] | None = None, **options: Any
) -> Iterator[subprocess.Popen[bytes]]:
    """A process in the checkout that does not outlive the test."""
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


def less_the_wait(said: str) -> str:
    """What the client has said, less that it connects: where there is a window, it says so soon."""
    return re.sub(r"\Achatroom\.client: connecting to .+ …\s+", "", said)


def unread(stream: IO[bytes] | None) -> int:
    """How many bytes a pipe holds."""
    assert stream is not None
    return int.from_bytes(fcntl.ioctl(stream, termios.FIONREAD, bytes(4)), sys.byteorder)


def read_until(process: subprocess.Popen[bytes], token: bytes) -> bytes:
    """What a process writes, up to and with the token."""
    assert process.stdout is not None
    written = b""
    while not written.endswith(token):
        ready, _, _ = select.select([process.stdout], [], [], PATIENCE)
        assert ready, f"{token!r} did not come after {written!r}"
        data = os.read(process.stdout.fileno(), 1)
        assert data, f"it ended without {token!r} after {written!r}"
        written += data
    return written


class Typist:
    """A user at a terminal on which a program runs."""

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
        """Whether a write waits, for all who share what the program was given."""
        return os.get_blocking(self._slave)

    def type(self, keys: str | bytes) -> None:
        os.write(self._master, keys.encode() if isinstance(keys, str) else keys)

    def wait(self, done: Callable[[], bool]) -> None:
        """Look at the screen until it is as it should be."""
        deadline = time.monotonic() + PATIENCE
        while not done():
            ready, _, _ = select.select([self._master], [], [], max(0, deadline - time.monotonic()))
            assert ready, "the screen stayed as it is:\n" + "\n".join(self.screen.rows)
            data = os.read(self._master, 1 << 16)
            self.written += data
            self._stream.feed(data)

    def sees(self, *rows: str) -> None:
        """Wait until these, and no others, are the rows of the screen."""
        self.wait(lambda: self.screen.rows == list(rows))

    def is_stuck(self) -> bool:
        """Whether the terminal takes nothing: it was stopped, or nobody read what it holds."""
        return not select.select([], [self._slave], [], 0)[1]

    def _set_size(self, columns: int, rows: int) -> None:
        fcntl.ioctl(self._master, termios.TIOCSWINSZ, struct.pack("HHHH", rows, columns, 0, 0))

    def hang_up(self) -> None:
        os.close(self._master)
        self._master = -1

    def end(self) -> int:
        """The exit code, once it has ended and all that it wrote is on the screen."""
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


Sit = Callable[..., Typist]
"""Sit down at a terminal on which a program was started."""


# A terminal that nobody reads, as when Ctrl-S stopped it or its ssh hangs, still has room when a
# write to it begins, and none before that ends.


def fill(typist: Typist, peer: Peer, said: bytes = LINES * 3) -> None:
    """Say more than the terminal holds, until it takes nothing."""
    peer.say(said)

    # Its writer is not told when a little of what it holds goes on from one of the kernel's buffers
    # into the next; that there is more to write makes it look.
    def filled() -> bool:
        peer.say(os.urandom(5000).hex() + "\n")
        return typist.is_stuck()

    until(filled, "the terminal takes nothing")
