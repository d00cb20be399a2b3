"""Tests of the main process: start, admit, signals, reload, stop. The workers are fakes; see
main_process.py."""

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
from tests.supervisor.main_process import MainProcess, Steps, fixture_main  # noqa: F401 (a fixture)
from tests.system.ends import Reluctant

# --- start ---------------------------------------------------------------------------------------


def test_a_room_begins_when_all_workers_are_ready(main: MainProcess) -> None:
    def steps() -> Steps:
        yield
        assert main.started_before_registry == 2, "the workers and the registry start together"
        first, other = main.workers
        for worker in (first, other):
            assert worker.records() == [{"doorbells": 2 + SPARE_SEATS + 1}]
            assert len(worker.descriptors) == 3 + 2 + SPARE_SEATS + 1, (
                "doorbells, log, slots and the room's rate"
            )
        first.tell({"ready": True})
        yield
        assert main.printed == []
        other.tell({"ready": True})
        yield
        (line,) = main.printed
        assert line.startswith("listening on 127.0.0.1:")
        main.now += BALANCE_AFTER
        yield
        assert main.waits_for is None, "LEAVE-3: a room without members is idle"
        yield from main.end()

    main.run(steps(), workers=2)
    assert not main.quiet
    assert main.closed == 1, "the console was closed"


def test_a_quiet_console_reads_no_log(main: MainProcess) -> None:
    def steps() -> Steps:
        yield
        assert main.workers[0].records() == [{"doorbells": 1 + SPARE_SEATS}]
        yield from main.begin()
        yield from main.end()

    main.run(steps(), quiet=True)
    assert main.quiet


def test_an_address_in_use_is_an_error_before_any_process_starts(main: MainProcess) -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, pytest.raises(ListenError):
        main.run(iter(()), listen=(Endpoint(*other.getsockname()),))
    assert main.processes == []


@pytest.mark.parametrize("reported", [True, False])
def test_a_worker_that_cannot_start_ends_the_room_with_its_error(
    reported: bool, main: MainProcess
) -> None:
    def steps() -> Steps:
        yield
        first, other = main.workers
        first.tell({"ready": True})
        if reported:
            other.tell({"failed": "OSError: no memory"})
        other.die(1)
        yield

    reason = "OSError: no memory" if reported else "ended with exit code 1"
    with pytest.raises(WorkerError, match=f"worker 1 can't start: {reason}"):
        main.run(steps(), workers=2)
    assert main.processes[0].exitcode == -9, "the other worker was killed"


