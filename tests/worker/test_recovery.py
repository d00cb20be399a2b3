"""Tests of recovery: a worker continues with members of another worker, without losing a byte."""

import contextlib
import functools
import random
import select
import socket
import struct
from collections.abc import Callable
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis.strategies import integers, lists

from chatroom.config.settings import Settings
from chatroom.config.sizes import KIB
from chatroom.log.ring import Span
from chatroom.protocol.framing import Framer
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.system.channel import Channel, Record
from chatroom.worker import membership
from chatroom.worker.delivery import CATCH_UP_WITHIN
from chatroom.worker.member import Member
from chatroom.worker.membership import Membership
from chatroom.worker.recovery import Recovery, walk
from tests.integration.waiting import PATIENCE, until
from tests.selection import Sample
from tests.worker.drivers import EPOLL
from tests.worker.killable import KillableRoom, Killed, RoomClient, killable_room

# --- cursors -------------------------------------------------------------------------------------

SPANS = lists(integers(0, 40), unique=True, max_size=8).map(
    lambda ends: [*zip(sorted(ends)[::2], sorted(ends)[1::2], strict=False)]
)


@given(integers(0, 40), integers(0, 40), SPANS)
def test_load_4_walk_skips_the_member_s_own_spans(offset: int, size: int, own: list[Span]) -> None:
    mine = {at for begin, end in own for at in range(begin, end)}
    expected = offset
    while size_left(offset, expected, mine) < size:
        expected += 1
    found = walk(offset, size, own)
    # The cursor may be before or after the member's own spans: the member receives the same bytes.
    assert expected <= found
    assert all(at in mine for at in range(expected, found))


def size_left(offset: int, end: int, mine: set[int]) -> int:
    return sum(at not in mine for at in range(offset, end))


# --- deaths at any line ---------------------------------------------------------------------------

Scene = Callable[[KillableRoom], int]
"""Type of a function that prepares a room. It returns the seat of the worker that will die."""


def lines(room: KillableRoom) -> int:
    """Send whole lines from clients of both workers."""
    for client in room.join_many(4):
        client.send(b"one of %s\r\n\ntwo\n" % client.address.encode())
    return 0


def unfinished_lines(room: KillableRoom) -> int:
    """Send the end of a line, the beginning of another line, a long line, and part of a
    character."""
    alice, bob, carol, dave = room.join_many(4)
    alice.send(b"begun")
    bob.send(b"x" * 70 + b"\xe2\x82")
    carol.send(b"...\r")
    room.settle()
    for client in (alice, bob, carol, dave):
        client.send(b"\nhalf")
    return 0


def flushed_texts(room: KillableRoom) -> int:
    """Send unfinished texts that are flushed after a silence. One client's earlier text was flushed
    before."""
    alice, bob, carol, _ = room.join_many(4)
    alice.send(b"flushed before")
    room.settle()
    room.clock.now += 1
    room.settle()
    for client in (alice, bob, carol):
        client.send(b"flushed\xe2")
    room.settle()
    room.clock.now += 1
    return 0


def telnet_commands(room: KillableRoom) -> int:
    """Send telnet commands, by themselves and within lines, and part of a command."""
    alice, bob, carol, dave = room.join_many(4)
    alice.send(b"begun \xff\xfd\x01and ")
    bob.send(b"\xff\xf4\xff\xfd\x06")
    carol.send(b"one\r\0two\xff\xfd")
    room.settle()
    alice.send(b"ended\r\0\xff\xfb\x1f")
    bob.send(b"\xff\xf4\xff\xfd\x06bob\r\n")
    carol.send(b"\x03\n")
    dave.send(b"no telnet\n")
    return 0


def newcomers(room: KillableRoom) -> int:
    alice, *_ = room.join_many(2)
    alice.send(b"a line is unfinished")
    room.settle()
    room.clock.now += 1
    room.settle()
    for _ in range(3):
        room.join().send(b"at once\nand")
    room.run_main()
    return 0


