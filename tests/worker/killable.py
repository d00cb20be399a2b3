"""A whole room in one process and one thread: parts of the main process, and killable workers.

A worker runs until it would wait, or until it reaches a given line of its code. At this line it
stops, as if it had been killed. The main process notices this end when it runs the next time.
"""

import array
import contextlib
import fcntl
import os
import re
import select
import socket
import struct
import sys
import termios
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from time import thread_time
from types import FrameType, SimpleNamespace
from typing import Any, cast

import pytest

import chatroom
from chatroom.config import settings
from chatroom.config.cluster_url import ClusterURL
from chatroom.config.limits import Limits
from chatroom.config.settings import Settings
from chatroom.config.sizes import KIB
from chatroom.control.bans import Bans
from chatroom.log import uplink
from chatroom.log.ring import Batch, Geometry, Log
from chatroom.log.slots import Slots
from chatroom.log.uplink import Uplink
from chatroom.protocol import telnet
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.protocol.message import render
from chatroom.protocol.text import sanitize
from chatroom.sidecars.cluster.relay import Relay
from chatroom.sidecars.cluster.stream_message import Publication
from chatroom.supervisor import assignment
from chatroom.supervisor.acceptor import Acceptor
from chatroom.supervisor.assignment import Assignment
from chatroom.supervisor.counters import Counters
from chatroom.supervisor.members import Client, Members
from chatroom.supervisor.pool import WorkerPool
from chatroom.supervisor.registry import Registry
from chatroom.supervisor.registry_process import RegistryProcess
from chatroom.supervisor.sources import Sources
from chatroom.system.channel import Channel
from chatroom.system.doorbell import Doorbell
from chatroom.system.endpoint import Endpoint
from chatroom.system.listening import listen
from chatroom.system.memory import anonymous_file
from chatroom.worker import membership
from chatroom.worker.cluster_loop import ClusterWorker
from chatroom.worker.loop import Worker
from chatroom.worker.seat import Seat
from tests.builds import skip_if_compiled
from tests.integration.waiting import PATIENCE
from tests.log.entries import Run, runs
from tests.supervisor.children import fake_spawn
from tests.system.loops import ManualLoop
from tests.worker.drivers import MANY, Clock, NonWaitingEpoll, WouldWait, new_room_rate

PACKAGE = str(Path(chatroom.__file__).parent)

SMALL: dict[str, Any] = {
    "max_line": 64,
    "max_lag": 24 * KIB,
    "log_size": 64 * KIB,
    "max_clients": 50,
    "rate": 0,
    "room_rate": 0,
    "pack": 1,
}


TELNET_ANSWER = re.compile(rb"\xff..", re.DOTALL)


class Killed(BaseException):
    """Raised in a worker's code, at the line at which the worker dies."""


def descriptors() -> set[int]:
    return {int(name) for name in os.listdir("/dev/fd")}


NODE = 7
"""Number of this node in a cluster."""


class KillableBridge:
    """A bridge of a cluster that can be killed. The engine's stream is a list.

    After a death, the next bridge begins in the same way as in chatroom.sidecars.cluster.bridge.
    """

    def __init__(self, room: "KillableRoom", uplink: Uplink) -> None:
        self._room = room
        self._uplink = uplink
        self.stream: list[bytes] = []
        """Publications of all nodes. The first publication has the sequence number 1."""
        self._relay: Relay | None = None
        self._position = 0

    def run(self, line: int | None = None) -> bool:
        """Publish and append all messages, or die at the `line`-th line of code that is executed;
        return True if there was anything to do."""
        tracer = sys.gettrace()
        try:
            if line is not None:
                sys.settrace(_killing_tracer(line))
            return self._turn()
        except Killed:
            self._relay = None
            return True
        finally:
            sys.settrace(tracer)

    def _turn(self) -> bool:
        busy = False
        if self._relay is None:
            self._relay = Relay(NODE, self._uplink, self._room.log, self._room.doorbells, 0)
            own = [found for found in map(Publication.decode, self.stream) if found.node == NODE]
            self._position = own[-1].position if own else self._uplink.published
            self._relay.note_published(self._position)
            self._relay.ring()
        while publication := self._relay.next_publication(self._position):
            self.stream.append(publication.encode())
            self._position = publication.position
            self._relay.note_published(self._position)
            busy = True
        while self._relay.sequence < len(self.stream):
            found = Publication.decode(self.stream[self._relay.sequence])
            if not self._relay.append(found, self._relay.sequence + 1):
                break
            self._relay.ring()
            busy = True
        return busy


