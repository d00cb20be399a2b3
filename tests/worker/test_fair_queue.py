"""Tests of the order in which a worker reads from members while the room's rate is used up."""

import os
import socket
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from chatroom.config.settings import Settings
from chatroom.config.sizes import KIB, MIB
from chatroom.log.room_rate import RoomRate
from chatroom.worker.fair_queue import QUANTUM, FairQueue
from chatroom.worker.member import Member
from tests.worker.drivers import Client, FakeConnection, MakeRoom, Room, new_room_rate

BURST = MIB
SETTINGS = Settings(room_rate=100 * KIB, room_burst=BURST, max_clients=50)


@pytest.fixture
def room_rate() -> Iterator[RoomRate]:
    room_rate = new_room_rate(SETTINGS)
    room_rate.charge(BURST // 4, 1000.0)  # a room without debt would forget all tags
    yield room_rate
    os.close(room_rate.fd)


def new_member(id: int, source: int) -> Member:
    return Member(
        id, "192.0.2.1", "<192.0.2.1>", cast(socket.socket, FakeConnection()), 0, 64, 0, source
    )


CALM, BUSY, FULL = BURST // 4, BURST * 5 // 8, BURST * 7 // 8


def test_the_source_with_the_lowest_tag_is_next(room_rate: RoomRate) -> None:
    room_rate.charge_sources([(1, 3000), (2, 1000), (3, 2000)], 1000.0)
    queue = FairQueue(room_rate, 0)
    for id in (1, 2, 3):
        queue.put(new_member(id, id))
    queue.begin(1000.0)
    popped = [queue.pop(BUSY) for _ in range(4)]
    assert [member and member.id for member in popped] == [2, 3, 1, None]


def test_each_source_has_one_turn_in_a_turn_of_the_worker(room_rate: RoomRate) -> None:
    queue = FairQueue(room_rate, 0)
    for id, source in ((1, 1), (2, 1), (3, 1), (4, 2)):
        queue.put(new_member(id, source))
    turns = []
    for _ in range(4):
        queue.begin(1000.0)
        turn = []
        while (member := queue.pop(BUSY)) is not None:
            turn.append(member.id)
        turns.append(sorted(turn))
    assert turns == [[1, 4], [2], [3], []]
    assert not queue
    assert room_rate.virtual_time() == 0


def test_a_source_ahead_of_the_virtual_time_waits(room_rate: RoomRate) -> None:
    """The worker reads from this source when the room's debt is low, or when the virtual time is
    near the source's tag."""
    room_rate.charge_sources([(1, QUANTUM + 1)], 1000.0)
    room_rate.publish(1, 0)
    queue = FairQueue(room_rate, 0)
    queue.put(new_member(1, 1))
    queue.begin(1000.0)
    assert queue.pop(BUSY) is None
    assert queue.due == pytest.approx(1000.01)
    room_rate.publish(1, 1)
    assert queue.pop(BUSY) is not None
    queue.put(new_member(2, 2))
    room_rate.charge_sources([(2, 10 * QUANTUM)], 1000.0)
    queue.begin(1000.0)
    assert queue.pop(BUSY) is None
    assert queue.pop(CALM) is not None


def test_the_last_part_of_the_burst_is_for_sources_below_their_share(room_rate: RoomRate) -> None:
    room_rate.charge_sources([(1, 5000), (2, 100)], 1000.0)
    room_rate.publish(1, 3000)
    queue = FairQueue(room_rate, 0)
    assert queue.may_read(2, FULL)
    assert not queue.may_read(2, BURST)
    assert not queue.may_read(1, FULL)
    assert queue.may_read(1, BUSY)


def test_a_queue_publishes_its_lowest_tag(room_rate: RoomRate) -> None:
    room_rate.charge_sources([(1, 700), (2, 900)], 1000.0)
    queue = FairQueue(room_rate, 3)
    members = [new_member(1, 1), new_member(2, 2)]
    for member in members:
        queue.put(member)
    queue.begin(1000.0)
    assert room_rate.virtual_time() == 700
    room_rate.charge_sources([(1, 1000)], 1000.0)  # as another worker would do
    queue.begin(1000.0)
    assert room_rate.virtual_time() == 900
    room_rate.charge_sources([], 1000.0)
    for member in members:
        queue.discard(member)
    queue.begin(1000.0)
    assert not queue
    assert queue.due is None
    assert room_rate.virtual_time() == 900
    room_rate.publish(0, 950)
    assert room_rate.virtual_time() == 950, "an empty queue publishes nothing"


def test_the_queue_is_needed_only_with_a_debt(room_rate: RoomRate) -> None:
    queue = FairQueue(room_rate, 0)
    assert not queue.is_needed(1000.0)
    room_rate.charge(BURST // 4 + 1, 1000.0)
    assert queue.is_needed(1000.0)
    assert not queue.is_needed(1000.1)
    queue.put(new_member(1, 1))
    assert queue.is_needed(1000.1), "waiting members are read before others"


# --- workers -------------------------------------------------------------------------------------

FLOOD = {"rate": 0, "room_rate": 64 * KIB, "log_size": 4 * MIB, "max_lag": 512 * KIB}


class Flood:
    """Members that always have input to send, and the number of bytes that each address has
    appended."""

    def __init__(self, room: Room, flooders: list[Client]) -> None:
        self.room = room
        self.flooders = flooders
        self.appended: Counter[str] = Counter()
        self._seen = room.log.head

    def run_for(self, seconds: float, payload: Callable[[], bytes]) -> None:
        """Run the workers for some time, and let all clients receive everything."""
        until = self.room.clock.now + seconds
        while self.room.clock.now < until:
            for flooder in self.flooders:
                flooder.send_what_fits(payload())
            self.room.settle()
            for client in self.room.clients:
                client.receive()
            self.note()
            self.room.clock.now += 0.05

    def note(self) -> None:
        log, head = self.room.log, self.room.log.head
        begin = log.offset(self._seen)
        addresses = {client.id: client.address for client in self.room.clients}
        for end, sender, *_ in log.entries(self._seen, head):
            self.appended[addresses[sender]] += end - begin
            begin = end
        self._seen = head


@pytest.fixture
def flood(make_room: MakeRoom) -> Flood:
    """Return a flood of two sources: 192.0.2.1 with six connections, and 192.0.2.2 with one."""
    room = make_room(workers=2, **FLOOD)
    flooders = [room.join(number % 2, "192.0.2.1") for number in range(6)]
    flooders.append(room.join(1, "192.0.2.2"))
    return Flood(room, flooders)


PAYLOADS = {
    "lines of 80 bytes": lambda: (b"x" * 79 + b"\n") * 100,
    "empty lines": lambda: b"\n" * 8000,
    "no line ends": lambda: b"y" * 8000,
    "control characters": lambda: b"\x01" * 8000,
}


@pytest.mark.sample(2)
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_sources_have_equal_shares_whatever_they_send(
    flood: Flood, payload: Callable[[], bytes]
) -> None:
    flood.run_for(5, payload)  # This uses up the burst.
    flood.appended.clear()
    flood.run_for(20, payload)
    many, one = flood.appended["192.0.2.1"], flood.appended["192.0.2.2"]
    assert 0.8 < many / one < 1.25


def test_a_flood_uses_the_whole_rate_of_the_room(flood: Flood) -> None:
    payload = PAYLOADS["lines of 80 bytes"]
    flood.run_for(5, payload)
    flood.appended.clear()
    flood.run_for(20, payload)
    cost = flood.appended.total() / (80 + len("<192.0.2.1>")) * 128
    assert cost == pytest.approx(20 * FLOOD["room_rate"], rel=0.1)


@pytest.mark.sample(2)
@pytest.mark.parametrize("payload", PAYLOADS.values(), ids=PAYLOADS)
def test_a_typist_s_line_is_read_at_once_during_a_flood(
    flood: Flood, payload: Callable[[], bytes]
) -> None:
    typist = flood.room.join(0, "192.0.2.9")
    flood.run_for(5, payload)
    for number in range(8):
        flood.run_for(1, payload)
        typist.send(b"line %d\n" % number)
        flood.room.settle()
        flood.note()
        assert flood.appended["192.0.2.9"] >= (number + 1) * 18, "the line is read in this turn"


def test_a_room_without_a_rate_counts_no_reads(make_room: MakeRoom) -> None:
    """The room's memory does not grow with the number of messages."""
    room = make_room(room_rate=0, rate=0)
    alice, bob = room.join(), room.join()

    def talk(lines: int) -> int:
        for _ in range(lines):
            alice.send(b"hello\n")
            room.run()
            bob.receive()
        return sys.getallocatedblocks()

    before = talk(100)
    assert talk(1000) < before + 500
