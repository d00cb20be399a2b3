"""Tests of a worker's turns, with all parts of one worker, and with several workers."""

import os
import socket

import pytest

from chatroom.protocol.leave_reason import LeaveReason
from chatroom.system.channel import ChannelClosed
from tests.log.entries import Run, append
from tests.worker.drivers import SMALL, WELCOME, MakeRoom, NonWaitingEpoll, Room, fill

# --- messages ------------------------------------------------------------------------------------


def test_cast_1_and_2_a_line_reaches_every_other_member_once(make_room: MakeRoom) -> None:
    """CAST-1, CAST-2: the number of workers does not matter."""
    room = make_room(workers=2)
    alice, bob, carol, dave = (room.join(worker) for worker in (0, 0, 1, 1))
    alice.send(b"hello\n")
    room.settle()
    for other in (bob, carol, dave):
        assert other.receive() == b"<192.0.2.1>hello\n"
    assert alice.receive() == b""


def test_cast_5_all_members_receive_one_order(make_room: MakeRoom) -> None:
    room = make_room(workers=2)
    alice, bob, carol = room.join(0), room.join(1), room.join(1)
    for number in range(20):
        for client in (bob, alice):
            client.send(b"%d\n" % number)
    room.settle()
    order = carol.receive()
    assert order.count(b"\n") == 40
    for client in (alice, bob):
        lines = order.splitlines(keepends=True)
        assert client.receive() == b"".join(
            line for line in lines if not line.startswith(client.prefix)
        )


def test_cast_6_two_members_at_one_address_receive_each_other_s_lines(room: Room) -> None:
    member, other = (room.join(address="192.0.2.1") for _ in range(2))
    member.send(b"hello\n")
    room.run()
    assert other.receive() == b"<192.0.2.1>hello\n"
    assert member.receive() == b""


def test_cast_7_a_message_of_a_member_alone_reaches_nobody(room: Room) -> None:
    alone = room.join()
    alone.send(b"is anyone there?\n")
    assert room.run() is None
    assert alone.receive() == b""
    assert room.records() == []


def test_cast_3_a_paste_of_a_megabyte_arrives_whole(make_room: MakeRoom) -> None:
    """CAST-3, CAST-4, LINE-3: the paste is larger than the socket's buffers."""
    room = make_room(workers=2, rate=0, room_rate=0)
    alice, bob = room.join(0), room.join(1)
    lines = [b"%05d %s\n" % (number, b"x" * 44) for number in range(20_000)]
    left, received = memoryview(b"".join(lines)), b""
    while left or received.count(b"\n") < len(lines):
        sent = alice.send_what_fits(left)
        left = left[sent:]
        room.settle()
        more = bob.receive()
        assert sent or more, "the transfer makes no progress"
        received += more
    assert received == b"".join(alice.prefix + line for line in lines)


def test_line_5_a_worker_wakes_up_when_a_silence_ends(room: Room) -> None:
    alice, bob = room.join(), room.join()
    alice.send(b"hel")
    assert room.run() == pytest.approx(room.settings.flush_after)
    room.clock.now += room.settings.flush_after
    assert room.run() is None
    assert bob.receive() == b"<192.0.2.1>hel"


def test_line_6_the_next_message_begins_a_line(make_room: MakeRoom) -> None:
    room = make_room(workers=2)
    alice, bob, carol = room.join(0), room.join(1), room.join(1)
    alice.send(b"hel")
    room.settle()
    room.clock.now += 1
    room.settle()
    late = room.join(1)
    bob.send(b"hi\n")
    room.settle()
    assert carol.receive() == b"<192.0.2.1>hel\n<192.0.2.2>hi\n"
    assert alice.receive() == b"<192.0.2.2>hi\n", "the LF is part of the sender's own message"
    assert bob.receive() == b"<192.0.2.1>hel\n"
    assert late.receive() == b"<192.0.2.2>hi\n"


