"""Targets of the tests here, each a child process, and clients: plain blocking sockets."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType

ROOT = Path(__file__).parents[3]

#: Seconds after which what is waited for will not come any more.
PATIENCE = 15.0
#: Seconds in which what is to come would have come, and in which nothing is to come.
QUIET = 0.4

WELCOME = b"Welcome to socket practice\n"
RESET = struct.pack("ii", 1, 0)


class Client:
    def __init__(self, target: Target, source: str = "127.0.0.1", buffer: int = 0) -> None:
        self.unread = bytearray()
        self.socket = socket.socket(socket.AF_INET6 if ":" in source else socket.AF_INET)
        try:
            self.socket.settimeout(PATIENCE)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if buffer:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            self.socket.bind((source, 0))
            host = "::1" if ":" in source else "127.0.0.1"
            self.socket.connect((host, target.port))
        except OSError:
            self.socket.close()
            raise
        self.prefix = b"<%s>" % source.encode()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.socket.close()

    def say(self, *pieces: bytes) -> None:
        for piece in pieces:
            self.socket.sendall(piece)

    def close(self) -> None:
        self.socket.close()

    def finish(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self.socket.close()

    def more(self) -> bool:
        """Whether anything more came; False at the end. Raises TimeoutError."""
        try:
            data = self.socket.recv(1 << 16)
        except ConnectionError:
            return False
        self.unread += data
        return bool(data)

    def take(self, size: int) -> bytes:
        taken = bytes(self.unread[:size])
        del self.unread[:size]
        return taken

    def hear(self, expected: bytes) -> None:
        """These are the next bytes."""
        while len(self.unread) < len(expected) and expected.startswith(self.unread):
            try:
                if not self.more():
                    break
            except TimeoutError:
                break
        heard = self.take(len(expected))
        assert heard == expected, f"heard {heard[-400:]!r}, not {expected[-400:]!r}"

    def hear_until(self, token: bytes) -> bytes:
        searched = 0
        while (found := self.unread.find(token, searched)) < 0:
            searched = max(0, len(self.unread) - len(token))
            assert self.more(), f"ended after {bytes(self.unread[-400:])!r}"
        return self.take(found + len(token))

    def hear_end(self) -> bytes:
        """All that comes until the connection ends."""
        while self.more():
            pass
        return self.take(len(self.unread))

    def hear_for(self, seconds: float) -> bytes:
        """All that comes in so many seconds of silence."""
        self.socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            while self.more():
                pass
        self.socket.settimeout(PATIENCE)
        return self.take(len(self.unread))


class Target:
    """`python -m harness.reference`, and who is in its room."""

    def __init__(self, *options: object, host: str = "127.0.0.1", port: int = 0) -> None:
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "harness.reference", host, str(port), "--announce"),
                *map(str, options),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        self.clients = contextlib.ExitStack()

    def listening(self) -> Target:
        announced = self.line()
        match = re.fullmatch(rb"listening on (\S+):(\d+)\n", announced)
        assert match, (announced, self.errors() if not announced else b"")
        self.host, self.port = match[1].decode(), int(match[2])
        return self

    def line(self) -> bytes:
        """The next line of its output; empty at the end."""
        assert self.process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(PATIENCE), "nothing printed"
        return self.process.stdout.readline()

    def errors(self) -> bytes:
        """Its last words: all of its standard error, at its end."""
        return self.process.communicate(timeout=PATIENCE)[1]

    def knock(self, source: str = "127.0.0.1", buffer: int = 0) -> Client:
        return self.clients.enter_context(Client(self, source, buffer))

    def join(self, source: str = "127.0.0.1", buffer: int = 0) -> Client:
        client = self.knock(source, buffer)
        client.hear(WELCOME)
        return client

    def join_all(self, count: int) -> list[Client]:
        """From 127.0.0.2, 127.0.0.3, …"""
        return [self.join(f"127.0.0.{number + 2}") for number in range(count)]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def seconds(self) -> float:
        """Processor time, of all its threads."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory(self) -> int:
        pages = Path(f"/proc/{self.process.pid}/statm").read_text().split()[1]
        return int(pages) * os.sysconf("SC_PAGE_SIZE")

    def threads(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/task"))

    def __enter__(self) -> Target:
        return self

    def __exit__(self, *_: object) -> None:
        self.clients.close()
        # All of its session: what it forked too.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()


@contextlib.contextmanager
def room(*options: object, host: str = "127.0.0.1", port: int = 0) -> Iterator[Target]:
    with Target(*options, host=host, port=port) as target:
        yield target.listening()
