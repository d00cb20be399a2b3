"""Tests of the times for which a worker polls: before it delivers, and before it sleeps.

Each call of the clock advances it by TICK seconds, so polling comes to an end. Clients send at
scheduled times.
"""

import pytest

from chatroom.worker.loop import GATHER, GATHER_AFTER, POLL_BEFORE_SLEEP
from tests.worker.drivers import Client, MakeRoom, Room

TICK = 1e-6


@pytest.fixture(name="members")
def fixture_members(make_room: MakeRoom) -> tuple[Room, list[Client]]:
    """A room of three members who have just sent at the same time, twice, in this order."""
    room = make_room()
    members = [room.join() for _ in range(3)]
    room.workers[0].has_spare_processor = True
    room.clock.ticks = TICK
    for _ in range(2):
        for member in members:
            member.send(b"hello\n")
        room.run()
    for member in members:
        member.receive()
    return room, members


def test_messages_that_follow_each_other_are_delivered_together(
    members: tuple[Room, list[Client]],
) -> None:
    room, (alice, bob, carol) = members
    turns = room.log.turns(0)
    room.clock.schedule(GATHER, lambda: bob.send(b"two\n"))
    room.clock.schedule(2 * GATHER, lambda: carol.send(b"three\n"))
    alice.send(b"one\n")
    room.run()
    assert room.log.turns(0) == turns + 1
    assert alice.receive() == b"<192.0.2.2>two\n<192.0.2.3>three\n"
    assert bob.receive() == b"<192.0.2.1>one\n<192.0.2.3>three\n"
    assert carol.receive() == b"<192.0.2.1>one\n<192.0.2.2>two\n"


def test_a_worker_does_not_wait_once_each_member_of_the_round_has_sent(
    members: tuple[Room, list[Client]],
) -> None:
    room, (alice, bob, carol) = members
    received = b""

    def look() -> None:
        nonlocal received
        received = alice.receive()

    room.clock.schedule(10 * TICK, lambda: bob.send(b"two\n"))
    room.clock.schedule(20 * TICK, lambda: carol.send(b"three\n"))
    room.clock.schedule(30 * TICK, look)
    alice.send(b"one\n")
    room.run()
    assert received == b"<192.0.2.2>two\n<192.0.2.3>three\n"


def test_a_message_waits_for_a_bounded_time(members: tuple[Room, list[Client]]) -> None:
    """A member of the last round sends nothing more."""
    room, (alice, bob, carol) = members
    received: list[bytes] = []
    room.clock.schedule(10 * TICK, lambda: bob.send(b"two\n"))
    for seconds in (3 * GATHER - 10 * TICK, 3 * GATHER + 20 * TICK):
        room.clock.schedule(seconds, lambda: received.append(carol.receive()))
    alice.send(b"one\n")
    room.run()
    assert received == [b"", b"<192.0.2.1>one\n<192.0.2.2>two\n"]


@pytest.mark.parametrize("before", ["one member has sent", "nothing happened for some time"])
def test_a_message_does_not_wait(before: str, members: tuple[Room, list[Client]]) -> None:
    room, (alice, bob, _) = members
    received = b""

    def look() -> None:
        nonlocal received
        received = alice.receive()

    if before == "one member has sent":
        alice.send(b"one\n")
        room.run()
    else:
        room.clock.now += GATHER_AFTER
    room.clock.schedule(20 * TICK, look)
    bob.send(b"two\n")
    room.run()
    assert received == b"<192.0.2.2>two\n"


def test_a_message_does_not_wait_if_other_workers_serve_members(make_room: MakeRoom) -> None:
    """Polling would take the processor that another worker needs."""
    room = make_room(workers=2)
    alice, bob, _ = room.join(0), room.join(0), room.join(1)
    room.workers[0].has_spare_processor = True
    room.clock.ticks = TICK
    for _ in range(2):
        for member in (alice, bob):
            member.send(b"hello\n")
        room.run(0)
        room.run(1)
    begin = room.clock.now
    alice.send(b"one\n")
    room.run(0)
    assert room.clock.now - begin < GATHER
    assert bob.receive().endswith(b"<192.0.2.1>one\n")


@pytest.mark.parametrize("spare", [False, True])
def test_a_worker_polls_before_it_sleeps(members: tuple[Room, list[Client]], spare: bool) -> None:
    """The worker's last wait was short. Without a spare processor, polling would only delay the
    processes that the worker waits for."""
    room, (alice, bob, _) = members
    room.workers[0].has_spare_processor = spare
    room.clock.schedule(POLL_BEFORE_SLEEP / 2, lambda: bob.send(b"two\n"))
    alice.send(b"one\n")
    room.run()
    assert (alice.receive() == b"<192.0.2.2>two\n") == spare


def test_a_worker_sleeps_after_a_long_wait(members: tuple[Room, list[Client]]) -> None:
    room, (alice, bob, _) = members
    later = (3 * GATHER + POLL_BEFORE_SLEEP) / 2  # too late to gather, but not for a poll

    def wake_up() -> None:
        room.clock.ticks = TICK
        room.clock.schedule(later, lambda: bob.send(b"two\n"))

    room.clock.ticks = 2 * POLL_BEFORE_SLEEP  # the wait for the next message takes this time
    room.clock.schedule(2 * room.clock.ticks, wake_up)
    alice.send(b"one\n")
    room.run()
    assert bob.receive() == b"<192.0.2.1>one\n"
    assert alice.receive() == b""
