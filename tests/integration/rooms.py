"""A room for a test: `python -m chatroom`, its processes, and its output.

    with room("--workers", 2) as here:
        ...

In every test, each room must end without a fault: SIGTERM stops the room in time, with exit code 0
and an empty standard error, and no process and no file is left.
"""

import fcntl
import mmap
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import termios
import time
from array import array
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from functools import partial
from pathlib import Path

from chatroom.control.control_socket import ControlClient
from tests.integration.clients import Client
from tests.integration.processes import (
    LISTENS,
    Connection,
    End,
    Process,
    connection,
    connections,
    session,
)
from tests.integration.waiting import PATIENCE, over, until

ROOT = Path(__file__).parent.parent.parent
WELCOME = b"Welcome to socket practice\n"

#: Options of a room in which no pause counts as a silence, however slow the machine is. So a line
#: that is sent in pieces stays one line. (A room delivers text without a line end after a silence.)
NEVER_SILENT = ("--flush-after", 60)

#: Options of a room that throttles neither a member (LOAD-3) nor the room as a whole.
UNLIMITED = ("--rate", 0, "--room-rate", 0)

#: Options of a room with the smallest log that the lag limit and the longest line allow. The log
#: wraps often if members are not throttled.
SMALL_LOG = ("--log-size", "128K", "--max-lag", "64K", "--max-line", "4K", *UNLIMITED)

#: Beginning of the error line of a room that does not start.
ERROR_LINE = "^python -m chatroom: "

#: Patterns of the log lines about a killed worker and a killed registry.
DIED = r" level=warning event=worker-died worker=\d+ exit=-9 says="
REGISTRY_DIED = r" level=warning event=registry-died says="

#: Seconds within which a stopped room must have ended.
STOP_WITHIN = 5.0

#: Seconds over which a room's processor time is measured, and the maximum (s) for an idle room.
IDLE_WINDOW = 0.4
IDLE_TIME = 0.03