class KillableWorker:
    """A worker in this process, with the attributes of a worker's process."""

    def __init__(self, room: "KillableRoom", number: int, end: socket.socket) -> None:
        self.number = number
        self.exitcode: int | None = None
        self.pid = 1_000_000 + number
        self.sentinel, self._alive = socket.socketpair()
        self.channel = Channel(end)
        self._room = room
        self._worker: Worker | None = None
        self._held: list[socket.socket] = []

    def run(self, line: int | None = None) -> bool:
        """Run until the worker would wait, or kill it at the `line`-th line of its code that it
        executes.

        Return True if the worker is still alive.
        """
        worker = self._worker or self._begin()
        self._room.hold = self._held.append
        before = descriptors()
        tracer = sys.gettrace()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # A dying worker leaves resources open.
            try:
                if line is not None:
                    sys.settrace(_killing_tracer(line))
                worker.run()
            except WouldWait:
                return True
            except Killed:
                pass
            finally:
                sys.settrace(tracer)
            self.kill()
            for fd in descriptors() - before:  # received, but not in use yet
                with contextlib.suppress(OSError):
                    os.close(fd)
        return False

    def _begin(self) -> Worker:
        record, shared = next(self.channel.receive())
        assert record == {"doorbells": len(self._room.doorbells)}
        for fd in shared:
            os.close(fd)
        room = self._room
        seat = Seat(
            self.number,
            room.settings.limits,
            room.log,
            room.slots,
            room.room_rate,
            room.doorbells,
            room.uplink,
        )
        uplink = room.uplink
        self._worker = (
            Worker(seat, self.channel)
            if uplink is None
            else ClusterWorker(seat, self.channel, uplink)
        )
        self._worker.has_spare_processor = False  # it would poll until the clock advances
        self.channel.send({"ready": True})
        return self._worker

    def kill(self) -> None:
        if self.exitcode is not None:
            return
        self.exitcode = -9
        self._alive.close()
        if (worker := self._worker) is not None:
            for poller in (worker.events, worker.input.events, worker.delivery.writable):
                poller.close()
        for connection in self._held:
            connection.close()
        self._worker = None
        with contextlib.suppress(Exception):
            for _, fds in self.channel.receive():
                for fd in fds:
                    os.close(fd)
        self.channel.close()

    def poll(self, on: bool) -> None:
        """Let the worker poll before it delivers and before it sleeps, if it is alive. The clock
        must advance by itself."""
        if self._worker is not None:
            self._worker.has_spare_processor = on

    @property
    def behind(self) -> bool:
        """True while a member of the worker is behind."""
        return self._worker is not None and bool(self._worker.delivery.behind)

    @property
    def throttled(self) -> bool:
        """True while the worker delays a read, because of a rate limit."""
        return self._worker is not None and self._worker.input.due() is not None

    def wait(self) -> int:
        assert self.exitcode is not None, "the main process would wait for a living process"
        return self.exitcode


def _killing_tracer(line: int) -> Any:
    left = line

    def enter(frame: FrameType, event: str, argument: object) -> Any:
        return at if frame.f_code.co_filename.startswith(PACKAGE) else None

    def at(frame: FrameType, event: str, argument: object) -> Any:
        nonlocal left
        if event == "line":
            left -= 1
            if not left:
                raise Killed
        return at

    return enter


def _unsent(connection: socket.socket) -> int:
    size = array.array("i", [0])
    with contextlib.suppress(OSError):
        fcntl.ioctl(connection, termios.TIOCOUTQ, size)
    return size[0]


class RecordingLog(Log):
    """A log that records all entries, even those that are overwritten later."""

    def __init__(self, fd: int, geometry: Geometry) -> None:
        super().__init__(fd, geometry)
        self.history: list[Run] = []
        self.seen = 1

    def append(self, batch: Batch) -> int | None:
        self.record()
        return super().append(batch)

    def record(self) -> None:
        while self.seen < self.head:
            (run,) = runs(self, self.seen, self.seen + 1)
            self.history.append(run)
            self.seen += 1


class RecordingUplink(RecordingLog, Uplink):
    """An uplink that records all entries, even those that are overwritten later."""

    def __init__(self, fd: int, limits: Limits) -> None:
        Uplink.__init__(self, fd, limits)
        self.history = []
        self.seen = 1


