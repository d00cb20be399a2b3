"""The server under test: started from a command, or reached at an address.

Each process that a command starts inherits a mark in its environment. The server's processes are
found by this mark, by their parents and by their sessions. So all of them can be ended, even if the
server detaches. If another process runs the server for the command, as a container engine does,
only the server's listening sockets are known.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import shlex
import socket
import sys
import time
import uuid
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from harness.descriptors import check_descriptors
from harness.errors import CannotJudge, NotApplicable, StartError, Undecided
from harness.target.interrupts import allow_signals, defer_signals
from harness.target.listeners import listening, sockets_of
from harness.target.orphans import adopt, reap, release
from harness.target.processes import STEP, Server, comes_true, free_port, is_taken
from harness.target.roles import Roles

MARK = "CHATROOM_HARNESS_TARGET"
"""Environment variable for the mark of a server's processes."""

START_WITHIN = 10.0
"""Seconds within which a server must listen."""
STOP_WITHIN = 2.0
"""Seconds between SIGTERM and SIGKILL."""
OUTSIDE_AFTER = 1.0
"""Seconds after the start of the command. From then on, a process that listens at the port counts
as the server, even if the command has not started it. If an unrelated process had taken the port,
the command would have failed before this time."""
STAYS = 0.3
"""Seconds for which a test connection must stay open if the command has not started the process. A
container engine accepts connections before the server does, and closes them."""
KILL_WITHIN = 5.0
"""Seconds within which killed processes must be gone."""
LAST_OUTPUT_WITHIN = 0.5
"""Time limit (s) for reading the rest of the output of a server that has ended."""
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
    """Return the number of processors that the threads would use if each had one to itself.

    `before`, `after`: times of each thread, by thread id. `seconds`: the time between the two. A
    thread's share is its running time, divided by the time in which it ran or slept. Time in which
    it waited for a processor is left out: on a busy machine, even a thread that never sleeps waits
    most of the time.
    """
    part = 0.0
    for thread, now in after.items():
        then = before.get(thread, Times(0, 0))
        ran, waited = now.ran - then.ran, now.waited - then.waited
        part += ran / max(seconds - waited, ran) if ran else 0.0
    return part


class Target:
    """A server that is known only by its endpoints."""

    ours = False
    """True if the harness can start, stop and inspect the server."""
    blocked = 0.0
    """Total time (s) in which this process was blocked, because it started, stopped or inspected
    the server."""

    stays_open = False
    """True once a client has closed its side of a connection and the server has not."""

    busy = False
    """True if the server kept a processor busy after all clients of a test had left. It would slow
    down the next test, which therefore gets a fresh server."""

    unwelcoming = False
    """True if the latest client did not receive the welcome of the profile."""
    silences = 0
    """Number of successive clients, up to the latest one, that received no welcome and no other
    text in time."""

    def __init__(self, host: str, port: int, *others: tuple[str, int]) -> None:
        """`others`: further endpoints of the same room."""
        self.host = host
        self.port = port
        self.others = [*others]

    def __str__(self) -> str:
        return ", ".join(itertools.starmap(at, self.endpoints))

    @property
    def address(self) -> tuple[str, int]:
        """The first endpoint."""
        return self.host, self.port

    @property
    def endpoints(self) -> list[tuple[str, int]]:
        """Addresses at which the server accepts connections to one room; there is at least one."""
        return [self.address, *self.others]

    @property
    def local(self) -> bool:
        """True if all endpoints are at this machine's loopback."""
        return all(is_local(host) for host, _ in self.endpoints)

    def start(self) -> None:
        """Check that the server can be reached. Raise StartError if it can't."""
        for endpoint in self.endpoints:
            try:
                socket.create_connection(endpoint, START_WITHIN).close()
            except (OSError, UnicodeError) as error:  # UnicodeError: not a valid host name
                reason = getattr(error, "strerror", None) or error
                raise StartError(f"{at(*endpoint)} can't be reached: {reason}") from None

    def stop(self) -> None:
        """Do nothing: the harness has not started the server."""

    def fresh(self) -> None:
        """Restart the server if the harness started it; a test may have harmed the old one."""

    def death(self) -> str:
        """Return how the server ended, with the message of its crash or its last line; empty while
        it runs, or if this is unknown."""
        return ""

    def output(self) -> str:
        """Return the server's latest output."""
        return ""

    def another(
        self,
        options: str = "",  # noqa: ARG002  (`Command` uses it)
        host: str = "127.0.0.1",  # noqa: ARG002
    ) -> Command:
        """Return another server of the same kind, which is not started yet.

        options: additional arguments of its command. host: its address. Raise Undecided if no such
        server can be started.
        """
        raise Undecided("the target is an address: no server of its kind can be started")

    def costs(self, *, engines: bool = True) -> Costs:  # noqa: ARG002  (`Command` uses it)
        """Return the server's costs, with or without those of its engines (`Roles`).

        Raise Undecided if they are unknown.
        """
        raise Undecided("the target is an address: its costs are unknown")

    def times(self) -> dict[int, Times]:
        """Return the times of the server's threads, by thread id. Raise Undecided if they are
        unknown."""
        raise Undecided("the target is an address: its threads' times are unknown")

    def holders(self, ports: Iterable[int]) -> list[int]:  # noqa: ARG002
        """Return the ids of the server's workers that have a connection from one of these ports.

        Raise NotApplicable if the processes can't be reached.
        """
        raise NotApplicable("the target is an address: its processes can't be reached")

    def suspended(self) -> contextlib.AbstractContextManager[None]:
        """Stop all processes of the server (SIGSTOP) during a block.

        Raise NotApplicable if they can't be reached.
        """
        raise NotApplicable("the target is an address: its processes can't be stopped")


