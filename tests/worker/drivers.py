"""Drivers for the worker's tests: connections, a clock, and workers that never wait.

Everything runs in the test's own process and thread. A worker runs until it would wait. Then the
test continues, and can check how long the worker would have waited.
"""

import contextlib
import os
import select
import socket
from collections.abc import Callable, Iterable, Iterator
from types import ModuleType
from typing import Any, cast

import pytest

from chatroom.config.settings import Settings
from chatroom.config.sizes import KIB
from chatroom.log.ring import Geometry, Log
from chatroom.log.room_rate import RoomRate
from chatroom.log.slots import Slots
from chatroom.supervisor.sources import Sources
from chatroom.system.channel import Channel, ChannelClosed, Record
from chatroom.system.doorbell import Doorbell
from chatroom.system.memory import anonymous_file
from chatroom.worker import delivery, input, loop, shutdown
from chatroom.worker.loop import Worker
from chatroom.worker.member import Member
from chatroom.worker.seat import Seat
from tests.log.entries import new_log
from tests.system.ends import has_ended

EPOLL = select.epoll
EVERYTHING = 1 << 30
MANY = 1000

WELCOME = b"Welcome to socket practice\n"
SMALL: dict[str, Any] = {
    "max_line": 64,
    "max_lag": 8 * KIB,
    "log_size": 64 * KIB,
    "room_rate": 0,
}
"""Options of a room with a small log and no rate limit for the room."""


class FakeConnection:
    """A connection that takes `space` bytes. If it is `broken`, sends raise BrokenPipeError."""

    def __init__(self, space: int = EVERYTHING) -> None:
        self.space = space
        self.received = b""
        self.calls = 0
        self.broken = False

    def fileno(self) -> int:
        return id(self)

    def send(self, data: bytes | memoryview) -> int:
        return self.sendmsg([data])

    def sendmsg(self, data: Iterable[bytes | memoryview]) -> int:
        self.calls += 1
        if self.broken:
            raise BrokenPipeError
        if not self.space:
            raise BlockingIOError
        taken = b"".join(data)[: self.space]
        self.space -= len(taken)
        self.received += taken
        return len(taken)

    def recv_into(self, buffer: memoryview) -> int:
        raise AssertionError("delivery must not read")


def fill(connection: socket.socket) -> None:
    """Send until the connection would block."""
    connection.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            connection.send(b"{}" + b" " * 998)


def member_on(line: FakeConnection, id: int = 1) -> Member:
    return Member(id, f"192.0.2.{id}", f"<192.0.2.{id}>", cast(socket.socket, line), 0, 64)


# --- workers that never wait ---------------------------------------------------------------------


class WouldWait(BaseException):
    """Raised when a worker would wait. `timeout` is in seconds; None means no timeout."""

    def __init__(self, timeout: float | None) -> None:
        super().__init__(timeout)
        self.timeout = timeout


class WorkerEnded(Exception):
    """Raised when a worker has ended."""


class NonWaitingEpoll:
    """An epoll that never waits."""

    polls_with_events = 0
    """Number of `poll` calls, on all instances, that returned an event or had the timeout 0."""

    def __init__(self) -> None:
        self._epoll = EPOLL()
        self.fileno = self._epoll.fileno
        self.register = self._epoll.register
        self.modify = self._epoll.modify
        self.unregister = self._epoll.unregister
        self.close = self._epoll.close

    def poll(self, timeout: float | None, most: int) -> list[tuple[int, int]]:
        events = self._epoll.poll(0, most)
        if not events and (timeout is None or timeout > 0):
            raise WouldWait(timeout)
        NonWaitingEpoll.polls_with_events += 1
        return events


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0
        self.ticks = 0.0
        """Number of seconds by which each call advances the clock."""
        self._scheduled: list[tuple[float, Callable[[], object]]] = []

    def __call__(self) -> float:
        self.now += self.ticks
        while self._scheduled and self._scheduled[0][0] <= self.now:
            self._scheduled.pop(0)[1]()
        return self.now

    def schedule(self, seconds: float, action: Callable[[], object]) -> None:
        """Call `action` when the clock has advanced by `seconds`. Schedule actions in order."""
        self._scheduled.append((self.now + seconds, action))

    def install(self, monkeypatch: pytest.MonkeyPatch, *modules: ModuleType) -> None:
        """Replace the clock of the workers' modules, and of the given modules."""
        for module in (delivery, input, loop, shutdown, *modules):
            monkeypatch.setattr(module, "monotonic", self)


class Client:
    """The client's end of a member's connection."""

    def __init__(self, id: int, address: str, end: socket.socket) -> None:
        self.id = id
        self.address = address
        self._end = end
        end.setblocking(False)

    @property
    def prefix(self) -> bytes:
        return b"<%s>" % self.address.encode()

    def send(self, data: bytes) -> None:
        assert self._end.send(data) == len(data)

    def send_what_fits(self, data: bytes | memoryview) -> int:
        """Send until the connection would block; return the number of bytes sent."""
        sent = 0
        with contextlib.suppress(BlockingIOError):
            while sent < len(data):
                sent += self._end.send(data[sent:])
        return sent

    def receive(self, most: int = EVERYTHING) -> bytes:
        """Receive data that has arrived, up to `most` bytes."""
        received = b""
        with contextlib.suppress(BlockingIOError):
            while len(received) < most and (
                data := self._end.recv(min(most - len(received), 65536))
            ):
                received += data
        return received

    def has_ended(self) -> bool:
        """Return True if the client has received everything and the connection has ended."""
        return has_ended(self._end)

    def shrink_send_buffer(self) -> None:
        """Give the client a small send buffer."""
        self._end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)

    def finish(self) -> None:
        """Close the sending side. The client can still receive."""
        self._end.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._end.close()


