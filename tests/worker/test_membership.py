"""Tests of members that a worker adopts, and of members that leave."""

import gc
import os
import socket

import pytest

from chatroom.protocol.leave_reason import LeaveReason
from chatroom.worker import membership
from tests.worker.drivers import SMALL, WELCOME, MakeRoom, Room, fill

# --- adopt ---------------------------------------------------------------------------------------


def test_welcome_1_and_2_only_a_newcomer_receives_the_welcome(room: Room) -> None:
    """WELCOME-1, WELCOME-2: the welcome reaches the newcomer once, and no other member."""
    alice = room.join()
    bob = room.adopt()
    room.run()
    assert bob.receive() == WELCOME
    assert alice.receive() == b""


def test_welcome_3_a_welcomed_member_receives_all_later_messages(room: Room) -> None:
    alice = room.join()
    alice.send(b"before\n")
    room.run()
    bob = room.join()
    alice.send(b"after\n")
    room.run()
    assert bob.receive() == b"<192.0.2.1>after\n"


def test_a_newcomer_receives_nothing_that_others_had_already_received(make_room: MakeRoom) -> None:
    """Members of another worker have received these messages. The newcomer's worker delivers them
    later."""
    room = make_room(workers=2)
    alice, witness, late = room.join(0), room.join(0), room.join(1)
    alice.send(b"before\n")
    room.run(0)
    assert witness.receive() == b"<192.0.2.1>before\n"
    newcomer = room.adopt(1)
    room.run(1)
    assert late.receive() == b"<192.0.2.1>before\n"
    assert newcomer.receive() == WELCOME


def test_leave_2_text_of_a_client_that_left_before_its_welcome_arrives(room: Room) -> None:
    alice = room.join()
    gone = room.adopt()
    gone.send(b"good bye")
    gone.close()
    room.run()
    assert alice.receive() == b"<192.0.2.2>good bye"
    assert room.left() == [(gone.id, LeaveReason.CLOSED)]


def test_a_client_that_takes_only_a_part_of_the_welcome_is_reset(make_room: MakeRoom) -> None:
    room = make_room(welcome="x" * 1000)
    newcomer = room.adopt()
    ((record, (fd,)),) = room.theirs[0].receive()
    with socket.socket(fileno=fd) as connection:
        fill(connection)
        room.channels[0].send(record, [connection.fileno()])
    room.run()
    assert room.left() == [(newcomer.id, LeaveReason.RESET)]


# --- leave ---------------------------------------------------------------------------------------


def test_leave_2_and_4_a_half_close_delivers_all_input_and_is_answered(room: Room) -> None:
    """LEAVE-2, LEAVE-4: the input before the half-close is delivered, and then the worker closes
    its side."""
    alice, bob = room.join(), room.join()
    alice.send(b"bye\nfor now\xc3")
    alice.finish()
    room.run()
    assert bob.receive() == "<192.0.2.1>bye\n<192.0.2.1>for now�".encode()
    assert room.left() == [(alice.id, LeaveReason.CLOSED)]
    assert alice.has_ended()
    assert not bob.has_ended()


def test_leave_1_a_reset_member_has_left_and_others_continue(room: Room) -> None:
    alice, bob, carol = room.join(), room.join(), room.join()
    bob.send(b"unread\n")
    room.run()
    alice.close()  # The client has unread data, so this close is a reset.
    bob.send(b"still here\n")
    room.run()
    assert room.left() == [(alice.id, LeaveReason.RESET)]
    assert carol.receive() == b"<192.0.2.2>unread\n<192.0.2.2>still here\n"


def test_leave_2_a_flood_is_delivered_after_its_sender_has_left(
    make_room: MakeRoom,
) -> None:
    """The sender's own messages do not count as its lag."""
    room = make_room(workers=2, **SMALL)
    alice, bob, carol = room.join(0), room.join(0), room.join(1)
    alice.send(b"hello\n")
    bob.send(b"y\n" * 2000)
    bob.close()
    room.settle()
    assert carol.receive().count(b"y\n") == 2000
    assert room.left() == [(bob.id, LeaveReason.CLOSED)]


