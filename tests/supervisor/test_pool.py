"""Tests of the pool of workers: start, watch, reap, replace. See main_process.py."""

import errno
import os
import signal
import socket

import pytest

from chatroom.config.limits import SPARE_SEATS
from chatroom.errors import WorkerError
from chatroom.log.ring import Log
from chatroom.supervisor.child import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    READY_WITHIN,
)
from chatroom.supervisor.pool import ATTEMPTS
from chatroom.supervisor.watchdog import CHECKS
from tests.supervisor.main_process import FakeWorker, MainProcess, Steps


def numbers(main: MainProcess) -> list[int]:
    return [worker.number for worker in main.workers]


def ready(main: MainProcess, number: int) -> None:
    """Make the new worker in this seat ready."""
    (worker,) = (worker for worker in main.workers if worker.number == number)
    worker.records()
    worker.tell({"ready": True})


# --- replaced ------------------------------------------------------------------------------------


def test_load_4_the_pauses_between_attempts_grow_while_others_are_alive(
    main: MainProcess, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = ATTEMPTS + 3

    def steps() -> Steps:
        yield from main.begin()
        main.now += 100
        main.workers[1].die(-9)
        yield
        for attempt in range(attempts):
            assert numbers(main) == [0, 1], "the worker is started again"
            main.workers[1].die(1)
            yield
            assert numbers(main) == [0]
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt)
            main.now += pause - 0.01
            yield
            assert numbers(main) == [0]
            main.now += 0.02
            yield
        ready(main, 1)
        yield
        main.workers[1].die(-9)
        yield
        assert numbers(main) == [0, 1], "a worker that was ready is replaced at once"
        main.workers[1].die(1)
        yield
        yield from restart_after_first_pause(main)
        yield from main.end()

    main.run(steps(), workers=2)
    assert caplog.text.count('error="ended with exit code 1" next=') == attempts + 1
    assert caplog.text.count("event=worker-failed worker=1 ") == attempts + 1


def test_a_room_ends_if_no_worker_can_start_any_more(main: MainProcess) -> None:
    def steps() -> Steps:
        yield from main.begin()
        main.workers[0].die(-9)
        yield
        for _ in range(ATTEMPTS):
            main.workers[0].tell({"failed": "OSError: no memory"})
            main.workers[0].die(1)
            yield
            main.now += LONGEST_PAUSE
            yield

    with pytest.raises(WorkerError, match="worker 0 can't start: OSError: no memory"):
        main.run(steps())


def test_load_4_one_pinned_seat_suffices_for_several_dead_workers(main: MainProcess) -> None:
    """The log waits for the dead worker with the lowest position, so one pinned seat is enough."""

    def steps() -> Steps:
        yield from main.begin()
        with main.connect(), main.connect(), main.connect():
            yield
            first, other, third = main.workers
            with main.log as log:
                for worker, position in ((first, 7), (other, 5), (third, 9)):
                    worker.records()
                    log.serve(worker.number, position)
            first.die(-9)
            yield
            other.die(-9)
            yield
            with log:
                assert log.serving() == [1, 2], "the lowest position covers both dead workers"
            assert numbers(main) == [0, 2, 3], "the seat of the first worker is free"
            assert main.pool.pinned_seat == 1
            third.serve()
            yield
            with log:
                assert log.serving() == [2]
            assert sorted(third.adopted) == [1, 2, 3]
            yield from main.end()

    main.run(steps(), workers=3)


def retry_after_refusal(
    main: MainProcess, monkeypatch: pytest.MonkeyPatch, target: object, name: str, refuse: object
) -> Steps:
    """End a worker. The next start is refused. The start after the pause succeeds."""
    yield from main.begin()
    with monkeypatch.context() as full:
        full.setattr(target, name, refuse)
        main.workers[1].die(-9)
        yield
        yield
        assert numbers(main) == [0]
    yield from restart_after_first_pause(main)
    yield from main.end()


def restart_after_first_pause(main: MainProcess) -> Steps:
    """Check that worker 1 starts after the first pause. A longer pause would count earlier
    failures."""
    main.now += FIRST_PAUSE + 0.01
    yield
    assert numbers(main) == [0, 1]
    ready(main, 1)
    yield