def leaves(room: KillableRoom) -> int:
    alice, bob, carol, dave = room.join_many(4)
    alice.send(b"good bye\nall")
    alice.finish()
    bob.send(b"bye")
    bob.finish()
    carol.send(b"who stays?\n")
    dave.send(b"I do\n")
    return 0


def a_death(room: KillableRoom) -> int:
    """Kill a worker. Return the seat of another worker, which dies while it takes over the
    members."""
    clients = room.join_many(4)
    for client in clients:
        client.send(b"said\nand begun")
    room.alive[0].run()
    room.alive[1].run()
    for client in clients:
        client.send(b" and more\n...")
    room.alive[1].run(line=150)
    room.run_main()
    return 0


def a_yield(room: KillableRoom) -> int:
    """Let a worker yield some of its members to the other worker."""
    clients = room.join_many(6)
    for client in clients:
        client.send(b"begun")
    room.settle()
    for client in clients:
        if room.members.by_id[client.id].worker == 1:
            client.finish()
    room.settle()
    room.clock.now += 1
    room.run_main()
    clients[0].send(b" and yielded\n")
    return 0


def a_slow_member(room: KillableRoom) -> int:
    """Let a client receive only a part, so that its checkpoint must be renewed."""
    slow = room.join(buffer=2048)
    alice, bob, _ = room.join_many(3)
    for number in range(60):
        for client in (alice, bob):
            client.send(b"%d %s\n" % (number, b"." * 50))
        room.settle()
        alice.receive()
        bob.receive()
    slow.send(b"I hear\n")
    for client in (alice, bob):
        client.send(b"more\n" * 50)
    slow.receive(1500)
    return room.members.by_id[slow.id].worker


#: Scenes, each with a stride: the worker dies at every stride-th line of its code. The strides are
#: prime numbers, so that each line of a loop is reached.
SCENES: list[tuple[Scene, int]] = [
    (lines, 5),
    (unfinished_lines, 5),
    (flushed_texts, 5),
    (telnet_commands, 5),
    (newcomers, 7),
    (leaves, 7),
    (a_death, 19),
    (a_yield, 7),
    (a_slow_member, 23),
]


#: Number of sweeps through a scene. In one sweep, the worker dies at every sixteenth of these
#: lines. With ``--all``, all sweeps run, so that the worker dies at each of these lines once.
SWEEPS = 16


@pytest.mark.parametrize("cluster", [False, True], ids=["alone", "cluster"])
@pytest.mark.parametrize(
    ("scene", "stride"), SCENES, ids=lambda scene: getattr(scene, "__name__", "")
)
def test_load_4_a_death_at_any_line_neither_loses_nor_repeats_a_message(
    scene: Scene, stride: int, cluster: bool, sample: Sample
) -> None:
    """The worker dies at a later line of its code each time, until it survives."""
    step = stride * SWEEPS
    for sweep in sample(range(SWEEPS), 2):
        line, survived = stride * (sweep + 1) - step, False
        while not survived:
            line += step
            with killable_room(cluster=cluster, history=5 * cluster) as room:
                seat = scene(room)
                (victim,) = (process for process in room.alive if process.number == seat)
                survived = victim.run(line)
                room.finish()
                room.check()
                assert LeaveReason.LAGGED not in room.left.values()
        assert line - step > 100, "the scene has too few lines to prove much"


