"""The server under test: started from a command, or reached at an address.

Whatever a command starts bears a mark in its environment, so that nothing of it
is left behind, wherever it has moved: children, daemons, sessions of their own.
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

from harness.errors import CannotJudge, NotApplicable, StartError, Undecided, check_descriptors
from harness.target.interrupts import allow_signals, defer_signals
from harness.target.listeners import listening, sockets_of
from harness.target.processes import STEP, Server, comes, free_port, is_taken

MARK = "CHATROOM_HARNESS_TARGET"

START_WITHIN = 10.0
"""Seconds in which a server has to listen."""
STOP_WITHIN = 2.0
"""Seconds that a server is given to end by itself, once it was told to."""
KILL_WITHIN = 5.0
"""Seconds in which what was killed has to be gone."""
LAST_WORDS_WITHIN = 0.5
"""Seconds in which the last words of a server that has ended are read."""
SHOWN = 300
"""Characters of a server's words that a message quotes."""


@dataclass(frozen=True)
class Costs:
    """What a process tree holds: descriptors, bytes of memory."""

    descriptors: int
    memory: int


@dataclass(frozen=True)
class Times:
    """Seconds for which a thread has run, and for which it had to wait for a processor to run."""

    ran: float
    waited: float


def part_used(before: dict[int, Times], after: dict[int, Times], seconds: float) -> float:
    """The part of a processor that these threads would have used, if each had had one to itself.

    Each thread's part is that of the time in which it ran or slept: on a busy machine who never
    sleeps gets little, and waits for the rest.
    """
    part = 0.0
    for thread, now in after.items():
        then = before.get(thread, Times(0, 0))
        ran, waited = now.ran - then.ran, now.waited - then.waited
        part += ran / max(seconds - waited, ran) if ran else 0.0
    return part


class Target:
    """A server that can be talked to at `address`. Nothing is known of its insides."""

    ours = False
    """Whether it can be started, stopped and looked into."""
    blocked = 0.0
    """Seconds that it took to start it, stop it and look into it: meanwhile, this process did
    nothing else."""

    stays_open = False
    """Whether it was seen not to close connections whose clients have closed their side."""

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
        """Whether it is reached through this machine's loopback."""
        return self.host in ("localhost", "::1") or self.host.startswith("127.")

    def start(self) -> None:
        """See that it can be reached. Raises StartError."""
        try:
            socket.create_connection(self.address, START_WITHIN).close()
        except (OSError, UnicodeError) as error:  # UnicodeError: it can't be a host's name
            reason = getattr(error, "strerror", None) or error
            raise StartError(f"{self} can't be reached: {reason}") from None

    def stop(self) -> None:
        """It is not ours to stop."""

    def fresh(self) -> None:
        """Start anew, if it can be started, after a test that may have harmed it."""

    def death(self) -> str:
        """How it ended, with its last words; empty while it runs, as far as can be known."""
        return ""

    def output(self) -> str:
        """The last that it has printed."""
        return ""

    def another(
        self,
        options: str = "",  # noqa: ARG002  (of those that can be started)
        host: str = "127.0.0.1",  # noqa: ARG002
    ) -> Command:
        """One more server of the same kind, with more arguments, at `host`.

        Raises Undecided where none can be started.
        """
        raise Undecided("the target is an address: no server of its kind can be started")

    def costs(self) -> Costs:
        """What it costs. Raises Undecided where that can't be seen."""
        raise Undecided("the target is an address: what it costs can't be seen")

    def times(self) -> dict[int, Times]:
        """The times of each of its threads. Raises Undecided where they can't be seen."""
        raise Undecided("the target is an address: what it does can't be seen")

    def holders(self, ports: Iterable[int]) -> list[int]:  # noqa: ARG002
        """The processes, the main one excepted, that hold connections from these ports."""
        raise NotApplicable("the target is an address: its processes can't be reached")


