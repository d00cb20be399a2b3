"""Workers that are replaced, added and removed, and members that move between workers (LOAD-4)."""

import re
import signal
from functools import partial
from pathlib import Path

import pytest

from chatroom.supervisor.pool import ATTEMPTS
from tests.integration.crowd import Crowd
from tests.integration.faults import fail
from tests.integration.faulty_room import faulty_room
from tests.integration.rooms import DIED, NEVER_SILENT, SMALL_LOG, Room, addresses, room
from tests.integration.waiting import PATIENCE

OPTIONS = ("--quiet", *SMALL_LOG, *NEVER_SILENT)
LIMIT = r" level=warning event=workers-limit wanted=0 most=9 says="


@pytest.mark.sample(1)
@pytest.mark.parametrize("workers", [1, 2])
def test_load_4_all_workers_are_replaced(workers: int) -> None:
    """LOAD-4: SIGHUP replaces all workers, twice, while members send."""
    with room("--workers", workers, *OPTIONS) as here:
        crowd = Crowd(here.join_all(addresses(15)))
        for _ in range(2):
            crowd.talk(here.replace_workers(workers), "all workers are replaced")
            here.wait_until_even(crowd.present(), workers)
        crowd.talk_on()
        here.stop()
        crowd.end()


def has(here: Room, workers: int) -> bool:
    return len(here.workers()) == workers


def test_load_4_workers_are_added_and_removed() -> None:
    """LOAD-4: SIGTTIN adds and SIGTTOU removes a worker while members send. At least one worker
    stays."""
    with room("--workers", 1, *OPTIONS, logs=LIMIT) as here:
        crowd = Crowd(here.join_all(addresses(22)))
        for number, workers in (
            (signal.SIGTTIN, 2),
            (signal.SIGTTIN, 3),
            (signal.SIGTTOU, 2),
            (signal.SIGTTOU, 1),
            (signal.SIGTTOU, 1),
        ):
            here.process.send_signal(number)
            crowd.talk(partial(has, here, workers), f"{workers} workers")
            here.wait_until_even(crowd.present(), workers)
        crowd.talk_on()
        here.stop()
        crowd.end()


def test_load_4_members_are_balanced_when_others_leave() -> None:
    """LOAD-4, LEAVE-1: all members of one worker leave."""
    with room("--workers", 2, *OPTIONS) as here:
        clients = here.join_all(addresses(24))
        crowd = Crowd(clients)
        crowd.talk_on(20)
        home = here.serving(clients[0]).pid
        for client in clients[1:]:
            if here.serving(client).pid != home:
                crowd.leave(client)
        here.wait_until_even(crowd.present(), 2)
        crowd.talk_on()
        here.stop()
        crowd.end()


def test_load_4_a_small_room_is_spread_over_more_workers_and_packed_again() -> None:
    """LOAD-4, CAST-5: one worker serves up to --pack members, and two workers serve more. When most
    members have left, one worker serves all members again.

    Members send all the time.
    """
    with room("--workers", 3, "--pack", 10, *OPTIONS) as here:
        clients = here.join_all(addresses(10))
        assert sorted(here.spread(clients)) == [0, 0, 10]
        clients += here.join_all(addresses(16)[10:])
        assert sorted(here.spread(clients)) == [0, 6, 10]
        crowd = Crowd(clients)
        crowd.talk_on(20)
        for client in clients[1:5] + clients[11:]:
            crowd.leave(client)
        crowd.talk(lambda: sorted(here.spread(crowd.present())) == [0, 0, 7], "all are packed")
        crowd.talk_on()
        here.stop()
        crowd.end()


CANT = r' event=worker-failed worker=\d+ error="OSError: out of luck" next=0.[124] says='


def test_load_4_a_replacement_cannot_start(tmp_path: Path) -> None:
    """LOAD-4: the start is tried again, with a growing backoff. The other workers serve all
    members."""
    with faulty_room(
        tmp_path, "starting", "--workers", 2, *OPTIONS, act=fail, logs=f"{CANT}|{DIED}"
    ) as (here, rounds):
        crowd = Crowd(here.join_all(addresses(8)))
        rounds.load(3)
        here.workers()[0].kill()
        crowd.talk(lambda: not rounds.left and len(here.workers()) == 2, "a worker starts")
        pauses = re.findall(r" next=(\S+) ", here.errors)
        assert pauses == ["0.1", "0.2", "0.4"]
        here.wait_until_even(crowd.present(), 2)
        crowd.talk_on()
        here.stop()
        crowd.end()


def test_load_4_no_replacement_can_start(tmp_path: Path) -> None:
    """LOAD-4: if no worker is alive, the room ends after some attempts, with the error."""
    with faulty_room(
        tmp_path,
        "starting",
        "--workers",
        1,
        act=fail,
        pause=0.1,
        logs=f"{DIED}|OSError: out of luck",
    ) as (here, rounds):
        client = here.join()
        rounds.load(2 * ATTEMPTS)
        here.workers()[0].kill()
        here.expect_exit(1, within=PATIENCE)
        client.receive_rest()
        assert rounds.left == ATTEMPTS
        assert here.errors.splitlines()[-1].endswith("can't start: OSError: out of luck")