def test_load_4_a_death_while_a_worker_gathers_messages(sample: Sample) -> None:
    """The worker has appended messages that it has not delivered yet."""
    stride = 5
    for sweep in sample(range(SWEEPS), 4):
        line, survived, appended = stride * (sweep + 1), False, set()
        while not survived:
            with killable_room(workers=1) as room:
                clients = room.join_many(3)
                (victim,) = room.alive
                for text in (b"one\n", b"two\nand"):
                    for client in clients:
                        client.send(text)
                    room.settle()
                before = room.entries()
                victim.poll(True)
                room.clock.ticks = 2e-6
                _, bob, carol = clients
                for client, seconds in ((bob, 24e-6), (carol, 48e-6)):
                    room.clock.schedule(seconds, functools.partial(client.send, b" three\nfour"))
                clients[0].send(b" three\nfour")
                survived = victim.run(line)
                victim.poll(False)
                room.clock.ticks = 0.0
                appended.add(room.entries() - before)
                room.finish()
                room.check()
            line += stride * SWEEPS
        assert {1, 2} <= appended, "no death was between two appends of a turn"


@pytest.mark.parametrize("sent_before_death", [b"POST / HT", b"POST / HTTP/1.1\r\nHost: x\r\n"])
def test_another_protocol_is_recognised_by_the_next_worker(sent_before_death: bytes) -> None:
    """The worker dies before it has read the whole request line, or before it has reported the
    protocol."""
    with killable_room(workers=1) as room, pytest.MonkeyPatch.context() as dying:
        page, bob = room.join_many(2)

        def die(*_: object) -> None:
            raise Killed

        page.send(sent_before_death)
        dying.setattr(Membership, "note_if_due", die)
        assert not room.alive[0].run()
        dying.undo()
        page.send(
            b"TP/1.1\r\n\r\nspoken by a web page\n"[0 if sent_before_death.endswith(b"T") else 6 :]
        )
        room.finish()
        assert room.left == {page.id: LeaveReason.HTTP}
        assert page.received.startswith(room.settings.greeting + b"HTTP/1.1 400 ")
        assert bob.received == room.settings.greeting


TIMING_MARK = b"\xff\xfd\x06", b"\xff\xfb\x06"
"""DO TIMING-MARK, and the answer to it."""