class Command(Target):
    """A server that is started from a command. Its address replaces {host} in the command, and its
    ports replace {port}, {port2} …"""

    ours = True

    def __init__(
        self, template: str, options: str = "", host: str = "127.0.0.1", scale: float = 1.0
    ) -> None:
        """Prepare a server; raise ValueError if `template` is not a valid command.

        `options`: additional arguments. `scale`: factor for the time limit of the start.
        """
        super().__init__(host, 0)
        self._start_within = START_WITHIN * scale
        self._scale = scale
        self._template = template
        self._options = options
        self._server: Server | None = None
        self._printed = ""
        """Output of the server, once it is stopped."""
        self._mark = ""
        self._sessions: set[int] = set()
        """Ids of the sessions of the server's processes: the command's, and those of daemons."""
        self._older: set[int] = set()
        """Ids of the harness's child processes before the server was started."""
        self._foreign: set[int] = set()
        """Inodes of the sockets that listened at the server's ports before it was started."""
        self._outside = False
        """True if the listening process is not one that the command has started."""
        if "{port}" not in template:
            raise ValueError("the command must contain {port}")
        if not shlex.split(template):
            raise ValueError("the command is empty")
        names = {int(number) for number in re.findall(r"\{port(\d+)\}", template)}
        self._ports = 1 + len(names)
        for missing in {*range(2, self._ports + 1)} - names:
            raise ValueError(f"the command must contain {{port{missing}}}, too")

    def __str__(self) -> str:
        return f"{self._template} {self._options}".strip()

    def start(self) -> None:
        """Start the server at free ports, and wait until it listens at each of them. Raise
        StartError if it does not start."""
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
        self.busy = False
        try:
            self._draw_ports()
            self._foreign = self._listeners()
        except OSError as error:
            check_descriptors(error)
            raise StartError(f"no free port for the server at {self.host}: {error}") from None
        values = {"{host}": self.host, "{port}": str(self.port)}
        values |= {f"{{port{n}}}": str(port) for n, (_, port) in enumerate(self.others, 2)}
        command = shlex.split(f"{self._template} {self._options}")
        for name, value in values.items():
            command = [part.replace(name, value) for part in command]
        self._mark = uuid.uuid4().hex
        self._outside = False
        self._older = {child.pid for child in psutil.Process().children()}
        adopt()
        try:
            self._server = Server(command, None, {**os.environ, MARK: self._mark})
        except OSError as error:
            release()
            check_descriptors(error)
            raise StartError(f"can't run {command[0]!r}: {error.strerror}") from None
        self._sessions = {self._server.pid}

    def _draw_ports(self) -> None:
        """Draw the ports, unless the server already has ports from an earlier start."""
        if not self.port:
            self.port, self.others = free_port(self.host), []
        while len(self.endpoints) < self._ports:
            endpoint = self.host, free_port(self.host)
            if endpoint not in self.endpoints:
                self.others.append(endpoint)

    def _lost_its_port(self) -> bool:
        with contextlib.suppress(OSError):
            return any(itertools.starmap(is_taken, self.endpoints))
        return False

    def _await_listening(self) -> None:
        deadline = time.monotonic() + self._start_within
        while missing := [port for _, port in self.endpoints if not self._listens(port)]:
            if (how := self.death()) and not self._may_have_detached():
                raise self._given_up(f"it {how}")
            if time.monotonic() >= deadline:
                lines = self.output().strip().splitlines()[-1:]
                printed = (
                    f"; its last line: {_shown(lines[0])}" if lines else ", and printed nothing"
                )
                where = f" at port {missing[0]}" if self.others else ""
                raise self._given_up(
                    f"it does not listen{where} after {self._start_within:g} s (--timeout-scale"
                    f" gives it more time){printed}"
                )
            with allow_signals():
                time.sleep(STEP)

    def _may_have_detached(self) -> bool:
        """Return whether the command may have started a daemon: it has ended with exit status 0,
        and has left an orphan or a listening socket."""
        if not self._server or self._server.status != 0:
            return False
        # A daemon's first process forks and ends. If it ends during the first look, only the second
        # look is certain to find its child.
        for _ in range(2):
            for child in psutil.Process().children():
                is_other = _session(child) not in (0, os.getsid(0))
                if child.pid not in self._older and is_other and _alive(child):
                    return True
        return bool(self._listeners() - self._foreign)

    def _given_up(self, why: str) -> StartError:
        """Stop the server; return the error to raise."""
        try:
            self.stop()
        except CannotJudge as error:
            why = f"{why}; {error}"
        return StartError(why)

    def stop(self) -> None:
        """Terminate the server; after STOP_WITHIN seconds, kill all its processes.

        Raise CannotJudge if a process can't be ended, or if a socket still listens at its ports.
        """
        if self._server is not None:
            with self._blocking(), defer_signals():
                try:
                    self._stop(self._server)
                finally:
                    release()

    def _stop(self, server: Server) -> None:
        processes = self.processes()
        if processes:
            main = processes[0]
            with contextlib.suppress(psutil.Error):
                main.terminate()
            comes_true(lambda: not _alive(main), STOP_WITHIN)
        # `self.processes()` no longer finds a process that has lost both its mark and its parent.
        deadline = time.monotonic() + KILL_WITHIN
        ended = {process.pid for process in processes}
        while left := [*filter(_alive, processes), *self.processes()]:
            for process in left:
                ended.add(process.pid)
                with contextlib.suppress(psutil.Error):
                    process.kill()
            if time.monotonic() >= deadline:
                break
            time.sleep(STEP)
        server.stop(LAST_OUTPUT_WITHIN)
        reap(ended - {server.pid})
        self._printed = server.output()
        self._server = None
        if left := [*filter(_alive, left)]:
            pids = ", ".join(sorted({str(process.pid) for process in left}))
            raise CannotJudge(f"the target's processes can't be ended: {pids}")
        # A container engine may stop listening some time after its client, the command, has ended.
        if not comes_true(lambda: not self._listeners() - self._foreign, STOP_WITHIN):
            raise CannotJudge(
                f"the target can't be ended: the command has ended, but {self._owners()} still"
                f" listens at port {', '.join(str(port) for _, port in self.endpoints)}"
            )

    def fresh(self) -> None:
        self.stop()
        self.port = 0
        self.start()

    def death(self) -> str:
        """Return how the server ended, as `Target.death` does. The server runs as long as any of
        its processes runs, even if the main process has ended."""
        if self._server is None or not self._server.death(0) or self.processes():
            return ""
        if self._outside and self._listeners() - self._foreign:
            return ""
        return _shown(self._server.death(LAST_OUTPUT_WITHIN))

    def output(self) -> str:
        return self._server.output() if self._server else self._printed

    def another(self, options: str = "", host: str = "127.0.0.1") -> Command:
        return Command(self._template, options, host, self._scale)

    def processes(self) -> list[psutil.Process]:
        """Return all living processes of the server, the main one first.

        These are the main process, the processes with the mark, and all their descendants: some
        processes overwrite their environment, or start with another environment. Descendants of
        the harness, such as adopted orphans, are included if they are in one of `_sessions`.

        On Linux, the harness adopts orphans, so only its descendants are examined. Examining all
        processes of the machine would take ten times as long.
        """
        main = self._server.pid if self._server and not self._server.death(0) else 0
        found: dict[int, psutil.Process] = {}
        children: dict[int, list[psutil.Process]] = {}
        linux = sys.platform == "linux"
        for process in psutil.Process().children(True) if linux else psutil.process_iter():
            with contextlib.suppress(psutil.Error):
                children.setdefault(process.ppid(), []).append(process)
            with contextlib.suppress(psutil.Error):
                if process.pid == main or process.environ().get(MARK) == self._mark:
                    found[process.pid] = process
        for process in _descendants(children.get(os.getpid(), []), children):
            if _session(process) in self._sessions:
                found[process.pid] = process
        alive = filter(_alive, _descendants(found.values(), children))
        return sorted(alive, key=lambda process: process.pid != main)

    def _inspect(self, what: str) -> list[psutil.Process]:
        """Return the server's processes. Raise Undecided if the command has not started them.

        what: end of the error message.
        """
        if self._outside:
            raise Undecided(
                "the command has not started the process that listens, as with a container: " + what
            )
        return self.processes()

    def costs(self, *, engines: bool = True) -> Costs:
        descriptors = memory = 0
        with self._blocking():
            processes = self._inspect("its costs are unknown")
            left_out = [] if engines else self._roles(processes).engines
            for process in processes:
                if process in left_out:
                    continue
                with contextlib.suppress(psutil.Error):
                    descriptors += process.num_fds()
                    memory += process.memory_full_info().uss
        return Costs(descriptors, memory)

    def times(self) -> dict[int, Times]:
        found: dict[int, Times] = {}
        with self._blocking():
            for process in self._inspect("its threads' times are unknown"):
                with contextlib.suppress(psutil.Error):
                    found |= _times(process)
        return found

    def holders(self, ports: Iterable[int]) -> list[int]:
        if self._outside:
            raise NotApplicable("the command has not started the process that listens")
        roles, wanted = self.roles(), set(ports)
        return [
            worker.pid
            for worker in roles.workers
            if wanted & {each.peer for each in roles.sockets[worker.pid]}
        ]

    def roles(self) -> Roles:
        """Return the server's living processes by their roles."""
        return self._roles(self.processes())

    def _roles(self, processes: Sequence[psutil.Process]) -> Roles:
        return Roles(processes, [port for _, port in self.endpoints])

    @contextlib.contextmanager
    def suspended(self) -> Iterator[None]:
        if self._outside:
            raise NotApplicable("the server runs outside the command: it can't be stopped")
        with self._blocking():
            processes = self.processes()
        try:
            with self._blocking():
                for process in processes:
                    with contextlib.suppress(psutil.Error):
                        process.suspend()
                comes_true(lambda: all(map(_is_stopped, processes)), STOP_WITHIN)
            yield
        finally:
            for process in processes:
                with contextlib.suppress(psutil.Error):
                    process.resume()

    def _listens(self, port: int) -> bool:
        """Return whether the server listens at one of its ports, according to the kernel. A test
        connection could harm the server."""
        sockets = listening(port)
        if sockets is None:  # the system is not Linux
            with contextlib.suppress(OSError), socket.create_connection((self.host, port), 1):
                return True
            return False
        sockets -= self._foreign
        if not sockets or not self._server:
            return False
        # Usually the main process has the socket. Checking this process alone takes a hundredth of
        # the time.
        if sockets & sockets_of(self._server.pid):
            return True
        if any(sockets & sockets_of(process.pid) for process in self.processes()):
            return True
        owners = _owners(sockets)
        if any(map(self._include, owners)):
            return True
        if not owners:  # the listening process belongs to another user
            self._outside = True
            return True
        self._outside = self._server.age() >= OUTSIDE_AFTER and _stays_open((self.host, port))
        return self._outside

    def _include(self, process: psutil.Process) -> bool:
        """Return whether a listening process is an orphan that the command has left; if so, add its
        session to the server's sessions."""
        try:
            orphan = psutil.Process() in process.parents() and MARK not in process.environ()
        except psutil.Error:
            return False
        session = _session(process)
        if not orphan or session in (0, os.getsid(0)):
            return False
        self._sessions.add(session)
        return True

    def _listeners(self) -> set[int]:
        """Return the inodes of all sockets that listen at the server's ports, including those of
        other processes."""
        return set().union(*(listening(port) or () for _, port in self.endpoints))

    def _owners(self) -> str:
        """Return the processes that listen at the server's ports, as text for a message."""
        names = []
        for process in _owners(self._listeners() - self._foreign):
            with contextlib.suppress(psutil.Error):
                names.append(f"process {process.pid} ({_shown(process.name())})")
        return ", ".join(names) or "a process of another user"


