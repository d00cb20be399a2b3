"""A main process with fake workers, which the test controls.

A test is written as a generator, which is called its *steps*. The generator continues whenever the
main process would wait. So the events of a test have a fixed order, without a thread, a real worker
or a real clock.
"""

import contextlib
import os
import select
import signal
import socket
from collections.abc import Callable, Iterator
from selectors import SelectorKey
from typing import Any, NamedTuple

import pytest

from chatroom.config.limits import Limits
from chatroom.config.settings import Settings
from chatroom.errors import ChatroomError
from chatroom.log.ring import Geometry, Log
from chatroom.log.slots import Slots
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.supervisor import members, supervisor
from chatroom.supervisor.acceptor import Acceptor
from chatroom.supervisor.assignment import BALANCE_AFTER
from chatroom.supervisor.members import Members
from chatroom.supervisor.pool import WorkerPool
from chatroom.supervisor.registry import Directory, Registry
from chatroom.system.channel import ChannelClosed, Record
from chatroom.system.doorbell import Doorbell
from chatroom.system.endpoint import Endpoint
from chatroom.system.event_loop import EventLoop
from chatroom.system.signals import HANDLED_SIGNALS
from chatroom.system.systemd import SystemdNotifier
from tests.integration.waiting import PATIENCE
from tests.supervisor.children import FakeProcess, fake_spawn

Steps = Iterator[None]
"""Generator of a test. At each yield, the main process runs until it would wait."""


class Adopted(NamedTuple):
    address: str
    slot: int
    connection: socket.socket
    greeting: str


class FakeWorker(FakeProcess):
    """A worker that the test controls; there is no real process."""

    def __init__(self, args: tuple[int, Settings, socket.socket]) -> None:
        super().__init__(args)
        self.number, self.limits = args[:2]
        self.pid = 1_000_000 + self.number
        self.adopted: dict[int, Adopted] = {}

    def tell(self, record: Record) -> None:
        self.channel.send(record)

    def records(self) -> list[Record]:
        """Return the records that the worker has received since the last call, except `adopt`."""
        records = []
        for record, descriptors in self.channel.receive():
            match record:
                case {"adopt": members, "greeting": greeting}:
                    for (id, address, _, slot, _), fd in zip(members, descriptors, strict=True):
                        self.adopted[id] = Adopted(
                            address, slot, socket.socket(fileno=fd), greeting
                        )
                case _:
                    records.append(record)
                    self.descriptors += descriptors
        return records

    def serve(self) -> list[Record]:
        """Answer `yield` and `ack`, accept the members of `adopt`, and return all other records."""
        records = []
        for record in self.records():
            match record:
                case {"ack": _}:
                    self.tell(record)
                case {"yield": ids}:
                    for id in ids:
                        self.adopted.pop(id).connection.close()
                    self.tell({"yielded": ids})
                case _:
                    records.append(record)
        return records

    def die(self, exitcode: int = 1) -> None:
        if self.exitcode is None:
            for adopted in self.adopted.values():
                adopted.connection.close()
        super().die(exitcode)

    def kill(self) -> None:
        with contextlib.suppress(ChannelClosed):
            self.records()
        super().kill()


class LocalRegistry(Registry):
    """A registry in the test's own process."""

    def __init__(
        self,
        loop: EventLoop,
        clients: int,
        per_address: int,
        pack: int,
        held: Callable[[], Directory],
    ) -> None:
        super().__init__(clients, per_address, pack)
        self.capacity = clients
        self.held = held

    def stop(self) -> None:
        pass


class MainLoop(EventLoop):
    """An event loop that continues the steps whenever no source is ready."""

    def __init__(self, main: "MainProcess") -> None:
        super().__init__(lambda: main.now)
        self._main = main

    def wait(self, timeout: float | None) -> list[tuple[SelectorKey, int]]:
        if events := super().wait(0):
            return events
        self._main.waits_for = timeout
        next(self._main.steps)
        return super().wait(0)