class RoomClient:
    """A client of a KillableRoom. The client records the bytes that it sent and received, and when
    it joined."""

    def __init__(self, room: "KillableRoom", number: int, buffer: int | None) -> None:
        self.room = room
        self.address = f"127.0.0.{number + 2}"
        self.end = socket.socket()
        if buffer is not None:
            self.end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
            # With a small MSS, the kernel announces free space at once, so that the sender need not
            # probe.
            self.end.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 536)
        self.end.bind((self.address, 0))
        self.end.connect(room.where)
        self.end.setblocking(False)
        self.end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sent = b""
        self.received = b""
        self.not_before = room.entries()
        """Number of entries in the log when the client connected."""
        self.not_after: int | None = None
        """Number of entries in the log when the client had received the greeting, or None before
        that."""
        self.sends = self.receives = True
        self.ended = False
        self.gone = False

    @property
    def id(self) -> int:
        return self.room.ids[self.address]

    @property
    def prefix(self) -> bytes:
        return b"<%s>" % self.address.encode()

    def send(self, data: bytes) -> None:
        if self.sends:
            with contextlib.suppress(BlockingIOError, ConnectionError):
                self.sent += data[: self.end.send(data)]

    def receive(self, most: int = 1 << 20) -> int:
        """Receive data that has arrived, up to `most` bytes; return the number of bytes."""
        before = len(self.received)
        if hasattr(socket, "TCP_QUICKACK") and not self.ended:  # otherwise the ACK takes 40 ms
            self.end.setsockopt(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)
        with contextlib.suppress(BlockingIOError):
            while self.receives and not self.ended and (more := most - len(self.received) + before):
                try:
                    data = self.end.recv(more)
                except ConnectionError:
                    data = b""
                self.ended = not data
                self.received += data
        if self.not_after is None and len(self.received) >= len(self.room.settings.greeting):
            self.not_after = self.room.entries()
        return len(self.received) - before

    def finish(self) -> None:
        """Close the sending side. The client can still receive."""
        if self.sends:
            self.sends = False
            with contextlib.suppress(OSError):
                self.end.shutdown(socket.SHUT_WR)

    def leave(self, how: str) -> None:
        """Close the connection, or reset it. The kernel answers later data with a reset."""
        self.sends = self.receives = False
        self.ended = self.gone = True
        if how == "reset":
            self.end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.end.close()

    def check(self, said: list[Run], history: list[Run]) -> None:
        """`said` are the entries whose reaches count input. `history` are the entries of the room's
        log."""
        self._check_said(said)
        self._check_received(history)

    def _check_said(self, history: list[Run]) -> None:
        """Check that each entry equals the input that it covers, and that no input is missing.

        Input of a client that has left may be lost by a reset.
        """
        reach = 0
        limit = self.room.settings.max_line
        for run in history:
            if run.sender != self.id:
                continue
            chunk, reach = telnet.parse(self.sent[reach : run.reach]).text, run.reach
            if not chunk:
                assert (run.text, run.messages) == (b"\n", 0), "only LINE-6 covers no input"
                continue
            block = chunk.replace(b"\r\n", b"\n").replace(b"\r\0", b"\n")
            expected = render(self.prefix, sanitize(block))
            if max(map(len, block.split(b"\n"))) > limit:  # The line was split.
                found = run.text.replace(b"\n" + self.prefix, b"\n").removeprefix(self.prefix)
                assert found.replace(b"\n", b"") == sanitize(block).replace(b"\n", b"")
            else:
                assert run.text in (expected, expected + b"\n")
                assert run.messages == block.count(b"\n") + (not block.endswith(b"\n"))
        if self.gone or self.room.left.get(self.id) == LeaveReason.LAGGED:
            return
        rest = telnet.parse(self.sent[reach:]).text
        begun = () if not self.sends else (b"\r", b"\xe2", b"\xe2\x82")
        assert not rest or rest in begun, "input was not appended"

    def _check_received(self, history: list[Run]) -> None:
        """Check that the client received exactly the entries of others, from some entry on."""
        greeting = self.room.settings.greeting
        if self.not_after is None:
            assert not self.receives or self.room.left.get(self.id) == LeaveReason.LAGGED
            return
        assert self.received.startswith(greeting)
        if self.room.settings.history:
            self._check_history(history)
            return
        received = TELNET_ANSWER.sub(b"", self.received.removeprefix(greeting))
        whole = self.receives and self.room.left.get(self.id) is None
        for first in range(self.not_before, self.not_after + 1):
            expected = b"".join(run.text for run in history[first:] if run.sender != self.id)
            if first and not history[first - 1].text.endswith(b"\n") and first < len(history):
                # This LF ends a line that the client has not received.
                expected = expected[history[first].sender != self.id :]
            if expected == received if whole else expected.startswith(received):
                return
        raise AssertionError(f"{self.address} received {received[:2000]!r}\n{history[-40:]}")

    def _check_history(self, history: list[Run]) -> None:
        """Check that the client received as many earlier messages as announced, and then exactly
        the others' messages, from one moment of its join on."""
        received = self.received.removeprefix(self.room.settings.greeting)
        received = TELNET_ANSWER.sub(b"", received)
        count = 0
        if found := re.match(rb"<room>(\d+) earlier messages?:\n", received):
            count, received = int(found[1]), received[found.end() :]
        messages: list[tuple[int, bytes]] = []
        numbers = [0]
        """Number of messages before each entry."""
        for run in history:
            if not run.messages:  # a LF alone
                sender, text = messages.pop()
                messages.append((sender, text + run.text))
            else:
                messages += [(run.sender, text) for text in run.text.splitlines(keepends=True)]
            numbers.append(len(messages))
        assert self.not_after is not None
        joins = range(numbers[self.not_before], numbers[self.not_after] + 1)
        whole = self.receives and self.room.left.get(self.id) is None
        for first in range(len(messages) + 1):
            theirs = b"".join(text for sender, text in messages[first:] if sender != self.id)
            fits = theirs == received if whole else theirs.startswith(received)
            if fits and first + count in joins:
                return
        raise AssertionError(f"{self.address} received {received[:2000]!r}\n{messages[-40:]}")