class Command(Target):
    """A server that is started from a command: {host} and {port} are filled in."""

    ours = True

    def __init__(
        self, template: str, options: str = "", host: str = "127.0.0.1", scale: float = 1.0
    ) -> None:
        """`options`: more arguments; `scale`: of the time that a start may take.

        Raises ValueError for a template that can't be one.
        """
        super().__init__(host, 0)
        self._start_within = START_WITHIN * scale
        self._scale = scale
        self._template = template
        self._options = options
        self._server: Server | None = None
        self._printed = ""
        """The last that it had printed when it was stopped."""
        self._mark = ""
        if "{port}" not in template:
            raise ValueError("the command has to say {port} where the port goes")
        if not shlex.split(template):
            raise ValueError("the command is empty")

    def __str__(self) -> str:
        return f"{self._template} {self._options}".strip()

    def start(self) -> None:
        """Start it on a free port and wait until it listens. Raises StartError."""
        with self._blocking(), defer_signals():
            drawn = not self.port
            self._start()
            try:
                self._await_listening()
            except StartError:
                if not (drawn and self._lost_its_port()):
                    raise
                # Somebody has taken the port between our drawing it and the server's start.
                self.port = 0
                self._start()
                self._await_listening()

    @contextlib.contextmanager
    def _blocking(self) -> Iterator[None]:
        """Count what is done within as time in which nothing else could be done."""
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
            raise StartError(f"there is no port for it at {self.host}: {error}") from None
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
                words = self.output().strip().splitlines()[-1:]
                said = f"; it said: {_shown(words[0])}" if words else ", and said nothing"
                raise self._given_up(f"it does not listen after {self._start_within:g} s{said}")
            with allow_signals():
                time.sleep(STEP)

    def _given_up(self, why: str) -> StartError:
        """What is said of it, once it was stopped."""
        try:
            self.stop()
        except CannotJudge as error:
            why = f"{why}; {error}"
        return StartError(why)

    def stop(self) -> None:
        """End it: asked first, made to after STOP_WITHIN. All that it started is gone then.

        Raises CannotJudge where something of it can't be ended.
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
        # Those of before, too: who has lost both mark and parent is not found again.
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
            raise CannotJudge(f"what the target started can't be ended: process {pids}")

    def fresh(self) -> None:
        self.stop()
        self.port = 0
        self.start()

    def death(self) -> str:
        """As for any; a server goes on, too, when its first process has left it to others."""
        if self._server is None or not self._server.death(0) or self.processes():
            return ""
        return _shown(self._server.death(LAST_WORDS_WITHIN))

    def output(self) -> str:
        return self._server.output() if self._server else self._printed

    def another(self, options: str = "", host: str = "127.0.0.1") -> Command:
        return Command(self._template, options, host, self._scale)

    def processes(self) -> list[psutil.Process]:
        """All of its processes that are alive, the main one first.

        Those that bear the mark; and, as some write over their environment or
        start with another, the main one, and the children of all of these.
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

    def _listens(self) -> bool:
        """Return whether it listens, by the kernel's word: a connection as a probe could harm it.

        Somebody else's socket does not count, where it is known whose it is.
        """
        sockets = listening(self.port)
        if sockets is None:  # not Linux
            with contextlib.suppress(OSError), socket.create_connection(self.address, 1):
                return True
            return False
        if not sockets:
            return False
        # Mostly it is the main process, which costs a hundredth of a look at all processes.
        if self._server and sockets & sockets_of(self._server.pid):
            return True
        if any(sockets & sockets_of(process.pid) for process in self.processes()):
            return True
        everybody = (sockets_of(process.pid) for process in psutil.process_iter())
        return not sockets <= set().union(*everybody)  # else we may not see whose it is


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT`, an IPv6 address in brackets. Raises ValueError."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def make_target(command: str | None, address: str | None, scale: float = 1.0) -> Target:
    """The target that the options name; `scale`: of the time to start. Raises ValueError."""
    if bool(command) == bool(address):
        raise ValueError("say either --command or --target")
    return Command(command, scale=scale) if command else Target(*parse_address(address or ""))


def _shown(words: str) -> str:
    """Words of a server as a message quotes them: no more than some, and harmless to a terminal."""
    return "".join(char if char.isprintable() else "\ufffd" for char in words[:SHOWN])


def _times(process: psutil.Process) -> dict[int, Times]:
    """Of each thread; of the process as one, where the system does not tell (Linux does)."""
    found = {}
    for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # it has ended since
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


def _port(address: Any) -> int:
    """Of one end of a connection as psutil tells it; 0 where there is no such end."""
    port: int = address.port if address else 0
    return port