def at(host: str, port: int) -> str:
    """Return an endpoint as text: HOST:PORT, with an IPv6 address in brackets."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def is_local(host: str) -> bool:
    """Return whether a host is an address of this machine's loopback, or `localhost`."""
    return host in ("localhost", "::1") or host.startswith("127.")


def parse_address(text: str) -> tuple[str, int]:
    """Parse `HOST:PORT`, with an IPv6 address in brackets. Raise ValueError if it is malformed."""
    host, colon, port = text.rpartition(":")
    if not (colon and host and port.isascii() and port.isdigit() and int(port) < 65536):
        raise ValueError(f"{text!r} is not HOST:PORT")
    return host.strip("[]"), int(port)


def make_target(command: str | None, addresses: Sequence[str], scale: float = 1.0) -> Target:
    """Return the target: a server to start from `command`, or a running one at `addresses`.

    `scale`: factor for the time limit of the start. Raise ValueError unless exactly one of
    `command` and `addresses` is given.
    """
    if bool(command) == bool(addresses):
        raise ValueError("give either --command or --target")
    if command:
        return Command(command, scale=scale)
    first, *others = map(parse_address, addresses)
    return Target(*first, *others)


def _shown(output: str) -> str:
    """Return the first SHOWN characters of a server's output, without control characters."""
    return "".join(char if char.isprintable() else "\ufffd" for char in output[:SHOWN])