class MainProcess:
    """A real main process, in which the parts that a test can't use are replaced."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.processes: list[FakeWorker] = []
        self.printed: list[str] = []
        self.quiet = False
        self.closed = 0
        self.started_before_registry = 0
        """Number of workers that were started before the main process waited for the registry."""
        self.left: dict[int, LeaveReason] = {}
        """Reason for which each member has left, by the member's id."""
        self.waits_for: float | None = None
        """Timeout (s) with which the main process would wait now; None: it would wait for ever."""
        self.steps: Steps = iter(())
        self.notifier: SystemdNotifier | None = None
        self.reload: Callable[[], Settings] | None = self._read_again
        self.reload_error: ChatroomError | None = None
        """Error that the next reload raises."""
        # Parts of the main process, recorded when the main process creates them.
        self.log: Log
        self.slots: Slots
        self.registry: LocalRegistry
        self.members: Members
        self.acceptor: Acceptor
        self.pool: WorkerPool
        self.doorbells: list[Doorbell]
        main = self

        class Console:
            def __init__(self, log: object, doorbell: object, fd: int) -> None:
                main.quiet = log is None

            def print_line(self, line: str) -> None:
                main.printed.append(line)

            def reserve_line(self) -> Callable[[str | None], None]:
                return lambda line: None if line is None else self.print_line(line)

            def close(self) -> None:
                main.closed += 1

        def start(args: Any) -> FakeWorker:
            main.processes.append(FakeWorker(args))
            return main.processes[-1]

        monkeypatch.setattr(supervisor, "Console", Console)
        monkeypatch.setattr(members, "ANNOUNCE_AFTER", 0.0)
        fake_spawn(monkeypatch, start)
        monkeypatch.setattr(supervisor, "raise_limit", lambda reserved: 500)
        self._note_parts(monkeypatch)

    def _note_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Record each part of the main process when it is created."""
        main = self

        class NotedLog(Log):
            def __init__(self, fd: int, geometry: Geometry) -> None:
                super().__init__(fd, geometry)
                main.log = self

        class NotedSlots(Slots):
            def __init__(self, fd: int, limits: Limits) -> None:
                super().__init__(fd, limits)
                main.slots = self

        class NotedRegistry(LocalRegistry):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                main.registry = self

            def connect(self) -> None:
                main.started_before_registry = len(main.workers)

        class NotedMembers(Members):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                main.members = self

            def leave(self, reasons: dict[int, LeaveReason]) -> None:
                main.left |= reasons
                super().leave(reasons)

        class NotedAcceptor(Acceptor):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                main.acceptor = self

        class NotedPool(WorkerPool):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                main.pool = self
                main.doorbells = arguments[5]

        monkeypatch.setattr(supervisor, "Log", NotedLog)
        monkeypatch.setattr(supervisor, "Slots", NotedSlots)
        monkeypatch.setattr(supervisor, "RegistryProcess", NotedRegistry)
        monkeypatch.setattr(supervisor, "Members", NotedMembers)
        monkeypatch.setattr(supervisor, "Acceptor", NotedAcceptor)
        monkeypatch.setattr(supervisor, "WorkerPool", NotedPool)

    def run(self, steps: Steps, **options: Any) -> None:
        """Run a room and the steps until both end. A reload reads the attribute `settings`."""
        here = (Endpoint("127.0.0.1"),)
        defaults: dict[str, Any] = {"listen": here, "watchdog": 0, "workers": 1, "pack": 1}
        self.settings = Settings(**defaults | options)
        self.steps = steps
        loop = MainLoop(self)
        try:
            supervisor.run(self.settings, (), self.notifier, self.reload, loop)
        except StopIteration:
            pytest.fail("the steps have ended, but the main process waits")
        assert next(steps, "over") == "over", "the main process ended before the steps"

    def _read_again(self) -> Settings:
        if self.reload_error is not None:
            raise self.reload_error
        return self.settings

    def close(self) -> None:
        """Free the resources that a real main process frees at its end."""
        for process in self.processes:
            assert process.exitcode is not None, "a worker was not ended"
        with contextlib.suppress(AttributeError):  # a main process whose start failed
            os.close(self.log.fd)
            os.close(self.slots.fd)
            for doorbell in self.doorbells:
                doorbell.close()
            for client in self.members.by_id.values():
                client.connection.close()

    @property
    def workers(self) -> list[FakeWorker]:
        """Living workers, in the order of their numbers."""
        alive = [process for process in self.processes if process.exitcode is None]
        return sorted(alive, key=lambda process: process.number)

    def rung(self, seat: int) -> bool:
        """Return True if the doorbell of this seat was rung since the last call."""
        bell = self.doorbells[seat]
        ringing = bool(select.select([bell], [], [], 0)[0])
        bell.clear()
        return ringing

    def begin(self) -> Steps:
        """Make all workers ready."""
        yield
        for worker in self.workers:
            worker.records()
            worker.tell({"ready": True})
        yield
        self.now += BALANCE_AFTER
        yield

    def connect(self) -> socket.socket:
        host, _, port = self.printed[0].removeprefix("listening on ").rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)

    def end(self) -> Steps:
        """Stop the room, and end all workers."""
        os.kill(os.getpid(), signal.SIGTERM)
        yield
        for worker in self.workers:
            assert {"drain": True} in worker.serve()
            worker.tell({"drained": True})
        yield
        for worker in self.workers:
            assert worker.records() == [{"stop": True}]
            worker.die(0)
        yield


@pytest.fixture(name="main")
def fixture_main(monkeypatch: pytest.MonkeyPatch) -> Iterator[MainProcess]:
    main = MainProcess(monkeypatch)
    handlers = {number: signal.getsignal(number) for number in HANDLED_SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield main
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # pending signals go to the test
    for number, handler in handlers.items():
        signal.signal(number, handler)
    main.close()
