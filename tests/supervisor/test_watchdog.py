"""Which workers make no progress."""

import pytest

from chatroom.supervisor.watchdog import LOOKS, Watchdog

WITHIN = 8.0
PAUSE = WITHIN / LOOKS


class Watch:
    """A watchdog, and a clock that goes on from look to look."""

    def __init__(self) -> None:
        self.now = 100.0
        self.dog = Watchdog(WITHIN, self.now)

    def look(self, *turns: int, late: float = 0.0) -> list[int]:
        assert self.dog.due == pytest.approx(self.now + PAUSE)
        self.now += PAUSE + late
        return self.dog.look(self.now, dict(enumerate(turns)))


@pytest.fixture(name="watch")
def fixture_watch() -> Watch:
    return Watch()


def test_who_makes_no_progress_is_stuck_in_the_end(watch: Watch) -> None:
    assert watch.look(7, 1) == []
    for turn in range(LOOKS - 1):
        assert watch.look(7, 2 + turn) == []
    assert watch.look(7, 99) == [0]


def test_any_progress_is_enough(watch: Watch) -> None:
    for turn in range(5 * LOOKS):
        assert watch.look(turn // (LOOKS - 1)) == []


def test_a_worker_is_new_to_it_when_another_has_taken_its_seat_meanwhile(watch: Watch) -> None:
    for _ in range(LOOKS):
        watch.look(7)
    assert watch.look() == [], "it is dead"
    for _ in range(LOOKS):
        assert watch.look(7) == []
    assert watch.look(7) == [0]


def test_a_look_that_is_late_says_nothing(watch: Watch) -> None:
    """The machine was asleep, say; the workers too."""
    for _ in range(LOOKS):
        assert watch.look(7) == []
    assert watch.look(7, late=1000.0) == []
    for _ in range(LOOKS - 1):
        assert watch.look(7) == []
    assert watch.look(7) == [0]


def test_a_look_that_is_a_little_late_counts(watch: Watch) -> None:
    for _ in range(LOOKS):
        assert watch.look(7, late=0.5 * PAUSE) == []
    assert watch.look(7, late=0.5 * PAUSE) == [0]


def test_it_looks_when_it_is_due_and_not_before(watch: Watch) -> None:
    for _ in range(10 * LOOKS):
        assert watch.dog.look(watch.now + 0.9 * PAUSE, {0: 7}) == []
    assert watch.dog.due == watch.now + PAUSE


def test_the_forgiven_begin_anew(watch: Watch) -> None:
    for _ in range(LOOKS):
        watch.look(7, 8)
    assert watch.look(7, 8) == [0, 1]
    watch.dog.forgive()
    for _ in range(LOOKS):
        assert watch.look(7, 8) == []
    assert watch.look(7, 8) == [0, 1]


def test_without_a_limit_nobody_is_ever_stuck() -> None:
    dog = Watchdog(0, 100.0)
    assert dog.due is None
    for now in range(1000, 100_000, 1000):
        assert dog.look(now, {0: 7}) == []
    assert dog.due is None
