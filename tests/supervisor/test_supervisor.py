"""The main process: start, admit, signals, reload, stop. Its workers are fakes: see stage.py."""

import contextlib
import errno
import json
import os
import signal
import socket
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from chatroom.config.limits import SPARE_SEATS
from chatroom.config.settings import Settings
from chatroom.config.sizes import KIB
from chatroom.control import control_socket
from chatroom.errors import ConfigError, LimitError, ListenError, WorkerError
from chatroom.supervisor import supervisor
from chatroom.supervisor.assignment import BALANCE_AFTER
from chatroom.supervisor.pending import MAX_PENDING
from chatroom.supervisor.supervisor import DRAIN_WITHIN, END_WITHIN
from chatroom.supervisor.watchdog import CHECKS
from chatroom.system.accepting import PAUSE
from chatroom.system.endpoint import Endpoint
from chatroom.system.listening import listen
from chatroom.system.networks import UNIX
from chatroom.system.signals import STOP_SIGNALS
from chatroom.system.systemd import SystemdNotifier
from tests.supervisor.stage import Stage, Story, fixture_stage  # noqa: F401 (a fixture)
from tests.system.ends import Reluctant

# --- start ---------------------------------------------------------------------------------------


def test_a_room_begins_when_all_workers_are_ready(stage: Stage) -> None:
    def story() -> Story:
        yield
        assert stage.started_before_registry == 2, "the workers and the registry start together"
        first, other = stage.workers
        for worker in (first, other):
            assert worker.told() == [{"doorbells": 2 + SPARE_SEATS + 1}]
            assert len(worker.descriptors) == 3 + 2 + SPARE_SEATS + 1, (
                "and those of the log, the slots and the room's rate"
            )
        first.tell({"ready": True})
        yield
        assert stage.printed == []
        other.tell({"ready": True})
        yield
        (line,) = stage.printed
        assert line.startswith("listening on 127.0.0.1:")
        stage.now += BALANCE_AFTER
        yield
        assert stage.waits is None, "LEAVE-3: a room without members is idle"
        yield from stage.end()

    stage.run(story(), workers=2)
    assert not stage.quiet
    assert stage.closed == 1, "the console was closed"


def test_a_quiet_console_reads_no_log(stage: Stage) -> None:
    def story() -> Story:
        yield
        assert stage.workers[0].told() == [{"doorbells": 1 + SPARE_SEATS}]
        yield from stage.begin()
        yield from stage.end()

    stage.run(story(), quiet=True)
    assert stage.quiet


def test_an_address_in_use_is_an_error_before_any_process_starts(stage: Stage) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(ListenError):
        stage.run(iter(()), listen=(Endpoint(*other.getsockname()),))
    assert stage.processes == []


@pytest.mark.parametrize("said", [True, False])
def test_a_worker_that_cannot_start_ends_the_room_with_its_error(said: bool, stage: Stage) -> None:
    def story() -> Story:
        yield
        first, other = stage.workers
        first.tell({"ready": True})
        if said:
            other.tell({"failed": "OSError: no memory"})
        other.die(1)
        yield

    reason = "OSError: no memory" if said else "ended with exit code 1"
    with pytest.raises(WorkerError, match=f"worker 1 can't start: {reason}"):
        stage.run(story(), workers=2)
    assert stage.processes[0].exitcode == -9, "no other worker was left"


