"""Tests that a hung worker is replaced (LOAD-4), but a busy or idle worker is not."""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.integration.crowd import Crowd
from tests.integration.faults import hang, spin
from tests.integration.faulty_room import faulty_room
from tests.integration.rooms import DIED, NEVER_SILENT, SMALL_LOG, addresses, room
from tests.integration.waiting import until

STUCK = r" level=warning event=worker-stuck worker=\d+ seconds=0.5 says="
OPTIONS = ("--workers", 3, "--watchdog", 0.5, "--quiet", *SMALL_LOG, *NEVER_SILENT)


@pytest.mark.sample(2)
@pytest.mark.parametrize(
    ("act", "point"),
    [
        (hang, "turn"),
        (hang, "half stored"),
        (spin, "batch"),
        (spin, "half stored"),
        (spin, "going on"),
    ],
)
def test_load_4_a_worker_hangs(tmp_path: Path, point: str, act: Callable[[], None]) -> None:
    """LOAD-4: only the hung worker is replaced, even if all others wait for the lock that it
    holds."""
    with faulty_room(tmp_path, point, *OPTIONS, act=act, logs=f"{STUCK}|{DIED}") as (
        here,
        rounds,
    ):
        crowd = Crowd(here.join_all(addresses(9)))
        crowd.talk_on(20)
        rounds.load()
        if point == "going on":
            here.workers()[0].kill()
        crowd.talk(lambda: "worker-stuck" in here.errors, f"a worker is stuck at {point!r}")
        until(lambda: len(here.workers()) == 3, "a new worker has replaced it")
        crowd.talk_on()
        here.wait_until_even(crowd.present(), 3)
        assert here.errors.count("\n") == 1 + (point == "going on")
        here.stop()
        crowd.end()


def test_a_busy_worker_is_not_replaced() -> None:
    """LOAD-4: an idle worker is not replaced either."""
    with room("--workers", 2, "--watchdog", 0.5, "--quiet", *SMALL_LOG, *NEVER_SILENT) as here:
        crowd = Crowd(here.join_all(addresses(30)))
        pids = [worker.pid for worker in here.workers()]
        end = time.monotonic() + 1.2
        crowd.talk(lambda: time.monotonic() > end)
        time.sleep(1.2)  # longer than the watchdog's limit
        until(here.is_idle, "the room is idle")
        assert [worker.pid for worker in here.workers()] == pids


def test_a_room_that_was_stopped_as_a_whole_replaces_no_worker() -> None:
    """LOAD-4: for example, the machine was suspended, or the owner pressed Ctrl-Z."""
    with room("--workers", 2, "--watchdog", 0.5, "--quiet", *NEVER_SILENT) as here:
        crowd = Crowd(here.join_all(addresses(6)))
        crowd.talk_on(20)
        pids = [worker.pid for worker in here.workers()]
        os.killpg(here.pid, signal.SIGSTOP)
        until(
            lambda: all(process.state == "T" for process in here.processes()),
            "all processes are stopped",
        )
        time.sleep(1.2)  # longer than the watchdog's limit
        os.killpg(here.pid, signal.SIGCONT)
        crowd.talk_on()
        until(here.is_idle, "the room is idle")
        assert [worker.pid for worker in here.workers()] == pids