def new_room_rate(settings: Settings) -> RoomRate:
    """Return the rate limit of a new room. The caller must close its file."""
    size = RoomRate.file_size(settings.limits)
    room_rate = RoomRate(anonymous_file("a test's rate", size), settings.limits)
    room_rate.format()
    return room_rate


@contextlib.contextmanager
def new_seat(**options: Any) -> Iterator[Seat]:
    """Yield the seat of a single worker, without doorbells."""
    settings = Settings(**options)
    fd = anonymous_file("a test's slots", Slots.file_size(settings.limits))
    room_rate = new_room_rate(settings)
    try:
        with new_log(Geometry.of(settings.limits)) as log:
            yield Seat(0, settings.limits, log, Slots(fd, settings.limits), room_rate, [])
    finally:
        os.close(fd)
        os.close(room_rate.fd)


class Room:
    """Workers, their shared resources, and the main process's ends of their channels."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, workers: int = 1, **options: Any) -> None:
        self.clock = Clock()
        self.clock.install(monkeypatch)
        monkeypatch.setattr(select, "epoll", NonWaitingEpoll)
        self.settings = Settings(workers=workers, **options)
        geometry = Geometry.of(self.settings.limits)
        self._fd = anonymous_file("a test's log", geometry.file_size)
        self.log = Log(self._fd, geometry)
        self.log.format()
        self._slots_fd = anonymous_file("a test's slots", Slots.file_size(self.settings.limits))
        self.slots = Slots(self._slots_fd, self.settings.limits)
        self.room_rate = new_room_rate(self.settings)
        self._sources = Sources(self.settings.sources)
        self.console = Doorbell.new()
        self.doorbells = [*(Doorbell.new() for _ in range(self.settings.seats)), self.console]
        self.channels: list[Channel] = []
        self.workers: list[Worker] = []
        self.clients: list[Client] = []
        self.theirs: list[Channel] = []
        for number in range(workers):
            ours, theirs = Channel.pair()
            self.channels.append(ours)
            self.theirs.append(theirs)
            self.log.prepare_seat(number)
            seat = Seat(
                number, self.settings.limits, self.log, self.slots, self.room_rate, self.doorbells
            )
            worker = Worker(seat, theirs)
            worker.has_spare_processor = False  # it would poll until the clock advances
            self.workers.append(worker)

    def close(self) -> None:
        for worker in self.workers:
            for member in worker.membership.members.values():
                member.socket.close()
            for member, _ in worker.membership.departures:
                member.socket.close()
        for client in self.clients:
            client.close()
        for channel in (*self.channels, *self.theirs):
            channel.close()
        for doorbell in self.doorbells:
            doorbell.close()
        os.close(self._fd)
        os.close(self._slots_fd)
        os.close(self.room_rate.fd)

    def adopt(
        self, worker: int = 0, address: str | None = None, *, buffer: int | None = None
    ) -> Client:
        """Assign a newcomer to a worker, without running the worker."""
        ours, theirs = socket.socketpair()
        if buffer is not None:
            theirs.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        id = len(self.clients) + 1
        client = Client(id, address or f"192.0.2.{id}", ours)
        self.clients.append(client)
        self.slots.set_source(id - 1, self._sources.join(client.address))
        self.channels[worker].send(
            {
                "adopt": [(id, client.address, f"<{client.address}>", id - 1, 0)],
                "greeting": self.settings.greeting.decode(),
            },
            [theirs.fileno()],
        )
        theirs.close()
        return client

    def join(self, worker: int = 0, address: str | None = None) -> Client:
        """Return a new member that has received the welcome."""
        client = self.adopt(worker, address)
        self.run(worker)
        assert client.receive() == self.settings.greeting
        return client

    def run(self, number: int = 0) -> float | None:
        """Run a worker until it would wait; return the timeout (s), or None for no timeout.

        Raise WorkerEnded if the worker ends.
        """
        worker = self.workers[number]
        try:
            worker.run()
        except WouldWait as would_wait:
            return would_wait.timeout
        raise WorkerEnded

    def settle(self) -> None:
        """Run all workers until none of them has anything to do."""
        for _ in range(MANY):
            before = NonWaitingEpoll.polls_with_events
            for number in range(len(self.workers)):
                self.run(number)
            if NonWaitingEpoll.polls_with_events == before:
                return
        raise AssertionError("the workers wake each other forever")

    def head(self) -> int:
        with self.log:
            return self.log.head

    def rung(self) -> list[int | str]:
        """Return the doorbells that ring: numbers of workers, and "console"."""
        names = [*range(self.settings.seats), "console"]
        ringing = select.select(self.doorbells, [], [], 0)[0]
        self.console.clear()
        return [name for name, bell in zip(names, self.doorbells, strict=True) if bell in ringing]

    def tell(self, record: Record, worker: int = 0) -> None:
        self.channels[worker].send(record)

    def left(self, worker: int = 0) -> list[tuple[int, str]]:
        """Return the members that the worker has reported as left since the last call, with
        reasons."""
        return [
            (id, reason) for record in self.records(worker) for id, reason in record.get("left", [])
        ]

    def records(self, worker: int = 0) -> list[Record]:
        """Return the records that the worker has sent since the last call."""
        records = []
        with contextlib.suppress(ChannelClosed):
            records += [record for record, _ in self.channels[worker].receive()]
        return records


MakeRoom = Callable[..., Room]