def test_a_log_that_is_too_large_is_an_error(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(name: str, size: int) -> int:
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr(supervisor, "anonymous_file", refuse)
    with pytest.raises(LimitError, match="no memory for a log of 16777216 bytes: Cannot allocate"):
        stage.run(iter(()))


@pytest.mark.parametrize(("wanted", "granted"), [(10, 10), (10_000, 500)])
def test_the_limit_of_descriptors_limits_the_room(
    wanted: int, granted: int, stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def story() -> Story:
        yield from stage.begin()
        yield from stage.end()

    stage.run(story(), max_clients=wanted)
    registry = stage.registry
    assert registry.capacity == granted
    assert ("allow only 500" in caplog.text) == (granted < wanted)


def test_the_control_socket_accepts_again_once_descriptors_are_free(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[int] = []
    monkeypatch.setattr(
        control_socket, "listen", lambda *where: Reluctant(listen(*where), failures)
    )

    def story() -> Story:
        yield from stage.begin()
        failures.append(errno.EMFILE)
        [path] = Path(folder).glob("*.sock")
        with socket.socket(socket.AF_UNIX) as owner:
            owner.connect(str(path))
            yield
            assert stage.waits == pytest.approx(PAUSE)
            owner.sendall(b'{"ask": "status"}\n')
            stage.now += PAUSE
            yield
            assert json.loads(owner.recv(1 << 16))["room"]["members"] == 0
        yield from stage.end()

    with tempfile.TemporaryDirectory(prefix="run-") as folder:
        stage.run(story(), run_dir=Path(folder))


# --- members -------------------------------------------------------------------------------------


def test_newcomers_are_spread_and_leave_when_their_workers_say_so(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        with stage.connect() as alice, stage.connect() as bob:
            yield
            first, other = stage.workers
            assert first.told() == other.told() == []
            assert (list(first.adopted), list(other.adopted)) == ([1], [2])
            for worker, peer in ((first, alice), (other, bob)):
                (adopted,) = worker.adopted.values()
                assert adopted.address == "127.0.0.1"
                assert adopted.connection.getpeername() == peer.getsockname()
            assert stage.printed[1:] == ["127.0.0.1 connected"] * 2
            first.adopted.pop(1).connection.close()
            first.tell({"left": [[1, "closed"]]})
            yield
            assert stage.printed[3:] == ["127.0.0.1 disconnected"]
            assert alice.recv(1) == b"", "LEAVE-4: the main process closed its dup"
            first.tell({"left": [[1, "closed"]]})
            yield
            assert stage.printed[4:] == [], "a second leave is ignored"
            yield from stage.end()

    stage.run(story(), workers=2)


def test_load_2_the_console_names_a_member_that_lagged(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        with stage.connect():
            yield
            stage.workers[0].tell({"left": [[1, "lagged"]]})
            yield
            assert stage.printed[-1] == "127.0.0.1 disconnected: lagged too far behind"
            yield from stage.end()

    stage.run(story())


def test_a_worker_that_is_slow_to_adopt_delays_nobody(stage: Stage) -> None:
    """The worker adopts all members in the end, though its channel was full."""

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


def is_open(peer: socket.socket) -> bool:
    peer.setblocking(False)
    try:
        return peer.recv(1) != b""
    except BlockingIOError:
        return True


def test_load_4_others_serve_a_dead_worker_s_members_until_it_is_replaced(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        with stage.connect() as alice, stage.connect() as bob:
            yield
            first, other = stage.workers
            for worker in (first, other):
                worker.told()
            with stage.log as log:
                log.serve(0, 1)
                log.serve(1, 1)
            slot = first.adopted[1].slot
            first.die(-9)
            yield
            (ack,) = other.told()
            assert other.adopted[1].connection.getpeername() == alice.getsockname()
            assert other.adopted[1].address == "127.0.0.1"
            assert other.adopted[1].slot == slot, "the dead worker's checkpoint is there"
            with stage.log as log:
                assert log.serving() == [0, 1], "the log keeps her messages"
            other.tell(ack)
            yield
            with stage.log as log:
                assert log.serving() == [1], "the dead worker's seat is released"
            replacement = stage.workers[1]
            assert replacement.number == 2, "the dead worker's seat was still taken"
            assert replacement.told() == [{"doorbells": 2 + SPARE_SEATS + 1}]
            with stage.connect() as carol:
                yield
                other.told()
                assert sorted(other.adopted) == [1, 2, 3], "the replacement is not ready yet"
                replacement.tell({"ready": True})
                yield
                with stage.connect() as dave:
                    yield
                    replacement.told()
                    assert list(replacement.adopted) == [4]
                    assert all(is_open(peer) for peer in (alice, bob, carol, dave))
                    assert not any("disconnected" in line for line in stage.printed)
                    yield from stage.end()

    stage.run(story(), workers=2)


def test_newcomers_wait_for_a_worker_if_none_is_alive(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        stage.workers[0].die(-9)
        yield
        replacement = stage.workers[0]
        with stage.connect():
            yield
            assert replacement.told() == [{"doorbells": 1 + SPARE_SEATS + 1}]
            assert replacement.adopted == {}
            assert stage.members.by_id == {}, "it could not leave before a worker serves it"
            replacement.tell({"ready": True})
            yield
            replacement.serve()
            assert list(replacement.adopted) == [1]
            yield
            yield from stage.end()

    stage.run(story())


def test_a_newcomer_may_join_as_the_last_worker_dies(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        stage.workers[0].die(-9)
        with stage.connect():
            yield
            replacement = stage.workers[0]
            replacement.told()
            replacement.tell({"ready": True})
            yield
            replacement.serve()
            assert len(replacement.adopted) == 1
            yield
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
            (replacement,) = stage.workers
            yield from stage.begin()
            assert replacement.told() == [{"ack": 1}]
            assert list(replacement.adopted) == [1]
            assert is_open(alice)
            replacement.tell({"ack": 1})
            yield from stage.end()

    stage.run(story())


@pytest.mark.parametrize("last", ["channel", "process"])
def test_load_4_a_worker_may_die_while_records_wait_for_it(last: str, stage: Stage) -> None:
    """The next worker adopts the members of unsent records, however full its channel is."""

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
            (replacement,) = stage.workers
            yield from stage.begin()
            while stage.pool.pinned_seat is not None:  # until it has said that it serves them
                replacement.serve()
                yield
            assert list(replacement.adopted) == [*range(1, 401)]
            assert all(is_open(peer) for peer in peers)
            yield from stage.end()

    stage.run(story())


def test_newcomers_may_be_assigned_to_a_worker_with_a_closed_channel(stage: Stage) -> None:
    """The process has not ended yet, or its end was not seen yet."""

    def story() -> Story:
        yield from stage.begin()
        (worker,) = stage.workers
        worker.channel.close()
        yield
        with stage.connect() as first, stage.connect() as other, stage.connect() as third:
            yield
            assert stage.printed[1:] == ["127.0.0.1 connected"] * 3
            worker.die(-9)
            yield
            (replacement,) = stage.workers
            yield from stage.begin()
            assert replacement.serve() == []
            assert list(replacement.adopted) == [1, 2, 3]
            assert all(is_open(peer) for peer in (first, other, third))
            yield from stage.end()

    stage.run(story())


def test_the_last_records_of_a_dead_worker_are_handled(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        with stage.connect() as alice, stage.connect() as bob:
            yield
            (worker,) = stage.workers
            worker.told()
            worker.tell({"left": [[1, "lagged"]]})
            worker.die(1)
            yield
            assert alice.recv(1) == b""
            assert stage.printed[3:] == ["127.0.0.1 disconnected: lagged too far behind"]
            (replacement,) = stage.workers
            yield from stage.begin()
            assert replacement.serve() == []
            assert list(replacement.adopted) == [2], "a member that has left is not handed over"
            assert is_open(bob)
            yield from stage.end()

    stage.run(story())


def test_the_main_process_holds_what_the_registry_needs(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        with stage.connect(), stage.connect():
            yield
            registry = stage.registry
            assert registry.held() == registry.members()
            assert registry.held() == {1: ("127.0.0.1", 0), 2: ("127.0.0.1", 1)}
            yield from stage.end()

    stage.run(story(), workers=2)


# --- reload --------------------------------------------------------------------------------------


class RecordingNotifier(SystemdNotifier):
    """A service manager that records its notifications."""

    def __init__(self) -> None:
        super().__init__({})
        self.words: list[str] = []

    def ready(self, status: str) -> None:
        self.words.append("ready")

    def reloading(self) -> None:
        self.words.append("reloading")


def renewed(stage: Stage) -> Story:
    """Send SIGHUP, and play until all workers are replaced."""
    count = len(stage.workers)
    os.kill(os.getpid(), signal.SIGHUP)
    yield
    for _ in range(4 * count):
        for worker in stage.workers:
            if worker.serve():
                worker.tell({"ready": True})
        yield


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    words = (message.split() for message in caplog.messages)
    return [word[0].removeprefix("event=") for word in words]


def test_sighup_applies_the_settings_that_may_change(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.notifier = notifier = RecordingNotifier()

    def story() -> Story:
        yield from stage.begin()
        first = stage.workers
        with stage.connect() as alice:
            yield
            stage.settings = replace(
                stage.settings, welcome="Hi", rate=1000, watchdog=8, max_lag=64 * KIB, quiet=True
            )
            caplog.clear()
            yield from renewed(stage)
            assert not set(first) & set(stage.workers)
            for worker in stage.workers:
                its = worker.limits
                assert its.rate == 1000
                assert its.max_lag == Settings().max_lag, "the log's geometry depends on it"
                assert its.seats == first[0].limits.seats
            (message,) = caplog.messages
            assert message.startswith("event=needs-restart settings=max-lag,quiet says=")
            assert "needs a restart: max-lag, quiet;" in message
            stage.now += BALANCE_AFTER
            yield
            rest = 8 / CHECKS - BALANCE_AFTER
            assert stage.waits == pytest.approx(rest), "the watchdog looks at them"
            with stage.connect():
                yield
                for worker in stage.workers:
                    worker.serve()
                greetings = {
                    id: adopted.greeting
                    for worker in stage.workers
                    for id, adopted in worker.adopted.items()
                }
                assert greetings == {1: "Welcome to socket practice\n", 2: "Hi\n"}
            assert is_open(alice)
            yield from stage.end()

    stage.run(story(), workers=2)
    assert notifier.words == ["ready", "reloading", "ready"]


def test_sighup_without_changed_settings_logs_no_change(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def story() -> Story:
        yield from stage.begin()
        yield from renewed(stage)
        assert "event=reloaded changed=" in caplog.text
        assert "needs-restart" not in caplog.text
        yield from stage.end()

    stage.run(story())


def test_settings_that_cannot_be_read_change_nothing(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.notifier = notifier = RecordingNotifier()

    def story() -> Story:
        yield from stage.begin()
        first = stage.workers
        stage.fails = ConfigError("room.toml: rate is\nno more")
        caplog.clear()
        yield from renewed(stage)
        assert stage.workers == first, "the workers, too"
        (record,) = caplog.records
        assert record.levelname == "ERROR"
        assert record.getMessage() == (
            r'event=not-reloaded error="room.toml: rate is\nno more" says="nothing was changed"'
        )
        stage.fails = None
        yield from renewed(stage)
        assert stage.workers != first
        yield from stage.end()

    stage.run(story())
    assert notifier.words == ["ready", "reloading", "ready", "reloading", "ready"]


def test_sighup_applies_another_number_of_workers(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def story() -> Story:
        yield from stage.begin()
        os.kill(os.getpid(), signal.SIGTTIN)
        yield
        yield from renewed(stage)
        assert len(stage.workers) == 2, "the number set by a signal stays"
        stage.settings = replace(stage.settings, workers=3)
        yield from renewed(stage)
        assert len(stage.workers) == 3
        os.kill(os.getpid(), signal.SIGTTOU)
        yield
        yield from renewed(stage)
        assert len(stage.workers) == 2
        caplog.clear()
        stage.settings = replace(stage.settings, workers=60)
        yield from renewed(stage)
        assert len(stage.workers) == 2
        assert events(caplog) == ["workers-limit"]
        yield from stage.end()

    stage.run(story())


def test_sighup_applies_another_limit_for_an_address(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        with stage.connect() as alice, stage.connect() as bob:
            yield
            stage.settings = replace(stage.settings, max_clients_per_address=2)
            yield from renewed(stage)
            with stage.connect() as carol:
                yield
                assert carol.recv(99) == b"Too many connections from your address\n"
            assert is_open(alice)
            assert is_open(bob)
            yield from stage.end()

    stage.run(story())


def test_sighup_applies_another_peer_timeout_to_newcomers(stage: Stage) -> None:
    def kept() -> int:
        client = max(stage.members.by_id.items())[1]
        return client.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)

    def story() -> Story:
        yield from stage.begin()
        with stage.connect():
            yield
            assert kept() == 150
            yield from renewed(stage)
            stage.settings = replace(stage.settings, peer_timeout=60)
            yield from renewed(stage)
            with stage.connect():
                yield
                assert kept() == 30
            yield from stage.end()

    stage.run(story())


def test_sighup_sets_the_timeout_of_listeners_only_if_it_changed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: list[int] = []
    monkeypatch.setattr(supervisor, "set_keepalive", lambda listener, life: expected.append(life))

    def story() -> Story:
        yield from stage.begin()
        yield from renewed(stage)
        assert expected == []
        stage.settings = replace(stage.settings, peer_timeout=0)
        yield from renewed(stage)
        assert expected == [0]
        yield from stage.end()

    stage.run(story())


def test_sighup_without_a_reload_function_replaces_the_workers(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(stage, "reload", None)
    caplog.set_level("INFO")

    def story() -> Story:
        yield from stage.begin()
        yield from renewed(stage)
        yield from stage.end()

    stage.run(story())
    assert "event=reloaded " in caplog.text


# --- stop ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_workers_drain_before_any_of_them_stops(number: int, stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        first, other = stage.workers
        os.kill(os.getpid(), number)
        yield
        assert first.told() == other.told() == [{"drain": True}]
        with pytest.raises(ConnectionRefusedError):
            stage.connect()
        first.tell({"drained": True})
        yield
        assert first.told() == []
        other.tell({"drained": True})
        yield
        assert first.told() == other.told() == [{"stop": True}]
        first.die(0)
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


def test_a_worker_that_does_not_drain_is_killed(stage: Stage) -> None:
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
        first, other = stage.workers
        os.kill(os.getpid(), signal.SIGTERM)
        yield
        first.die(1)
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
        assert worker.told() == [{"doorbells": 1 + SPARE_SEATS + 1}, {"drain": True}]
        worker.tell({"ready": True})
        worker.tell({"drained": True})
        yield
        assert worker.told() == [{"stop": True}]
        worker.die(0)
        yield

    stage.run(story())
    assert stage.printed == []


def test_leave_2_a_room_stops_after_moving_members_input_is_appended(stage: Stage) -> None:
    """A worker dies with input that is not appended, after the other one has drained."""

    def story() -> Story:
        yield from stage.begin()
        with stage.connect(), stage.connect():
            yield
            first, other = stage.workers
            for worker in (first, other):
                worker.serve()
            os.kill(os.getpid(), signal.SIGTERM)
            yield
            assert {"drain": True} in other.serve()
            other.tell({"drained": True})
            yield
            first.die(-9)
            yield
            (ack,) = other.told()
            assert len(other.adopted) == 2
            yield
            assert other.told() == [], "it is stopped only after it serves them"
            other.tell(ack)
            yield
            assert other.told() == [{"stop": True}]
            other.die(0)
            yield

    stage.run(story(), workers=2)


def test_a_room_that_stops_without_a_worker_ends_at_once(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        with stage.connect():
            yield
            os.kill(os.getpid(), signal.SIGTERM)
            yield
            stage.workers[0].die(-9)
            yield

    stage.run(story())


@pytest.mark.parametrize("proxies", [{}, {"proxy_protocol": True, "proxy_from": (UNIX,)}])
def test_descriptors_are_reserved_for_pending_connections(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, proxies: dict[str, Any]
) -> None:
    reserved: list[int] = []

    def raise_limit(number: int) -> int:
        reserved.append(number)
        return 500

    def story() -> Story:
        yield from stage.begin()
        yield from stage.end()

    monkeypatch.setattr(supervisor, "raise_limit", raise_limit)
    stage.run(story(), workers=1, **proxies)
    others = supervisor.RESERVED + supervisor.RESERVED_PER_SEAT * stage.settings.seats
    assert reserved == [others + (MAX_PENDING if proxies else 0)]