def test_leave_3_a_room_that_all_have_left_is_idle(make_room: MakeRoom) -> None:
    room = make_room(workers=2)
    gc.collect()  # otherwise, descriptors of earlier tests might be closed during this test
    before = len(os.listdir("/dev/fd"))
    clients = [room.join(worker) for worker in (0, 1, 0, 1)]
    clients[0].send(b"hel")
    room.settle()
    for client in clients:
        client.close()
    room.settle()
    assert [room.run(worker) for worker in (0, 1)] == [None, None]
    assert {id for worker in (0, 1) for id, _ in room.left(worker)} == {1, 2, 3, 4}
    with room.log:
        assert room.log.serving() == []
    assert len(os.listdir("/dev/fd")) == before


def test_leave_5_a_client_that_comes_back_is_a_new_member(room: Room) -> None:
    alice, bob = room.join(), room.join()
    bob.close()
    room.run()
    alice.send(b"nobody receives this\n")
    room.run()
    again = room.join(address=bob.address)
    alice.send(b"hello\n")
    room.run()
    assert again.receive() == b"<192.0.2.1>hello\n"


def test_many_leaves_at_once_are_split_into_records_that_fit(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "IDS_PER_RECORD", 30)
    clients = [room.adopt() for _ in range(100)]
    room.run()
    for client in clients:
        client.close()
    room.run()
    assert [len(record["left"]) for record in room.records()] == [30, 30, 30, 10]


# --- slow readers --------------------------------------------------------------------------------


def test_load_1_and_2_a_slow_member_delays_nobody_and_is_disconnected(make_room: MakeRoom) -> None:
    """LOAD-1, LOAD-2: other members receive everything, and the slow member leaves with the
    reason."""
    room = make_room(**SMALL)
    alice, bob, slow = room.join(), room.join(), room.adopt(buffer=1)
    room.run()
    expected = b""
    for number in range(1000):
        line = b"%d %s\n" % (number, b"x" * 50)
        alice.send(line)
        room.run()
        expected += alice.prefix + line
        assert bob.receive() == alice.prefix + line
    assert room.left() == [(slow.id, LeaveReason.LAGGED)]
    received = slow.receive().removeprefix(WELCOME)
    assert expected.startswith(received)
    assert slow.has_ended()


def test_load_1_a_member_that_reads_late_receives_everything(make_room: MakeRoom) -> None:
    room = make_room(**SMALL | {"log_size": 1 << 20, "max_lag": 1 << 19})
    alice, slow = room.join(), room.adopt(buffer=1)
    room.run()
    expected = WELCOME
    for number in range(1000):
        alice.send(b"%d\n" % number)
        slow.send(b"mine\n")
        room.run()
        expected += b"<192.0.2.1>%d\n" % number
    received = b""
    while len(received) < len(expected):
        received += slow.receive(1000)
        room.run()
    assert received == expected
    assert room.left() == []
    assert room.run() is None


def test_leave_1_a_lagging_member_that_is_reset_has_left(make_room: MakeRoom) -> None:
    room = make_room(**SMALL)
    alice, slow = room.join(), room.adopt(buffer=1)
    room.run()
    for _ in range(100):
        alice.send(b"x" * 50 + b"\n")
        room.run()
    slow.close()
    room.run()
    assert room.left() == [(slow.id, LeaveReason.RESET)]
    assert room.run() is None


# --- another protocol ----------------------------------------------------------------------------


def test_a_request_that_a_silence_interrupts_is_recognised_at_its_end(room: Room) -> None:
    """LINE-5: the text before the silence was already delivered, like any text. The rest is never
    delivered."""
    alice, page = room.join(), room.join()
    page.send(b"POST /a")
    room.run()
    room.clock.now += 1
    room.run()
    assert alice.receive() == b"<192.0.2.2>POST /a"
    page.send(b" HTTP/1.1\r\n")
    page.send(b"\r\nspoken by a web page\n")
    room.run()
    assert room.left() == [(page.id, LeaveReason.HTTP)]
    assert page.receive().startswith(b"HTTP/1.1 400 ")
    assert page.has_ended()
    assert alice.receive() == b""


def test_text_before_a_request_makes_it_text(room: Room) -> None:
    alice, bob = room.join(), room.join()
    bob.send(b"GET off my lawn\n")
    room.run()
    bob.send(b"GET / HTTP/1.1\n")
    room.run()
    assert alice.receive() == b"<192.0.2.2>GET off my lawn\n<192.0.2.2>GET / HTTP/1.1\n"
