"""Start a server, wait until it is ready, measure its memory and processor time, and end it."""

from __future__ import annotations

import contextlib
import errno
import os
import random
import re
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

from harness.target.crash import find
from harness.target.interrupts import defer_signals

KEPT_OUTPUT = 65536
"""Bytes of a server's latest output to keep. When a Go server crashes, it prints the message before
the stacks of all goroutines; this is enough for about 200 stacks."""

PORTS = range(20_000, 32_768)
"""Ports to draw from. They are below Linux's ephemeral ports; otherwise, the kernel could give a
server's port to a client before the server binds it."""

# The module `random` may be seeded; then all processes would draw the same ports.
_random = random.SystemRandom()

KILLED_WITHIN = 2.0
"""Time limit (s) from a kill until the output is closed."""

STEP = 0.01
"""Seconds between two polls."""


ROOT = Path(__file__).resolve().parents[2]
"""Folder that contains the package `harness`."""


def environment() -> dict[str, str]:
    """Return this process's environment, with the harness on PYTHONPATH."""
    path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
    return {**os.environ, "PYTHONPATH": path}


class NotReadyError(Exception):
    """A server ended, or reached the time limit, before it printed that it was ready."""


def free_port(host: str = "127.0.0.1") -> int:
    """Return a port that is free at a local address, and that the kernel gives to no client.

    Raise OSError if the address is not local, or if none of its ports in PORTS is free.
    """
    first = _random.randrange(PORTS.start, PORTS.stop)
    for port in chain(range(first, PORTS.stop), range(PORTS.start, first)):
        if not is_taken(host, port):
            return port
    raise OSError(errno.EADDRINUSE, os.strerror(errno.EADDRINUSE))


def is_taken(host: str, port: int) -> bool:
    """Return whether the port is in use. Raise OSError if the address is not local."""
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as probe:
        try:
            probe.bind((host, port))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
            return True
    return False


class Server:
    """A running server with all its children, in a session of its own.

    A thread reads the server's output, so that the server never blocks when it prints. Only the
    latest part of the output is kept.
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
        self._settled = threading.Event()
        """Set once the server is ready, or its output has ended."""
        self.ready_after: float | None = None
        """Seconds from the start until the server printed that it is ready; None before that."""
        self._started = time.monotonic()
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
                    self.ready_after = self.age()
                    self._settled.set()
        self._settled.set()

    @property
    def status(self) -> int | None:
        """Exit status of the command, negative for a signal; None until its end is noticed."""
        return self._process.returncode

    def age(self) -> float:
        """Return the seconds since the start of the command."""
        return time.monotonic() - self._started

    def wait_ready(self, limit: float) -> re.Match[bytes] | None:
        """Wait up to `limit` seconds until the server prints that it is ready; return the match.

        Raise NotReadyError if it does not print this in time.
        """
        if self._ready is None:
            return None
        if not comes_true(self._settled.is_set, limit):
            raise NotReadyError(
                f"did not print that it is ready within {limit:g} s{self._last_line()}"
            )
        if not self._match:
            raise NotReadyError(self.death(limit) or "closed its output before it was ready")
        return self._match

    def death(self, limit: float) -> str:
        """Return how the server ended, with the message of its crash or its last line; empty if it
        still runs after `limit` seconds."""
        status = status_within(self._process, limit)
        if status is None:
            return ""
        self._reader.join(limit)
        how = f"exit status {status}" if status >= 0 else _signal(-status)
        crash = find(self.output())
        return f"ended ({how})" + (f"; its message: {crash.says}" if crash else self._last_line())

    def output(self) -> str:
        """Return the latest output."""
        return self._output.decode(errors="backslashreplace")

    def _last_line(self) -> str:
        lines = self._output.decode(errors="backslashreplace").split("\n")
        last = next((text.strip() for text in reversed(lines) if text.strip()), "")
        return f"; its last line: {last}" if last else ""

    def stop(self, limit: float = 5.0) -> None:
        """Terminate the server; after `limit` seconds, kill it and its children.

        The output ends when the last process that can write to it has ended. So it is enough to
        wait for the end of the output, without watching each child.
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
        # While the thread runs, keep the descriptor open: if it were closed, the thread would read
        # from the next file that gets the same number.
        if not self._reader.is_alive():
            self._process.stdout.close()


def comes_true(what: Callable[[], bool], limit: float) -> bool:
    """Poll until `what` returns true; return False after `limit` seconds (0: one poll).

    Signals are deferred during each poll. They could interrupt the standard library while it
    holds a lock or waits for a process.
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
    """Return a process's exit status; None if it still runs after `limit` seconds."""
    comes_true(lambda: process.poll() is not None, limit)
    return process.returncode


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:  # a real-time signal has no name
        return f"signal {number}"


def family(root: int, proc: Path = Path("/proc")) -> list[int]:
    """Return the process ids of `root` and all its descendants."""
    children: dict[int, list[int]] = {}
    for entry in proc.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):  # the process has ended
            # The process name, in parentheses, may itself contain parentheses.
            stat = (entry / "stat").read_text().rpartition(")")[2]
            children.setdefault(int(stat.split()[1]), []).append(int(entry.name))
    found = [root]
    for pid in found:
        found += children.get(pid, [])
    return found


def weight(root: int, proc: Path = Path("/proc")) -> int | None:
    """Return the memory of `root` and its descendants, in bytes; a shared page counts once.

    The figure is the sum of Pss_Anon and Pss_Shmem; None if /proc lacks them, as on systems other
    than Linux. File pages are left out: they do not grow with the number of clients, and a
    process's share of them shrinks when another process, such as the load generator, maps the same
    file. The kernel's memory for sockets is not included.
    """
    found = []
    for pid in family(root, proc):
        with contextlib.suppress(OSError):  # the process has ended
            text = (proc / str(pid) / "smaps_rollup").read_text()
            found += re.findall(r"^Pss_(?:Anon|Shmem): +(\d+) kB$", text, re.MULTILINE)
    return 1024 * sum(map(int, found)) if found else None


def processor_times(root: int) -> dict[int, float]:
    """Return the processor time of `root` and each descendant, by process id.

    The time is in seconds, and is the sum of user and system time of all threads. The dictionary is
    empty if the system has no clocks for other processes; Linux has them. Such a clock has a
    resolution of 1 ns, and includes the current time slice of a running thread; /proc/PID/stat
    counts in steps of 10 ms.
    """
    found = {}
    for pid in family(root):
        with contextlib.suppress(OSError):  # the process has ended
            found[pid] = time.clock_gettime(_processor_clock(pid))
    return found


def program_of(pid: int) -> str:
    """Return the name of a process's program; empty if it has ended."""
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/comm").read_text().strip()
    return ""


def _processor_clock(pid: int) -> int:
    """Return the id of a process's clock. On Linux, clock_getcpuclockid(3) returns the same id."""
    return ~pid << 3 | 2
