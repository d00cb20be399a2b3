"""Servers under test, each a child process, and their clients, which are blocking sockets."""

from __future__ import annotations

import contextlib
import os
import re
import selectors
import signal
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest

from harness.reference.broken import REGISTRY
from tests.integration import clients
from tests.integration.waiting import PATIENCE

ROOT = Path(__file__).parents[3]

#: Time (s) to watch for output that must not arrive.
QUIET = 0.4

WELCOME = b"Welcome to socket practice\n"


class Client(clients.Client):
    """A client of a target. `line_end` is the line end of the target's dialect."""

    def __init__(self, target: Target, source: str = "127.0.0.1", buffer: int = 0) -> None:
        super().__init__("::1" if ":" in source else "127.0.0.1", target.port, source, buffer)
        self.line_end = b"\r\n" if target.dialect == "crlf" else b"\n"

    def line(self, text: bytes) -> bytes:
        return text + self.line_end

    def hear_for(self, seconds: float) -> bytes:
        """Return all bytes that arrive until there is a silence of `seconds`."""
        self.socket.settimeout(seconds)
        with contextlib.suppress(TimeoutError):
            while self.receive():
                pass
        self.socket.settimeout(PATIENCE)
        return self.take(len(self.unread))


class Target:
    """A process of `python -m harness.reference`, and its clients."""

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
        self.dialect = dialect_of(*options)
        """Name of the dialect in `harness.reference.dialects`, or "" for that of PROTOCOL.md."""

    def listening(self) -> Target:
        announced = self.line()
        match = re.fullmatch(rb"listening on (\S+):(\d+)\n", announced)
        assert match, (announced, self.errors() if not announced else b"")
        self.host, self.port = match[1].decode(), int(match[2])
        return self

    def line(self) -> bytes:
        """Return the next line of the process's standard output, or b"" at its end."""
        assert self.process.stdout
        with selectors.DefaultSelector() as selector:
            selector.register(self.process.stdout, selectors.EVENT_READ)
            assert selector.select(PATIENCE), "the server printed nothing"
        return self.process.stdout.readline()

    def errors(self) -> bytes:
        """Wait until the process ends, and return its standard error."""
        return self.process.communicate(timeout=PATIENCE)[1]

    def knock(self, source: str = "127.0.0.1", buffer: int = 0) -> Client:
        """Connect a client, without waiting for the welcome."""
        return self.clients.enter_context(Client(self, source, buffer))

    def join(self, source: str = "127.0.0.1", buffer: int = 0) -> Client:
        client = self.knock(source, buffer)
        if self.dialect == "names":
            client.expect(b"Your name? ")
            name = f"at{source.rpartition('.')[2]}".encode()
            client.send(name + b"\n")
            client.prefix = name + b": "
        client.expect(WELCOME.replace(b"\n", client.line_end))
        return client

    def join_all(self, count: int) -> list[Client]:
        """Join with `count` clients, from 127.0.0.2, 127.0.0.3 and so on."""
        return [self.join(f"127.0.0.{number + 2}") for number in range(count)]

    def stop(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(PATIENCE)

    def descriptors(self) -> int:
        return len(os.listdir(f"/proc/{self.process.pid}/fd"))

    def seconds(self) -> float:
        """Return the CPU time of all threads of the process, in seconds."""
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
        # The process leads its process group, which includes forked children.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait(PATIENCE)
        for stream in (self.process.stdout, self.process.stderr):
            assert stream
            stream.close()


def dialect_of(*options: object) -> str:
    """Return the dialect of a server that is started with these options."""
    if "--broken" in options:
        kind, _ = REGISTRY[str(options[options.index("--broken") + 1])]
        return kind.profile.removeprefix("reference").removeprefix("-")
    return str(options[options.index("--dialect") + 1]) if "--dialect" in options else ""


@contextlib.contextmanager
def room(*options: object, host: str = "127.0.0.1", port: int = 0) -> Iterator[Target]:
    with Target(*options, host=host, port=port) as target:
        yield target.listening()


def named(names: Iterable[str]) -> list[Any]:
    """Return a parameter set for each broken server, marked with the clauses that it breaks."""
    return [
        pytest.param(name, marks=pytest.mark.clauses(" ".join(sorted(REGISTRY[name][1]))))
        for name in names
    ]
