"""The rate limit of each member's input."""

import random

import pytest

from chatroom.config.limits import MIN_COST
from chatroom.config.sizes import KIB
from chatroom.worker.allowance import Allowance
from tests.integration.waiting import until
from tests.worker.drivers import Line, member_on
from tests.worker.mortal import Guest, House, a_house

RATE, BURST = 1000, 4000


def test_a_rate_of_0_throttles_nobody() -> None:
    allowance = Allowance(0, BURST)
    assert all(allowance.spend(member_on(Line()), 1 << 40, 1000.0) for _ in range(3))
    assert allowance.next_release is None
    assert allowance.release(1e9) == []


def test_load_3_a_burst_is_read_at_once_and_the_excess_is_throttled() -> None:
    allowance, member = Allowance(RATE, BURST), member_on(Line())
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
    """The reads come at any time and are of any size."""
    chance = random.Random(seed)
    allowance, member = Allowance(RATE, BURST), member_on(Line())
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
    assert again == pytest.approx(BURST, abs=100), "an hour's silence earns one burst"


def test_load_3_throttled_members_resume_in_the_order_of_their_times() -> None:
    allowance = Allowance(RATE, BURST)
    members = {id: member_on(Line(), id) for id in (1, 2, 3)}
    for id, size in ((1, 6000), (2, 4500), (3, 6000)):
        assert not allowance.spend(members[id], size, 0.0)
    assert allowance.release(1.0) == [members[2]]
    assert allowance.next_release == pytest.approx(2.0)
    assert allowance.release(2.5) == [members[1], members[3]]


def test_load_3_a_flood_is_throttled_loses_nothing_and_delays_nobody() -> None:
    rate, burst, size = 10_000, 2 * KIB, 60_000
    with a_house(workers=1, rate=rate, burst=burst) as house:
        flooder, victim, witness = house.joined(3)
        began, turns, read = house.clock.now, 0, 0
        while read < size - 50:
            flooder.say((b"z" * 49 + b"\n") * ((size - len(flooder.said)) // 50))
            victim.say(b"still %d\n" % turns)
            house.settle()
            heard = len(witness.heard)
            witness.hear()
            assert b"still %d\n" % turns in witness.heard[heard:], "in this very turn"
            victim.hear()
            house.entries()
            read = max(run.reach for run in house.log.history if run.sender == flooder.id)
            since = house.clock.now - began
            assert read <= rate * since + burst + house.settings.read_size
            # Far more than the rate requires: the kernel delivers some input a turn late.
            assert since < 4 * size / rate, "not slower than the rate allows"
            house.clock.now += 0.1
            turns += 1
        assert since >= (size - burst) / rate - 0.2
        house.finish()
        house.check()


def test_load_3_a_member_that_left_is_forgotten() -> None:
    allowance = Allowance(RATE, BURST)
    gone, other = member_on(Line(), 1), member_on(Line(), 2)
    for member in (gone, other):
        assert not allowance.spend(member, BURST + 500, 0.0)
    allowance.forget(gone)
    assert allowance.release(1.0) == [other]
    allowance.forget(other)


def test_load_3_the_next_worker_counts_used_input_by_its_own_rate() -> None:
    """After SIGHUP with a higher rate, a member does not wait as long as the lower one required."""
    low, member, read = Allowance(RATE, BURST), member_on(Line()), 1500
    assert low.spend(member, BURST, 50.0)
    assert not low.spend(member, read, 50.0)
    for rate in (RATE, 1000 * RATE):
        successor, moved = Allowance(rate, BURST), member_on(Line())
        successor.resume(moved, member.spent_until, 50.0, read)
        assert moved.spent_until == pytest.approx(50.0 + (BURST + read) / rate)
        assert not successor.spend(moved, 1, 50.0)
        assert successor.next_release == pytest.approx(50.0 + (read + 1) / rate)


@pytest.mark.parametrize("why", ["a death", "a move"])
def test_load_3_the_next_worker_gives_no_new_burst(why: str) -> None:
    """A member that has used its burst is throttled by the next worker, too."""
    burst = 16 * KIB
    with a_house(workers=2, rate=1000, burst=burst) as house:
        guests = house.joined(8)
        flooder, *_ = theirs = [guest for guest in guests if worker_of(house, guest) == 0]
        flooder.say((b"z" * 49 + b"\n") * 1200)
        house.settle()
        used = read_of(house, flooder)
        assert burst - MIN_COST < cost_of(used) <= burst + house.settings.max_cost
        if why == "a death":
            house.alive[0].kill()
        else:
            even_the_spread(house, [guest for guest in guests if guest not in theirs])
        house.settle()
        assert worker_of(house, flooder) != 0 or why == "a death"
        most = house.settings.max_cost + 1000  # one read, and what the rate allows in a second
        assert cost_of(read_of(house, flooder)) <= cost_of(used) + most
        house.finish()
        house.check()


def test_load_3_the_rest_of_a_burst_moves_with_a_member() -> None:
    line, burst = b"z" * 49 + b"\n", 128 * KIB
    with a_house(workers=2, rate=1000, burst=burst) as house:
        guests = house.joined(8)
        flooder, *_ = theirs = [guest for guest in guests if worker_of(house, guest) == 0]
        used = 0
        while cost_of(used) < burst - 10_000:
            flooder.say(line * 40)
            used += len(line * 40)
            house.settle()
            for guest in guests:
                guest.hear()  # or it may lag too far: its buffers are as large as the kernel likes
        even_the_spread(house, [guest for guest in guests if guest not in theirs])
        house.settle()
        assert worker_of(house, flooder) != 0
        assert read_of(house, flooder) == used
        flooder.say(line * 1600)
        house.settle()
        most = house.settings.max_cost + 1000  # one read, and what the rate allows in a second
        assert burst - 1000 < cost_of(read_of(house, flooder)) <= burst + most
        house.finish()
        house.check()


def cost_of(size: int) -> int:
    """Return the cost of `size` bytes of lines of 50 bytes."""
    return size // 50 * MIN_COST


def even_the_spread(house: House, others: list[Guest]) -> None:
    """Let all guests of one worker leave, so that the other yields some of its members."""
    for guest in others:
        guest.finish()

    def gone() -> bool:
        house.settle()
        return all(guest.id in house.left for guest in others)

    until(gone, "the kernel has told their workers, and these the main process")
    house.clock.now += 1  # the main process evens the spread once a second


def worker_of(house: House, guest: Guest) -> int:
    return house.members.by_id[guest.id].worker


def read_of(house: House, guest: Guest) -> int:
    """Return the number of bytes of a guest's input that the log covers."""
    house.entries()
    return max(run.reach for run in house.log.history if run.sender == guest.id)
