"""A worker's loop: wait, read, append, deliver, adopt, report."""

import contextlib
import gc
import os
import socket
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import floats, integers, just, lists, one_of, sampled_from, tuples

from chatroom.config.settings import KIB, MIB
from chatroom.log.ring import Batch, Log
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.system.channel import ChannelClosed
from chatroom.worker import membership
from chatroom.worker.shutdown import LINGER_WITHIN, SILENCE, STOP_WITHIN
from tests.log.entries import Run, append, runs
from tests.worker.drivers import EVERYTHING, Client, Ended, Room, Sleepless, fill

WELCOME = b"Welcome to socket practice\n"
SMALL = {"max_line": 64, "max_lag": 8 * KIB, "log_size": 64 * KIB}

MakeRoom = Callable[..., Room]


@pytest.fixture(name="make_room")
def fixture_make_room(monkeypatch: pytest.MonkeyPatch) -> Iterator[MakeRoom]:
    rooms: list[Room] = []

    def make(workers: int = 1, **options: Any) -> Room:
        rooms.append(Room(monkeypatch, workers, **options))
        return rooms[-1]

    yield make
    for room in rooms:
        room.close()


@pytest.fixture(name="room")
def fixture_room(make_room: MakeRoom) -> Room:
    return make_room()


def left(room: Room, worker: int = 0) -> list[tuple[int, str]]:
    """Who left, as the worker has told the main process, and why."""
    records = room.told(worker)
    return [(id, reason) for record in records for id, reason in record.get("left", [])]


# --- adopt ---------------------------------------------------------------------------------------


def test_welcome_1_and_2_a_newcomer_alone_is_greeted(room: Room) -> None:
    """WELCOME-1, WELCOME-2."""
    alice = room.join()
    bob = room.adopt()
    room.run()
    assert bob.hear() == WELCOME
    assert alice.hear() == b""


def test_welcome_3_who_was_greeted_hears_what_is_said_from_then_on(room: Room) -> None:
    alice = room.join()
    alice.say(b"before\n")
    room.run()
    bob = room.join()
    alice.say(b"after\n")
    room.run()
    assert bob.hear() == b"<192.0.2.1>after\n"


def test_who_joins_hears_nothing_that_anyone_had_heard_before(make_room: MakeRoom) -> None:
    """Even where its worker has not delivered that yet."""
    room = make_room(workers=2)
    alice, witness, late = room.join(0), room.join(0), room.join(1)
    alice.say(b"before\n")
    room.run(0)
    assert witness.hear() == b"<192.0.2.1>before\n"
    newcomer = room.adopt(1)
    room.run(1)
    assert late.hear() == b"<192.0.2.1>before\n"
    assert newcomer.hear() == WELCOME


def test_leave_2_a_newcomer_who_is_gone_before_its_welcome_is_still_heard(room: Room) -> None:
    alice = room.join()
    gone = room.adopt()
    gone.say(b"good bye")
    gone.close()
    room.run()
    assert alice.hear() == b"<192.0.2.2>good bye"
    assert left(room) == [(gone.id, LeaveReason.CLOSED)]


def test_a_welcome_that_is_taken_in_part_is_not_gone_on_with(make_room: MakeRoom) -> None:
    room = make_room(welcome="x" * 1000)
    newcomer = room.adopt()
    ((record, (fd,)),) = room.theirs[0].receive()
    with socket.socket(fileno=fd) as connection:
        fill(connection)
        room.channels[0].send(record, [connection.fileno()])
    room.run()
    assert left(room) == [(newcomer.id, LeaveReason.RESET)]


# --- read, append, deliver -----------------------------------------------------------------------


def test_cast_1_and_2_a_line_reaches_everyone_else_once(make_room: MakeRoom) -> None:
    """CAST-1, CAST-2: whichever worker serves them."""
    room = make_room(workers=2)
    alice, bob, carol, dave = (room.join(worker) for worker in (0, 0, 1, 1))
    alice.say(b"hello\n")
    room.settle()
    for other in (bob, carol, dave):
        assert other.hear() == b"<192.0.2.1>hello\n"
    assert alice.hear() == b""


def test_cast_5_all_hear_all_in_one_order(make_room: MakeRoom) -> None:
    room = make_room(workers=2)
    alice, bob, carol = room.join(0), room.join(1), room.join(1)
    for number in range(20):
        for client in (bob, alice):
            client.say(b"%d\n" % number)
    room.settle()
    order = carol.hear()
    assert order.count(b"\n") == 40
    for client in (alice, bob):
        lines = order.splitlines(keepends=True)
        assert client.hear() == b"".join(
            line for line in lines if not line.startswith(client.prefix)
        )


