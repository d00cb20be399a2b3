"""A worker dies at each moment there is (LOAD-4), for sure and not by chance: faulty_room.py."""

from pathlib import Path

import pytest

from tests.integration.crowd import Crowd
from tests.integration.faulty_room import faulty_room
from tests.integration.rooms import NEVER_SILENT, SMALL_LOG, Room, addresses
from tests.integration.waiting import until

DIED = r"WARNING worker \d+ ended with exit code -9; starting another$"
OPTIONS = ("--quiet", *SMALL_LOG, *NEVER_SILENT)


def wait_until_replaced(here: Room, deaths: int, workers: int) -> None:
    """Wait until so many deaths have been noticed, and there are as many workers as there were."""
    until(lambda: here.errors.count("exit code -9") == deaths, f"{deaths} deaths")
    until(lambda: len(here.workers()) == workers, f"{workers} workers")


#: A point of the code, and how often each worker passes it unharmed.
TALKING = [
    ("turn", 3),
    ("read", 20),
    ("framed", 20),
    ("batch", 20),
    ("locked", 20),
    ("joined", 20),
    ("half stored", 20),
    ("stored", 20),
    ("put", 20),
    ("appended", 20),
    ("unattributed", 20),
    ("attributed", 20),
    ("unrung", 20),
    ("rung", 20),
    ("delivering", 20),
    ("half sent", 20),
    ("half sent", 21),
    ("sent", 21),
    ("sent", 22),
    ("delivered", 20),
    ("published", 20),
    ("unnoted", 0),
    ("half noted", 8),
    ("noted", 9),
    ("all noted", 0),
]


@pytest.mark.parametrize(("point", "skip"), TALKING)
def test_load_4_a_worker_dies_while_all_talk(tmp_path: Path, point: str, skip: int) -> None:
    """LOAD-4: both, and those who have taken their place; two may well do at once."""
    with faulty_room(tmp_path, point, "--workers", 2, *OPTIONS, skip=skip, tells=DIED) as (
        here,
        rounds,
    ):
        crowd = Crowd(here.join_all(addresses(7)))
        crowd.talk_on(20)
        rounds.load(3)
        crowd.talk(lambda: not rounds.left, f"three die at {point!r}")
        wait_until_replaced(here, 3, 2)
        crowd.talk_on()
        here.stop()
        crowd.end()
