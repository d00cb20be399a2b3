"""The main process: it starts the others, lets people in, and ends it all in order.

Its workers are played by the test, which goes on wherever the main process would wait: so these
tests are stories, told in the order in which things happen, without a thread, a process or a clock.
"""

import contextlib
import os
import selectors
import signal
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chatroom import acceptor, supervisor
from chatroom.errors import LimitError, ListenError, WorkerError
from chatroom.net.channel import Channel, ChannelClosed, Record
from chatroom.settings import Settings
from chatroom.shared.registry import Members, Registry
from chatroom.signals import STOP_SIGNALS
from chatroom.supervisor import DRAIN_WITHIN, END_WITHIN, Supervisor

PATIENCE = 10

Story = Iterator[None]
"""Yields where the main process is to run until it has nothing to do."""


class Process:
    """Stands in for a worker's process; the test is what it does."""

    def __init__(self, target: object, args: tuple[int, Settings, socket.socket]) -> None:
        self.number, self.settings, end = args
        self.exitcode: int | None = None
        self.pid = 1_000_000 + self.number
        self.sentinel, self._alive = os.pipe()
        self._end = end
        self.adopted: dict[int, tuple[str, socket.socket]] = {}
        self.descriptors: list[int] = []

    def start(self) -> None:
        self.channel = Channel(self._end.dup())

    def tell(self, record: Record) -> None:
        self.channel.send(record)

    def told(self) -> list[Record]:
        """What the main process has told it, less whom it is to adopt."""
        records = []
        for record, descriptors in self.channel.receive():
            match record:
                case {"adopt": id, "address": address}:
                    self.adopted[id] = address, socket.socket(fileno=descriptors[0])
                case _:
                    records.append(record)
                    self.descriptors += descriptors
        return records

    def die(self, exitcode: int = 1) -> None:
        if self.exitcode is None:
            self.exitcode = exitcode
            for _, connection in self.adopted.values():
                connection.close()
            for fd in (self._alive, *self.descriptors):
                os.close(fd)
            self.channel.close()

    def kill(self) -> None:
        with contextlib.suppress(ChannelClosed):
            self.told()
        self.die(-9)

    def join(self) -> None:
        assert self.exitcode is not None, "the main process would wait for it"


class Directory(Registry):
    """A registry without a process of its own."""

    def __init__(self, clients: int, per_address: int, held: Callable[[], Members]) -> None:
        super().__init__(clients, per_address)
        self.capacity = clients
        self.held = held

    def stop(self) -> None:
        pass