def test_load_4_telnet_commands_without_a_message_are_covered() -> None:
    """LOAD-4: a flood of commands is larger than a slot. A line follows the flood."""
    with killable_room(workers=1) as room:
        alice, bob = room.join_many(2)
        for _ in range(4 * room.settings.input_size // 4000):
            alice.send(b"\xff\xfea" * 1300)
            room.settle()
        room.alive[0].kill()
        alice.send(b"hello\n")
        room.finish()
        room.check()
        assert bob.received.endswith(b"<127.0.0.2>hello\n")


def test_a_telnet_command_is_answered_when_its_client_has_read_the_rest() -> None:
    """The answer is sent after the text, not inside a message."""
    with killable_room(workers=1) as room:
        slow = room.join(buffer=2048)
        (sender,) = room.join_many(1)
        for _ in range(40):
            sender.send(b"." * 500 + b"\n")
            room.settle()
        assert room.alive[0].behind
        request, answer = TIMING_MARK
        slow.send(b"\xff\xf4" + request)
        room.settle()
        room.finish()
        room.check()
        assert slow.received.endswith(b"\n" + answer)


def test_load_4_a_telnet_answer_is_not_part_of_the_log() -> None:
    """The worker sends the answer, and dies before it delivers a message from another worker's
    member."""
    with killable_room() as room:
        alice, bob, *_ = room.join_many(2)
        hers, his = (room.members.by_id[client.id].worker for client in (alice, bob))
        assert hers != his
        alice.send(TIMING_MARK[0])
        room.settle()
        bob.send(b"hello\n")
        room.alive[his].run()
        room.alive[hers].kill()
        room.finish()
        room.check()
        assert alice.received.endswith(TIMING_MARK[1] + b"<127.0.0.3>hello\n")


def test_load_4_a_worker_dies_between_the_note_of_a_telnet_answer_and_the_answer() -> None:
    with killable_room(workers=1) as room:
        alice, bob = room.join_many(2)
        with pytest.MonkeyPatch.context() as dying:

            def die(*_: object) -> None:
                raise Killed

            dying.setattr(Membership, "_answer", die)
            alice.send(TIMING_MARK[0])
            assert not room.alive[0].run()
        bob.send(b"hello\n")
        room.finish()
        room.check()
        assert alice.received.endswith(b"<127.0.0.3>hello\n")


# --- members that move -------------------------------------------------------------------------


def test_load_4_a_partly_welcomed_client_gets_the_rest_and_then_joins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class PartlyGreeted(Member):
        def __init__(
            self, id: int, address: str, prefix: str, connection: socket.socket, *more: Any
        ) -> None:
            super().__init__(id, address, prefix, connection, *more)

            def send(data: bytes) -> int:
                connection.send(data[:10])
                raise Killed

            self.send = cast(Any, send)

    with killable_room() as room:
        clients = room.join_many(2)
        with monkeypatch.context() as dying:
            dying.setattr(membership, "Member", PartlyGreeted)
            newcomer = room.join()
            newcomer.send(b"I am early\n")
            room.run_main()
            assert [process.run() for process in list(room.alive)].count(False) == 1
        assert newcomer.receive() == 10
        (left,) = room.alive
        numbers = [room.members.by_id[client.id].worker for client in clients]
        alice = clients[numbers.index(left.number)]
        alice.send(b"it has not joined yet\n")
        left.run()
        room.finish()
        alice.send(b"now it has\n")
        room.finish()
        room.check()
        assert newcomer.received == room.settings.greeting + alice.prefix + b"now it has\n"
        assert alice.received.endswith(newcomer.prefix + b"I am early\n")


@pytest.mark.parametrize("changed", ["before", "after"])
@pytest.mark.parametrize("later", [b"Hi\n", b"W" * 100 + b"\n"])
@pytest.mark.parametrize("taken", [0, 2, 26, 27, 100])
def test_welcome_1_each_client_gets_the_welcome_of_its_join_time(
    taken: int, later: bytes, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WELCOME-1: each client receives one whole welcome, and then messages, even if it is taken
    over."""

    class TakesPart(Member):
        def __init__(
            self, id: int, address: str, prefix: str, connection: socket.socket, *more: Any
        ) -> None:
            super().__init__(id, address, prefix, connection, *more)

            def send(data: bytes) -> int:
                connection.send(data[:taken])
                raise Killed

            self.send = cast(Any, send)

    with killable_room() as room:
        alice = room.join()
        room.settle()
        if changed == "before":
            room.acceptor.greeting = later
        with monkeypatch.context() as dying:
            dying.setattr(membership, "Member", TakesPart)
            client = room.join()
            room.run_main()
            room.acceptor.greeting = later
            assert [process.run() for process in list(room.alive)].count(False) == 1
        newcomer = room.join()
        room.finish()
        alice.send(b"hello\n")
        room.finish()
        assert alice.received == room.settings.greeting
        its = later if changed == "before" else room.settings.greeting
        assert client.received == its + alice.prefix + b"hello\n"
        assert newcomer.received == later + alice.prefix + b"hello\n"


@pytest.mark.parametrize("why", ["a death", "a yield"])
def test_load_4_the_log_keeps_entries_that_moving_members_need(why: str) -> None:
    """While members move, members that send much must wait."""
    with killable_room() as room:
        clients = room.join_many(8)
        theirs = [client for client in clients if room.members.by_id[client.id].worker == 0]
        others = [client for client in clients if client not in theirs]
        if why == "a yield":
            for client in others[1:]:
                client.finish()
            room.settle()
            room.clock.now += 1
            room.run_main()
        else:
            room.alive[0].kill()
        for _ in range(300):
            for client in (theirs[-1], others[0]):
                client.send(b"y" * 20 + b"\n" + b"\n" * 5)
            for _ in range(5):
                for process in room.alive:
                    process.run()
            for client in clients:
                client.receive()
        before = room.entries()
        assert not room.left.keys() & {client.id for client in (*theirs, others[0])}
        room.finish()
        room.check()
        assert room.entries() > before, "some messages had to wait"
        # The waiting messages now arrive all at once. A client that lags too much is disconnected
        # (LOAD-2).


def unserved(room: KillableRoom) -> tuple[RoomClient, RoomClient]:
    """Let the worker of a slow client hang, while a sender sends more than the lag limit.

    Return the slow client and the sender.
    """
    slow = room.join(buffer=2048)
    sender, *_ = room.join_many(3)
    hung = room.alive[room.members.by_id[slow.id].worker]
    assert room.members.by_id[sender.id].worker != hung.number
    for number in range(62):
        sender.send(b"%d %s\n" % (number, b"." * 500))
        for process in room.alive:
            if process is not hung:
                process.run()
        for client in room.clients:
            if client is not slow:
                client.receive()
    hung.kill()
    room.settle()
    assert room.left == {}
    return slow, sender


def test_load_4_a_member_of_a_hung_worker_has_time_to_catch_up() -> None:
    """The member lags by more than the limit, and receives only a little at a time."""
    with killable_room(max_line=1024) as room:
        slow, sender = unserved(room)
        for _ in range(400):
            slow.receive(200)
            room.settle()
        sender.send(b"they may speak again\n")
        room.finish()
        room.check()
        assert room.left == {}
        assert slow.received.endswith(b"they may speak again\n")


def test_load_2_a_member_still_lagging_after_the_grace_is_disconnected() -> None:
    with killable_room(max_line=1024) as room:
        slow, sender = unserved(room)
        room.clock.now += CATCH_UP_WITHIN - 0.1
        room.settle()
        assert room.left == {}
        room.clock.now += 0.2
        room.settle()
        assert room.left == {slow.id: LeaveReason.LAGGED}
        for _ in range(200):
            sender.send(b"the log goes on and round\n" * 10)
            room.finish()
        room.check()


def test_load_4_checkpoints_are_renewed_before_the_log_laps_them() -> None:
    """Some members send nothing, and one member is behind."""
    with killable_room() as room:
        slow = room.join(buffer=2048)
        clients = room.join_many(4)
        for _ in range(2):
            for number in range(200):
                for client in clients[:2]:
                    client.send(b"%d\n" % number)
                for process in room.alive:
                    process.run()
                slow.receive(20)
                for client in clients:
                    client.receive()
            assert room.entries() > room.settings.log_entries
            for process in room.alive:
                process.kill()
            room.run_main()
            room.finish()
        room.check()
        assert room.left == {}


@pytest.mark.parametrize("how", ["reset", "ended", "ended, and it still receives"])
def test_leave_2_text_of_an_unassigned_member_that_leaves_arrives(how: str) -> None:
    with killable_room(workers=1) as room:
        alice, bob = room.join_many(2)
        alice.send(b"said\nbegun")
        bob.send(b"unread\n")
        room.alive[0].run()
        room.alive[0].kill()
        alice.send(b" and\nunfinished")
        if how == "reset":
            alice.sends = alice.receives = False
            alice.end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            alice.end.close()
        else:
            alice.finish()
            alice.receives = how != "ended"
        alice.ended = how != "ended, and it still receives"
        room.clients.remove(alice)

        def gone() -> bool:
            room.settle()
            return alice.id in room.left

        until(gone, "the next worker has reported the leave")
        room.finish()
        room.log.record()
        mine = b"".join(run.text for run in room.log.history if run.sender == alice.id)
        sent = b"<127.0.0.2>said\n<127.0.0.2>begun and\n<127.0.0.2>unfinished"
        assert mine.startswith(sent if how != "reset" else b"<127.0.0.2>said\n<127.0.0.2>begu")
        assert sent.startswith(mine)
        assert room.left == {alice.id: "reset" if how == "reset" else "closed"}
        room.check()
        alice.end.close()


def test_load_4_unread_text_of_a_throttled_leaver_is_lost_only_by_a_reset() -> None:
    """The member leaves while it is throttled, and its kernel answers later messages with a
    reset."""
    with killable_room(workers=1, rate=2048, burst=1024) as room:
        alice, bob = room.join_many(2)
        alice.send(b"".join(b"%d\n" % number for number in range(400)))
        room.settle()
        alice.send(b"more\nhalf a line")
        alice.receive()
        alice.end.close()
        room.clients.remove(alice)
        bob.send(b"to all\n")
        room.settle()
        room.alive[0].kill()
        room.finish()
        room.log.record()
        mine = b"".join(run.text for run in room.log.history if run.sender == alice.id)
        sent = mine.replace(b"<127.0.0.2>", b"")
        assert alice.sent.startswith(sent.rstrip(b"\n"))
        assert len(sent) > 1000
        room.check()


def die(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize("end", ["reset", "closed"])
@pytest.mark.parametrize("again", [False, True])
def test_load_4_input_read_before_a_death_and_a_reset_is_appended(again: bool, end: str) -> None:
    """A worker dies after a read. With `again`, the worker that takes over dies too."""
    with killable_room(workers=1) as room, pytest.MonkeyPatch.context() as monkeypatch:
        alice, _ = room.join_many(2)
        with monkeypatch.context() as first:
            first.setattr(Framer, "feed", die)
            alice.send(b"one\nhalf ")
            assert not room.alive[0].run()
        if again:
            room.run_main()
            assert room.alive[0].run()
            room.run_main()
            with monkeypatch.context() as second:
                second.setattr(Membership, "reports", die)
                assert not room.alive[0].run()
        alice.send(b"a line\n")
        alice.receive()
        alice.leave(end)
        connection = room.members.by_id[alice.id].connection
        with EPOLL() as epoll:
            epoll.register(connection, select.EPOLLRDHUP)
            assert epoll.poll(PATIENCE), "the FIN has arrived"
            epoll.modify(connection, 0)
            with contextlib.suppress(ConnectionError):
                connection.send(b"to nobody")
            assert epoll.poll(PATIENCE), "the reset has arrived"
        room.finish()
        room.log.record()
        mine = b"".join(run.text for run in room.log.history if run.sender == alice.id)
        assert mine == b"<127.0.0.2>one\n<127.0.0.2>half a line\n"


def test_cast_2_a_message_that_the_bridge_appends_during_a_takeover_is_not_returned() -> None:
    """A worker dies with a message in the uplink. While another worker recovers the members, the
    bridge appends the message to the room's log."""
    with (
        killable_room(workers=1, cluster=True) as room,
        pytest.MonkeyPatch.context() as monkeypatch,
    ):
        alice, bob = room.join_many(2)
        alice.send(b"hello\n")
        assert room.alive[0].run()
        assert not room.alive[0].run(1)

        class SlowRecovery(Recovery):
            def __init__(self, *arguments: Any) -> None:
                super().__init__(*arguments)
                assert room.bridge is not None
                assert room.bridge.run()

        monkeypatch.setattr(membership, "Recovery", SlowRecovery)
        room.run_main()
        assert room.alive[0].run()
        room.run_main()
        assert room.alive[0].run()
        monkeypatch.undo()
        room.finish()
        room.check()
        assert bob.received.endswith(b"<127.0.0.2>hello\n")


@pytest.mark.parametrize("most", [1, 1 << 20])
def test_leave_2_a_stopping_worker_acks_after_appending_all_input(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that has sent its ack is stopped. Input that is not in a batch yet would then be
    lost.

     With `most` 1, each text fills a batch; otherwise, no text does.
    """
    monkeypatch.setattr(Settings, "batch", most)
    monkeypatch.setattr(Settings, "batch_entries", most)
    with killable_room() as room:
        clients = room.join_many(6)
        theirs = [client for client in clients if room.members.by_id[client.id].worker == 0]
        dead, other = room.alive
        for client in theirs:
            client.send(b"half a line")
        dead.run()
        room.pool.workers[1].tell({"drain": True})
        other.run()
        dead.kill()
        room.run_main()
        sent: list[bytes] = []
        send = Channel.send

        def note_ack(channel: Channel, record: Record) -> None:
            if "ack" in record:
                room.log.record()
                sent.extend(run.text for run in room.log.history)
            send(channel, record)

        monkeypatch.setattr(Channel, "send", note_ack)
        with monkeypatch.context() as full:
            full.setattr(room.log, "append", lambda batch: None)
            other.run()
        room.doorbells[1].ring()
        other.run()
        assert [text.rstrip(b"\n") for text in sent if text.strip()] == [
            client.prefix + b"half a line" for client in theirs
        ]


# --- random steps --------------------------------------------------------------------------------

WORDS = [
    b"hello\n",
    b"hel",
    b"\n",
    b"a\r\nb\n",
    "€\n".encode(),
    b"\xe2\x82",
    b"..\r",
    b"x" * 200,
    b"y\n" * 200,
    b"w" * 60 + b"\n" + b"half",
]


@pytest.mark.sample(8)
@pytest.mark.parametrize("seed", range(40))
def test_load_4_random_steps_and_deaths_neither_lose_nor_repeat_a_message(seed: int) -> None:
    """The room's processes take random steps, and workers die at random lines."""
    chance = random.Random(seed)
    limits = {"rate": 2048, "burst": 1024} if seed % 2 else {}
    if seed % 3 == 0:
        limits["room_rate"] = 16 * KIB
    if seed % 5 >= 3:
        limits["history"] = chance.choice([1, 5, 100])
    workers = chance.choice([1, 2, 2, 3])
    with killable_room(workers=workers, cluster=seed % 4 >= 2, **limits) as room:
        for _ in range(chance.randint(1, 4)):
            room.join(chance.choice([None, 2048]))
        for _ in range(chance.randint(20, 200)):
            step(room, chance)
        room.finish()
        room.check()


def step(room: KillableRoom, chance: random.Random) -> None:
    if chance.random() < 0.5:
        client_step(room, chance)
        return
    match chance.choices(
        ["run", "run main", "settle", "wait", "die", "replace", "run bridge", "bridge dies"],
        [20, 15, 5, 10, 12, 1, 10, 5],
    ):
        case ["run"] if room.alive:
            chance.choice(room.alive).run()
        case ["run main"]:
            room.run_main()
        case ["settle"]:
            room.settle()
        case ["wait"]:
            room.clock.now += chance.choice([0.05, 0.25])
        case ["die"] if room.alive:
            line = chance.choice([1, 10, 100, 300, 1000]) + chance.randrange(300)
            chance.choice(room.alive).run(line)
        case ["replace"]:
            room.pool.replace_all()
        case ["run bridge"] if room.bridge:
            room.bridge.run()
        case ["bridge dies"] if room.bridge:
            room.bridge.run(chance.choice([1, 10, 50, 100]) + chance.randrange(50))


def client_step(room: KillableRoom, chance: random.Random) -> None:
    client = chance.choice(room.clients)
    match chance.choices(["send", "receive", "join", "finish", "leave"], [30, 15, 4, 1, 3]):
        case ["send"]:
            client.send(chance.choice(WORDS) * chance.choice([1, 1, 1, 5]))
        case ["receive"]:
            client.receive(chance.choice([1, 100, 3000, 1 << 20]))
        case ["join"] if sum(not client.gone for client in room.clients) < 8:
            room.join(chance.choice([None, 2048]))
        case ["finish"]:
            client.finish()
        case ["leave"] if client.address in room.ids and not client.gone:
            client.receive()  # otherwise close would send a reset without a FIN
            client.leave(chance.choice(["closed", "reset"]))
