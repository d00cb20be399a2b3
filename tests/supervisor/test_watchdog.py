"""Tests of the watchdog, which finds workers that make no progress."""

from collections.abc import Iterator

import pytest

from chatroom.supervisor.watchdog import CHECKS, Watchdog
from tests.system.loops import ManualLoop

WITHIN = 8.0
PAUSE = WITHIN / CHECKS


class WatchdogDriver:
    """A watchdog, and a clock that the test advances between checks."""

    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.watchdog = Watchdog(self.loop, WITHIN, self._on_check)
        self.turns: tuple[int, ...] = ()
        self.found: list[list[int]] = []

    def _on_check(self) -> None:
        self.found.append(self.watchdog.check(dict(enumerate(self.turns))))

    def check(self, *turns: int, late: float = 0.0) -> list[int]:
        """Advance to the next check, or `late` seconds further; return the stuck workers."""
        assert self.loop.idle() == pytest.approx(PAUSE)
        self.loop.time += PAUSE + late
        self.turns = turns
        self.loop.turn()
        (stuck,), self.found = self.found, []
        return stuck


@pytest.fixture(name="driver")
def fixture_driver() -> Iterator[WatchdogDriver]:
    driver = WatchdogDriver()
    yield driver
    driver.loop.close()


def test_a_worker_without_progress_is_stuck_after_some_checks(driver: WatchdogDriver) -> None:
    assert driver.check(7, 1) == []
    for turn in range(CHECKS - 1):
        assert driver.check(7, 2 + turn) == []
    assert driver.check(7, 99) == [0]


def test_any_progress_resets_the_checks(driver: WatchdogDriver) -> None:
    for turn in range(5 * CHECKS):
        assert driver.check(turn // (CHECKS - 1)) == []


def test_a_new_worker_in_a_seat_starts_without_a_record(driver: WatchdogDriver) -> None:
    for _ in range(CHECKS):
        driver.check(7)
    assert driver.check() == [], "a dead worker is not stuck"
    for _ in range(CHECKS):
        assert driver.check(7) == []
    assert driver.check(7) == [0]


def test_a_check_that_is_late_does_not_count(driver: WatchdogDriver) -> None:
    """For example, the machine was suspended, and the workers with it."""
    for _ in range(CHECKS):
        assert driver.check(7) == []
    assert driver.check(7, late=1000.0) == []
    for _ in range(CHECKS - 1):
        assert driver.check(7) == []
    assert driver.check(7) == [0]


def test_a_check_that_is_slightly_late_counts(driver: WatchdogDriver) -> None:
    for _ in range(CHECKS):
        assert driver.check(7, late=0.5 * PAUSE) == []
    assert driver.check(7, late=0.5 * PAUSE) == [0]


def test_another_time_limit_resets_the_checks(driver: WatchdogDriver) -> None:
    for _ in range(CHECKS):
        assert driver.check(7) == []
    driver.watchdog.renew(WITHIN)
    assert driver.check(7) == [0]
    driver.watchdog.renew(2 * WITHIN)
    assert driver.loop.idle() == pytest.approx(2 * PAUSE)
    driver.watchdog.renew(WITHIN)
    for _ in range(CHECKS):
        assert driver.check(7) == []
    assert driver.check(7) == [0]


def test_a_stopped_watchdog_does_not_check(driver: WatchdogDriver) -> None:
    driver.watchdog.stop()
    assert driver.loop.idle() is None


def test_reset_resets_the_checks(driver: WatchdogDriver) -> None:
    for _ in range(CHECKS):
        driver.check(7, 8)
    assert driver.check(7, 8) == [0, 1]
    driver.watchdog.reset()
    for _ in range(CHECKS):
        assert driver.check(7, 8) == []
    assert driver.check(7, 8) == [0, 1]


def test_a_watchdog_without_a_limit_never_checks(driver: WatchdogDriver) -> None:
    driver.watchdog.renew(0)
    assert driver.loop.idle() is None
