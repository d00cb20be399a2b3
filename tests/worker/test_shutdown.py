"""Tests of the end of a worker's service, when the room stops."""

import contextlib

import pytest

from chatroom.worker.shutdown import LINGER_WITHIN, SILENCE, STOP_WITHIN
from tests.worker.drivers import SMALL, WELCOME, Client, MakeRoom, Room, WorkerEnded


def test_drain_appends_all_input_that_was_read_and_reads_no_more(room: Room) -> None:
    alice, bob = room.join(), room.join()
    alice.send(b"before\n")
    room.run()
    room.tell({"drain": True})
    assert room.run() is None
    assert room.records() == [{"drained": True}]
    alice.send(b"after\n")
    assert room.run() is None
    room.doorbells[0].ring()
    assert room.run() is None
    assert bob.receive() == b"<192.0.2.1>before\n"
    assert room.records() == [], "the worker reports the end of the drain once"


def test_drain_also_appends_unfinished_text(make_room: MakeRoom) -> None:
    """All unfinished texts are appended, in several batches."""
    room = make_room(**SMALL)
    members = [room.join() for _ in range(3 * room.settings.batch_entries)]
    for member in members:
        member.send(b"unfinished")
        room.run()
    room.tell({"drain": True})
    assert room.run() is None
    assert room.records() == [{"drained": True}]
    assert members[0].receive().count(b"unfinished") == len(members) - 1


def test_a_drained_worker_still_delivers(make_room: MakeRoom) -> None:
    room = make_room(workers=2)
    alice, bob = room.join(0), room.join(1)
    room.tell({"drain": True}, 1)
    room.settle()
    alice.send(b"hello\n")
    room.settle()
    assert bob.receive() == b"<192.0.2.1>hello\n"


def test_stop_ends_every_connection(room: Room) -> None:
    alice, bob = room.join(), room.join()
    alice.send(b"unread\n")
    room.tell({"drain": True})
    room.tell({"stop": True})
    assert room.run() == SILENCE
    with pytest.raises(WorkerEnded):
        room.run()
    for client in (alice, bob):
        assert client.receive() == b""
        assert client.has_ended()


def test_stop_reads_from_members_only_for_a_limited_time(make_room: MakeRoom) -> None:
    room = make_room(**SMALL)
    flooder, quitter = room.join(), room.join()
    room.tell({"drain": True})
    room.tell({"stop": True})
    assert flooder.send_what_fits(b"x" * 100_000) == 100_000
    quitter.finish()
    now, room.clock.ticks = room.clock.now, LINGER_WITHIN / 2
    with pytest.raises(WorkerEnded):
        room.run()
    assert room.clock.now - now < STOP_WITHIN
    assert flooder.has_ended()
    assert quitter.has_ended()


def stopped_with_a_slow_member(make_room: MakeRoom) -> tuple[Room, Client, Client]:
    """Return a room that must stop, a member that is caught up, and a member that is behind."""
    room = make_room()
    alice, slow = room.join(), room.adopt(buffer=1)
    room.run()
    for _ in range(1000):
        alice.send(b"x" * 50 + b"\n")
        room.run()
    room.tell({"drain": True})
    room.tell({"stop": True})
    return room, alice, slow


def test_stop_waits_for_lagging_members(make_room: MakeRoom) -> None:
    room, alice, slow = stopped_with_a_slow_member(make_room)
    assert room.run() == pytest.approx(STOP_WITHIN)
    room.clock.now += STOP_WITHIN / 3
    received = slow.receive(1000)
    assert room.run() == pytest.approx(STOP_WITHIN * 2 / 3)
    with contextlib.suppress(WorkerEnded):
        while room.run():
            received += slow.receive(1000)
    received += slow.receive()
    assert slow.has_ended()
    assert received == WELCOME + (alice.prefix + b"x" * 50 + b"\n") * 1000


def test_stop_waits_only_for_a_limited_time(make_room: MakeRoom) -> None:
    room, alice, slow = stopped_with_a_slow_member(make_room)
    room.run()
    room.clock.now += STOP_WITHIN
    with pytest.raises(WorkerEnded):
        room.run()
    assert alice.has_ended()
    slow.receive()
    assert slow.has_ended()
