"""Tests of the choice of a worker for a new member, and of the moves of members."""

import random

import pytest

from chatroom.supervisor.placement import GATHER_AT, UNEVEN, Move, place, rebalance

PACK = 8


@pytest.mark.parametrize(
    ("loads", "worker"),
    [
        ({0: 0, 1: 0, 2: 0}, 0),
        ({0: 7, 1: 0, 2: 0}, 0),
        ({0: 8, 1: 0, 2: 0}, 1),
        ({0: 8, 1: 3, 2: 5}, 2),
        ({0: 8, 1: 8, 2: 8}, 0),
        ({0: 12, 1: 9, 2: 10}, 1),
        ({5: 1}, 5),
    ],
)
def test_newcomers_fill_a_worker_before_the_next(loads: dict[int, int], worker: int) -> None:
    assert place(loads, PACK) == worker


def test_with_a_pack_of_1_members_are_spread_evenly() -> None:
    loads = dict.fromkeys(range(3), 0)
    for _ in range(10):
        loads[place(loads, 1)] += 1
    assert sorted(loads.values()) == [3, 3, 4]


@pytest.mark.parametrize(
    ("loads", "move"),
    [
        ({0: 8}, None),
        ({}, None),
        ({0: 0, 1: 0}, None),
        ({0: 8, 1: 0}, None),
        ({0: 8, 1: 8}, None),
        ({0: 20, 1: 0}, Move(0, 10)),
        ({0: 10, 1: 0}, Move(0, 2)),
        ({0: 100, 1: 95}, None),
        ({0: 100, 1: 60}, Move(0, 20)),
        ({0: 3, 1: 3}, Move(0, 3)),
        ({0: 4, 1: 3}, None),
        ({0: 6, 1: 1, 2: 5}, Move(1, 1)),
    ],
)
def test_members_move_if_a_worker_has_too_many_or_fewer_workers_suffice(
    loads: dict[int, int], move: Move | None
) -> None:
    assert rebalance(loads, PACK) == move


@pytest.mark.parametrize("seed", range(20))
def test_moves_end_from_any_distribution(seed: int) -> None:
    """After a limited number of moves, the load is even or packed."""
    chance = random.Random(seed)
    pack = chance.choice([1, 3, 8, 64])
    loads = {worker: chance.choice([0, 1, 5, 70, 200]) for worker in range(chance.randint(1, 6))}
    total = sum(loads.values())
    for _ in range(60):
        move = rebalance(loads, pack)
        if move is None:
            break
        assert 0 < move.members <= loads[move.worker]
        loads[move.worker] -= move.members
        for _ in range(move.members):
            loads[place(loads, pack)] += 1
    else:
        pytest.fail(f"members still move: {loads}")
    assert sum(loads.values()) == total
    used = [load for load in loads.values() if load]
    if max(loads.values()) > pack:
        assert max(used) - min(loads.values()) <= max(1, UNEVEN * total / len(loads))
    elif used:
        assert total > GATHER_AT * pack * (len(used) - 1)


def test_a_small_change_of_the_size_moves_no_member() -> None:
    """At each size of the room, one member joins or leaves, and no other member moves."""
    loads = {0: 0, 1: 0}
    for _ in range(2 * PACK):
        loads[place(loads, PACK)] += 1
        assert rebalance(loads, PACK) is None
        for worker, load in loads.items():
            if load and sum(loads.values()) - 1 > GATHER_AT * PACK:
                assert rebalance(loads | {worker: load - 1}, PACK) is None
