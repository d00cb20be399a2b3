"""A main process with fake workers, which the test plays.

A test is a generator, a story. It continues whenever the main process would wait, so the events of
a test are in order, without a thread, a process or a clock.
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
from tests.supervisor.children import PlayedProcess, fake_spawn

Story = Iterator[None]
"""A test's generator; at each yield, the main process runs until it would wait."""


class Adopted(NamedTuple):
    address: str
    slot: int
    connection: socket.socket
    greeting: str


class Process(PlayedProcess):
    """A fake worker's process, which the test plays."""

    def __init__(self, args: tuple[int, Settings, socket.socket]) -> None:
        super().__init__(args)
        self.number, self.limits = args[:2]
        self.pid = 1_000_000 + self.number
        self.adopted: dict[int, Adopted] = {}

    def tell(self, record: Record) -> None:
        self.channel.send(record)

    def told(self) -> list[Record]:
        """Return the records received since the last call, except `adopt`."""
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
        """Carry out the records adopt, yield and ack; return the other records."""
        records = []
        for record in self.told():
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
            self.told()
        super().kill()


class LocalRegistry(Registry):
    """A registry in this process."""

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


class StageLoop(EventLoop):
    """An event loop that continues the story whenever no source is ready."""

    def __init__(self, stage: "Stage") -> None:
        super().__init__(lambda: stage.now)
        self._stage = stage

    def wait(self, timeout: float | None) -> list[tuple[SelectorKey, int]]:
        if events := super().wait(0):
            return events
        self._stage.waits = timeout
        next(self._stage.story)
        return super().wait(0)


class Stage:
    """Replaces those parts of the main process that a test can't use unchanged."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.processes: list[Process] = []
        self.printed: list[str] = []
        self.quiet = False
        self.closed = 0
        self.started_before_registry = 0
        """Number of workers that were started before the room waited for the registry."""
        self.left: dict[int, LeaveReason] = {}
        """Reason for which each member left, by id."""
        self.waits: float | None = None
        """Seconds that the main process would wait now; None: for ever."""
        self.story: Story = iter(())
        self.notifier: SystemdNotifier | None = None
        self.reload: Callable[[], Settings] | None = self._read_again
        self.fails: ChatroomError | None = None
        """Error for the next reload to raise."""
        # Parts of the main process, noted when it makes them.
        self.log: Log
        self.slots: Slots
        self.registry: LocalRegistry
        self.members: Members
        self.acceptor: Acceptor
        self.pool: WorkerPool
        self.doorbells: list[Doorbell]
        stage = self

        class Console:
            def __init__(self, log: object, doorbell: object, fd: int) -> None:
                stage.quiet = log is None

            def print_line(self, line: str) -> None:
                stage.printed.append(line)

            def reserve_line(self) -> Callable[[str | None], None]:
                return lambda line: None if line is None else self.print_line(line)

            def close(self) -> None:
                stage.closed += 1

        def start(args: Any) -> Process:
            stage.processes.append(Process(args))
            return stage.processes[-1]

        monkeypatch.setattr(supervisor, "Console", Console)
        monkeypatch.setattr(members, "ANNOUNCE_AFTER", 0.0)
        fake_spawn(monkeypatch, start)
        monkeypatch.setattr(supervisor, "raise_limit", lambda reserved: 500)
        self._note_parts(monkeypatch)

    def _note_parts(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Note each part of the main process when it is made."""
        stage = self

        class OwnLog(Log):
            def __init__(self, fd: int, geometry: Geometry) -> None:
                super().__init__(fd, geometry)
                stage.log = self

        class OwnSlots(Slots):
            def __init__(self, fd: int, limits: Limits) -> None:
                super().__init__(fd, limits)
                stage.slots = self

        class OwnRegistry(LocalRegistry):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                stage.registry = self

            def connect(self) -> None:
                stage.started_before_registry = len(stage.workers)

        class OwnMembers(Members):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                stage.members = self

            def leave(self, reasons: dict[int, LeaveReason]) -> None:
                stage.left |= reasons
                super().leave(reasons)

        class OwnAcceptor(Acceptor):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                stage.acceptor = self

        class OwnPool(WorkerPool):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                stage.pool = self
                stage.doorbells = arguments[5]

        monkeypatch.setattr(supervisor, "Log", OwnLog)
        monkeypatch.setattr(supervisor, "Slots", OwnSlots)
        monkeypatch.setattr(supervisor, "RegistryProcess", OwnRegistry)
        monkeypatch.setattr(supervisor, "Members", OwnMembers)
        monkeypatch.setattr(supervisor, "Acceptor", OwnAcceptor)
        monkeypatch.setattr(supervisor, "WorkerPool", OwnPool)

    def run(self, story: Story, **options: Any) -> None:
        """Run a room with a story to the end of both. A reload reads `self.settings`."""
        here = (Endpoint("127.0.0.1"),)
        defaults: dict[str, Any] = {"listen": here, "watchdog": 0, "workers": 1, "pack": 1}
        self.settings = Settings(**defaults | options)
        self.story = story
        loop = StageLoop(self)
        try:
            supervisor.run(self.settings, (), self.notifier, self.reload, loop)
        except StopIteration:
            pytest.fail("the story is over, and the main process waits")
        assert next(story, "over") == "over", "the main process has ended before the story"

    def _read_again(self) -> Settings:
        if self.fails is not None:
            raise self.fails
        return self.settings

    def close(self) -> None:
        """Free the resources that the end of a real main process would free."""
        for process in self.processes:
            assert process.exitcode is not None, "a worker was left behind"
        with contextlib.suppress(AttributeError):  # the main process did not get so far
            os.close(self.log.fd)
            os.close(self.slots.fd)
            for doorbell in self.doorbells:
                doorbell.close()
            for client in self.members.by_id.values():
                client.connection.close()

    @property
    def workers(self) -> list[Process]:
        """Processes of the living workers, by number."""
        alive = [process for process in self.processes if process.exitcode is None]
        return sorted(alive, key=lambda process: process.number)

    def rung(self, seat: int) -> bool:
        """Return whether a seat's doorbell was rung since the last call."""
        bell = self.doorbells[seat]
        ringing = bool(select.select([bell], [], [], 0)[0])
        bell.clear()
        return ringing

    def begin(self) -> Story:
        """Make all workers ready."""
        yield
        for worker in self.workers:
            worker.told()
            worker.tell({"ready": True})
        yield
        self.now += BALANCE_AFTER
        yield

    def connect(self) -> socket.socket:
        host, _, port = self.printed[0].removeprefix("listening on ").rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)

    def end(self) -> Story:
        """Stop the room, and end all workers."""
        os.kill(os.getpid(), signal.SIGTERM)
        yield
        for worker in self.workers:
            assert {"drain": True} in worker.serve()
            worker.tell({"drained": True})
        yield
        for worker in self.workers:
            assert worker.told() == [{"stop": True}]
            worker.die(0)
        yield


@pytest.fixture(name="stage")
def fixture_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    stage = Stage(monkeypatch)
    handlers = {number: signal.getsignal(number) for number in HANDLED_SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield stage
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # what waited comes to the stage's handlers
    for number, handler in handlers.items():
        signal.signal(number, handler)
    stage.close()
