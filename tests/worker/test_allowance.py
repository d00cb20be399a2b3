"""Tests of the rate limit for the input of each member."""

import random

import pytest

from chatroom.config.limits import MIN_COST
from chatroom.config.sizes import KIB
from chatroom.worker.allowance import Allowance
from tests.integration.waiting import until
from tests.worker.drivers import FakeConnection, member_on
from tests.worker.killable import KillableRoom, RoomClient, killable_room

RATE, BURST = 1000, 4000


def test_a_rate_of_0_throttles_nobody() -> None:
    allowance = Allowance(0, BURST)
    assert all(allowance.spend(member_on(FakeConnection()), 1 << 40, 1000.0) for _ in range(3))
    assert allowance.next_release is None
    assert allowance.release(1e9) == []


def test_load_3_a_burst_is_read_at_once_and_the_excess_is_throttled() -> None:
    allowance, member = Allowance(RATE, BURST), member_on(FakeConnection())
    for _ in range(4):
        assert allowance.spend(member, 1000, 50.0)
    assert allowance.next_release is None
    assert not allowance.spend(member, 500, 50.0)
    assert allowance.next_release == pytest.approx(50.5)
    assert allowance.release(50.49) == []
    assert allowance.release(50.51) == [member]
    assert allowance.next_release is None


@pytest.mark.parametrize("seed", range(5))
def test_load_3_the_long_term_rate_is_exact_and_silence_earns_one_burst(seed: int) -> None:
    """Reads occur at random times and have random sizes."""
    chance = random.Random(seed)
    allowance, member = Allowance(RATE, BURST), member_on(FakeConnection())
    now, read, most = 1000.0, 0, 1500
    for _ in range(1000):
        size = chance.randint(1, most)
        read += size
        if not allowance.spend(member, size, now):
            assert allowance.next_release is not None
            assert allowance.next_release > now
            now = allowance.next_release
            assert allowance.release(now) == [member]
    assert read / RATE - (now - 1000.0) == pytest.approx(BURST / RATE, abs=most / RATE)
    now += 3600
    again = 0
    while allowance.spend(member, 100, now):
        again += 100
    assert again == pytest.approx(BURST, abs=100), "one hour of silence gives one burst"


def test_load_3_throttled_members_resume_in_the_order_of_their_times() -> None:
    allowance = Allowance(RATE, BURST)
    members = {id: member_on(FakeConnection(), id) for id in (1, 2, 3)}
    for id, size in ((1, 6000), (2, 4500), (3, 6000)):
        assert not allowance.spend(members[id], size, 0.0)
    assert allowance.release(1.0) == [members[2]]
    assert allowance.next_release == pytest.approx(2.0)
    assert allowance.release(2.5) == [members[1], members[3]]


