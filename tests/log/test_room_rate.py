"""Tests of the room's rate limit, and of the sources' tags, with which this rate is shared."""

import os
import random
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from chatroom.config.settings import Settings
from chatroom.config.sizes import KIB, MIB
from chatroom.log.room_rate import NONE, RoomRate
from tests.worker.drivers import new_room_rate

RATE = 100 * KIB
BURST = MIB


@pytest.fixture
def make() -> Iterator[Callable[..., RoomRate]]:
    made = []

    def make(**options: Any) -> RoomRate:
        defaults = {"room_rate": RATE, "room_burst": BURST, "max_clients": 50}
        made.append(new_room_rate(Settings(**defaults | options)))
        return made[-1]

    yield make
    for room_rate in made:
        os.close(room_rate.fd)


@pytest.fixture
def room_rate(make: Callable[..., RoomRate]) -> RoomRate:
    return make()


def test_a_burst_is_free_and_the_rest_waits(room_rate: RoomRate) -> None:
    assert room_rate.wait(BURST, 1000.0) == 0.0
    room_rate.charge(BURST - 1000, 1000.0)
    assert room_rate.debt(1000.0) == pytest.approx(BURST - 1000, abs=1)
    assert room_rate.wait(1000, 1000.0) == pytest.approx(0.0, abs=1e-3)
    assert room_rate.wait(1000 + RATE // 2, 1000.0) == pytest.approx(0.5, abs=1e-3)
    assert room_rate.debt(1001.0) == pytest.approx(BURST - 1000 - RATE, abs=1)
    assert room_rate.debt(1100.0) == 0


def test_a_cost_above_the_burst_waits_for_the_whole_burst(room_rate: RoomRate) -> None:
    room_rate.charge(RATE, 1000.0)
    assert room_rate.wait(2 * BURST, 1000.0) == pytest.approx(1.0, abs=1e-3)


@pytest.mark.parametrize("seed", range(5))
def test_random_costs_never_exceed_the_rate(room_rate: RoomRate, seed: int) -> None:
    """In each interval, the appended messages cost at most the burst plus rate times duration."""
    chance = random.Random(seed)
    now, appended = 1000.0, [(1000.0, 0)]
    for _ in range(300):
        now += chance.choice([0, 0, 0.001, 0.1, 3.0])
        cost = chance.choice([128, 10_000, BURST // 4])
        now += room_rate.wait(cost, now)
        room_rate.charge(cost, now)
        appended.append((now, appended[-1][1] + cost))
    for start, (begin, before) in enumerate(appended):
        for end, total in appended[start + 1 :]:
            assert total - before <= BURST + (end - begin) * RATE + 300  # 300: rounding errors


def test_the_debt_is_at_most_the_burst_after_a_change_of_the_rate(room_rate: RoomRate) -> None:
    room_rate.charge(BURST, 1000.0)
    settings = Settings(room_rate=MIB * 100, room_burst=BURST, max_clients=50)
    higher = RoomRate(room_rate.fd, settings.limits)
    assert higher.debt(1000.0) == BURST
    higher.charge(1, 1000.0)
    assert higher.wait(1, 1000.02) == 0.0


def test_a_source_s_tag_grows_by_its_cost(room_rate: RoomRate) -> None:
    room_rate.charge_sources([(3, 100), (7, 200), (3, 300)], 1000.0)
    assert (room_rate.tag(3), room_rate.tag(7), room_rate.tag(0)) == (400, 200, 0)
    assert room_rate.virtual_time() == 0


def test_the_virtual_time_is_the_lowest_tag_that_waits(room_rate: RoomRate) -> None:
    room_rate.charge(1400, 1000.0)
    room_rate.charge_sources([(1, 500), (2, 900)], 1000.0)
    room_rate.publish(0, 900)
    room_rate.publish(1, 500)
    assert room_rate.virtual_time() == 500
    room_rate.charge_sources([(3, 10)], 1000.0)
    assert room_rate.tag(3) == 510, "an idle source gets no credit"
    room_rate.publish(1, NONE)
    assert room_rate.virtual_time() == 900
    room_rate.charge_sources([(1, 10)], 1000.0)
    room_rate.publish(0, NONE)
    assert room_rate.virtual_time() == 900, "the virtual time decreases"


def test_a_room_without_debt_forgets_earlier_costs(room_rate: RoomRate) -> None:
    room_rate.charge(BURST // 2, 1000.0)
    room_rate.charge_sources([(1, BURST // 2)], 1000.0)
    room_rate.charge_sources([(2, 100)], 1000.0 + BURST / RATE)
    assert room_rate.tag(2) == BURST // 2 + 100
    assert room_rate.virtual_time() == BURST // 2
