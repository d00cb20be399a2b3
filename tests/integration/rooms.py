"""A room for a test: `python -m chatroom`, its processes, and what it says.

    with room("--workers", 2) as here:
        ...

Whatever a test is about, each room that it opens has to end well too: SIGTERM stops it in time with
exit code 0, without a word on its standard error, and leaves no process and no file behind.
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

from chatroom.control.control_socket import Asker
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

#: Options. Text without line end is delivered after a silence; here no pause is one, however slow
#: the machine is, so that a line that is sent in pieces stays one line.
NEVER_SILENT = ("--flush-after", 60)

#: An option. Members may send as fast as they can: there is no allowance (LOAD-3).
UNLIMITED = ("--rate", 0)

#: Options. A small log, for the lag and the longest line that it is given: it wraps often, if all
#: may send as fast as they can.
SMALL_LOG = ("--log-size", "128K", "--max-lag", "64K", "--max-line", "4K", *UNLIMITED)

#: Beginning of the line that says why a room does not start.
SAYS = "^python -m chatroom: "

#: Patterns of what a room logs of a worker that was killed, and of a registry.
DIED = r" level=warning event=worker-died worker=\d+ exit=-9 says="
REGISTRY_DIED = r" level=warning event=registry-died says="

#: Seconds in which a room that was told to stop has to be gone.
STOP_WITHIN = 5.0

#: Seconds over which a room's processor time is measured, and how much of it is still idle.
IDLE_WINDOW = 0.4
IDLE_TIME = 0.03


class Room:
    """A room that was started, and may not be ready yet. It is a session, and a process group."""

    def __init__(
        self,
        process: subprocess.Popen[bytes],
        folder: Path,
        leaving: ExitStack,
        tells: str,
    ) -> None:
        """`tells`: a pattern of the lines, and the only ones, that it writes as errors."""
        self.process = process
        self.pid = process.pid
        self.host = ""
        self.port = 0
        self.where = ""
        """What it said that it listens on."""
        self.console = b""
        """What it has printed, as far as it was read."""
        self._folder = folder
        self._leaving = leaving
        self._tells = tells

    # --- what it says --------------------------------------------------------

    def listen(self) -> None:
        """Wait until it says that it is ready."""
        line = self.prints("\n").decode()
        assert line.startswith("listening on "), f"{line!r}, {self.errors!r}"
        self.where = line.removeprefix("listening on ").rstrip("\n")
        host, _, port = self.where.partition(", ")[0].rpartition(":")
        self.host, self.port = host.strip("[]"), int(port)

    def listen_unheard(self) -> None:
        """Wait until its port can be reached, where nobody hears what it says."""

        def find() -> list[int]:
            held = [
                descriptor for process in self.processes() for descriptor in process.descriptors
            ]
            ports = [connection for connection in connections() if connection.state == LISTENS]
            return [port.local[1] for port in ports if f"socket:[{port.inode}]" in held]

        self.host, [self.port] = "127.0.0.1", until(find, "it listens")

    def prints(self, token: str | bytes) -> bytes:
        """Read its standard output on, up to and with the token."""
        wanted = token.encode() if isinstance(token, str) else token
        while wanted not in self.console:
            assert self._read_on(), (
                f"it ended without {wanted!r}: {self.console!r}, {self.errors!r}"
            )
        heard, _, self.console = self.console.partition(wanted)
        return heard + wanted

    def prints_rest(self) -> bytes:
        """Read its standard output to the end."""
        while self._read_on():
            pass
        heard, self.console = self.console, b""
        return heard

    def _read_on(self) -> bool:
        output = self.process.stdout
        assert output is not None
        ready, _, _ = select.select([output], [], [], PATIENCE)
        assert ready, f"it printed nothing more after {self.console[-500:]!r}; {self.errors!r}"
        data = os.read(output.fileno(), 1 << 16)
        self.console += data
        return bool(data)

    def output_is_full(self) -> bool:
        """Whether its standard output takes no more, because nobody has read it."""
        assert self.process.stdout is not None
        unread = array("i", [0])
        fcntl.ioctl(self.process.stdout, termios.FIONREAD, unread)
        # It is made of pages, and what has been written in pieces leaves gaps in some.
        size = fcntl.fcntl(self.process.stdout, fcntl.F_GETPIPE_SZ)
        return unread[0] + 4 * mmap.PAGESIZE >= size

    @property
    def errors(self) -> str:
        """What it has written on its standard error."""
        return (self._folder / "errors").read_text()

    @property
    def run_dir(self) -> Path:
        """Its default run-dir, where its owner finds it."""
        return self._folder / "tmp" / f"chatroom-{os.getuid()}"

    def files(self) -> list[str]:
        """What it has left in the folder for temporary files, which is its own."""
        return sorted(path.name for path in (self._folder / "tmp").iterdir())

    def files_when_killed(self) -> list[str]:
        """The same, less the socket by which its owner could ask it: nobody was left to remove
        that, and it is no room to anybody."""
        sockets = [f"{self.host}:{self.port}.sock"] if self.port else []
        if self.run_dir.exists():
            found = [path.name for path in self.run_dir.iterdir()]
            assert found == sockets or (not sockets and len(found) <= 1)
        return [name for name in self.files() if name != self.run_dir.name]

    # --- who comes -----------------------------------------------------------

    def knock(self, source: str = "127.0.0.1", receive_buffer: int = 0) -> Client:
        """Somebody who has connected, and has not heard anything yet."""
        host = "127.0.0.1" if self.host == "::" and ":" not in source else self.host
        return self._leaving.enter_context(Client(host, self.port, source, receive_buffer))

    def join(self, source: str = "127.0.0.1", receive_buffer: int = 0) -> Client:
        """A member: somebody who has heard the whole welcome."""
        client = self.knock(source, receive_buffer)
        client.hear(WELCOME)
        return client

    def join_all(self, sources: Iterable[str]) -> list[Client]:
        """Members that have come all at once."""
        clients = [self.knock(source) for source in sources]
        for client in clients:
            client.hear(WELCOME)
        return clients

    def wait_until_read(self, client: Client) -> None:
        """Wait until the room has read all that the client sent."""

        def read() -> bool:
            theirs = self._connection(client.end, (self.host, self.port))
            return not (theirs.unsent or self._end_of(client).unread)

        until(read, f"all that {client.address} sent is read")

    def unsent(self, client: Client) -> int:
        """Bytes that the room has sent to a client who has not taken them."""
        return self._end_of(client).unsent

    def _end_of(self, client: Client) -> Connection:
        """The room's end of a client's connection."""
        return self._connection((self.host, self.port), client.end)

    @staticmethod
    def _connection(local: End, remote: End) -> Connection:
        return until(lambda: connection(local, remote), f"{local} is connected to {remote}")

    # --- its processes -------------------------------------------------------

    def processes(self) -> list[Process]:
        """All that are alive, whether or not the main process still is."""
        return session(self.pid)

    def children(self) -> list[Process]:
        """What multiprocessing has started, and not for itself.

        One that was forked just now, and is not yet another program, is none of them, although it
        has all that the main process has.
        """
        return [
            process for process in self.processes() if "multiprocessing.spawn" in process.command
        ]

    def replace_workers(self, count: int) -> Callable[[], bool]:
        """Send SIGHUP; return a function that tells whether `count` workers, all new, are there."""
        old = {worker.pid for worker in self.workers()}
        self.process.send_signal(signal.SIGHUP)

        def replaced() -> bool:
            pids = {worker.pid for worker in self.workers()}
            return len(pids) == count and not pids & old

        return replaced

    def workers(self) -> list[Process]:
        """By number, as long as none was replaced."""
        return [process for process in self.children() if process.maps_slots]

    def dead_and_replaced(self, deaths: int, workers: int) -> bool:
        """Whether so many deaths have been noticed, and so many workers are ready.

        One that is there, and is killed before it is ready, is no death but a failed start.
        """
        return self.errors.count(" event=worker-died ") == deaths and self._ready() == workers

    def wait_until_replaced(self, deaths: int, workers: int) -> None:
        """Wait until `deaths` deaths have been noticed, and `workers` workers are ready."""
        until(partial(self.dead_and_replaced, deaths, workers), f"{deaths} were replaced")

    def _ready(self) -> int:
        """How many workers are ready, as it tells its owner in the default run-dir."""
        with closing(Asker(self.run_dir / f"{self.host}:{self.port}.sock")) as asker:
            return sum(worker["ready"] for worker in asker.ask({"ask": "status"})["workers"])

    def registry(self) -> Process:
        """The one that has no part in the log."""

        def find() -> list[Process]:
            return [process for process in self.children() if not process.maps_log]

        return until(find, "there is a registry")[0]

    def writer(self) -> Process:
        """The one that writes the transcript: it has the log, and no slots."""

        def find() -> list[Process]:
            return [
                process
                for process in self.children()
                if process.maps_log and not process.maps_slots
            ]

        return until(find, "there is one that writes the transcript")[0]

    def serving(self, client: Client) -> Process:
        """The worker that serves a client: it holds the other end of its connection."""
        socket = f"socket:[{self._end_of(client).inode}]"
        [found] = [worker for worker in self.workers() if socket in worker.descriptors]
        return found

    def spread(self, clients: Iterable[Client]) -> list[int]:
        """How many of these each worker serves, in no order; of one who moves, perhaps none."""
        found = [connection((self.host, self.port), client.end) for client in clients]
        sockets = {f"socket:[{connection.inode}]" for connection in found if connection}
        return [len(sockets.intersection(worker.descriptors)) for worker in self.workers()]

    def wait_until_even(self, clients: Iterable[Client], workers: int) -> None:
        """Wait until none of so many workers has a tenth of its share more of these than another,
        or one."""
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
        """Bytes that its processes have for themselves."""
        return sum(process.memory for process in self.processes())

    def idles(self) -> bool:
        """Whether its processes do nothing, for a while."""

        def used() -> float:
            return sum(process.used for process in self.processes())

        return over(IDLE_WINDOW, used) <= IDLE_TIME

    # --- its end -------------------------------------------------------------

    def stop(self, number: signal.Signals = signal.SIGTERM) -> None:
        """Tell it to stop, and see that it does so as it should."""
        self.process.send_signal(number)
        self.ends()

    def ends(self, code: int = 0, within: float = STOP_WITHIN) -> None:
        """It ends in time, as it should, and nothing of it is left."""
        began = time.monotonic()
        try:
            ended = self.process.wait(within)
        except subprocess.TimeoutExpired:
            raise AssertionError(f"still there after {within} s: {self._family()}") from None
        left = within - (time.monotonic() - began)
        until(lambda: not self.processes(), f"all of {self._family()} end", max(left, 1.0))
        killed = code == -signal.SIGKILL
        assert (ended, self.files_when_killed() if killed else self.files()) == (code, [])
        lines = self.errors.splitlines()
        assert [line for line in lines if not re.search(self._tells, line)] == []
        assert bool(lines) == bool(self._tells), f"it said nothing of {self._tells!r}"

    def fails(self, code: int, *words: str) -> None:
        """Check that it ends by itself, prints nothing, and says why in one line, with words."""
        assert self.prints_rest() == b""
        self.ends(code)
        assert self.errors.count("\n") == 1, self.errors
        for word in words:
            assert word in self.errors

    def _family(self) -> list[tuple[int, str, str]]:
        return [(process.pid, process.state, process.command) for process in self.processes()]

    def kill(self) -> None:
        """Whatever state it is in, nothing of it is left. Each is ended by its pid."""
        while remaining := self.processes():
            for process in remaining:
                with suppress(ProcessLookupError):
                    os.kill(process.pid, signal.SIGKILL)
        self.process.wait()


def command(*options: object, host: str = "127.0.0.1", port: int = 0) -> list[str]:
    return [sys.executable, "-m", "chatroom", *map(str, options), host, str(port)]


@contextmanager
def started(
    arguments: list[str],
    *,
    setup: str = "",
    environment: dict[str, str] | None = None,
    tells: str = "",
    measured: bool = True,
) -> Iterator[Room]:
    """A room that has just been started, from the checkout, and is gone when the test is over.

    `setup`: what a shell does before it becomes the room (limits, redirections). `tells`: a
    pattern of the lines that it writes on its standard error; it has to, and may write no others.
    `measured`: whether coverage, where it runs, sees the room: it has handlers of its own, and so
    much to do when an interpreter starts that signals are lost in it.
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
        here = Room(process, folder, leaving, tells)
        leaving.callback(here.kill)
        yield here


@contextmanager
def room(
    *options: object,
    host: str = "127.0.0.1",
    port: int = 0,
    setup: str = "",
    environment: dict[str, str] | None = None,
    tells: str = "",
) -> Iterator[Room]:
    """A room that is ready. If its test has not stopped it, it is stopped, and has to end well."""
    arguments = command(*options, host=host, port=port)
    with started(arguments, setup=setup, environment=environment, tells=tells) as here:
        here.listen()
        yield here
        if here.process.poll() is None:
            here.stop()


def addresses(count: int) -> list[str]:
    """As many different addresses of this machine: 127.0.0.2, 127.0.0.3, …"""
    return [f"127.0.{number // 250}.{number % 250 + 2}" for number in range(count)]
