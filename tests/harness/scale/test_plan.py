"""The machines that a room needs."""

import dataclasses

import pytest

from harness.scale.costs import Costs
from harness.scale.plan import HEADERS, Machine, Order, highest_rate, need, turn
from harness.scale.room import LINE

COSTS, MACHINE = Costs(), Machine()


def test_a_small_room_needs_one_node_and_no_engine() -> None:
    found = need(COSTS, MACHINE, 1000, 10, 2000, 0.1)
    assert (found.nodes, found.order.engine, found.order.possible) == (1, 0.0, True)


@pytest.mark.parametrize(
    ("machine", "members", "rate", "limit"),
    [
        (MACHINE, 1_000_000, 10, "cores"),
        (MACHINE, 100_000, 3000, "network"),
        (dataclasses.replace(MACHINE, memory=2**30), 1_000_000, 10, "memory"),
    ],
)
def test_the_scarcest_resource_gives_the_number_of_nodes(
    machine: Machine, members: int, rate: float, limit: str
) -> None:
    found = need(COSTS, machine, members, rate, 2000, 0.1)
    assert found.limit == limit
    assert found.nodes > 1
    share = members / found.nodes
    assert found.network <= machine.used * machine.network
    assert found.memory <= machine.used * machine.memory
    assert turn(COSTS, share / machine.workers, max(1.0, rate * 0.05)) <= 0.05 * machine.used
    assert found.network == pytest.approx(share * (rate * LINE + min(rate, 20) * HEADERS))


def test_a_room_whose_lines_are_too_many_for_one_order_is_impossible() -> None:
    found = need(COSTS, MACHINE, 1_000_000, 1_000_000, 2000, 0.1)
    assert not found.order.possible
    assert found.limit in ("bridge", "engine's cores", "engine's network")
    assert found.p99 is None


def test_a_simulated_latency_above_the_wanted_one_is_marked() -> None:
    """A slow path to the engine delays each line, with any number of nodes."""
    slow = dataclasses.replace(MACHINE, delay=0.1)
    for machine, late in ((MACHINE, False), (slow, True)):
        found = need(COSTS, machine, 1_000_000, 10, 2000, 0.15)
        assert found.nodes > 1
        assert found.p99 is not None
        assert (found.late, found.p99 > 0.15) == (late, late)


def test_more_nodes_mean_a_lower_highest_rate() -> None:
    rates = [highest_rate(COSTS, MACHINE, nodes)[0] for nodes in (2, 10, 100, 1000)]
    assert rates == sorted(rates, reverse=True)
    assert Order.of(COSTS, MACHINE, 10, 0.9 * rates[1]).possible
    assert not Order.of(COSTS, MACHINE, 10, 1.1 * rates[1]).possible