class Room:
    """A room that was started, but may not be ready yet. The room has its own session and process
    group."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        folder: Path,
        leaving: ExitStack,
        logs: str,
    ) -> None:
        """`logs` is a pattern that must match every line on the room's standard error. If `logs` is
        not empty, there must be at least one line."""
        self.process = process
        self.pid = process.pid
        self.host = ""
        self.port = 0
        self.where = ""
        """Addresses at which the room listens, as it printed them."""
        self.console = b""
        """Standard output that was read but not returned yet."""
        self._folder = folder
        self._leaving = leaving
        self._logs = logs

    # --- output --------------------------------------------------------------

    def listen(self) -> None:
        """Wait until the room prints that it listens."""
        line = self.read_until("\n").decode()
        assert line.startswith("listening on "), f"{line!r}, {self.errors!r}"
        self.where = line.removeprefix("listening on ").rstrip("\n")
        host, _, port = self.where.partition(", ")[0].rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)

    def wait_until_listening(self) -> None:
        """Wait until the room's port accepts connections, without reading the output."""

        def find() -> list[int]:
            held = [
                descriptor for process in self.processes() for descriptor in process.descriptors
            ]
            ports = [connection for connection in connections() if connection.state == LISTENS]
            return [port.local[1] for port in ports if f"socket:[{port.inode}]" in held]

        self.host, [self.port] = "127.0.0.1", until(find, "the room listens")

    def read_until(self, token: str | bytes) -> bytes:
        """Read the room's standard output, up to the end of the token."""
        wanted = token.encode() if isinstance(token, str) else token
        while wanted not in self.console:
            assert self._read_on(), (
                f"the output ended without {wanted!r}: {self.console!r}, {self.errors!r}"
            )
        heard, _, self.console = self.console.partition(wanted)
        return heard + wanted

    def read_rest(self) -> bytes:
        """Read the room's standard output to the end."""
        while self._read_on():
            pass
        heard, self.console = self.console, b""
        return heard

    def _read_on(self) -> bool:
        output = self.process.stdout
        assert output is not None
        ready, _, _ = select.select([output], [], [], PATIENCE)
        assert ready, f"nothing more was printed after {self.console[-500:]!r}; {self.errors!r}"
        data = os.read(output.fileno(), 1 << 16)
        self.console += data
        return bool(data)

    def unread_output(self) -> int:
        """Return the number of bytes in the pipe for the room's standard output."""
        assert self.process.stdout is not None
        unread = array("i", [0])
        fcntl.ioctl(self.process.stdout, termios.FIONREAD, unread)
        return unread[0]

    def output_is_full(self) -> bool:
        """Return True if the pipe for the room's standard output is full."""
        assert self.process.stdout is not None
        # A pipe consists of pages, and small writes leave gaps in some of them. So allow for four
        # pages.
        size = fcntl.fcntl(self.process.stdout, fcntl.F_GETPIPE_SZ)
        return self.unread_output() + 4 * mmap.PAGESIZE >= size

    @property
    def errors(self) -> str:
        """Standard error so far."""
        return (self._folder / "errors").read_text()

    @property
    def run_dir(self) -> Path:
        """The room's default run-dir."""
        return self._folder / "tmp" / f"chatroom-{os.getuid()}"

    def files(self) -> list[str]:
        """Return the names of the files that the room has left in its own temporary folder."""
        return sorted(path.name for path in (self._folder / "tmp").iterdir())

    def files_when_killed(self) -> list[str]:
        """Return `files` without the control socket, which a killed room can't remove. The next
        room recognises this socket as stale."""
        sockets = [f"{self.host}:{self.port}.sock"] if self.port else []
        if self.run_dir.exists():
            found = [path.name for path in self.run_dir.iterdir()]
            assert found == sockets or (not sockets and len(found) <= 1)
        return [name for name in self.files() if name != self.run_dir.name]

    # --- clients -------------------------------------------------------------

    def connect(self, source: str = "127.0.0.1", receive_buffer: int = 0) -> Client:
        """Connect a client that has not received anything yet."""
        host = "127.0.0.1" if self.host == "::" and ":" not in source else self.host
        return self._leaving.enter_context(Client(host, self.port, source, receive_buffer))

    def join(self, source: str = "127.0.0.1", receive_buffer: int = 0) -> Client:
        """Return a member, which is a client that has received the whole welcome."""
        client = self.connect(source, receive_buffer)
        client.expect(WELCOME)
        return client

    def join_all(self, sources: Iterable[str]) -> list[Client]:
        """Return members, all of which connect before any of them receives the welcome."""
        clients = [self.connect(source) for source in sources]
        for client in clients:
            client.expect(WELCOME)
        return clients

    def wait_until_read(self, client: Client) -> None:
        """Wait until the room has read everything that the client sent."""

        def read() -> bool:
            theirs = self._connection(client.end, (self.host, self.port))
            return not (theirs.unsent or self._end_of(client).unread)

        until(read, f"the room has read all that {client.address} sent")

    def unsent(self, client: Client) -> int:
        """Return the number of bytes that the room has sent but the client has not received."""
        return self._end_of(client).unsent

    def _end_of(self, client: Client) -> Connection:
        """Return the room's end of a client's connection."""
        return self._connection((self.host, self.port), client.end)

    @staticmethod
    def _connection(local: End, remote: End) -> Connection:
        return until(lambda: connection(local, remote), f"{local} is connected to {remote}")

    # --- processes -----------------------------------------------------------

    def processes(self) -> list[Process]:
        """Return the room's living processes, even if the main process has ended."""
        return session(self.pid)

    def children(self) -> list[Process]:
        """Return the child processes of the room.

        A child that has not executed its program yet is omitted, because it still has all resources
        of the main process.
        """
        return [process for process in self.processes() if " -P -c " in process.command]

    def replace_workers(self, count: int) -> Callable[[], bool]:
        """Send SIGHUP; return a function that returns True when `count` new workers run."""
        old = {worker.pid for worker in self.workers()}
        self.process.send_signal(signal.SIGHUP)

        def replaced() -> bool:
            pids = {worker.pid for worker in self.workers()}
            return len(pids) == count and not pids & old

        return replaced

    def workers(self) -> list[Process]:
        """Return the workers, the oldest first. This is also the order of their numbers, until a
        worker is replaced."""
        return [process for process in self.children() if process.maps_slots]

    def dead_and_replaced(self, deaths: int, workers: int) -> bool:
        """Return True if `deaths` deaths are logged and `workers` workers are ready.

        A worker that is killed before it is ready counts as a failed start, not as a death.
        """
        return self.errors.count(" event=worker-died ") == deaths and self._ready() == workers

    def wait_until_replaced(self, deaths: int, workers: int) -> None:
        """Wait until `deaths` deaths are logged and `workers` workers are ready."""
        until(partial(self.dead_and_replaced, deaths, workers), f"{deaths} workers replaced")

    def _ready(self) -> int:
        """Return the number of ready workers, from the room's status."""
        with closing(ControlClient(self.run_dir / f"{self.host}:{self.port}.sock")) as client:
            return sum(worker["ready"] for worker in client.ask({"ask": "status"})["workers"])

    def registry(self) -> Process:
        """Return the registry's process, the only child that does not map the log."""

        def find() -> list[Process]:
            return [process for process in self.children() if not process.maps_log]

        return until(find, "there is a registry")[0]

    def writer(self) -> Process:
        """Return the transcript's process, which maps the log but not the slots."""

        def find() -> list[Process]:
            return [
                process
                for process in self.children()
                if process.maps_log and not (process.maps_slots or process.maps_uplink)
            ]

        return until(find, "there is a transcript process")[0]

    def bridge(self) -> Process:
        """Return the bridge of a room in a cluster: it maps the uplink, but not the slots."""

        def find() -> list[Process]:
            return [
                process
                for process in self.children()
                if process.maps_uplink and not process.maps_slots
            ]

        return until(find, "there is a bridge")[0]

    def serving(self, client: Client) -> Process:
        """Return the worker that serves a client: it has the other end of the connection."""
        socket = f"socket:[{self._end_of(client).inode}]"
        [found] = [worker for worker in self.workers() if socket in worker.descriptors]
        return found

    def spread(self, clients: Iterable[Client]) -> list[int]:
        """Return the number of these clients on each worker. Clients that are moving do not
        count."""
        found = [connection((self.host, self.port), client.end) for client in clients]
        sockets = {f"socket:[{connection.inode}]" for connection in found if connection}
        return [len(sockets.intersection(worker.descriptors)) for worker in self.workers()]

    def wait_until_even(self, clients: Iterable[Client], workers: int) -> None:
        """Wait until the clients are spread evenly over `workers` workers: the workers' numbers of
        clients differ by at most a tenth of their mean, or by one."""
        present = list(clients)

        def even() -> bool:
            counts = self.spread(present)
            allowed = max(1, len(present) / workers / 10)
            whole = len(counts) == workers and sum(counts) == len(present)
            return whole and max(counts) - min(counts) <= allowed

        until(even, f"{len(present)} members are spread over {workers} workers")

    def descriptors(self) -> int:
        return sum(len(process.descriptors) for process in self.processes())

    def memory(self) -> int:
        """Return the private memory of all processes of the room (bytes)."""
        return sum(process.memory for process in self.processes())

    def is_idle(self) -> bool:
        """Return True if the room's processes use almost no processor time during IDLE_WINDOW."""

        def used() -> float:
            return sum(process.used for process in self.processes())

        return over(IDLE_WINDOW, used) <= IDLE_TIME

    # --- end -----------------------------------------------------------------

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Send a stop signal, and check that the room ends as every room must."""
        self.process.send_signal(number)
        self.expect_exit()

    def expect_exit(self, code: int = 0, within: float = STOP_WITHIN) -> None:
        """Check that the room ends in time with this exit code, and leaves no process and no
        file."""
        began = time.monotonic()
        try:
            ended = self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(
                f"the room has not ended after {within} s: {self._process_list()}"
            ) from None
        left = within - (time.monotonic() - began)
        until(
            lambda: not self.processes(),
            f"these processes end: {self._process_list()}",
            max(left, 1.0),
        )
        killed = code == -signal.SIGKILL
        assert (ended, self.files_when_killed() if killed else self.files()) == (code, [])
        lines = self.errors.splitlines()
        assert [line for line in lines if not re.search(self._logs, line)] == []
        assert bool(lines) == bool(self._logs), f"no line matches {self._logs!r}"

    def expect_error(self, code: int, *words: str) -> None:
        """Check that the room ends by itself with this code, prints nothing, and writes one error
        line that contains `words`."""
        assert self.read_rest() == b""
        self.expect_exit(code)
        assert self.errors.count("\n") == 1, self.errors
        for word in words:
            assert word in self.errors

    def _process_list(self) -> list[tuple[int, str, str]]:
        return [(process.pid, process.state, process.command) for process in self.processes()]

    def kill(self) -> None:
        """Kill all processes of the room, each by its pid."""
        while remaining := self.processes():
            for process in remaining:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        self.process.wait()


def command(*options: object, host: str = "127.0.0.1", port: int = 0) -> list[str]:
    """Return the command of a room. By default, members are spread over all workers, so that a test
    with few members also tests the exchange between workers."""
    pack = () if "--pack" in options else ("--pack", "1")
    return [sys.executable, "-m", "chatroom", *pack, *map(str, options), host, str(port)]


@contextmanager
def started(
    arguments: list[str],
    *,
    setup: str = "",
    environment: dict[str, str] | None = None,
    logs: str = "",
    measured: bool = True,
) -> Iterator[Room]:
    """Yield a room that was just started from the checkout, and kill it at the end of the block.

    `setup`: shell commands, such as limits and redirections, that run before the room's command.
    `logs`: see `Room`. `measured`: False hides the room from coverage, which has signal handlers of
    its own, and slows the start of an interpreter so much that signals are lost.
    """
    inherited = {
        name: value
        for name, value in os.environ.items()
        if (measured or "COVERAGE" not in name) and name != "XDG_RUNTIME_DIR"
    }
    with ExitStack() as leaving:
        folder = Path(leaving.enter_context(tempfile.TemporaryDirectory(prefix="room-")))
        (folder / "tmp").mkdir()
        errors = leaving.enter_context((folder / "errors").open("wb"))
        if setup:
            arguments = ["/bin/sh", "-c", f'{setup}\nexec "$@"', "sh", *arguments]
        process = subprocess.Popen(
            arguments,
            cwd=ROOT,
            env={**inherited, "TMPDIR": str(folder / "tmp"), **(environment or {})},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            start_new_session=True,
        )
        assert process.stdout is not None
        leaving.callback(process.stdout.close)
        here = Room(process, folder, leaving, logs)
        leaving.callback(here.kill)
        yield here


@contextmanager
def room(
    *options: object,
    host: str = "127.0.0.1",
    port: int = 0,
    setup: str = "",
    environment: dict[str, str] | None = None,
    logs: str = "",
) -> Iterator[Room]:
    """Yield a room that is ready. At the end, a room that still runs is stopped, and must end as
    usual."""
    arguments = command(*options, host=host, port=port)
    with started(arguments, setup=setup, environment=environment, logs=logs) as here:
        here.listen()
        yield here
        if here.process.poll() is None:
            here.stop()


def addresses(count: int) -> list[str]:
    """Return `count` different addresses of this machine: 127.0.0.2, 127.0.0.3, …"""
    return [f"127.0.{number // 250}.{number % 250 + 2}" for number in range(count)]