class Stage:
    """What the main process uses, as far as a test can't leave it as it is."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.processes: list[Process] = []
        self.printed: list[str] = []
        self.quiet = False
        self.closed = 0
        self.waits: float | None = None
        """For how long the main process would wait now."""
        self.story: Story = iter(())
        stage = self

        class Selector(selectors.DefaultSelector):
            """Where nothing has happened, the story goes on."""

            def select(self, timeout: float | None = None) -> Any:
                if events := super().select(0):
                    return events
                stage.waits = timeout
                next(stage.story)
                return super().select(0)

        class Console:
            def __init__(self, log: object, doorbell: object, fd: int) -> None:
                stage.quiet = log is None

            def say(self, line: str) -> None:
                stage.printed.append(line)

            def close(self) -> None:
                stage.closed += 1

        class Context:
            def Process(self, target: object, args: Any) -> Process:  # noqa: N802
                stage.processes.append(Process(target, args))
                return stage.processes[-1]

        monkeypatch.setattr(selectors, "DefaultSelector", Selector)
        monkeypatch.setattr(supervisor, "Console", Console)
        monkeypatch.setattr(supervisor, "RegistryProcess", Directory)
        monkeypatch.setattr(supervisor, "get_context", lambda kind: Context())
        monkeypatch.setattr(supervisor, "raise_limit", lambda reserved: 500)
        for module in (supervisor, acceptor):
            monkeypatch.setattr(module, "monotonic", lambda: stage.now)

    def run(self, story: Story, **options: Any) -> None:
        """Run a room to its end, while the story goes on."""
        defaults: dict[str, Any] = {"host": "127.0.0.1", "port": 0}
        self.supervisor = Supervisor(Settings(**defaults | options))
        self.story = story
        try:
            self.supervisor.run()
        except StopIteration:
            pytest.fail("the story is over, and the main process waits")
        assert next(story, "over") == "over", "the main process has ended before the story"

    def close(self) -> None:
        """Give back what a main process gives back by ending."""
        for process in self.processes:
            assert process.exitcode is not None, "a worker was left behind"
            os.close(process.sentinel)
        with contextlib.suppress(AttributeError):  # where it did not get so far
            os.close(self.supervisor._log.fd)
            for doorbell in self.supervisor._doorbells:
                doorbell.close()
            for client in self.supervisor._acceptor.clients.values():
                client.connection.close()
            for left in self.supervisor._workers.values():
                left.channel.close()

    @property
    def workers(self) -> list[Process]:
        """The processes of the workers that are, by number."""
        latest = {process.number: process for process in self.processes}
        return [latest[number] for number in sorted(latest)]

    def begin(self) -> Story:
        """All workers become ready."""
        yield
        for worker in self.workers:
            worker.told()
            worker.tell({"ready": True})
        yield

    def connect(self) -> socket.socket:
        host, _, port = self.printed[0].removeprefix("listening on ").rpartition(":")
        return socket.create_connection((host.strip("[]"), int(port)), timeout=PATIENCE)

    def end(self) -> Story:
        """The room is told to stop, and does."""
        os.kill(os.getpid(), signal.SIGTERM)
        yield
        for worker in self.workers:
            assert {"drain": True} in worker.told()
            worker.tell({"drained": True})
        yield
        for worker in self.workers:
            assert worker.told() == [{"stop": True}]
            worker.die(0)
        yield


@pytest.fixture(name="stage")
def fixture_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    stage = Stage(monkeypatch)
    handlers = {number: signal.getsignal(number) for number in STOP_SIGNALS}
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, [])
    yield stage
    signal.pthread_sigmask(signal.SIG_SETMASK, mask)  # what waited comes to the stage's handlers
    for number, handler in handlers.items():
        signal.signal(number, handler)
    stage.close()


# --- start ---------------------------------------------------------------------------------------


def test_a_room_begins_when_all_workers_are_ready(stage: Stage) -> None:
    def story() -> Story:
        yield
        one, other = stage.workers
        for worker in (one, other):
            assert worker.told() == [{"doorbells": 3}]
            assert len(worker.descriptors) == 4, "the log, and as many doorbells"
        one.tell({"ready": True})
        yield
        assert stage.printed == []
        other.tell({"ready": True})
        yield
        (line,) = stage.printed
        assert line.startswith("listening on 127.0.0.1:")
        assert stage.waits is None, "LEAVE-3: a room without members is idle"
        yield from stage.end()

    stage.run(story(), workers=2)
    assert not stage.quiet
    assert stage.closed == 1, "the console had its time"


def test_a_quiet_console_reads_no_log(stage: Stage) -> None:
    def story() -> Story:
        yield
        assert stage.workers[0].told() == [{"doorbells": 1}]
        yield from stage.begin()
        yield from stage.end()

    stage.run(story(), quiet=True)
    assert stage.quiet


def test_an_address_that_is_taken_is_found_before_anything_is_started(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(ListenError):
        stage.run(iter(()), port=other.getsockname()[1])
    assert stage.processes == []


@pytest.mark.parametrize("said", [True, False])
def test_a_worker_that_can_not_start_ends_the_room_with_its_error(said: bool, stage: Stage) -> None:
    def story() -> Story:
        yield
        one, other = stage.workers
        one.tell({"ready": True})
        if said:
            other.tell({"failed": "OSError: no memory"})
        other.die(1)
        yield

    reason = "OSError: no memory" if said else "ended with exit code 1"
    with pytest.raises(WorkerError, match=f"worker 1 can't start: {reason}"):
        stage.run(story(), workers=2)
    assert stage.workers[0].exitcode == -9, "no other was left"


def test_a_log_that_is_too_large_is_an_error(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, size: int) -> int:
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr(supervisor, "anonymous_file", refuse)
    with pytest.raises(LimitError, match="no memory for a log of 16777216 bytes: Cannot allocate"):
        stage.run(iter(()))


@pytest.mark.parametrize(("wanted", "granted"), [(10, 10), (10_000, 500)])
def test_descriptors_bound_the_room(
    wanted: int, granted: int, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def story() -> Story:
        yield from stage.begin()
        yield from stage.end()

    stage.run(story(), max_clients=wanted)
    registry: Any = stage.supervisor._registry
    assert registry.capacity == granted
    assert ("allow no more than 500" in caplog.text) == (granted < wanted)


# --- members -------------------------------------------------------------------------------------


def test_newcomers_are_spread_over_the_workers_and_leave_when_these_say_so(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        with stage.connect() as alice, stage.connect() as bob:
            yield
            one, other = stage.workers
            assert one.told() == other.told() == []
            assert (list(one.adopted), list(other.adopted)) == ([1], [2])
            for worker, peer in ((one, alice), (other, bob)):
                ((address, connection),) = worker.adopted.values()
                assert address == "127.0.0.1"
                assert connection.getpeername() == peer.getsockname()
            assert stage.printed[1:] == ["127.0.0.1 connected"] * 2
            one.adopted.pop(1)[1].close()
            one.tell({"left": [[1, "closed"]]})
            yield
            assert stage.printed[3:] == ["127.0.0.1 disconnected"]
            assert alice.recv(1) == b"", "LEAVE-4: the main process held it too"
            one.tell({"left": [[1, "closed"]]})
            yield
            assert stage.printed[4:] == [], "to leave twice is to leave once"
            yield from stage.end()

    stage.run(story(), workers=2)


def test_load_2_who_lagged_is_told_to_the_owner(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        with stage.connect():
            yield
            stage.workers[0].tell({"left": [[1, "lagged"]]})
            yield
            assert stage.printed[-1] == "127.0.0.1 disconnected: it lagged too far behind"
            yield from stage.end()

    stage.run(story())


def test_a_worker_that_is_slow_to_adopt_holds_up_nobody(stage: Stage) -> None:
    """… and adopts all in the end, though its channel was full."""

    def story() -> Story:
        yield from stage.begin()
        peers = []
        with contextlib.ExitStack() as closing:
            for _ in range(400):
                peers.append(closing.enter_context(stage.connect()))
                yield
            assert stage.printed.count("127.0.0.1 connected") == 400
            (worker,) = stage.workers
            assert worker.told() == []
            assert len(worker.adopted) < 400
            while len(worker.adopted) < 400:
                yield
                assert worker.told() == []
            assert list(worker.adopted) == [*range(1, 401)]
            assert stage.waits is None
            yield from stage.end()

    stage.run(story())


# --- a worker dies -------------------------------------------------------------------------------


def test_a_worker_that_dies_is_replaced_and_its_members_are_disconnected(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        with stage.connect() as alice, stage.connect() as bob:
            yield
            one, other = stage.workers
            for worker in (one, other):
                worker.told()
            with stage.supervisor._log as log:
                log.serve(0, 1)
                log.serve(1, 1)
            one.die(-9)
            yield
            assert alice.recv(1) == b""
            assert stage.printed[3:] == ["127.0.0.1 disconnected"]
            with stage.supervisor._log as log:
                assert log.serving() == [1], "nobody waits for the dead"
            replacement = stage.workers[0]
            assert replacement is not one
            assert replacement.told() == [{"doorbells": 3}]
            with stage.connect() as carol:
                yield
                other.told()
                assert sorted(other.adopted) == [2, 3], "the replacement is not ready yet"
                replacement.tell({"ready": True})
                yield
                with stage.connect() as dave:
                    yield
                    replacement.told()
                    assert list(replacement.adopted) == [4]
                    for peer in (bob, carol, dave):
                        peer.setblocking(False)
                        with pytest.raises(BlockingIOError):
                            peer.recv(1)
                    yield from stage.end()

    stage.run(story(), workers=2)


def test_without_a_worker_newcomers_wait_for_its_replacement(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        stage.workers[0].die(-9)
        yield
        replacement = stage.workers[0]
        with stage.connect():
            yield
            assert replacement.told() == [{"doorbells": 2}]
            assert replacement.adopted == {}
            replacement.tell({"ready": True})
            yield
            replacement.told()
            assert list(replacement.adopted) == [1]
            yield from stage.end()

    stage.run(story())


def test_a_newcomer_may_come_in_the_moment_in_which_the_last_worker_dies(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        stage.workers[0].die(-9)
        with stage.connect():
            yield
            replacement = stage.workers[0]
            replacement.told()
            replacement.tell({"ready": True})
            yield
            replacement.told()
            assert len(replacement.adopted) == 1
            yield from stage.end()

    stage.run(story())


@pytest.mark.parametrize("last", ["channel", "process"])
def test_a_worker_s_channel_and_its_process_end_in_any_order(last: str, stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        with stage.connect() as alice:
            yield
            (worker,) = stage.workers
            worker.told()
            if last == "process":
                worker.channel.close()
                yield
            worker.die(1)
            yield
            assert stage.workers[0] is not worker
            assert alice.recv(1) == b""
            yield from stage.begin()
            yield from stage.end()

    stage.run(story())


@pytest.mark.parametrize("last", ["channel", "process"])
def test_a_worker_may_die_while_records_wait_for_it(last: str, stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        with contextlib.ExitStack() as closing:
            peers = []
            for _ in range(400):
                peers.append(closing.enter_context(stage.connect()))
                yield
            (worker,) = stage.workers
            if last == "process":
                worker.channel.close()
                yield
            worker.die(-9)
            yield
            assert stage.printed.count("127.0.0.1 disconnected") == 400
            for peer in peers:
                assert peer.recv(1) == b""
            assert stage.workers[0] is not worker
            yield from stage.begin()
            yield from stage.end()

    stage.run(story())


def test_newcomers_may_be_placed_on_a_worker_whose_channel_has_ended(stage: Stage) -> None:
    """Its process has not ended yet, or that was not seen yet."""

    def story() -> Story:
        yield from stage.begin()
        (worker,) = stage.workers
        worker.channel.close()
        yield
        with stage.connect() as one, stage.connect() as other, stage.connect() as third:
            yield
            assert stage.printed[1:] == ["127.0.0.1 connected"] * 3
            worker.die(-9)
            yield
            for peer in (one, other, third):
                assert peer.recv(1) == b""
            yield from stage.begin()
            yield from stage.end()

    stage.run(story())


def test_its_last_words_count(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        with stage.connect() as alice, stage.connect():
            yield
            (worker,) = stage.workers
            worker.told()
            worker.tell({"left": [[1, "lagged"]]})
            worker.die(1)
            yield
            assert alice.recv(1) == b""
            assert stage.printed[3:] == [
                "127.0.0.1 disconnected: it lagged too far behind",
                "127.0.0.1 disconnected",
            ]
            yield from stage.begin()
            yield from stage.end()

    stage.run(story())


def test_the_registry_can_be_filled_with_what_the_main_process_holds(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        with stage.connect(), stage.connect():
            yield
            registry: Any = stage.supervisor._registry
            assert registry.held() == registry.members()
            assert registry.held() == {1: ("127.0.0.1", 0), 2: ("127.0.0.1", 1)}
            yield from stage.end()

    stage.run(story(), workers=2)


# --- stop ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_a_room_stops_in_order(number: int, stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        one, other = stage.workers
        os.kill(os.getpid(), number)
        yield
        assert one.told() == other.told() == [{"drain": True}]
        with pytest.raises(ConnectionRefusedError):
            stage.connect()
        one.tell({"drained": True})
        yield
        assert one.told() == []
        other.tell({"drained": True})
        yield
        assert one.told() == other.told() == [{"stop": True}]
        one.die(0)
        yield
        assert stage.waits == pytest.approx(END_WITHIN)
        other.die(0)
        yield

    stage.run(story(), workers=2)


def test_a_second_signal_changes_nothing(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        os.kill(os.getpid(), signal.SIGINT)
        yield
        os.kill(os.getpid(), signal.SIGINT)
        yield
        assert stage.workers[0].told() == [{"drain": True}]
        stage.workers[0].tell({"drained": True})
        yield
        stage.workers[0].die(0)
        yield

    stage.run(story())


def test_a_worker_that_does_not_drain_is_not_waited_for_for_ever(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        (worker,) = stage.workers
        os.kill(os.getpid(), signal.SIGTERM)
        yield
        assert stage.waits == pytest.approx(DRAIN_WITHIN)
        stage.now += DRAIN_WITHIN
        yield
        assert worker.told() == [{"drain": True}, {"stop": True}]
        assert stage.waits == pytest.approx(END_WITHIN)
        stage.now += END_WITHIN
        yield
        assert worker.exitcode == -9

    stage.run(story())


def test_a_worker_that_dies_while_the_room_stops_is_not_replaced(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        one, other = stage.workers
        os.kill(os.getpid(), signal.SIGTERM)
        yield
        one.die(1)
        yield
        other.tell({"drained": True})
        yield
        assert {"stop": True} in other.told()
        other.die(0)
        yield

    stage.run(story(), workers=2)
    assert len(stage.processes) == 2


def test_a_room_can_stop_before_it_has_begun(stage: Stage) -> None:
    def story() -> Story:
        yield
        os.kill(os.getpid(), signal.SIGTERM)
        yield
        (worker,) = stage.workers
        assert worker.told() == [{"doorbells": 2}, {"drain": True}]
        worker.tell({"ready": True})
        worker.tell({"drained": True})
        yield
        assert worker.told() == [{"stop": True}]
        worker.die(0)
        yield

    stage.run(story())
    assert stage.printed == []
