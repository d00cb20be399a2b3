"""The watchdog finds workers that make no progress."""

from collections.abc import Iterator

import pytest

from chatroom.supervisor.watchdog import CHECKS, Watchdog
from tests.system.loops import ManualLoop

WITHIN = 8.0
PAUSE = WITHIN / CHECKS


class Watch:
    """A watchdog, and a clock that advances from look to look."""

    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.dog = Watchdog(self.loop, WITHIN, self._on_check)
        self.turns: tuple[int, ...] = ()
        self.found: list[list[int]] = []

    def _on_check(self) -> None:
        self.found.append(self.dog.check(dict(enumerate(self.turns))))

    def look(self, *turns: int, late: float = 0.0) -> list[int]:
        """Look when it is due, or `late` seconds later; return the stuck workers."""
        assert self.loop.idle() == pytest.approx(PAUSE)
        self.loop.time += PAUSE + late
        self.turns = turns
        self.loop.turn()
        (stuck,), self.found = self.found, []
        return stuck


@pytest.fixture(name="watch")
def fixture_watch() -> Iterator[Watch]:
    watch = Watch()
    yield watch
    watch.loop.close()


def test_a_worker_without_progress_is_stuck_after_some_checks(watch: Watch) -> None:
    assert watch.look(7, 1) == []
    for turn in range(CHECKS - 1):
        assert watch.look(7, 2 + turn) == []
    assert watch.look(7, 99) == [0]


def test_any_progress_resets_the_checks(watch: Watch) -> None:
    for turn in range(5 * CHECKS):
        assert watch.look(turn // (CHECKS - 1)) == []


def test_a_new_worker_in_a_seat_starts_without_a_record(watch: Watch) -> None:
    for _ in range(CHECKS):
        watch.look(7)
    assert watch.look() == [], "a dead worker is not stuck"
    for _ in range(CHECKS):
        assert watch.look(7) == []
    assert watch.look(7) == [0]


def test_a_check_that_is_late_does_not_count(watch: Watch) -> None:
    """For example, the machine was asleep, and the workers too."""
    for _ in range(CHECKS):
        assert watch.look(7) == []
    assert watch.look(7, late=1000.0) == []
    for _ in range(CHECKS - 1):
        assert watch.look(7) == []
    assert watch.look(7) == [0]


def test_a_check_that_is_slightly_late_counts(watch: Watch) -> None:
    for _ in range(CHECKS):
        assert watch.look(7, late=0.5 * PAUSE) == []
    assert watch.look(7, late=0.5 * PAUSE) == [0]


def test_another_time_limit_resets_the_checks(watch: Watch) -> None:
    for _ in range(CHECKS):
        assert watch.look(7) == []
    watch.dog.renew(WITHIN)
    assert watch.look(7) == [0]
    watch.dog.renew(2 * WITHIN)
    assert watch.loop.idle() == pytest.approx(2 * PAUSE)
    watch.dog.renew(WITHIN)
    for _ in range(CHECKS):
        assert watch.look(7) == []
    assert watch.look(7) == [0]


def test_a_stopped_watchdog_does_not_check(watch: Watch) -> None:
    watch.dog.stop()
    assert watch.loop.idle() is None


def test_forgive_resets_the_checks(watch: Watch) -> None:
    for _ in range(CHECKS):
        watch.look(7, 8)
    assert watch.look(7, 8) == [0, 1]
    watch.dog.reset()
    for _ in range(CHECKS):
        assert watch.look(7, 8) == []
    assert watch.look(7, 8) == [0, 1]


def test_a_watchdog_without_a_limit_never_checks(watch: Watch) -> None:
    watch.dog.renew(0)
    assert watch.loop.idle() is None