class KillableRoom:
    """Parts of a main process, their workers, and the clients."""

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        workers: int = 2,
        cluster: bool = False,
        **options: Any,
    ) -> None:
        if cluster:
            monkeypatch.setattr(settings, "MIN_CLUSTER_WINDOW", 0)
            options["cluster"] = ClusterURL.parse("nats://nowhere/room")
        self.clock = Clock()
        self.loop = ManualLoop(self.clock)
        self.clock.install(monkeypatch)
        monkeypatch.setattr(select, "epoll", NonWaitingEpoll)
        monkeypatch.setattr(
            membership, "socket", SimpleNamespace(**vars(socket) | {"socket": self._open})
        )
        fake_spawn(monkeypatch, self._start)
        monkeypatch.setattr(assignment, "DEATHS", 1 << 30)
        self.settings = Settings(workers=workers, watchdog=0, **SMALL | options)
        geometry = Geometry.of(self.settings.limits)
        self.log = RecordingLog(anonymous_file("a test's log", geometry.file_size), geometry)
        self.log.format()
        size = Slots.file_size(self.settings.limits)
        self.slots = Slots(anonymous_file("a test's slots", size), self.settings.limits)
        self.room_rate = new_room_rate(self.settings)
        self.uplink: RecordingUplink | None = None
        self.bridge: KillableBridge | None = None
        if cluster:
            limits = self.settings.limits
            size = uplink.geometry(limits).file_size
            self.uplink = RecordingUplink(anonymous_file("a test's uplink", size), limits)
            self.uplink.format()
            self.log.prepare_seat(self.uplink.bridge)
            self.bridge = KillableBridge(self, self.uplink)
        self.doorbells = [Doorbell.new() for _ in range(self.settings.seats + 1)]
        self._listener = listen(Endpoint("127.0.0.1"), 0)
        self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4 * KIB)
        self.where = self._listener.getsockname()
        self.registry = Registry(self.settings.max_clients, 0, self.settings.pack)
        registry = cast(RegistryProcess, self.registry)
        counters = Counters()
        room = self

        class Watched(Members):
            def leave(self, reasons: dict[int, LeaveReason]) -> None:
                room.left |= reasons
                super().leave(reasons)

        self.left: dict[int, LeaveReason] = {}
        sources = Sources(self.settings.sources)
        self.members = Watched(
            self.loop, self.log, self.slots, sources, registry, counters, lambda: lambda line: None
        )
        self.pool = WorkerPool(
            self.settings,
            self.loop,
            self.log,
            self.slots,
            self.room_rate,
            self.doorbells,
            self.uplink,
        )
        self.assignment = Assignment(
            self.loop, self.pool, self.members, registry, counters, self.log, self.settings.pack
        )
        self.acceptor = Acceptor(
            self.loop,
            self.settings,
            [self._listener],
            registry,
            self.members,
            counters,
            Bans(),
            self._hand_over,
            self.log,
        )
        self.processes: list[KillableWorker] = []
        self.hold: Callable[[socket.socket], None]
        """Function that records a connection of the running worker."""
        self.clients: list[RoomClient] = []
        self.ids: dict[str, int] = {}
        self.pool.start(self.assignment)
        self.acceptor.accept(True)
        self.settle()

    def close(self) -> None:
        for process in self.processes:
            process.kill()
        for client in self.clients:
            client.end.close()
        self.pool.end()
        self.acceptor.close()
        self.members.leave(dict.fromkeys(self.members.by_id, LeaveReason.CLOSED))
        self.loop.close()
        for doorbell in self.doorbells:
            doorbell.close()
        os.close(self.log.fd)
        os.close(self.slots.fd)
        os.close(self.room_rate.fd)
        if self.uplink is not None:
            os.close(self.uplink.fd)

    def _start(self, args: tuple[Any, ...]) -> KillableWorker:
        self.processes.append(KillableWorker(self, args[0], args[2]))
        return self.processes[-1]

    def _open(self, *, fileno: int) -> socket.socket:
        connection = socket.socket(fileno=fileno)
        self.hold(connection)
        return connection

    def _hand_over(self, id: int, client: Client) -> None:
        self.ids[client.address] = id
        self.assignment.hand_over(id, client)

    # --- for tests ---------------------------------------------------------------------------

    def entries(self) -> int:
        self.log.record()
        return len(self.log.history)

    @property
    def alive(self) -> list[KillableWorker]:
        return [process for process in self.processes if process.exitcode is None]

    def run_main(self) -> bool:
        """Run the main process until it would wait; return True if it had anything to do."""
        for turn in range(MANY):
            due = self.loop.idle() == 0
            self.loop.turn()
            if not (due or self.loop.ready):
                return turn > 0
        raise AssertionError("the main process never waits")

    def settle(self) -> None:
        """Run all processes until none of them has anything to do."""
        for _ in range(MANY):
            polls_with_events = NonWaitingEpoll.polls_with_events
            busy = self.run_main()
            for process in self.alive:
                process.run()
            if self.bridge is not None:
                busy = self.bridge.run() or busy
            if not busy and polls_with_events == NonWaitingEpoll.polls_with_events:
                return
        raise AssertionError("the processes wake each other forever")

    def join(self, buffer: int | None = None) -> RoomClient:
        client = RoomClient(self, len(self.clients), buffer)
        self.clients.append(client)
        return client

    def join_many(self, count: int) -> list[RoomClient]:
        """Return `count` new clients that have received the greeting."""
        clients = [self.join() for _ in range(count)]
        self.finish(until=lambda: all(client.not_after is not None for client in clients))
        return clients

    def finish(self, until: Callable[[], bool] = lambda: False) -> None:
        """Run until all input is appended and received, or until `until` returns True."""
        deadline = thread_time() + PATIENCE  # processor time: the machine may be busy
        quiet = 0
        while quiet < 3 and not until():
            assert thread_time() < deadline, "the room does not become idle"
            before = self.entries()
            self.settle()
            self.clock.now += 0.3
            received = sum(client.receive() for client in self.clients)
            if received or self.entries() > before:
                quiet = 0
            elif self._in_flight():  # Wait for the kernel, or for the clock.
                quiet = 0
                select.select(
                    [client.end for client in self.clients if not client.ended], [], [], 0.01
                )
            else:
                quiet += 1

    def _in_flight(self) -> bool:
        """Return True if some sent data has not arrived."""
        ours = [client.connection for client in self.members.by_id.values()]
        theirs = [client.end for client in self.clients if not client.ended]
        gone = [client for client in self.clients if self.ids.get(client.address) in self.left]
        return (
            any(_unsent(end) for end in (*ours, *theirs))
            or not all(client.ended or not client.receives for client in gone)
            or any(process.behind or process.throttled for process in self.alive)
        )

    def check(self) -> None:
        """Check the messages of all clients, and that no client was disconnected without a
        reason."""
        self.log.record()
        if self.uplink is not None:
            self.uplink.record()
        said = (self.uplink or self.log).history
        for client in self.clients:
            client.check(said, self.log.history)
            if client.sends and client.receives and client.address in self.ids:
                assert self.left.get(client.id) in (None, LeaveReason.LAGGED)
        with self.log:
            alive = {process.number for process in self.alive}
            assert set(self.log.serving()) <= alive, "the log waits for a dead worker"
        if self.uplink is not None:
            with self.uplink:
                assert self.uplink.serving() == [self.uplink.bridge]
            assert self.uplink.published == self.uplink.head
            texts = [b"".join(run.text for run in log.history) for log in (self.uplink, self.log)]
            assert texts[0] == texts[1], "this node is the only one"


@contextlib.contextmanager
def killable_room(**options: Any) -> Iterator[KillableRoom]:
    """Yield a room, or skip the test if the workers' code is compiled."""
    skip_if_compiled()
    with pytest.MonkeyPatch.context() as monkeypatch:
        room = KillableRoom(monkeypatch, **options)
        try:
            yield room
        finally:
            room.close()