def test_load_3_a_flood_is_throttled_loses_nothing_and_delays_nobody() -> None:
    rate, burst, size = 10_000, 2 * KIB, 60_000
    with killable_room(workers=1, rate=rate, burst=burst) as room:
        flooder, victim, witness = room.join_many(3)
        began, turns, read = room.clock.now, 0, 0
        while read < size - 50:
            flooder.send((b"z" * 49 + b"\n") * ((size - len(flooder.sent)) // 50))
            victim.send(b"still %d\n" % turns)
            room.settle()
            received = len(witness.received)
            witness.receive()
            assert b"still %d\n" % turns in witness.received[received:], "read in this turn"
            victim.receive()
            room.entries()
            read = max(run.reach for run in room.log.history if run.sender == flooder.id)
            since = room.clock.now - began
            assert read <= rate * since + burst + room.settings.read_size
            # The limit is four times as long as the rate requires, because the kernel delivers some
            # input a turn late.
            assert since < 4 * size / rate, "not slower than the rate allows"
            room.clock.now += 0.1
            turns += 1
        assert since >= (size - burst) / rate - 0.2
        room.finish()
        room.check()


def test_load_3_a_member_that_left_is_forgotten() -> None:
    allowance = Allowance(RATE, BURST)
    gone, other = member_on(FakeConnection(), 1), member_on(FakeConnection(), 2)
    for member in (gone, other):
        assert not allowance.spend(member, BURST + 500, 0.0)
    allowance.forget(gone)
    assert allowance.release(1.0) == [other]
    allowance.forget(other)


def test_load_3_the_next_worker_counts_used_input_by_its_own_rate() -> None:
    """After SIGHUP with a higher rate, a member waits only as long as the new rate requires."""
    low, member, read = Allowance(RATE, BURST), member_on(FakeConnection()), 1500
    assert low.spend(member, BURST, 50.0)
    assert not low.spend(member, read, 50.0)
    for rate in (RATE, 1000 * RATE):
        successor, moved = Allowance(rate, BURST), member_on(FakeConnection())
        successor.resume(moved, member.spent_until, 50.0, read)
        assert moved.spent_until == pytest.approx(50.0 + (BURST + read) / rate)
        assert not successor.spend(moved, 1, 50.0)
        assert successor.next_release == pytest.approx(50.0 + (read + 1) / rate)


@pytest.mark.parametrize("why", ["a death", "a move"])
def test_load_3_the_next_worker_gives_no_new_burst(why: str) -> None:
    """A member that has used its burst is also throttled by the next worker."""
    burst = 16 * KIB
    with killable_room(workers=2, rate=1000, burst=burst) as room:
        clients = room.join_many(8)
        flooder, *_ = theirs = [client for client in clients if worker_of(room, client) == 0]
        flooder.send((b"z" * 49 + b"\n") * 1200)
        room.settle()
        used = read_of(room, flooder)
        assert burst - MIN_COST < cost_of(used) <= burst + room.settings.max_cost
        if why == "a death":
            room.alive[0].kill()
        else:
            even_the_spread(room, [client for client in clients if client not in theirs])
        room.settle()
        assert worker_of(room, flooder) != 0 or why == "a death"
        most = room.settings.max_cost + 1000  # one read, and the rate for a second
        assert cost_of(read_of(room, flooder)) <= cost_of(used) + most
        room.finish()
        room.check()


def test_load_3_the_rest_of_a_burst_moves_with_a_member() -> None:
    line, burst = b"z" * 49 + b"\n", 128 * KIB
    with killable_room(workers=2, rate=1000, burst=burst) as room:
        clients = room.join_many(8)
        flooder, *_ = theirs = [client for client in clients if worker_of(room, client) == 0]
        used = 0
        while cost_of(used) < burst - 10_000:
            flooder.send(line * 40)
            used += len(line * 40)
            room.settle()
            for client in clients:
                client.receive()  # otherwise the client could lag too much
        even_the_spread(room, [client for client in clients if client not in theirs])
        room.settle()
        assert worker_of(room, flooder) != 0
        assert read_of(room, flooder) == used
        flooder.send(line * 1600)
        room.settle()
        most = room.settings.max_cost + 1000  # one read, and the rate for a second
        assert burst - 1000 < cost_of(read_of(room, flooder)) <= burst + most
        room.finish()
        room.check()


def cost_of(size: int) -> int:
    """Return the cost of `size` bytes in lines of 50 bytes."""
    return size // 50 * MIN_COST


def even_the_spread(room: KillableRoom, others: list[RoomClient]) -> None:
    """Let all clients of one worker leave. Then the other worker yields some of its members."""
    for client in others:
        client.finish()

    def gone() -> bool:
        room.settle()
        return all(client.id in room.left for client in others)

    until(gone, "the workers have reported these leaves")
    room.clock.now += 1  # The main process balances the members once per second.


def worker_of(room: KillableRoom, client: RoomClient) -> int:
    return room.members.by_id[client.id].worker


def read_of(room: KillableRoom, client: RoomClient) -> int:
    """Return the number of bytes of a client's input that are covered by the log."""
    room.entries()
    return max(run.reach for run in room.log.history if run.sender == client.id)
