"""The simulated room: no line is lost or duplicated, and batches form as in a real room."""

import pytest

from harness.scale.costs import Costs
from harness.scale.room import LINE, Setup, play_rounds, play_schedule, shares, spread

COSTS = Costs()


@pytest.mark.parametrize("nodes", [0, 1, 2, 3])
@pytest.mark.parametrize("members", [2, 9, 100, 700])
def test_cast_1_each_line_reaches_all_others_once(members: int, nodes: int) -> None:
    for speakers in (1, members):
        room = play_rounds(Setup(members, nodes), COSTS, speakers, 1, 3)
        lines = 3 * speakers
        assert room.counts["read"] == lines
        assert room.counts["byte"] == LINE * lines * (members - 1)
        assert room.counts["load_byte"] == room.counts["byte"]
        assert room.counts["relay"] == nodes * lines
        assert room.counts["push"] == room.counts["follow"] == nodes * room.counts["publish"]


def test_a_solo_takes_a_send_for_each_delivery_and_a_publication_for_each_line() -> None:
    room = play_rounds(Setup(50, 2), COSTS, 1, 1, 4)
    assert (room.counts["send"], room.counts["publish"]) == (4 * 49, 4)


def test_the_lines_of_a_crowd_share_turns_and_sends() -> None:
    room = play_rounds(Setup(100), COSTS, 100, 1, 4)
    assert room.counts["turn"] < 40
    assert room.counts["send"] < 3 * 400


def test_the_nodes_of_a_crowd_publish_and_deliver_once_a_round() -> None:
    """In the first two rounds, the bridges learn the size of a round."""
    few, many = (play_rounds(Setup(100, 2), COSTS, 100, 1, 2 + more).counts for more in (0, 10))
    assert many["publish"] - few["publish"] == 2 * 10
    assert many["send"] - few["send"] == 100 * 10


def test_a_stream_is_published_in_batches() -> None:
    room = play_rounds(Setup(2, 2), COSTS, 1, 16384, 2)
    assert room.counts["publish"] < 100


def test_latencies_grow_with_the_members_and_the_distance_of_the_engine() -> None:
    def p50(setup: Setup) -> float:
        return play_schedule(setup, COSTS, 50, 1, is_bench=False).latency(0.5)

    near, far = Setup(1000, 2, cores=None), Setup(1000, 2, cores=None, delay=0.01)
    large = Setup(100_000, 2, cores=None)
    assert p50(far) - p50(near) == pytest.approx(0.02, abs=0.002)
    assert p50(large) > 10 * p50(near)


def test_a_node_that_waits_for_its_own_publication_cannot_flood_the_others() -> None:
    """If nodes do not wait, the bridges of many nodes publish more than one bridge can follow."""
    costs = Costs(store=60e-6, push=5e-6, follow=200e-6)

    def p99(clocked: bool) -> float:
        setup = Setup(8000, 16, cores=None, delay=1e-4, clocked=clocked)
        return play_schedule(setup, costs, 8000, 0.5, is_bench=False).latency(0.99)

    assert p99(clocked=False) > 10 * p99(clocked=True)


def test_members_are_packed_in_a_small_room_and_spread_in_a_large_one() -> None:
    assert spread(10, 2) == [10, 0]
    assert spread(300, 2) == [256, 44]
    assert spread(900, 2) == [450, 450]
    assert shares(10, 4) == [3, 3, 2, 2]
