"""Tests of the waits of the bridge for a whole round."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest

from chatroom.sidecars.cluster import rounds
from chatroom.sidecars.cluster.rounds import Ringer, Round, gather
from chatroom.sidecars.cluster.stream_message import Publication, Run
from tests.integration.waiting import PATIENCE

FOREVER = 3600.0


def publication(*senders: int, node: int = 7) -> Publication:
    return Publication(node, 2, 1, [Run(sender, b"", 1, b"<a>x\n") for sender in senders])


def sizes(*publications: Publication) -> list[int]:
    """Return the size of the round of members after each of these publications."""
    members, found = Round(), []
    for each in publications:
        members.note(each.senders, each)
        found.append(members.size)
    return found


def run(test: Coroutine[Any, Any, None]) -> None:
    asyncio.run(asyncio.wait_for(test, PATIENCE))


# --- the size of a round -------------------------------------------------------------------------


def test_a_round_ends_when_one_of_its_senders_sends_again() -> None:
    assert Round().size == 1
    assert sizes(publication(1, 2), publication(3, 4), publication(5, 1, 2)) == [1, 1, 4]


def test_the_size_follows_the_last_round() -> None:
    found = sizes(*[publication(1, 2, 3, 4)] * 2, *[publication(1, 2)] * 2, publication(2, 3))
    assert found == [1, 4, 4, 2, 2]


def test_a_member_that_sends_alone_halves_the_size() -> None:
    crowd, alone = publication(1, 2, 3, 4, 5), publication(1)
    assert sizes(crowd, crowd, alone, alone, alone, alone) == [1, 5, 2, 1, 1, 1]


def test_several_messages_of_one_member_are_not_a_round() -> None:
    assert sizes(*[publication(1, 1, 1)] * 3) == [1, 1, 1]


# --- gathering -----------------------------------------------------------------------------------


class Waiting:
    """Messages that wait to be published; `bell` is set for each new one."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.bell, self.stop = asyncio.Event(), asyncio.Event()

    def add(self) -> None:
        self.number += 1
        self.bell.set()

    async def gather(self, size: int) -> None:
        await gather(size, lambda: self.number, self.bell, self.stop)


@pytest.mark.parametrize(("number", "size"), [(0, 5), (5, 5), (6, 5), (1, 1)])
def test_nothing_is_gathered_if_no_message_or_a_whole_round_waits(number: int, size: int) -> None:
    """The coroutine ends before it waits for the first time."""

    async def test() -> None:
        with pytest.raises(StopIteration):
            Waiting(number).gather(size).send(None)

    run(test())


@pytest.fixture
def no_time_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a bridge gather for as long as the round is not complete."""
    monkeypatch.setattr(rounds, "GATHER", FOREVER)
    monkeypatch.setattr(rounds, "MAX_GATHER", FOREVER)


@pytest.mark.usefixtures("no_time_limit")
def test_gathering_ends_with_the_last_message_of_the_round() -> None:
    async def test() -> None:
        waiting = Waiting(1)
        task = asyncio.create_task(waiting.gather(3))
        for number in (2, 3):
            await asyncio.sleep(0)
            assert not task.done()
            waiting.add()
            assert waiting.number == number
        await task

    run(test())


@pytest.mark.usefixtures("no_time_limit")
def test_gathering_ends_when_the_room_stops() -> None:
    async def test() -> None:
        waiting = Waiting(1)
        task = asyncio.create_task(waiting.gather(3))
        await asyncio.sleep(0)
        assert not task.done()
        waiting.stop.set()
        waiting.bell.set()
        await task

    run(test())


@pytest.mark.parametrize("bound", ["GATHER", "MAX_GATHER"])
def test_the_time_to_gather_is_bounded(bound: str, monkeypatch: pytest.MonkeyPatch) -> None:
    other = "MAX_GATHER" if bound == "GATHER" else "GATHER"
    monkeypatch.setattr(rounds, other, FOREVER)
    run(Waiting(1).gather(3))


# --- ringing the workers -------------------------------------------------------------------------


def ringing(*publications: Publication) -> list[int]:
    """Append these publications without a pause; return how often the workers had been rung after
    each of them, and some time later."""
    found: list[int] = []

    async def test() -> None:
        rung: list[None] = []
        ringer = Ringer(lambda: rung.append(None))
        for each in publications:
            ringer.note(each)
            found.append(len(rung))
        await asyncio.sleep(2 * rounds.RING_AFTER)
        found.append(len(rung))

    run(test())
    return found


def test_the_publications_of_all_nodes_of_a_round_are_delivered_together() -> None:
    first, second = publication(1, 2, node=7), publication(1, 2, node=8)
    assert ringing(*[first, second] * 3) == [1, 2, 2, 3, 3, 4, 4]


def test_a_member_that_talks_alone_waits_for_no_other_node() -> None:
    first, second = publication(1, node=7), publication(1, node=8)
    assert ringing(*[first, second] * 3) == [1, 2, 3, 4, 5, 6, 6]


def test_one_node_waits_for_no_other_node() -> None:
    assert ringing(*[publication(1, 2)] * 4) == [1, 2, 3, 4, 4]


def test_a_node_that_falls_silent_delays_the_others_for_a_moment_only(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = publication(1, 2, node=7), publication(1, 2, node=8)
    monkeypatch.setattr(rounds, "RING_AFTER", 1e-3)

    async def test() -> None:
        rung = asyncio.Event()
        ringer = Ringer(rung.set)
        for each in (first, second, first, second, first):
            rung.clear()
            ringer.note(each)
        assert not rung.is_set()
        await rung.wait()
        # The timer has rung, and does not ring again.
        rung.clear()
        ringer.note(first)
        assert rung.is_set()

    run(test())