def test_messages_are_counted_without_any_other_member(make_room: MakeRoom) -> None:
    """These messages count as messages, but not as deliveries."""
    room = make_room()
    for number in range(1, 4):
        guest = room.join()
        guest.send(b"hi")
        guest.close()
        room.settle()
        assert room.log.work(0).appended == number
    assert room.log.work(0).due == 0


# --- the channel ---------------------------------------------------------------------------------


def test_records_for_a_full_channel_are_sent_later(room: Room) -> None:
    clients = [room.join() for _ in range(3)]
    worker = room.theirs[0]
    fill(worker.socket)
    for client in clients:
        client.close()
        room.run()
    assert room.left() == []
    departures: list[tuple[int, str]] = []
    while len(departures) < 3:
        room.run()
        departures += room.left()
    assert [id for id, _ in departures] == [1, 2, 3]
    assert room.run() is None
    assert worker.backlog == 0


def test_records_for_a_narrow_channel_are_sent_in_order(room: Room) -> None:
    clients = [room.join() for _ in range(20)]
    room.theirs[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    for client in clients:
        client.close()
        room.run()
    assert room.theirs[0].backlog > 10
    departures: list[tuple[int, str]] = []
    while len(departures) < len(clients):
        room.run()
        departures += room.left()
    assert departures == [(client.id, LeaveReason.CLOSED) for client in clients]
    assert room.run() is None


# --- doorbells -----------------------------------------------------------------------------------


def test_only_workers_with_members_are_woken(make_room: MakeRoom) -> None:
    room = make_room(workers=3)
    alice, bob = room.join(0), room.join(1)
    alice.send(b"hello\n")
    room.run(0)
    assert room.rung() == [1, "console"]
    room.run(1)
    assert bob.receive() == b"<192.0.2.1>hello\n"
    assert room.rung() == []


def test_a_silent_member_does_not_wake_a_worker(make_room: MakeRoom) -> None:
    room = make_room(workers=2)
    room.join(0)
    room.join(1)
    assert room.rung() == []


# --- a full log ----------------------------------------------------------------------------------


class FullRoom:
    """Two workers and a full log, because the second worker has delivered nothing."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.alice, self.carol = room.join(0), room.join(0)
        self.bob = room.join(1)
        self.alice.shrink_send_buffer()
        self.sent = 0
        while (more := self.alice.send_what_fits(b"x" * 50 + b"\n")) == 51:
            self.sent += more
            self.room.run(0)
        self.sent += more

    def rest(self) -> bytes:
        """Return the rest of the line that was sent only in part."""
        return (b"x" * 50 + b"\n")[self.sent % 51 :] if self.sent % 51 else b""


@pytest.fixture(name="full")
def fixture_full(make_room: MakeRoom) -> FullRoom:
    return FullRoom(make_room(workers=2, **SMALL))


def test_a_worker_that_cannot_append_does_not_read(full: FullRoom) -> None:
    head = full.room.head()
    assert full.alice.send_what_fits(b"x") == 0, "no more input fits into the connection"
    assert full.room.run(0) is None, "the worker waits without a timeout"
    assert full.room.head() == head


def test_a_worker_appends_again_after_the_slowest_has_delivered(
    full: FullRoom,
) -> None:
    full.room.settle()
    full.alice.send(full.rest())
    full.room.settle()
    lines = full.sent // 51 + bool(full.rest())
    expected = (full.alice.prefix + b"x" * 50 + b"\n") * lines
    assert full.bob.receive() == expected
    assert full.carol.receive() == expected, "each message once"


def assert_two_wait(room: Room) -> None:
    """Check that the first two workers do not wake each other forever."""
    for _ in range(3):
        room.run(0)
        room.run(1)
    before = NonWaitingEpoll.polls_with_events
    room.run(0)
    room.run(1)
    assert NonWaitingEpoll.polls_with_events == before


def test_workers_that_wait_for_the_slowest_do_not_wake_each_other(make_room: MakeRoom) -> None:
    room = make_room(workers=3, **SMALL)
    alice = room.join(0)
    room.join(1)
    room.join(2)  # the third worker does not run
    fill_log(room, less=10)
    room.run(0)
    alice.send(b"hello\n")
    assert_two_wait(room)


def test_workers_that_cannot_append_do_not_wake_each_other(make_room: MakeRoom) -> None:
    room = make_room(workers=3, **SMALL)
    alice, bob = room.join(0), room.join(1)
    carol = room.join(2)  # the third worker does not run
    fill_log(room, less=10)
    room.run(0)
    room.run(1)
    alice.send(b"hello\n")
    bob.send(b"hi\n")
    assert_two_wait(room)
    room.settle()
    assert carol.receive().endswith((b"hello\n<192.0.2.2>hi\n", b"hi\n<192.0.2.1>hello\n"))


def test_leave_2_a_leave_is_reported_after_the_last_input_is_appended(full: FullRoom) -> None:
    full.alice.close()
    full.carol.close()
    full.room.run(0)
    assert full.room.left(0) == []
    full.room.settle()
    assert sorted(full.room.left(0)) == [(1, LeaveReason.CLOSED), (2, LeaveReason.RESET)]
    assert full.bob.receive().count(b"x") == full.sent - full.sent // 51


def test_a_worker_without_members_is_not_waited_for(full: FullRoom) -> None:
    full.bob.close()
    full.room.settle()
    assert full.alice.send_what_fits(b"x" * 1000) == 1000
    full.room.settle()
    with full.room.log:
        assert full.room.log.serving() == [0]


def fill_log(room: Room, less: int = 0) -> None:
    """Fill the log but for `less` bytes, as another worker would, and ring the first worker's
    doorbell."""
    assert append(room.log, Run(99, b"x" * (room.settings.window - less - 1) + b"\n")) is not None
    room.doorbells[0].ring()


def test_a_worker_that_cannot_append_rings_the_slowest(make_room: MakeRoom) -> None:
    room = make_room(workers=2, **SMALL)
    alice, bob = room.join(0), room.join(1)
    fill_log(room)
    room.run(0)
    assert room.rung() == []
    alice.send(b"hello\n")
    room.run(0)
    assert room.rung() == [1]
    room.run(1)
    assert room.rung() == [0], "worker 1 has freed space"
    room.settle()
    assert bob.receive().endswith(b"<192.0.2.1>hello\n")


def test_a_worker_that_cannot_append_still_delivers_and_adopts(make_room: MakeRoom) -> None:
    room = make_room(workers=2, **SMALL)
    alice, carol = room.join(0), room.join(0)
    room.join(1)
    fill_log(room, less=10)
    room.run(0)
    alice.send(b"hello\n")
    room.run(0)
    carol.receive()
    newcomer = room.adopt(0)
    room.run(0)
    assert append(room.log, Run(99, b"<b>short\n")) is not None
    room.doorbells[0].ring()
    room.run(0)
    assert newcomer.receive() == WELCOME + b"<b>short\n"
    assert carol.receive() == b"<b>short\n"


def test_a_worker_does_not_wait_for_itself(make_room: MakeRoom) -> None:
    """The worker has not delivered yet. The other worker has filled the log, but has no members."""
    room = make_room(workers=2, **SMALL)
    alice, carol = room.join(0), room.join(0)
    fill_log(room)
    alice.send(b"hello\n")
    room.settle()
    assert carol.receive().endswith(b"<192.0.2.1>hello\n")


def test_a_worker_that_cannot_append_is_not_drained(full: FullRoom) -> None:
    full.room.tell({"drain": True}, 0)
    assert full.room.run(0) is None
    assert full.room.records(0) == []
    full.room.settle()
    assert full.room.records(0) == [{"drained": True}]


# --- the end -------------------------------------------------------------------------------------


def test_a_worker_ends_with_the_main_process(room: Room) -> None:
    room.join()
    room.channels[0].close()
    with pytest.raises(ChannelClosed):
        room.run()


def test_a_worker_ends_when_its_sentinel_is_closed(room: Room) -> None:
    reader, writer = os.pipe()
    room.workers[0].watch(reader)
    room.join()
    os.close(writer)
    with pytest.raises(ChannelClosed):
        room.run()
    os.close(reader)
