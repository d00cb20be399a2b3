"""The server under test: started from a command, or reached at an address.

Each process that a command starts inherits a mark in its environment. By this mark, children,
daemons and processes in other sessions are found and ended.
"""

from __future__ import annotations

import contextlib
import os
import shlex
import socket
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from harness.descriptors import check_descriptors
from harness.errors import CannotJudge, NotApplicable, StartError, Undecided
from harness.target.interrupts import allow_signals, defer_signals
from harness.target.listeners import listening, sockets_of
from harness.target.processes import STEP, Server, comes, free_port, is_taken

MARK = "CHATROOM_HARNESS_TARGET"

START_WITHIN = 10.0
"""Seconds within which a server must listen."""
STOP_WITHIN = 2.0
"""Seconds between SIGTERM and SIGKILL."""
KILL_WITHIN = 5.0
"""Seconds within which killed processes must be gone."""
LAST_WORDS_WITHIN = 0.5
"""Seconds for reading the rest of the output of a server that has ended."""
SHOWN = 300
"""Maximum number of characters of a server's output in a message."""


@dataclass(frozen=True)
class Costs:
    """Resources of a process tree: open descriptors, and bytes of memory."""

    descriptors: int
    memory: int


@dataclass(frozen=True)
class Times:
    """Seconds that a thread has run, and seconds that it has waited for a processor."""

    ran: float
    waited: float


def part_used(before: dict[int, Times], after: dict[int, Times], seconds: float) -> float:
    """Return the number of processors that these threads would use if each had one to itself.

    A thread's share is its running time, divided by the time that it ran or slept. Its time on
    the run queue is left out: on a busy machine, a thread that never sleeps runs little.
    """
    part = 0.0
    for thread, now in after.items():
        then = before.get(thread, Times(0, 0))
        ran, waited = now.ran - then.ran, now.waited - then.waited
        part += ran / max(seconds - waited, ran) if ran else 0.0
    return part


