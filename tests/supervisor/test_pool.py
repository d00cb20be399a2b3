"""The pool of workers: start, watch, reap, replace. See stage.py."""

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
from tests.supervisor.stage import Process, Stage, Story


def numbers(stage: Stage) -> list[int]:
    return [worker.number for worker in stage.workers]


def ready(stage: Stage, number: int) -> None:
    """Make the worker in a seat, which has just been started, ready."""
    (worker,) = (worker for worker in stage.workers if worker.number == number)
    worker.told()
    worker.tell({"ready": True})


# --- replaced ------------------------------------------------------------------------------------


def test_load_4_the_pauses_between_attempts_grow_while_others_are_alive(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    attempts = ATTEMPTS + 3

    def story() -> Story:
        yield from stage.begin()
        stage.now += 100
        stage.workers[1].die(-9)
        yield
        for attempt in range(attempts):
            assert numbers(stage) == [0, 1], "at once, or after the backoff"
            stage.workers[1].die(1)
            yield
            assert numbers(stage) == [0]
            pause = min(LONGEST_PAUSE, FIRST_PAUSE * 2**attempt)
            stage.now += pause - 0.01
            yield
            assert numbers(stage) == [0]
            stage.now += 0.02
            yield
        ready(stage, 1)
        yield
        stage.workers[1].die(-9)
        yield
        assert numbers(stage) == [0, 1], "a ready worker is replaced at once again"
        stage.workers[1].die(1)
        yield
        yield from restart_after_first_pause(stage)
        yield from stage.end()

    stage.run(story(), workers=2)
    assert caplog.text.count('error="ended with exit code 1" next=') == attempts + 1
    assert caplog.text.count("event=worker-failed worker=1 ") == attempts + 1


def test_a_room_ends_if_no_worker_can_start_any_more(stage: Stage) -> None:
    def story() -> Story:
        yield from stage.begin()
        stage.workers[0].die(-9)
        yield
        for _ in range(ATTEMPTS):
            stage.workers[0].tell({"failed": "OSError: no memory"})
            stage.workers[0].die(1)
            yield
            stage.now += LONGEST_PAUSE
            yield

    with pytest.raises(WorkerError, match="worker 0 can't start: OSError: no memory"):
        stage.run(story())


def test_load_4_one_pinned_seat_suffices_for_several_dead_workers(stage: Stage) -> None:
    """The log waits for the one with the lowest position."""

    def story() -> Story:
        yield from stage.begin()
        with stage.connect(), stage.connect(), stage.connect():
            yield
            first, other, third = stage.workers
            with stage.log as log:
                for worker, position in ((first, 7), (other, 5), (third, 9)):
                    worker.told()
                    log.serve(worker.number, position)
            first.die(-9)
            yield
            other.die(-9)
            yield
            with log:
                assert log.serving() == [1, 2], "the first one's position covers the second"
            assert numbers(stage) == [0, 2, 3], "the first one's seat is free"
            assert stage.pool.pinned_seat == 1
            third.serve()
            yield
            with log:
                assert log.serving() == [2]
            assert sorted(third.adopted) == [1, 2, 3]
            yield from stage.end()

    stage.run(story(), workers=3)


def retry_after_refusal(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, target: object, name: str, refuse: object
) -> Story:
    """End a worker; the start of another one is refused, and succeeds a moment later."""
    yield from stage.begin()
    with monkeypatch.context() as full:
        full.setattr(target, name, refuse)
        stage.workers[1].die(-9)
        yield
        yield
        assert numbers(stage) == [0]
    yield from restart_after_first_pause(stage)
    yield from stage.end()


def restart_after_first_pause(stage: Stage) -> Story:
    """Expect a start of worker 1 after the first pause: earlier failures do not count."""
    stage.now += FIRST_PAUSE + 0.01
    yield
    assert numbers(stage) == [0, 1]
    ready(stage, 1)
    yield


def test_load_4_a_refused_start_of_a_process_is_tried_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def refuse(*_: object) -> None:
        raise BlockingIOError(errno.EAGAIN, os.strerror(errno.EAGAIN))

    stage.run(retry_after_refusal(stage, monkeypatch, Process, "__init__", refuse), workers=2)
    assert caplog.text.count('error="Resource temporarily unavailable" next=0.1 ') == 1


def test_load_4_a_refused_channel_is_tried_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise OSError(errno.ENFILE, os.strerror(errno.ENFILE))

    stage.run(retry_after_refusal(stage, monkeypatch, socket, "socketpair", refuse), workers=2)


# --- on demand -----------------------------------------------------------------------------------


def test_sighup_replaces_all_workers_one_after_another(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def story() -> Story:
        yield from stage.begin()
        with stage.connect(), stage.connect():
            yield
            oldest, other = before = stage.workers
            os.kill(os.getpid(), signal.SIGHUP)
            yield
            assert numbers(stage) == [0, 1, 2], (
                "a new one starts first, so that there are always enough"
            )
            yield
            assert numbers(stage) == [0, 1, 2]
            ready(stage, 2)
            yield
            assert [worker.exitcode for worker in before] == [-9, None], "the other one later"
            assert numbers(stage) == [1, 2, 3]
            ready(stage, 3)
            yield
            assert [worker.exitcode for worker in before] == [-9, None], "not all are served yet"
            for worker in stage.workers:
                worker.serve()
            yield
            assert [worker.exitcode for worker in before] == [-9, -9]
            for worker in stage.workers:
                worker.serve()
            yield
            assert len(stage.workers) == 2
            assert not {oldest, other} & set(stage.workers)
            adopted = [id for worker in stage.workers for id in worker.adopted]
            assert sorted(adopted) == [1, 2]
            assert len(stage.processes) == 4
            yield from stage.end()

    stage.run(story(), workers=2)
    assert "event=worker-died" not in caplog.text, "the pool has killed it"


def test_sighup_waits_for_a_worker_that_is_about_to_die(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    killed: list[Process] = []

    def late(process: Process) -> None:
        killed.append(process)

    def story() -> Story:
        yield from stage.begin()
        os.kill(os.getpid(), signal.SIGHUP)
        yield
        with monkeypatch.context() as slow:
            slow.setattr(Process, "kill", late)
            ready(stage, 2)
            yield
            yield
            yield
            assert killed == stage.workers[:1]
        yield from stage.end()

    stage.run(story(), workers=2)


def test_sigttin_adds_a_worker_and_sigttou_removes_one(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def story() -> Story:
        yield from stage.begin()
        for _ in range(SPARE_SEATS):
            os.kill(os.getpid(), signal.SIGTTIN)
            yield
            ready(stage, max(numbers(stage)))
            yield
        most = 1 + SPARE_SEATS - 2
        assert len(stage.workers) == most
        assert caplog.text.count(f"event=workers-limit wanted={most + 1} most={most} says=") == 2
        for _ in range(most + 1):
            os.kill(os.getpid(), signal.SIGTTOU)
            yield
            yield
        assert numbers(stage) == [0]
        assert stage.pool.wanted == 1
        yield from stage.end()

    def ready(stage: Stage, number: int) -> None:
        for worker in stage.workers:
            if worker.told():
                worker.tell({"ready": True})

    stage.run(story())


# --- progress ------------------------------------------------------------------------------------


@pytest.mark.parametrize("holder", [None, 1, 2])
def test_load_4_a_worker_that_makes_no_progress_is_replaced(
    holder: int | None,
    stage: Stage,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    """If the log's lock is held, only its holder is stuck: the others wait for it."""
    pid = None if holder is None else 1_000_000 + holder
    monkeypatch.setattr(Log, "holder", lambda log: pid)

    def story() -> Story:
        yield from stage.begin()
        first = stage.workers
        log = stage.log
        for bell in stage.doorbells:
            bell.clear()
        for turn in range(CHECKS + 1):
            assert len(stage.workers) == 3
            log.turn(2)
            assert stage.waits is not None
            assert stage.waits <= 8.0 / CHECKS
            stage.now += stage.waits
            yield
            assert [stage.rung(seat) for seat in range(3)] == [True] * 3
            assert not stage.rung(3) or turn == CHECKS, "no bell is rung for an absent worker"
        for worker in first:
            stuck = worker.number in ([1] if holder == 1 else [0, 1])
            assert (worker.exitcode == -9) == stuck
        for worker in stage.workers:
            if worker not in first:
                worker.told()
                worker.tell({"ready": True})
        yield
        yield from stage.end()

    stage.run(story(), workers=3, watchdog=8)
    assert caplog.text.count("event=worker-stuck worker=1 seconds=8 ") == 1
    assert caplog.text.count("event=worker-stuck") == (1 if holder == 1 else 2)
    assert "event=worker-died" not in caplog.text


def test_load_4_a_stuck_holder_of_the_lock_is_killed_first(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A look came between the last turns of the workers that wait for it, and its own."""
    monkeypatch.setattr(Log, "holder", lambda log: 1_000_001)

    def story() -> Story:
        yield from stage.begin()
        first = stage.workers
        for look in range(CHECKS + 2):
            if look == 1:
                stage.log.turn(1)
            assert stage.waits is not None
            stage.now += stage.waits
            yield
        assert [worker.exitcode for worker in first] == [None, -9, None]
        for worker in stage.workers:
            if worker not in first:
                ready(stage, worker.number)
        yield
        yield from stage.end()

    stage.run(story(), workers=3, watchdog=8)


def test_load_4_a_worker_that_does_not_become_ready_is_replaced(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    def story() -> Story:
        yield from stage.begin()
        stage.workers[1].die(-9)
        yield
        slow = stage.workers[1]
        stage.now += READY_WITHIN - 1
        yield
        assert [slow.exitcode] == [None]
        assert stage.waits == 1
        stage.now += 1
        yield
        assert [slow.exitcode] == [-9]
        yield
        yield from restart_after_first_pause(stage)
        yield from stage.end()

    stage.run(story(), workers=2)
    assert 'worker=1 error="not ready within 30 s" next=0.1 ' in caplog.text


def test_a_worker_that_is_not_ready_need_not_make_progress(stage: Stage) -> None:
    def story() -> Story:
        yield
        for _ in range(3 * CHECKS):
            stage.now += 8.0 / CHECKS
            yield
        yield from stage.begin()
        yield from stage.end()

    stage.run(story(), watchdog=8)
    assert len(stage.processes) == 1


@pytest.mark.parametrize("number", [signal.SIGTTIN, signal.SIGTTOU])
def test_signals_do_not_change_the_workers_of_a_room_that_has_not_begun(
    number: signal.Signals, stage: Stage
) -> None:
    def story() -> Story:
        yield
        os.kill(os.getpid(), number)
        yield
        assert numbers(stage) == [0, 1]
        for worker in (0, 1):
            ready(stage, worker)
        yield
        assert stage.printed[0].startswith("listening on ")
        assert numbers(stage) == [0, 1]
        yield from stage.end()

    stage.run(story(), workers=2)
