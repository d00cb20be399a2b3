"""Starting a server, hearing that it is ready, weighing it, and ending all of it."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import resource
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from harness.target.interrupts import defer_signals

KEPT_OUTPUT = 16384
"""Bytes of a server's latest output that are kept: enough for its last words."""

PORTS = range(20_000, 32_768)
"""Below those from which Linux, by default, gives one to whoever names none: a client that got it,
before the server was there, would keep it out."""

_random = random.SystemRandom()  # who seeds the other one would have all draw the same ports

KILLED_WITHIN = 2.0
"""Seconds in which what was killed has let go of its output."""

STEP = 0.01
"""Seconds between two looks at what nobody tells us of."""


class NotReadyError(Exception):
    """A server ended, or stayed silent, before it said that it was ready."""


def raise_descriptor_limit() -> int:
    """Allow this process, and those it starts, as many descriptors as it may have."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    return hard


def free_port(host: str = "127.0.0.1") -> int:
    """A port that nobody has there, so far, and that no client will be given.

    Raises OSError where the host is none of ours, or none of its ports is free.
    """
    first = _random.randrange(PORTS.start, PORTS.stop)
    for port in chain(range(first, PORTS.stop), range(PORTS.start, first)):
        if not is_taken(host, port):
            return port
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def is_taken(host: str, port: int) -> bool:
    """Whether no server could listen there, as somebody has that port. Raises OSError."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return True
    return False


class Server:
    """A running server with all its children: a session of its own, ended as one.

    Its output is read as it comes, so that it never waits for us, and only the
    latest is kept.
    """

    def __init__(
        self,
        command: Sequence[str],
        ready: re.Pattern[bytes] | None,
        env: Mapping[str, str] | None = None,
    ) -> None:
        self._ready = ready
        self._output = b""
        self._match: re.Match[bytes] | None = None
        self._told = threading.Event()  # it is ready, or its output has ended
        self._process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            env=env,
        )
        self.pid = self._process.pid
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        assert self._process.stdout is not None
        descriptor = self._process.stdout.fileno()
        while data := os.read(descriptor, 65536):
            self._output = (self._output + data)[-KEPT_OUTPUT:]
            if self._ready and not self._match:
                self._match = self._ready.search(self._output)
                if self._match:
                    self._told.set()
        self._told.set()

    def wait_ready(self, limit: float) -> re.Match[bytes] | None:
        """Wait until the server says that it is ready; return what it said."""
        if self._ready is None:
            return None
        if not comes(self._told.is_set, limit):
            raise NotReadyError(f"said nothing of being ready for {limit:g} s{self._said()}")
        if not self._match:
            raise NotReadyError(self.death(limit) or "closed its output before it was ready")
        return self._match

    def death(self, limit: float) -> str:
        """How the server ended, with its last words; empty if it runs for `limit` s more."""
        status = status_within(self._process, limit)
        if status is None:
            return ""
        self._reader.join(limit)
        how = f"exit status {status}" if status >= 0 else _signal(-status)
        return f"ended ({how}){self._said()}"

    def output(self) -> str:
        """The latest that it has printed."""
        return self._output.decode(errors="backslashreplace")

    def _said(self) -> str:
        words = self._output.decode(errors="backslashreplace").split("\n")
        last = next((text.strip() for text in reversed(words) if text.strip()), "")
        return f", saying: {last}" if last else ""

    def stop(self, limit: float = 5.0) -> None:
        """Ask the server to end, and after `limit` seconds make it and its children.

        Its output ends when the last process that holds it has: that shows that
        the children are gone, too, without watching each.
        """
        assert self._process.stdout is not None
        if self._process.stdout.closed:
            return
        if self._process.returncode is None:
            self._process.terminate()
        self._reader.join(limit)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.pid, signal.SIGKILL)
        status_within(self._process, limit)
        self._reader.join(KILLED_WITHIN)
        if not self._reader.is_alive():  # else it would read from whatever gets this descriptor
            self._process.stdout.close()


def comes(what: Callable[[], bool], limit: float) -> bool:
    """Whether it does within `limit` seconds; at once, if that is 0.

    It is looked for again and again, signals deferred: one in the midst of a lock or of a wait of
    the standard library would break these, and between two looks it does no harm.
    """
    deadline = time.monotonic() + limit
    while True:
        with defer_signals():
            if what():
                return True
        if time.monotonic() >= deadline:
            return False
        time.sleep(STEP)


def status_within(process: subprocess.Popen[Any], limit: float) -> int | None:
    """Its exit status, or None if it runs for `limit` seconds more."""
    comes(lambda: process.poll() is not None, limit)
    return process.returncode


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # one of those for real time has no name
        return f"signal {number}"


def family(root: int, proc: Path = Path("/proc")) -> list[int]:
    """`root` and all its descendants, by process id."""
    children: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # it has ended since
            # The name, in parentheses, may hold anything, parentheses too.
            stat = (entry / "stat").read_text().rpartition(")")[2]
            children.setdefault(int(stat.split()[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def weight(root: int, proc: Path = Path("/proc")) -> int | None:
    """Bytes of memory that `root` and its descendants have made, a shared page counted once.

    That is the sum of their Pss_Anon and Pss_Shmem; None where the system does
    not tell (Linux does). Pages of files are left out: they do not grow with the
    clients, but a process's share in them shrinks as soon as anything else, such
    as our load, maps the same file. What the kernel spends on sockets is not in it.
    """
    found = []
    for pid in family(root, proc):
        with contextlib.suppress(OSError):  # it has ended since
            text = (proc / str(pid) / "smaps_rollup").read_text()
            found += re.findall(r"^Pss_(?:Anon|Shmem): +(\d+) kB$", text, re.MULTILINE)
    return 1024 * sum(map(int, found)) if found else None