def test_a_log_that_is_too_large_is_an_error(
    main: MainProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(name: str, size: int) -> int:
        raise OSError("Cannot allocate memory")

    monkeypatch.setattr(supervisor, "anonymous_file", refuse)
    with pytest.raises(LimitError, match="no memory for a log of 16777216 bytes: Cannot allocate"):
        main.run(iter(()))


@pytest.mark.parametrize(("wanted", "granted"), [(10, 10), (10_000, 500)])
def test_the_limit_of_descriptors_limits_the_room(
    wanted: int, granted: int, main: MainProcess, caplog: pytest.LogCaptureFixture
) -> None:
    def steps() -> Steps:
        yield from main.begin()
        yield from main.end()

    main.run(steps(), max_clients=wanted)
    registry = main.registry
    assert registry.capacity == granted
    assert ("allow only 500" in caplog.text) == (granted < wanted)


def test_the_control_socket_accepts_again_after_descriptors_are_freed(
    main: MainProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    failures: list[int] = []
    monkeypatch.setattr(
        control_socket, "listen", lambda *where: Reluctant(listen(*where), failures)
    )

    def steps() -> Steps:
        yield from main.begin()
        failures.append(errno.EMFILE)
        [path] = Path(folder).glob("*.sock")
        with socket.socket(socket.AF_UNIX) as owner:
            owner.connect(str(path))
            yield
            assert main.waits_for == pytest.approx(PAUSE)
            owner.sendall(b'{"ask": "status"}\n')
            main.now += PAUSE
            yield
            assert json.loads(owner.recv(1 << 16))["room"]["members"] == 0
        yield from main.end()

    with tempfile.TemporaryDirectory(prefix="run-") as folder:
        main.run(steps(), run_dir=Path(folder))


# --- members -------------------------------------------------------------------------------------


def test_newcomers_are_spread_and_leave_when_their_workers_report_it(main: MainProcess) -> None:
    def steps() -> Steps:
        yield from main.begin()
        with main.connect() as alice, main.connect() as bob:
            yield
            first, other = main.workers
            assert first.records() == other.records() == []
            assert (list(first.adopted), list(other.adopted)) == ([1], [2])
            for worker, peer in ((first, alice), (other, bob)):
                (adopted,) = worker.adopted.values()
                assert adopted.address == "127.0.0.1"
                assert adopted.connection.getpeername() == peer.getsockname()
            assert main.printed[1:] == ["127.0.0.1 connected"] * 2
            first.adopted.pop(1).connection.close()
            first.tell({"left": [[1, "closed"]]})
            yield
            assert main.printed[3:] == ["127.0.0.1 disconnected"]
            assert alice.recv(1) == b"", "LEAVE-4: the main process closes its own duplicate"
            first.tell({"left": [[1, "closed"]]})
            yield
            assert main.printed[4:] == [], "a second leave is ignored"
            yield from main.end()

    main.run(steps(), workers=2)


def test_load_2_the_console_names_a_member_that_lagged(main: MainProcess) -> None:
    def steps() -> Steps:
        yield from main.begin()
        with main.connect():
            yield
            main.workers[0].tell({"left": [[1, "lagged"]]})
            yield
            assert main.printed[-1] == "127.0.0.1 disconnected: lagged too far behind"
            yield from main.end()

    main.run(steps())


def test_a_worker_that_is_slow_to_adopt_delays_nobody(main: MainProcess) -> None:
    """The worker's channel becomes full, but the worker adopts all members in the end."""

    def steps() -> Steps:
        yield from main.begin()
        peers = []
        with contextlib.ExitStack() as closing:
            for _ in range(400):
                peers.append(closing.enter_context(main.connect()))
                yield
            assert main.printed.count("127.0.0.1 connected") == 400
            (worker,) = main.workers
            assert worker.records() == []
            assert len(worker.adopted) < 400
            while len(worker.adopted) < 400:
                yield
                assert worker.records() == []
            assert list(worker.adopted) == [*range(1, 401)]
            assert main.waits_for is None
            yield from main.end()

    main.run(steps())


# --- a worker dies -------------------------------------------------------------------------------


def is_open(peer: socket.socket) -> bool:
    peer.setblocking(False)
    try:
        return peer.recv(1) != b""
    except BlockingIOError:
        return True


def test_load_4_others_serve_a_dead_worker_s_members_until_it_is_replaced(
    main: MainProcess,
) -> None:
    def steps() -> Steps:
        yield from main.begin()
        with main.connect() as alice, main.connect() as bob:
            yield
            first, other = main.workers
            for worker in (first, other):
                worker.records()
            with main.log as log:
                log.serve(0, 1)
                log.serve(1, 1)
            slot = first.adopted[1].slot
            first.die(-9)
            yield
            (ack,) = other.records()
            assert other.adopted[1].connection.getpeername() == alice.getsockname()
            assert other.adopted[1].address == "127.0.0.1"
            assert other.adopted[1].slot == slot, "the slot has the dead worker's checkpoint"
            with main.log as log:
                assert log.serving() == [0, 1], "the log keeps messages for the dead worker"
            other.tell(ack)
            yield
            with main.log as log:
                assert log.serving() == [1], "the dead worker's seat is released"
            replacement = main.workers[1]
            assert replacement.number == 2, "the dead worker's seat was not free yet"
            assert replacement.records() == [{"doorbells": 2 + SPARE_SEATS + 1}]
            with main.connect() as carol:
                yield
                other.records()
                assert sorted(other.adopted) == [1, 2, 3], "the replacement is not ready yet"
                replacement.tell({"ready": True})
                yield
                with main.connect() as dave:
                    yield
                    replacement.records()
                    assert list(replacement.adopted) == [4]
                    assert all(is_open(peer) for peer in (alice, bob, carol, dave))
                    assert not any("disconnected" in line for line in main.printed)
                    yield from main.end()

    main.run(steps(), workers=2)


def test_newcomers_wait_for_a_worker_if_none_is_alive(main: MainProcess) -> None:
    def steps() -> Steps:
        yield from main.begin()
        main.workers[0].die(-9)
        yield
        replacement = main.workers[0]
        with main.connect():
            yield
            assert replacement.records() == [{"doorbells": 1 + SPARE_SEATS + 1}]
            assert replacement.adopted == {}
            assert main.members.by_id == {}, "a newcomer is a member only when a worker is alive"
            replacement.tell({"ready": True})
            yield
            replacement.serve()
            assert list(replacement.adopted) == [1]
            yield
            yield from main.end()

    main.run(steps())


def test_a_newcomer_may_join_as_the_last_worker_dies(main: MainProcess) -> None:
    def steps() -> Steps:
        yield from main.begin()
        main.workers[0].die(-9)
        with main.connect():
            yield
            replacement = main.workers[0]
            replacement.records()
            replacement.tell({"ready": True})
            yield
            replacement.serve()
            assert len(replacement.adopted) == 1
            yield
            yield from main.end()

    main.run(steps())


@pytest.mark.parametrize("last", ["channel", "process"])
def test_a_worker_s_channel_and_its_process_end_in_any_order(last: str, main: MainProcess) -> None:
    def steps() -> Steps:
        yield from main.begin()
        with main.connect() as alice:
            yield
            (worker,) = main.workers
            worker.records()
            if last == "process":
                worker.channel.close()
                yield
            worker.die(1)
            yield
            (replacement,) = main.workers
            yield from main.begin()
            assert replacement.records() == [{"ack": 1}]
            assert list(replacement.adopted) == [1]
            assert is_open(alice)
            replacement.tell({"ack": 1})
            yield from main.end()

    main.run(steps())


@pytest.mark.parametrize("last", ["channel", "process"])
def test_load_4_a_worker_may_die_while_records_wait_for_it(last: str, main: MainProcess) -> None:
    """The next worker adopts the members in the unsent records, although its own channel becomes
    full."""

    def steps() -> Steps:
        yield from main.begin()
        with contextlib.ExitStack() as closing:
            peers = []
            for _ in range(400):
                peers.append(closing.enter_context(main.connect()))
                yield
            (worker,) = main.workers
            if last == "process":
                worker.channel.close()
                yield
            worker.die(-9)
            yield
            (replacement,) = main.workers
            yield from main.begin()
            while main.pool.pinned_seat is not None:  # until the replacement serves all members
                replacement.serve()
                yield
            assert list(replacement.adopted) == [*range(1, 401)]
            assert all(is_open(peer) for peer in peers)
            yield from main.end()

    main.run(steps())


def test_newcomers_may_be_assigned_to_a_worker_with_a_closed_channel(main: MainProcess) -> None:
    """The worker's process has not ended yet, or the main process has not noticed its end."""

    def steps() -> Steps:
        yield from main.begin()
        (worker,) = main.workers
        worker.channel.close()
        yield
        with main.connect() as first, main.connect() as other, main.connect() as third:
            yield
            assert main.printed[1:] == ["127.0.0.1 connected"] * 3
            worker.die(-9)
            yield
            (replacement,) = main.workers
            yield from main.begin()
            assert replacement.serve() == []
            assert list(replacement.adopted) == [1, 2, 3]
            assert all(is_open(peer) for peer in (first, other, third))
            yield from main.end()

    main.run(steps())


def test_the_last_records_of_a_dead_worker_are_handled(main: MainProcess) -> None:
    def steps() -> Steps:
        yield from main.begin()
        with main.connect() as alice, main.connect() as bob:
            yield
            (worker,) = main.workers
            worker.records()
            worker.tell({"left": [[1, "lagged"]]})
            worker.die(1)
            yield
            assert alice.recv(1) == b""
            assert main.printed[3:] == ["127.0.0.1 disconnected: lagged too far behind"]
            (replacement,) = main.workers
            yield from main.begin()
            assert replacement.serve() == []
            assert list(replacement.adopted) == [2], "a member that has left is not adopted"
            assert is_open(bob)
            yield from main.end()

    main.run(steps())


def test_the_main_process_has_the_directory_for_the_next_registry(main: MainProcess) -> None:
    def steps() -> Steps:
        yield from main.begin()
        with main.connect(), main.connect():
            yield
            registry = main.registry
            assert registry.held() == registry.members()
            assert registry.held() == {1: ("127.0.0.1", 0), 2: ("127.0.0.1", 1)}
            yield from main.end()

    main.run(steps(), workers=2)


# --- reload --------------------------------------------------------------------------------------


class RecordingNotifier(SystemdNotifier):
    """A notifier that records its notifications instead of sending them."""

    def __init__(self) -> None:
        super().__init__({})
        self.notifications: list[str] = []

    def ready(self, status: str) -> None:
        self.notifications.append("ready")

    def reloading(self) -> None:
        self.notifications.append("reloading")


def renewed(main: MainProcess) -> Steps:
    """Send SIGHUP; continue until all workers are replaced."""
    count = len(main.workers)
    os.kill(os.getpid(), signal.SIGHUP)
    yield
    for _ in range(4 * count):
        for worker in main.workers:
            if worker.serve():
                worker.tell({"ready": True})
        yield


def events(caplog: pytest.LogCaptureFixture) -> list[str]:
    words = (message.split() for message in caplog.messages)
    return [word[0].removeprefix("event=") for word in words]


def test_sighup_applies_the_settings_that_may_change(
    main: MainProcess, caplog: pytest.LogCaptureFixture
) -> None:
    main.notifier = notifier = RecordingNotifier()

    def steps() -> Steps:
        yield from main.begin()
        first = main.workers
        with main.connect() as alice:
            yield
            main.settings = replace(
                main.settings, welcome="Hi", rate=1000, watchdog=8, max_lag=64 * KIB, quiet=True
            )
            caplog.clear()
            yield from renewed(main)
            assert not set(first) & set(main.workers)
            for worker in main.workers:
                its = worker.limits
                assert its.rate == 1000
                assert its.max_lag == Settings().max_lag, "max-lag needs a restart"
                assert its.seats == first[0].limits.seats
            (message,) = caplog.messages
            assert message.startswith("event=needs-restart settings=max-lag,quiet says=")
            assert "needs a restart: max-lag, quiet;" in message
            main.now += BALANCE_AFTER
            yield
            rest = 8 / CHECKS - BALANCE_AFTER
            assert main.waits_for == pytest.approx(rest), "the next check of the watchdog"
            with main.connect():
                yield
                for worker in main.workers:
                    worker.serve()
                greetings = {
                    id: adopted.greeting
                    for worker in main.workers
                    for id, adopted in worker.adopted.items()
                }
                assert greetings == {1: "Welcome to socket practice\n", 2: "Hi\n"}
            assert is_open(alice)
            yield from main.end()

    main.run(steps(), workers=2)
    assert notifier.notifications == ["ready", "reloading", "ready"]


def test_sighup_without_changed_settings_logs_no_change(
    main: MainProcess, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")

    def steps() -> Steps:
        yield from main.begin()
        yield from renewed(main)
        assert "event=reloaded changed=" in caplog.text
        assert "needs-restart" not in caplog.text
        yield from main.end()

    main.run(steps())


def test_settings_that_cannot_be_read_change_nothing(
    main: MainProcess, caplog: pytest.LogCaptureFixture
) -> None:
    main.notifier = notifier = RecordingNotifier()

    def steps() -> Steps:
        yield from main.begin()
        first = main.workers
        main.reload_error = ConfigError("room.toml: rate is\nno more")
        caplog.clear()
        yield from renewed(main)
        assert main.workers == first, "no worker is replaced"
        (record,) = caplog.records
        assert record.levelname == "ERROR"
        assert record.getMessage() == (
            r'event=not-reloaded error="room.toml: rate is\nno more" says="nothing was changed"'
        )
        main.reload_error = None
        yield from renewed(main)
        assert main.workers != first
        yield from main.end()

    main.run(steps())
    assert notifier.notifications == ["ready", "reloading", "ready", "reloading", "ready"]


def test_sighup_applies_another_number_of_workers(
    main: MainProcess, caplog: pytest.LogCaptureFixture
) -> None:
    def steps() -> Steps:
        yield from main.begin()
        os.kill(os.getpid(), signal.SIGTTIN)
        yield
        yield from renewed(main)
        assert len(main.workers) == 2, "the number set by a signal stays"
        main.settings = replace(main.settings, workers=3)
        yield from renewed(main)
        assert len(main.workers) == 3
        os.kill(os.getpid(), signal.SIGTTOU)
        yield
        yield from renewed(main)
        assert len(main.workers) == 2
        caplog.clear()
        main.settings = replace(main.settings, workers=60)
        yield from renewed(main)
        assert len(main.workers) == 2
        assert events(caplog) == ["workers-limit"]
        yield from main.end()

    main.run(steps())


def test_sighup_applies_another_limit_for_an_address(main: MainProcess) -> None:
    def steps() -> Steps:
        yield from main.begin()
        with main.connect() as alice, main.connect() as bob:
            yield
            main.settings = replace(main.settings, max_clients_per_address=2)
            yield from renewed(main)
            with main.connect() as carol:
                yield
                assert carol.recv(99) == b"Too many connections from your address\n"
            assert is_open(alice)
            assert is_open(bob)
            yield from main.end()

    main.run(steps())


def test_sighup_applies_another_peer_timeout_to_newcomers(main: MainProcess) -> None:
    def kept() -> int:
        client = max(main.members.by_id.items())[1]
        return client.connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)

    def steps() -> Steps:
        yield from main.begin()
        with main.connect():
            yield
            assert kept() == 150
            yield from renewed(main)
            main.settings = replace(main.settings, peer_timeout=60)
            yield from renewed(main)
            with main.connect():
                yield
                assert kept() == 30
            yield from main.end()

    main.run(steps())


def test_sighup_sets_the_timeout_of_listeners_only_if_it_changed(
    main: MainProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected: list[int] = []
    monkeypatch.setattr(supervisor, "set_keepalive", lambda listener, life: expected.append(life))

    def steps() -> Steps:
        yield from main.begin()
        yield from renewed(main)
        assert expected == []
        main.settings = replace(main.settings, peer_timeout=0)
        yield from renewed(main)
        assert expected == [0]
        yield from main.end()

    main.run(steps())


def test_sighup_without_a_reload_function_replaces_the_workers(
    main: MainProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(main, "reload", None)
    caplog.set_level("INFO")

    def steps() -> Steps:
        yield from main.begin()
        yield from renewed(main)
        yield from main.end()

    main.run(steps())
    assert "event=reloaded " in caplog.text


# --- stop ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", STOP_SIGNALS)
def test_workers_drain_before_any_of_them_stops(number: int, main: MainProcess) -> None:
    def steps() -> Steps:
        yield from main.begin()
        first, other = main.workers
        os.kill(os.getpid(), number)
        yield
        assert first.records() == other.records() == [{"drain": True}]
        with pytest.raises(ConnectionRefusedError):
            main.connect()
        first.tell({"drained": True})
        yield
        assert first.records() == []
        other.tell({"drained": True})
        yield
        assert first.records() == other.records() == [{"stop": True}]
        first.die(0)
        yield
        assert main.waits_for == pytest.approx(END_WITHIN)
        other.die(0)
        yield

    main.run(steps(), workers=2)


def test_a_second_signal_changes_nothing(main: MainProcess) -> None:
    def steps() -> Steps:
        yield from main.begin()
        os.kill(os.getpid(), signal.SIGINT)
        yield
        os.kill(os.getpid(), signal.SIGINT)
        yield
        assert main.workers[0].records() == [{"drain": True}]
        main.workers[0].tell({"drained": True})
        yield
        main.workers[0].die(0)
        yield

    main.run(steps())


def test_a_worker_that_does_not_drain_is_killed(main: MainProcess) -> None:
    def steps() -> Steps:
        yield from main.begin()
        (worker,) = main.workers
        os.kill(os.getpid(), signal.SIGTERM)
        yield
        assert main.waits_for == pytest.approx(DRAIN_WITHIN)
        main.now += DRAIN_WITHIN
        yield
        assert worker.records() == [{"drain": True}, {"stop": True}]
        assert main.waits_for == pytest.approx(END_WITHIN)
        main.now += END_WITHIN
        yield
        assert worker.exitcode == -9

    main.run(steps())


def test_a_worker_that_dies_while_the_room_stops_is_not_replaced(main: MainProcess) -> None:
    def steps() -> Steps:
        yield from main.begin()
        first, other = main.workers
        os.kill(os.getpid(), signal.SIGTERM)
        yield
        first.die(1)
        yield
        other.tell({"drained": True})
        yield
        assert {"stop": True} in other.records()
        other.die(0)
        yield

    main.run(steps(), workers=2)
    assert len(main.processes) == 2


def test_a_room_can_stop_before_it_has_begun(main: MainProcess) -> None:
    def steps() -> Steps:
        yield
        os.kill(os.getpid(), signal.SIGTERM)
        yield
        (worker,) = main.workers
        assert worker.records() == [{"doorbells": 1 + SPARE_SEATS + 1}, {"drain": True}]
        worker.tell({"ready": True})
        worker.tell({"drained": True})
        yield
        assert worker.records() == [{"stop": True}]
        worker.die(0)
        yield

    main.run(steps())
    assert main.printed == []


def test_leave_2_a_room_stops_after_moving_members_input_is_appended(main: MainProcess) -> None:
    """A worker dies with input that is not appended, after the other worker has drained."""

    def steps() -> Steps:
        yield from main.begin()
        with main.connect(), main.connect():
            yield
            first, other = main.workers
            for worker in (first, other):
                worker.serve()
            os.kill(os.getpid(), signal.SIGTERM)
            yield
            assert {"drain": True} in other.serve()
            other.tell({"drained": True})
            yield
            first.die(-9)
            yield
            (ack,) = other.records()
            assert len(other.adopted) == 2
            yield
            assert other.records() == [], "a worker stops only after it has adopted the members"
            other.tell(ack)
            yield
            assert other.records() == [{"stop": True}]
            other.die(0)
            yield

    main.run(steps(), workers=2)


def test_a_room_that_stops_without_a_worker_ends_at_once(main: MainProcess) -> None:
    def steps() -> Steps:
        yield from main.begin()
        with main.connect():
            yield
            os.kill(os.getpid(), signal.SIGTERM)
            yield
            main.workers[0].die(-9)
            yield

    main.run(steps())


@pytest.mark.parametrize("proxies", [{}, {"proxy_protocol": True, "proxy_from": (UNIX,)}])
def test_descriptors_are_reserved_for_pending_connections(
    main: MainProcess, monkeypatch: pytest.MonkeyPatch, proxies: dict[str, Any]
) -> None:
    reserved: list[int] = []

    def raise_limit(number: int) -> int:
        reserved.append(number)
        return 500

    def steps() -> Steps:
        yield from main.begin()
        yield from main.end()

    monkeypatch.setattr(supervisor, "raise_limit", raise_limit)
    main.run(steps(), workers=1, **proxies)
    others = supervisor.RESERVED + supervisor.RESERVED_PER_SEAT * main.settings.seats
    assert reserved == [others + (MAX_PENDING if proxies else 0)]