def test_cast_6_two_behind_one_address_hear_each_other(room: Room) -> None:
    one, other = (room.join(address="192.0.2.1") for _ in range(2))
    one.say(b"hello\n")
    room.run()
    assert other.hear() == b"<192.0.2.1>hello\n"
    assert one.hear() == b""


def test_cast_7_a_member_alone_talks_to_nobody(room: Room) -> None:
    alone = room.join()
    alone.say(b"is anyone there?\n")
    assert room.run() is None
    assert alone.hear() == b""
    assert room.told() == []


def test_cast_3_a_paste_of_a_megabyte_arrives_whole(make_room: MakeRoom) -> None:
    """CAST-3, CAST-4, LINE-3: more than a connection holds."""
    room = make_room(workers=2, rate=0)
    alice, bob = room.join(0), room.join(1)
    lines = [b"%05d %s\n" % (number, b"x" * 44) for number in range(20_000)]
    left, heard = memoryview(b"".join(lines)), b""
    while left or heard.count(b"\n") < len(lines):
        said = alice.say_what_fits(left)
        left = left[said:]
        room.settle()
        more = bob.hear()
        assert said or more, "nothing comes any more"
        heard += more
    assert heard == b"".join(alice.prefix + line for line in lines)


def test_line_2_and_3_pieces_are_one_message_and_lines_are_several(room: Room) -> None:
    """LINE-2, LINE-3."""
    alice, bob = room.join(), room.join()
    for piece in (b"he", b"llo \xe2", b"\x82\xac", b"\r", b"\none\ntwo\n"):
        alice.say(piece)
        room.run()
    expected = "<192.0.2.1>hello €\n<192.0.2.1>one\n<192.0.2.1>two\n"
    assert bob.hear() == expected.encode()


def test_text_2_and_3_what_is_harmful_arrives_harmless(room: Room) -> None:
    """TEXT-2, TEXT-3."""
    alice, bob = room.join(), room.join()
    alice.say(b"\x1b[2J\xff\n")
    room.run()
    assert bob.hear() == "<192.0.2.1>␛[2J�\n".encode()


def test_the_log_knows_how_far_into_a_member_s_input_it_reaches(room: Room) -> None:
    """LOAD-4: … so that another worker can go on there."""
    alice = room.join()
    alice.say(b"one\r\ntwo\nthr")
    room.run()
    alice.say(b"ee\nfo\xc3")
    room.run()
    room.clock.now += 1
    room.run()
    alice.close()
    room.run()
    assert [(run.sender, run.reach, run.messages) for run in runs(room.log)] == [
        (alice.id, 9, 2),
        (alice.id, 15, 1),
        (alice.id, 17, 1),
        (alice.id, 17, 0),
        (alice.id, 18, 1),
    ]