def test_load_4_a_refused_start_of_a_process_is_tried_again(
    main: MainProcess, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    main.run(retry_after_refusal(main, monkeypatch, FakeWorker, "__init__", refuse), workers=2)
    assert caplog.text.count('error="Resource temporarily unavailable" next=0.1 ') == 1


def test_load_4_a_refused_channel_is_tried_again(
    main: MainProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    main.run(retry_after_refusal(main, monkeypatch, socket, "socketpair", refuse), workers=2)


# --- on demand -----------------------------------------------------------------------------------


def test_sighup_replaces_all_workers_one_after_another(
    main: MainProcess, caplog: pytest.LogCaptureFixture
) -> None:
    def steps() -> Steps:
        yield from main.begin()
        with main.connect(), main.connect():
            yield
            oldest, other = before = main.workers
            os.kill(os.getpid(), signal.SIGHUP)
            yield
            assert numbers(main) == [0, 1, 2], "the new worker starts before an old one ends"
            yield
            assert numbers(main) == [0, 1, 2]
            ready(main, 2)
            yield
            assert [worker.exitcode for worker in before] == [-9, None], "one after the other"
            assert numbers(main) == [1, 2, 3]
            ready(main, 3)
            yield
            assert [worker.exitcode for worker in before] == [-9, None], "members still move"
            for worker in main.workers:
                worker.serve()
            yield
            assert [worker.exitcode for worker in before] == [-9, -9]
            for worker in main.workers:
                worker.serve()
            yield
            assert len(main.workers) == 2
            assert not {oldest, other} & set(main.workers)
            adopted = [id for worker in main.workers for id in worker.adopted]
            assert sorted(adopted) == [1, 2]
            assert len(main.processes) == 4
            yield from main.end()

    main.run(steps(), workers=2)
    assert "event=worker-died" not in caplog.text, "a kill by the pool is not a death"


def test_sighup_waits_for_a_worker_that_the_pool_has_killed(
    main: MainProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[FakeWorker] = []

    def late(process: FakeWorker) -> None:
        killed.append(process)

    def steps() -> Steps:
        yield from main.begin()
        os.kill(os.getpid(), signal.SIGHUP)
        yield
        with monkeypatch.context() as slow:
            slow.setattr(FakeWorker, "kill", late)
            ready(main, 2)
            yield
            yield
            yield
            assert killed == main.workers[:1]
        yield from main.end()

    main.run(steps(), workers=2)


def test_sigttin_adds_a_worker_and_sigttou_removes_one(
    main: MainProcess, caplog: pytest.LogCaptureFixture
) -> None:
    def steps() -> Steps:
        yield from main.begin()
        for _ in range(SPARE_SEATS):
            os.kill(os.getpid(), signal.SIGTTIN)
            yield
            ready(main, max(numbers(main)))
            yield
        most = 1 + SPARE_SEATS - 2
        assert len(main.workers) == most
        assert caplog.text.count(f"event=workers-limit wanted={most + 1} most={most} says=") == 2
        for _ in range(most + 1):
            os.kill(os.getpid(), signal.SIGTTOU)
            yield
            yield
        assert numbers(main) == [0]
        assert main.pool.wanted == 1
        yield from main.end()

    def ready(main: MainProcess, number: int) -> None:
        for worker in main.workers:
            if worker.records():
                worker.tell({"ready": True})

    main.run(steps())


# --- progress ------------------------------------------------------------------------------------


@pytest.mark.parametrize("holder", [None, 1, 2])
def test_load_4_a_worker_that_makes_no_progress_is_replaced(
    holder: int | None,
    main: MainProcess,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If a worker holds the log's lock, only this holder is stuck: the other workers wait for the
    lock."""
    pid = None if holder is None else 1_000_000 + holder
    monkeypatch.setattr(Log, "holder", lambda log: pid)

    def steps() -> Steps:
        yield from main.begin()
        first = main.workers
        log = main.log
        for bell in main.doorbells:
            bell.clear()
        for turn in range(CHECKS + 1):
            assert len(main.workers) == 3
            log.turn(2)
            assert main.waits_for is not None
            assert main.waits_for <= 8.0 / CHECKS
            main.now += main.waits_for
            yield
            assert [main.rung(seat) for seat in range(3)] == [True] * 3
            assert not main.rung(3) or turn == CHECKS, "the doorbell of an empty seat is not rung"
        for worker in first:
            stuck = worker.number in ([1] if holder == 1 else [0, 1])
            assert (worker.exitcode == -9) == stuck
        for worker in main.workers:
            if worker not in first:
                worker.records()
                worker.tell({"ready": True})
        yield
        yield from main.end()

    main.run(steps(), workers=3, watchdog=8)
    assert caplog.text.count("event=worker-stuck worker=1 seconds=8 ") == 1
    assert caplog.text.count("event=worker-stuck") == (1 if holder == 1 else 2)
    assert "event=worker-died" not in caplog.text


def test_load_4_a_stuck_holder_of_the_lock_is_killed_first(
    main: MainProcess, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A check takes place after the last turn of the waiting workers, and before the last turn of
    the holder."""
    monkeypatch.setattr(Log, "holder", lambda log: 1_000_001)

    def steps() -> Steps:
        yield from main.begin()
        first = main.workers
        for look in range(CHECKS + 2):
            if look == 1:
                main.log.turn(1)
            assert main.waits_for is not None
            main.now += main.waits_for
            yield
        assert [worker.exitcode for worker in first] == [None, -9, None]
        for worker in main.workers:
            if worker not in first:
                ready(main, worker.number)
        yield
        yield from main.end()

    main.run(steps(), workers=3, watchdog=8)


def test_load_4_a_worker_that_does_not_become_ready_is_replaced(
    main: MainProcess, caplog: pytest.LogCaptureFixture
) -> None:
    def steps() -> Steps:
        yield from main.begin()
        main.workers[1].die(-9)
        yield
        slow = main.workers[1]
        main.now += READY_WITHIN - 1
        yield
        assert [slow.exitcode] == [None]
        assert main.waits_for == 1
        main.now += 1
        yield
        assert [slow.exitcode] == [-9]
        yield
        yield from restart_after_first_pause(main)
        yield from main.end()

    main.run(steps(), workers=2)
    assert 'worker=1 error="not ready within 30 s" next=0.1 ' in caplog.text


def test_a_worker_that_is_not_ready_need_not_make_progress(main: MainProcess) -> None:
    def steps() -> Steps:
        yield
        for _ in range(3 * CHECKS):
            main.now += 8.0 / CHECKS
            yield
        yield from main.begin()
        yield from main.end()

    main.run(steps(), watchdog=8)
    assert len(main.processes) == 1


@pytest.mark.parametrize("number", [signal.SIGTTIN, signal.SIGTTOU])
def test_signals_do_not_change_the_workers_of_a_room_that_has_not_begun(
    number: signal.Signals, main: MainProcess
) -> None:
    def steps() -> Steps:
        yield
        os.kill(os.getpid(), number)
        yield
        assert numbers(main) == [0, 1]
        for worker in (0, 1):
            ready(main, worker)
        yield
        assert main.printed[0].startswith("listening on ")
        assert numbers(main) == [0, 1]
        yield from main.end()

    main.run(steps(), workers=2)
