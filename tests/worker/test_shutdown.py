"""The end of a worker's service, when the room stops."""

import contextlib

import pytest

from chatroom.worker.shutdown import LINGER_WITHIN, SILENCE, STOP_WITHIN
from tests.worker.drivers import SMALL, WELCOME, Client, Ended, MakeRoom, Room


def test_drain_appends_all_input_read_and_stops_reading(room: Room) -> None:
    alice, bob = room.join(), room.join()
    alice.say(b"before\n")
    room.run()
    room.tell({"drain": True})
    assert room.run() is None
    assert room.told() == [{"drained": True}]
    alice.say(b"after\n")
    assert room.run() is None
    room.doorbells[0].ring()
    assert room.run() is None
    assert bob.hear() == b"<192.0.2.1>before\n"
    assert room.told() == [], "it is told once"


def test_drain_appends_unfinished_text_too(make_room: MakeRoom) -> None:
    """All of it is appended, batch by batch."""
    room = make_room(**SMALL)
    members = [room.join() for _ in range(3 * room.settings.batch_entries)]
    for member in members:
        member.say(b"unfinished")
        room.run()
    room.tell({"drain": True})
    assert room.run() is None
    assert room.told() == [{"drained": True}]
    assert members[0].hear().count(b"unfinished") == len(members) - 1


def test_a_drained_worker_still_delivers(make_room: MakeRoom) -> None:
    room = make_room(workers=2)
    alice, bob = room.join(0), room.join(1)
    room.tell({"drain": True}, 1)
    room.settle()
    alice.say(b"hello\n")
    room.settle()
    assert bob.hear() == b"<192.0.2.1>hello\n"


def test_stop_ends_every_connection(room: Room) -> None:
    alice, bob = room.join(), room.join()
    alice.say(b"unread\n")
    room.tell({"drain": True})
    room.tell({"stop": True})
    assert room.run() == SILENCE
    with pytest.raises(Ended):
        room.run()
    for client in (alice, bob):
        assert client.hear() == b""
        assert client.has_ended()


def test_stop_reads_from_members_only_for_a_limited_time(make_room: MakeRoom) -> None:
    room = make_room(**SMALL)
    flooder, quitter = room.join(), room.join()
    room.tell({"drain": True})
    room.tell({"stop": True})
    assert flooder.say_what_fits(b"x" * 100_000) == 100_000
    quitter.finish()
    now, room.clock.ticks = room.clock.now, LINGER_WITHIN / 2
    with pytest.raises(Ended):
        room.run()
    assert room.clock.now - now < STOP_WITHIN
    assert flooder.has_ended()
    assert quitter.has_ended()


def stopped_with_a_slow_member(make_room: MakeRoom) -> tuple[Room, Client, Client]:
    """Return a room that was told to stop, a member that is level, and one that is behind."""
    room = make_room()
    alice, slow = room.join(), room.adopt(buffer=1)
    room.run()
    for _ in range(1000):
        alice.say(b"x" * 50 + b"\n")
        room.run()
    room.tell({"drain": True})
    room.tell({"stop": True})
    return room, alice, slow


def test_stop_waits_for_lagging_members(make_room: MakeRoom) -> None:
    room, alice, slow = stopped_with_a_slow_member(make_room)
    assert room.run() == pytest.approx(STOP_WITHIN)
    room.clock.now += STOP_WITHIN / 3
    heard = slow.hear(1000)
    assert room.run() == pytest.approx(STOP_WITHIN * 2 / 3)
    with contextlib.suppress(Ended):
        while room.run():
            heard += slow.hear(1000)
    heard += slow.hear()
    assert slow.has_ended()
    assert heard == WELCOME + (alice.prefix + b"x" * 50 + b"\n") * 1000


def test_stop_waits_only_for_a_limited_time(make_room: MakeRoom) -> None:
    room, alice, slow = stopped_with_a_slow_member(make_room)
    room.run()
    room.clock.now += STOP_WITHIN
    with pytest.raises(Ended):
        room.run()
    assert alice.has_ended()
    slow.hear()
    assert slow.has_ended()