def test_a_member_that_is_readable_for_no_reason_is_still_a_member(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = room.join(), room.join()
    member = room.workers[0].delivery.members()[0]
    answers: list[Exception] = [BlockingIOError()]

    def recv_into(room: memoryview) -> int:
        if answers:
            raise answers.pop()
        return member.socket.recv_into(room)

    monkeypatch.setattr(member, "recv_into", recv_into)
    alice.say(b"hello\n")
    room.run()
    assert bob.hear() == b"<192.0.2.1>hello\n"
    assert left(room) == []


# --- silence -------------------------------------------------------------------------------------


def test_line_5_text_is_delivered_after_a_silence_and_nothing_is_added(room: Room) -> None:
    alice, bob = room.join(), room.join()
    alice.say(b"hel")
    assert room.run() == pytest.approx(0.2)
    assert bob.hear() == b""
    room.clock.now += 0.15
    assert room.run() == pytest.approx(0.05)
    assert bob.hear() == b""
    room.clock.now += 0.1
    assert room.run() is None
    assert bob.hear() == b"<192.0.2.1>hel"


def test_line_5_the_silence_begins_with_the_last_piece(room: Room) -> None:
    alice, bob = room.join(), room.join()
    for piece in (b"h", b"e", b"l"):
        alice.say(piece)
        room.clock.now += 0.15
        room.run()
        assert bob.hear() == b""
    room.clock.now += 0.25
    room.run()
    assert bob.hear() == b"<192.0.2.1>hel"


def test_line_5_each_silence_has_its_own_time(room: Room) -> None:
    alice, bob, carol = room.join(), room.join(), room.join()
    alice.say(b"a")
    room.run()
    room.clock.now += 0.1
    bob.say(b"b")
    assert room.run() == pytest.approx(0.1)
    room.clock.now += 0.15
    assert room.run() == pytest.approx(0.05)
    assert carol.hear() == b"<192.0.2.1>a"
    room.clock.now += 0.1
    assert room.run() is None
    assert carol.hear() == b"\n<192.0.2.2>b"


def test_line_5_a_line_end_in_time_makes_it_a_line(room: Room) -> None:
    alice, bob = room.join(), room.join()
    alice.say(b"hel")
    room.run()
    room.clock.now += 0.15
    alice.say(b"lo\n")
    assert room.run() is None
    assert bob.hear() == b"<192.0.2.1>hello\n"


def test_line_5_it_is_no_silence_when_nobody_listened(room: Room) -> None:
    """The worker was busy for a while, and finds the line's end when it reads again."""
    alice, bob = room.join(), room.join()
    alice.say(b"hel")
    room.run()
    room.clock.now += 10
    alice.say(b"lo\n")
    room.run()
    assert bob.hear() == b"<192.0.2.1>hello\n"


def test_line_2_it_is_no_silence_when_the_rest_was_not_read(make_room: MakeRoom) -> None:
    """It has said more than it may, in the middle of a line, and is read from later."""
    room = make_room(rate=10_000, burst=10_000)
    alice, bob = room.join(), room.join()
    said = b"".join(b"%d %s\n" % (number, b"." * 90) for number in range(400))
    alice.say(said)
    heard = b""
    for _ in range(1000):
        room.clock.now += 0.1
        room.run()
        heard += bob.hear()
    assert heard == b"".join(b"<192.0.2.1>" + line for line in said.splitlines(keepends=True))


def test_line_5_who_has_said_too_much_and_then_nothing_is_silent(make_room: MakeRoom) -> None:
    room = make_room(rate=10_000, burst=10_000)
    alice, bob = room.join(), room.join()
    alice.say((b"much" * 25 + b"\n") * 150 + b"and half")
    room.run()
    assert bob.hear().endswith(b"much\n")
    room.clock.now += 0.3
    room.run()
    assert bob.hear() == b"<192.0.2.1>and half"


def test_line_5_a_character_s_beginning_waits_for_its_end(room: Room) -> None:
    alice, bob = room.join(), room.join()
    alice.say(b"a\xe2\x82")
    room.run()
    room.clock.now += 1
    assert room.run() is None
    assert bob.hear() == b"<192.0.2.1>a"
    alice.say(b"\xac\n")
    room.run()
    assert bob.hear() == "\n<192.0.2.1>€\n".encode(), "TEXT-1"


def test_line_6_the_next_message_begins_a_line(make_room: MakeRoom) -> None:
    room = make_room(workers=2)
    alice, bob, carol = room.join(0), room.join(1), room.join(1)
    alice.say(b"hel")
    room.settle()
    room.clock.now += 1
    room.settle()
    late = room.join(1)
    bob.say(b"hi\n")
    room.settle()
    assert carol.hear() == b"<192.0.2.1>hel\n<192.0.2.2>hi\n"
    assert alice.hear() == b"<192.0.2.2>hi\n", "the LF counts as part of its own message"
    assert bob.hear() == b"<192.0.2.1>hel\n"
    assert late.hear() == b"<192.0.2.2>hi\n"


def test_flush_after_is_a_setting(make_room: MakeRoom) -> None:
    room = make_room(flush_after=3)
    room.join().say(b"hel")
    assert room.run() == pytest.approx(3)


# --- leave ---------------------------------------------------------------------------------------


def test_leave_2_and_4_its_last_words_are_delivered_and_it_is_gone(room: Room) -> None:
    """LEAVE-2, LEAVE-4."""
    alice, bob = room.join(), room.join()
    alice.say(b"bye\nfor now\xc3")
    alice.finish()
    room.run()
    assert bob.hear() == "<192.0.2.1>bye\n<192.0.2.1>for now�".encode()
    assert left(room) == [(alice.id, LeaveReason.CLOSED)]
    assert alice.has_ended()
    assert not bob.has_ended()


def test_leave_1_who_is_reset_has_left_and_the_others_go_on(room: Room) -> None:
    alice, bob, carol = room.join(), room.join(), room.join()
    bob.say(b"unread\n")
    room.run()
    alice.close()  # what it has not read resets the connection
    bob.say(b"still here\n")
    room.run()
    assert left(room) == [(alice.id, LeaveReason.RESET)]
    assert carol.hear() == b"<192.0.2.2>unread\n<192.0.2.2>still here\n"


def test_leave_2_what_waits_is_said_when_it_is_reset(room: Room) -> None:
    alice, bob = room.join(), room.join()
    alice.say(b"hel")
    bob.say(b"unread\n")
    room.run()
    alice.close()
    room.run()
    assert left(room) == [(alice.id, LeaveReason.RESET)]
    assert bob.hear() == b"<192.0.2.1>hel"


def test_leave_2_all_that_it_said_is_delivered_though_it_hears_nothing_any_more(
    make_room: MakeRoom,
) -> None:
    """… and its own words do not make it one that lags."""
    room = make_room(workers=2, **SMALL)
    alice, bob, carol = room.join(0), room.join(0), room.join(1)
    alice.say(b"hello\n")
    bob.say(b"y\n" * 2000)
    bob.close()
    room.settle()
    assert carol.hear().count(b"y\n") == 2000
    assert left(room) == [(bob.id, LeaveReason.CLOSED)]


def test_leave_3_a_room_that_all_have_left_is_idle(make_room: MakeRoom) -> None:
    room = make_room(workers=2)
    gc.collect()  # so that no older test's descriptors go meanwhile
    before = len(os.listdir("/dev/fd"))
    clients = [room.join(worker) for worker in (0, 1, 0, 1)]
    clients[0].say(b"hel")
    room.settle()
    for client in clients:
        client.close()
    room.settle()
    assert [room.run(worker) for worker in (0, 1)] == [None, None]
    assert {id for worker in (0, 1) for id, _ in left(room, worker)} == {1, 2, 3, 4}
    with room.log:
        assert room.log.serving() == []
    assert len(os.listdir("/dev/fd")) == before


def test_leave_5_whoever_comes_back_is_a_new_member(room: Room) -> None:
    alice, bob = room.join(), room.join()
    bob.close()
    room.run()
    alice.say(b"nobody hears this\n")
    room.run()
    again = room.join(address=bob.address)
    alice.say(b"hello\n")
    room.run()
    assert again.hear() == b"<192.0.2.1>hello\n"


def test_many_who_leave_at_once_are_told_in_records_that_fit(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(membership, "IDS_PER_RECORD", 30)
    clients = [room.adopt() for _ in range(100)]
    room.run()
    for client in clients:
        client.close()
    room.run()
    assert [len(record["left"]) for record in room.told()] == [30, 30, 30, 10]


def test_what_the_channel_does_not_take_is_told_later(room: Room) -> None:
    clients = [room.join() for _ in range(3)]
    worker = room.theirs[0]
    fill(worker.socket)
    for client in clients:
        client.close()
        room.run()
    assert left(room) == []
    told: list[tuple[int, str]] = []
    while len(told) < 3:
        room.run()
        told += left(room)
    assert [id for id, _ in told] == [1, 2, 3]
    assert room.run() is None
    assert worker.backlog == 0


def test_what_the_channel_takes_bit_by_bit_is_told_in_order(room: Room) -> None:
    clients = [room.join() for _ in range(20)]
    room.theirs[0].socket.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    for client in clients:
        client.close()
        room.run()
    assert room.theirs[0].backlog > 10
    told: list[tuple[int, str]] = []
    while len(told) < len(clients):
        room.run()
        told += left(room)
    assert told == [(client.id, LeaveReason.CLOSED) for client in clients]
    assert room.run() is None


# --- batches -------------------------------------------------------------------------------------


@pytest.fixture(name="batches")
def fixture_batches(monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, list[int]]]:
    """The size and the senders of each batch that is appended."""
    batches = []
    append = Log.append

    def remember(log: Any, batch: Batch) -> int | None:
        start = append(log, batch)
        if start is not None:
            batches.append((batch.size, [run[1] for run in batch.runs]))
        return start

    monkeypatch.setattr(Log, "append", remember)
    return batches


def test_what_comes_at_once_is_appended_at_once(
    room: Room, batches: list[tuple[int, list[int]]]
) -> None:
    clients = [room.join() for _ in range(5)]
    for client in clients:
        client.say(b"hello\n")
    room.run()
    assert [sorted(senders) for _, senders in batches] == [[1, 2, 3, 4, 5]]


def test_load_3_a_flood_is_read_bit_by_bit_and_delays_nobody(
    make_room: MakeRoom, batches: list[tuple[int, list[int]]]
) -> None:
    room = make_room(max_line=64, max_lag=MIB, log_size=MIB + 64 * KIB)
    flooders = [room.join() for _ in range(40)]
    victim = room.join()
    for client in flooders:
        client.say(b"\n" * 1000)
    victim.say(b"hello\n")
    room.run()
    most_at_once = room.settings.read_size * len(b"<192.0.2.40>\n")
    assert all(size < room.settings.batch + most_at_once for size, _ in batches)
    order = [sender for _, senders in batches for sender in senders]
    everyone = {client.id for client in room.clients}
    assert set(order[: len(everyone)]) == everyone, "each is heard once before one is heard twice"
    for client in flooders:
        assert order.count(client.id) >= 1000 // room.settings.read_size


def test_batches_are_bounded_in_entries_too(
    make_room: MakeRoom, batches: list[tuple[int, list[int]]]
) -> None:
    room = make_room(**SMALL)
    for client in [room.join() for _ in range(100)]:
        client.say(b"\n")
    room.run()
    assert sum(len(senders) for _, senders in batches) == 100
    assert max(len(senders) for _, senders in batches) == room.settings.batch_entries


def test_silences_that_end_at_once_are_bounded_in_entries_too(
    make_room: MakeRoom, batches: list[tuple[int, list[int]]]
) -> None:
    room = make_room(**SMALL)
    clients = [room.adopt() for _ in range(100)]
    room.run()
    for client in clients:
        client.say(b"a")
    room.run()
    assert batches == []
    room.clock.now += 1
    assert room.run() is None
    assert sum(len(senders) for _, senders in batches) == 100
    assert max(len(senders) for _, senders in batches) == room.settings.batch_entries


# --- doorbells -----------------------------------------------------------------------------------


def test_only_workers_with_members_are_woken(make_room: MakeRoom) -> None:
    room = make_room(workers=3)
    alice, bob = room.join(0), room.join(1)
    alice.say(b"hello\n")
    room.run(0)
    assert room.rung() == [1, "console"]
    room.run(1)
    assert bob.hear() == b"<192.0.2.1>hello\n"
    assert room.rung() == []


def test_who_only_listens_wakes_nobody(make_room: MakeRoom) -> None:
    room = make_room(workers=2)
    room.join(0)
    room.join(1)
    assert room.rung() == []


# --- a full log ----------------------------------------------------------------------------------


class FullRoom:
    """Two workers of which the second has delivered nothing for too long."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.alice, self.carol = room.join(0), room.join(0)
        self.bob = room.join(1)
        self.alice.narrow()
        self.said = 0
        while (more := self.alice.say_what_fits(b"x" * 50 + b"\n")) == 51:
            self.said += more
            self.room.run(0)
        self.said += more

    def rest(self) -> bytes:
        """What of the line that was cut is missing."""
        return (b"x" * 50 + b"\n")[self.said % 51 :] if self.said % 51 else b""


@pytest.fixture(name="full")
def fixture_full(make_room: MakeRoom) -> FullRoom:
    return FullRoom(make_room(workers=2, **SMALL))


def test_a_worker_that_can_not_append_does_not_read(full: FullRoom) -> None:
    head = full.room.head()
    assert full.alice.say_what_fits(b"x") == 0, "its sender feels it"
    assert full.room.run(0) is None, "and the worker does not spin"
    assert full.room.head() == head


def test_a_worker_that_can_not_append_goes_on_when_the_slowest_has_delivered(
    full: FullRoom,
) -> None:
    full.room.settle()
    full.alice.say(full.rest())
    full.room.settle()
    lines = full.said // 51 + bool(full.rest())
    expected = (full.alice.prefix + b"x" * 50 + b"\n") * lines
    assert full.bob.hear() == expected
    assert full.carol.hear() == expected, "nothing is lost, and nothing doubled"


def assert_two_fall_asleep(room: Room) -> None:
    """The first two workers do not wake each other for ever."""
    for _ in range(3):
        room.run(0)
        room.run(1)
    before = Sleepless.woken
    room.run(0)
    room.run(1)
    assert Sleepless.woken == before


def test_those_who_wait_for_the_slowest_do_not_keep_each_other_awake(make_room: MakeRoom) -> None:
    room = make_room(workers=3, **SMALL)
    alice = room.join(0)
    room.join(1)
    room.join(2)  # whose worker stands still
    fill_log(room, less=10)
    room.run(0)
    alice.say(b"hello\n")
    assert_two_fall_asleep(room)


def test_those_who_can_not_append_do_not_keep_each_other_awake(make_room: MakeRoom) -> None:
    room = make_room(workers=3, **SMALL)
    alice, bob = room.join(0), room.join(1)
    carol = room.join(2)  # whose worker stands still
    fill_log(room, less=10)
    room.run(0)
    room.run(1)
    alice.say(b"hello\n")
    bob.say(b"hi\n")
    assert_two_fall_asleep(room)
    room.settle()
    assert carol.hear().endswith((b"hello\n<192.0.2.2>hi\n", b"hi\n<192.0.2.1>hello\n"))


def test_leave_2_nobody_has_left_before_its_last_words_are_in_the_log(full: FullRoom) -> None:
    full.alice.close()
    full.carol.close()
    full.room.run(0)
    assert left(full.room, 0) == []
    full.room.settle()
    assert sorted(left(full.room, 0)) == [(1, LeaveReason.CLOSED), (2, LeaveReason.RESET)]
    assert full.bob.hear().count(b"x") == full.said - full.said // 51


def test_a_worker_that_has_nobody_left_is_not_waited_for(full: FullRoom) -> None:
    full.bob.close()
    full.room.settle()
    assert full.alice.say_what_fits(b"x" * 1000) == 1000
    full.room.settle()
    with full.room.log:
        assert full.room.log.serving() == [0]


def fill_log(room: Room, less: int = 0) -> None:
    """Another worker appends as much as may be, less so many bytes, and rings."""
    assert append(room.log, Run(99, b"x" * (room.settings.window - less - 1) + b"\n")) is not None
    room.doorbells[0].ring()


def test_a_worker_that_can_not_append_rings_the_slowest(make_room: MakeRoom) -> None:
    room = make_room(workers=2, **SMALL)
    alice, bob = room.join(0), room.join(1)
    fill_log(room)
    room.run(0)
    assert room.rung() == []
    alice.say(b"hello\n")
    room.run(0)
    assert room.rung() == [1]
    room.run(1)
    assert room.rung() == [0], "it has made room"
    room.settle()
    assert bob.hear().endswith(b"<192.0.2.1>hello\n")


def test_a_worker_that_can_not_append_goes_on_delivering_and_adopting(make_room: MakeRoom) -> None:
    room = make_room(workers=2, **SMALL)
    alice, carol = room.join(0), room.join(0)
    room.join(1)
    fill_log(room, less=10)
    room.run(0)
    alice.say(b"hello\n")
    room.run(0)
    carol.hear()
    newcomer = room.adopt(0)
    room.run(0)
    assert append(room.log, Run(99, b"<b>short\n")) is not None
    room.doorbells[0].ring()
    room.run(0)
    assert newcomer.hear() == WELCOME + b"<b>short\n"
    assert carol.hear() == b"<b>short\n"


def test_a_worker_never_waits_for_itself(make_room: MakeRoom) -> None:
    """It was late, the other one filled the log, and then had nobody left to make room for."""
    room = make_room(workers=2, **SMALL)
    alice, carol = room.join(0), room.join(0)
    fill_log(room)
    alice.say(b"hello\n")
    room.settle()
    assert carol.hear().endswith(b"<192.0.2.1>hello\n")


# --- slow readers ---------------------------------------------------------------------------------


def test_load_1_and_2_who_does_not_read_delays_nobody_and_is_put_out(make_room: MakeRoom) -> None:
    """LOAD-1, LOAD-2."""
    room = make_room(**SMALL)
    alice, bob, slow = room.join(), room.join(), room.adopt(buffer=1)
    room.run()
    expected = b""
    for number in range(1000):
        line = b"%d %s\n" % (number, b"x" * 50)
        alice.say(line)
        room.run()
        expected += alice.prefix + line
        assert bob.hear() == alice.prefix + line
    assert left(room) == [(slow.id, LeaveReason.LAGGED)]
    heard = slow.hear().removeprefix(WELCOME)
    assert expected.startswith(heard)
    assert slow.has_ended()


def test_load_1_who_reads_late_hears_it_all(make_room: MakeRoom) -> None:
    room = make_room(**SMALL | {"log_size": 1 << 20, "max_lag": 1 << 19})
    alice, slow = room.join(), room.adopt(buffer=1)
    room.run()
    expected = WELCOME
    for number in range(1000):
        alice.say(b"%d\n" % number)
        slow.say(b"mine\n")
        room.run()
        expected += b"<192.0.2.1>%d\n" % number
    heard = b""
    while len(heard) < len(expected):
        heard += slow.hear(1000)
        room.run()
    assert heard == expected
    assert left(room) == []
    assert room.run() is None


def test_leave_1_who_is_behind_and_gone_has_left(make_room: MakeRoom) -> None:
    room = make_room(**SMALL)
    alice, slow = room.join(), room.adopt(buffer=1)
    room.run()
    for _ in range(100):
        alice.say(b"x" * 50 + b"\n")
        room.run()
    slow.close()
    room.run()
    assert left(room) == [(slow.id, LeaveReason.RESET)]
    assert room.run() is None


# --- stop ----------------------------------------------------------------------------------------


def test_to_drain_is_to_append_what_was_read_and_to_read_no_more(room: Room) -> None:
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


def test_to_drain_is_to_append_what_is_unfinished_too(make_room: MakeRoom) -> None:
    """However much it is: batch by batch, in the order in which it would have been said."""
    room = make_room(**SMALL)
    members = [room.join() for _ in range(3 * room.settings.batch_entries)]
    for member in members:
        member.say(b"unfinished")
        room.run()
    room.tell({"drain": True})
    assert room.run() is None
    assert room.told() == [{"drained": True}]
    lines = b"\n".join(member.prefix + b"unfinished" for member in members[1:])
    assert members[0].hear() == lines


def test_a_drained_worker_still_delivers(make_room: MakeRoom) -> None:
    room = make_room(workers=2)
    alice, bob = room.join(0), room.join(1)
    room.tell({"drain": True}, 1)
    room.settle()
    alice.say(b"hello\n")
    room.settle()
    assert bob.hear() == b"<192.0.2.1>hello\n"


def test_a_worker_that_can_not_append_is_not_drained(full: FullRoom) -> None:
    full.room.tell({"drain": True}, 0)
    assert full.room.run(0) is None
    assert full.room.told(0) == []
    full.room.settle()
    assert full.room.told(0) == [{"drained": True}]


def test_to_stop_ends_every_connection(room: Room) -> None:
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


def test_to_stop_does_not_listen_for_ever(make_room: MakeRoom) -> None:
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


def test_to_stop_waits_for_who_is_behind(make_room: MakeRoom) -> None:
    room = make_room()
    alice, slow = room.join(), room.adopt(buffer=1)
    room.run()
    for _ in range(1000):
        alice.say(b"x" * 50 + b"\n")
        room.run()
    room.tell({"drain": True})
    room.tell({"stop": True})
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


def test_to_stop_does_not_wait_for_ever(make_room: MakeRoom) -> None:
    room = make_room()
    alice, slow = room.join(), room.adopt(buffer=1)
    room.run()
    for _ in range(1000):
        alice.say(b"x" * 50 + b"\n")
        room.run()
    room.tell({"drain": True})
    room.tell({"stop": True})
    room.run()
    room.clock.now += STOP_WITHIN
    with pytest.raises(Ended):
        room.run()
    assert alice.has_ended()
    slow.hear()
    assert slow.has_ended()


def test_a_worker_ends_with_the_main_process(room: Room) -> None:
    room.join()
    room.channels[0].close()
    with pytest.raises(ChannelClosed):
        room.run()


def test_a_worker_ends_when_its_sentinel_says_so(room: Room) -> None:
    reader, writer = os.pipe()
    room.workers[0].watch(reader)
    room.join()
    os.close(writer)
    with pytest.raises(ChannelClosed):
        room.run()
    os.close(reader)


# --- against a model -----------------------------------------------------------------------------

WORDS = [
    b"hello\n",
    b"hel",
    b"\n",
    b"a\r\nb\n",
    "€\n".encode(),
    b"\xe2\x82",
    b"x" * 200,
    b"y\n" * 1000,
]
WORKERS = [0, 1]
CLIENTS = range(5)
STEPS = lists(
    one_of(
        tuples(just("say"), sampled_from(CLIENTS), sampled_from(WORDS)),
        tuples(just("hear"), sampled_from(CLIENTS), integers(1, 3000)),
        tuples(just("run"), sampled_from(WORKERS), just(0)),
        tuples(just("wait"), just(0), floats(0.05, 0.3)),
        tuples(just("close"), sampled_from(CLIENTS), just(0)),
        tuples(just("finish"), sampled_from(CLIENTS), just(0)),
        tuples(just("adopt"), sampled_from(WORKERS), just(0)),
    ),
    max_size=80,
)


class Told:
    """A client, what it said, and what it has heard."""

    def __init__(self, client: Client) -> None:
        self.client = client
        self.said = b""
        self.heard = b""
        self.speaks = True
        self.listens = True

    def say(self, data: bytes) -> None:
        if self.speaks:
            self.said += data[: self.client.say_what_fits(data)]

    def hear(self, most: int = EVERYTHING) -> None:
        if self.listens:
            self.heard += self.client.hear(most)

    def finish(self) -> None:
        if self.speaks:
            self.speaks = False
            self.client.finish()

    def close(self) -> None:
        self.hear()
        if not self.heard:
            return  # its worker could not greet it, where TCP could
        self.speaks = self.listens = False
        self.client.close()


class Play:
    """Five clients of two workers, and a witness that says nothing and hears everything."""

    def __init__(self, room: Room) -> None:
        self.room = room
        self.everyone = [Told(room.adopt(worker)) for worker in (0, 1, 0)]
        self.witness = Told(room.adopt(1, "2001:db8::1"))
        for worker in WORKERS:
            room.run(worker)

    def step(self, action: str, which: int, argument: Any) -> None:
        someone = self.everyone[which % len(self.everyone)]
        match action:
            case "run":
                self.room.run(which)
            case "wait":
                self.room.clock.now += argument
            case "adopt":
                if len(self.everyone) < len(CLIENTS):
                    self.everyone.append(Told(self.room.adopt(which)))
            case "say":
                someone.say(argument)
            case "hear":
                someone.hear(argument)
            case "finish":
                someone.finish()
            case "close":
                someone.close()
        self.witness.hear()

    def end(self) -> None:
        """Let everything be said, and heard."""
        for _ in range(2):
            self.room.settle()
            for told in (self.witness, *self.everyone):
                told.hear()
            self.room.clock.now += 1
        self.room.settle()
        self.witness.hear()

    def check(self) -> None:
        lagged = {
            id
            for at in WORKERS
            for id, reason in left(self.room, at)
            if reason == LeaveReason.LAGGED
        }
        assert self.witness.heard.startswith(WELCOME)
        lines = self.witness.heard.removeprefix(WELCOME).splitlines(keepends=True)
        prefixes = tuple(told.client.prefix for told in self.everyone)
        assert all(line.startswith(prefixes) for line in lines), "PREFIX-4"
        for told in self.everyone:
            self.check_said(told, lines)
            self.check_heard(told, lines, told.client.id in lagged)

    def check_said(self, told: Told, lines: list[bytes]) -> None:
        prefix = told.client.prefix
        said = b"".join(
            line.removeprefix(prefix).removesuffix(b"\n")
            for line in lines
            if line.startswith(prefix)
        )
        letters = told.said
        if told.speaks:  # what begins a character, or a line's end, waits for the rest
            for beginning in (b"\xe2\x82", b"\xe2", b"\r"):
                letters = letters.removesuffix(beginning)
        letters = letters.replace(b"\r\n", b"").replace(b"\n", b"")
        assert said.decode() == letters.decode(errors="replace"), "all of it, and in order"

    def check_heard(self, told: Told, lines: list[bytes], lagged: bool) -> None:
        others = [line for line in lines if not line.startswith(told.client.prefix)]
        heard = told.heard.removeprefix(WELCOME)
        assert heard in b"".join(others), "nothing torn, doubled, or of its own"
        if told.listens and not lagged and not told.client.has_ended():
            assert told.heard.startswith(WELCOME)
            whole_lines = heard.splitlines(keepends=True)
            assert whole_lines == others[len(others) - len(whole_lines) :], "up to the last one"


@given(STEPS)
@settings(max_examples=60)
def test_cast_everyone_hears_everyone_else_in_one_order(steps: list[Any]) -> None:
    """CAST-1 to CAST-5, LINE-6, PREFIX-4, WELCOME-1 to WELCOME-3, whatever happens when."""
    with pytest.MonkeyPatch.context() as monkeypatch:
        room = Room(monkeypatch, 2, **SMALL)
        try:
            play = Play(room)
            for step in steps:
                play.step(*step)
            play.end()
            play.check()
        finally:
            room.close()


def test_last_words_are_counted_where_nobody_is_left(make_room: MakeRoom) -> None:
    """To whom they were due is none; that they were said is true all the same."""
    room = make_room()
    for number in range(1, 4):
        guest = room.join()
        guest.say(b"hi")
        guest.close()
        room.settle()
        assert room.log.work(0).said == number
    assert room.log.work(0).due == 0