def _times(process: psutil.Process) -> dict[int, Times]:
    """Return the times of each thread by thread id, or of the whole process by process id if the
    system does not show threads."""
    found = {}
    for path in Path(f"/proc/{process.pid}/task").glob("*/schedstat"):
        with contextlib.suppress(OSError):  # the thread has ended
            ran, waited, _ = path.read_text().split()
            found[int(path.parent.name)] = Times(int(ran) / 1e9, int(waited) / 1e9)
    if not found:
        times = process.cpu_times()
        found[process.pid] = Times(times.user + times.system, 0.0)
    return found


def _stays_open(endpoint: tuple[str, int]) -> bool:
    """Return whether a connection to an endpoint receives data, or stays open for STAYS seconds."""
    try:
        with socket.create_connection(endpoint, STAYS) as connection:
            return connection.recv(1) != b""
    except TimeoutError:
        return True
    except OSError:
        return False


def _owners(sockets: set[int]) -> list[psutil.Process]:
    """Return the processes that have any of these sockets open, except those of other users."""
    return [process for process in psutil.process_iter() if sockets & sockets_of(process.pid)]


def _descendants(
    roots: Iterable[psutil.Process], children: Mapping[int, Sequence[psutil.Process]]
) -> list[psutil.Process]:
    """Return the processes `roots` and all their descendants. `children`: by their parent's id."""
    found = {process.pid: process for process in roots}
    family = [*found.values()]
    for process in family:
        for child in children.get(process.pid, []):
            if child.pid not in found:
                found[child.pid] = child
                family.append(child)
    return family


def _session(process: psutil.Process) -> int:
    """Return the id of a process's session; 0 if the process has ended."""
    with contextlib.suppress(OSError):
        return os.getsid(process.pid)
    return 0


def _alive(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        status: str = process.status()
        return status != psutil.STATUS_ZOMBIE
    return False


def _is_stopped(process: psutil.Process) -> bool:
    with contextlib.suppress(psutil.Error):
        stopped: bool = process.status() in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE)
        return stopped
    return True  # the process has ended