class Target:
    """A server at `address`, of which nothing else is known."""

    ours = False
    """True if the harness can start, stop and inspect it."""
    blocked = 0.0
    """Total time (s) of starting, stopping and inspecting the server, during which this process
    could do nothing else."""

    stays_open = False
    """True once the server has left a connection open that its client had closed."""

    def __init__(self, host: str, port: int) -> None:
        self.host = host
        self.port = port

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"

    @property
    def address(self) -> tuple[str, int]:
        return self.host, self.port

    @property
    def local(self) -> bool:
        """True if it is reached through this machine's loopback."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def start(self) -> None:
        """Check that the server can be reached. Raise StartError if not."""
        try:
            socket.create_connection(self.address, START_WITHIN).close()
        except (OSError, UnicodeError) as error:  # UnicodeError: not a valid host name
            reason = getattr(error, "strerror", None) or error
            raise StartError(f"{self} can't be reached: {reason}") from None

    def stop(self) -> None:
        """Do nothing: the harness has not started it."""

    def fresh(self) -> None:
        """Restart the server after a test that may have harmed it, if the harness started it."""

    def death(self) -> str:
        """Return how the server ended, with its last line; empty while it runs, or if unknown."""
        return ""

    def output(self) -> str:
        """Return its latest output."""
        return ""

    def another(
        self,
        options: str = "",  # noqa: ARG002  (`Command` uses it)
        host: str = "127.0.0.1",  # noqa: ARG002
    ) -> Command:
        """Return another server of the same kind, with these additional arguments, at `host`.

        Raise Undecided if none can be started.
        """
        raise Undecided("the target is an address: no server of its kind can be started")

    def costs(self) -> Costs:
        """Return its costs. Raise Undecided if they are unknown."""
        raise Undecided("the target is an address: its costs are unknown")

    def times(self) -> dict[int, Times]:
        """Return the times of each of its threads. Raise Undecided if they are unknown."""
        raise Undecided("the target is an address: its threads' times are unknown")

    def holders(self, ports: Iterable[int]) -> list[int]:  # noqa: ARG002
        """Return the processes, except the main one, with connections from these ports.

        Raise NotApplicable if its processes can't be reached.
        """
        raise NotApplicable("the target is an address: its processes can't be reached")

    def suspended(self) -> contextlib.AbstractContextManager[None]:
        """Stop all processes of the server (SIGSTOP) during a block.

        Raise NotApplicable if they can't be reached.
        """
        raise NotApplicable("the target is an address: its processes can't be stopped")


class Command(Target):
    """A server that is started from a command: {host} and {port} are filled in."""

    ours = True

    def __init__(
        self, template: str, options: str = "", host: str = "127.0.0.1", scale: float = 1.0
    ) -> None:
        """Prepare a command; raise ValueError if `template` can't be one.

        `options`: additional arguments. `scale` multiplies the time to start.
        """
        super().__init__(host, 0)
        self._start_within = START_WITHIN * scale
        self._scale = scale
        self._template = template
        self._options = options
        self._server: Server | None = None
        self._printed = ""
        """Last output, kept after a stop."""
        self._mark = ""
        if "{port}" not in template:
            raise ValueError("the command must contain {port}")
        if not shlex.split(template):
            raise ValueError("the command is empty")

    def __str__(self) -> str:
        return f"{self._template} {self._options}".strip()

    def start(self) -> None:
        """Start the server on a free port, and wait until it listens; raise StartError if not."""
        with self._blocking(), defer_signals():
            drawn = not self.port
            self._start()
            try:
                self._await_listening()
            except StartError:
                if not (drawn and self._lost_its_port()):
                    raise
                # Another process took the port before the server bound it.
                self.port = 0
                self._start()
                self._await_listening()

    @contextlib.contextmanager
    def _blocking(self) -> Iterator[None]:
        """Add the duration of the block to `blocked`."""
        began = time.monotonic()
        try:
            yield
        finally:
            self.blocked += time.monotonic() - began

    def _start(self) -> None:
        try:
            self.port = self.port or free_port(self.host)
        except OSError as error:
            check_descriptors(error)
            raise StartError(f"no free port for the server at {self.host}: {error}") from None
        values = {"{host}": self.host, "{port}": str(self.port)}
        command = shlex.split(f"{self._template} {self._options}")
        for name, value in values.items():
            command = [part.replace(name, value) for part in command]
        self._mark = uuid.uuid4().hex
        try:
            self._server = Server(command, None, {**os.environ, MARK: self._mark})
        except OSError as error:
            check_descriptors(error)
            raise StartError(f"can't run {command[0]!r}: {error.strerror}") from None

    def _lost_its_port(self) -> bool:
        with contextlib.suppress(OSError):
            return is_taken(self.host, self.port)
        return False

    def _await_listening(self) -> None:
        deadline = time.monotonic() + self._start_within
        while not self._listens():
            if how := self.death():
                raise self._given_up(f"it {how}")
            if time.monotonic() >= deadline:
                lines = self.output().strip().splitlines()[-1:]
                printed = (
                    f"; its last line: {_shown(lines[0])}" if lines else ", and printed nothing"
                )
                raise self._given_up(f"it does not listen after {self._start_within:g} s{printed}")
            with allow_signals():
                time.sleep(STEP)

    def _given_up(self, why: str) -> StartError:
        """Stop the server; return an error with the reason."""
        try:
            self.stop()
        except CannotJudge as error:
            why = f"{why}; {error}"
        return StartError(why)

    def stop(self) -> None:
        """Terminate the server; after STOP_WITHIN, kill it and all that it started.

        Raise CannotJudge if a process can't be ended.
        """
        if self._server is not None:
            with self._blocking(), defer_signals():
                self._stop(self._server)

    def _stop(self, server: Server) -> None:
        processes = self.processes()
        if processes:
            main = processes[0]
            with contextlib.suppress(psutil.Error):
                main.terminate()
            comes(lambda: not _alive(main), STOP_WITHIN)
        # A process that lost both mark and parent meanwhile is only in the older list.
        deadline = time.monotonic() + KILL_WITHIN
        while left := [*filter(_alive, processes), *self.processes()]:
            for process in left:
                with contextlib.suppress(psutil.Error):
                    process.kill()
            if time.monotonic() >= deadline:
                break
            time.sleep(STEP)
        server.stop(LAST_WORDS_WITHIN)
        self._printed = server.output()
        self._server = None
        if left := [*filter(_alive, left)]:
            pids = ", ".join(sorted({str(process.pid) for process in left}))
            raise CannotJudge(f"the target's processes can't be ended: {pids}")

    def fresh(self) -> None:
        self.stop()
        self.port = 0
        self.start()

    def death(self) -> str:
        """Return how the server ended, as `Target.death` does. A server runs while any of its
        processes runs, even without the main one."""
        if self._server is None or not self._server.death(0) or self.processes():
            return ""
        return _shown(self._server.death(LAST_WORDS_WITHIN))

    def output(self) -> str:
        return self._server.output() if self._server else self._printed

    def another(self, options: str = "", host: str = "127.0.0.1") -> Command:
        return Command(self._template, options, host, self._scale)

    def processes(self) -> list[psutil.Process]:
        """Return all living processes of the server, the main one first.

        These are the main process, those with the mark, and the children of both: some
        processes overwrite their environment or start with another one.
        """
        main = self._server.pid if self._server and not self._server.death(0) else 0
        found: dict[int, psutil.Process] = {}
        children: dict[int, list[psutil.Process]] = {}
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                children.setdefault(process.ppid(), []).append(process)
            with contextlib.suppress(psutil.Error):
                if process.pid == main or process.environ().get(MARK) == self._mark:
                    found[process.pid] = process
        family = list(found.values())
        for process in family:
            for child in children.get(process.pid, []):
                if child.pid not in found:
                    found[child.pid] = child
                    family.append(child)
        alive = [process for process in family if _alive(process)]
        return sorted(alive, key=lambda process: process.pid != main)

    def costs(self) -> Costs:
        descriptors = memory = 0
        with self._blocking():
            for process in self.processes():
                with contextlib.suppress(psutil.Error):
                    descriptors += process.num_fds()
                    memory += process.memory_full_info().uss
        return Costs(descriptors, memory)

    def times(self) -> dict[int, Times]:
        found: dict[int, Times] = {}
        with self._blocking():
            for process in self.processes():
                with contextlib.suppress(psutil.Error):
                    found |= _times(process)
        return found

    def holders(self, ports: Iterable[int]) -> list[int]:
        wanted = set(ports)
        found = []
        for process in self.processes()[1:]:
            with contextlib.suppress(psutil.Error):
                connections = process.net_connections("tcp")
                if wanted & {_port(connection.raddr) for connection in connections}:
                    found.append(process.pid)
        return found

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        with self._blocking():
            processes = self.processes()
        try:
            with self._blocking():
                for process in processes:
                    with contextlib.suppress(psutil.Error):
                        process.suspend()
                comes(lambda: all(map(_is_stopped, processes)), STOP_WITHIN)
            yield
        finally:
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.resume()

    def _listens(self) -> bool:
        """Return whether the server listens, according to the kernel: a connection could harm it.

        The socket of another process does not count, if the owner can be seen.
        """
        sockets = listening(self.port)
        if sockets is None:  # not Linux
            with contextlib.suppress(OSError), socket.create_connection(self.address, 1):
                return True
            return False
        if not sockets:
            return False
        # Usually the main process owns it. To check only this costs a hundredth of checking all.
        if self._server and sockets & sockets_of(self._server.pid):
            return True
        if any(sockets & sockets_of(process.pid) for process in self.processes()):
            return True
        everybody = (sockets_of(process.pid) for process in psutil.process_iter())
        return not sockets <= set().union(*everybody)  # the owner can't be seen


def parse_address(text: str) -> tuple[str, int]:
    """Parse `HOST:PORT`, with an IPv6 address in brackets. Raise ValueError if it is malformed."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def make_target(command: str | None, address: str | None, scale: float = 1.0) -> Target:
    """Return the target that the options name. Raise ValueError if they name none, or two.

    `scale` multiplies the time to start.
    """
    if bool(command) == bool(address):
        raise ValueError("give either --command or --target")
    return Command(command, scale=scale) if command else Target(*parse_address(address or ""))


def _shown(output: str) -> str:
    """Return a server's output for a message: shortened, and harmless to a terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in output[:SHOWN])


def _times(process: psutil.Process) -> dict[int, Times]:
    """Return the times of each thread, or of the whole process where threads are unknown."""
    found = {}
    for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # it has ended
            ran, waited, _ = path.read_text().split()
            found[int(path.parent.name)] = Times(int(ran) / 1e9, int(waited) / 1e9)
    if not found:
        times = process.cpu_times()
        found[process.pid] = Times(times.user + times.system, 0.0)
    return found


def _alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        status: str = process.status()
        return status != psutil.STATUS_ZOMBIE
    return False


def _is_stopped(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        stopped: bool = process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
        return stopped
    return True  # it has ended


def _port(address: Any) -> int:
    """Return the port of one end of a connection; 0 if there is none."""
    port: int = address.port if address else 0
    return port
