"""Recovery of members that another worker has served, to the byte."""

import contextlib
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
from chatroom.worker.recovery import walk
from tests.integration.waiting import PATIENCE, until
from tests.selection import Sample
from tests.worker.drivers import EPOLL
from tests.worker.mortal import Guest, House, Killed, a_house

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
    # The cursor may lie before or behind the member's own spans: it receives the same bytes.
    assert expected <= found
    assert all(at in mine for at in range(expected, found))


def size_left(offset: int, end: int, mine: set[int]) -> int:
    return sum(at not in mine for at in range(offset, end))


# --- wherever a worker dies ----------------------------------------------------------------------

Scene = Callable[[House], int]
"""A function that prepares a house and returns the seat of the worker that dies when it runs."""


def lines(house: House) -> int:
    """Send whole lines from several guests, of both workers."""
    for guest in house.joined(4):
        guest.say(b"one of %s\r\n\ntwo\n" % guest.address.encode())
    return 0


def halves(house: House) -> int:
    """Send the end of a line, the beginning of another, a long line and half a character."""
    alice, bob, carol, dave = house.joined(4)
    alice.say(b"begun")
    bob.say(b"x" * 70 + b"\xe2\x82")
    carol.say(b"...\r")
    house.settle()
    for guest in (alice, bob, carol, dave):
        guest.say(b"\nhalf")
    return 0


def silences(house: House) -> int:
    """Send texts that are flushed, one after another unfinished one."""
    alice, bob, carol, _ = house.joined(4)
    alice.say(b"flushed before")
    house.settle()
    house.clock.now += 1
    house.settle()
    for guest in (alice, bob, carol):
        guest.say(b"flushed\xe2")
    house.settle()
    house.clock.now += 1
    return 0


def telnets(house: House) -> int:
    """Send telnet commands, alone and within lines, and half a command."""
    alice, bob, carol, dave = house.joined(4)
    alice.say(b"begun \xff\xfd\x01and ")
    bob.say(b"\xff\xf4\xff\xfd\x06")
    carol.say(b"one\r\0two\xff\xfd")
    house.settle()
    alice.say(b"ended\r\0\xff\xfb\x1f")
    bob.say(b"\xff\xf4\xff\xfd\x06bob\r\n")
    carol.say(b"\x03\n")
    dave.say(b"no telnet\n")
    return 0


def newcomers(house: House) -> int:
    alice, *_ = house.joined(2)
    alice.say(b"a line is unfinished")
    house.settle()
    house.clock.now += 1
    house.settle()
    for _ in range(3):
        house.join().say(b"at once\nand")
    house.main()
    return 0


def farewells(house: House) -> int:
    alice, bob, carol, dave = house.joined(4)
    alice.say(b"good bye\nall")
    alice.finish()
    bob.say(b"bye")
    bob.finish()
    carol.say(b"who stays?\n")
    dave.say(b"I do\n")
    return 0


def a_death(house: House) -> int:
    """Kill the worker that takes over while it does so."""
    guests = house.joined(4)
    for guest in guests:
        guest.say(b"said\nand begun")
    house.alive[0].run()
    house.alive[1].run()
    for guest in guests:
        guest.say(b" and more\n...")
    house.alive[1].run(line=150)
    house.main()
    return 0


def a_yield(house: House) -> int:
    """Let a worker yield some of its members to another one."""
    guests = house.joined(6)
    for guest in guests:
        guest.say(b"begun")
    house.settle()
    for guest in guests:
        if house.members.by_id[guest.id].worker == 1:
            guest.finish()
    house.settle()
    house.clock.now += 1
    house.main()
    guests[0].say(b" and yielded\n")
    return 0


def a_slow_one(house: House) -> int:
    """Let a guest receive only a part, so that its checkpoint must be noted again."""
    slow = house.join(buffer=2048)
    alice, bob, _ = house.joined(3)
    for number in range(60):
        for guest in (alice, bob):
            guest.say(b"%d %s\n" % (number, b"." * 50))
        house.settle()
        alice.hear()
        bob.hear()
    slow.say(b"I hear\n")
    for guest in (alice, bob):
        guest.say(b"more\n" * 50)
    slow.hear(1500)
    return house.members.by_id[slow.id].worker


#: Each scene with a stride: the worker dies at every stride-th line of its code. The strides are
#: prime numbers, so that each line of a loop is reached.
SCENES: list[tuple[Scene, int]] = [
    (lines, 5),
    (halves, 5),
    (silences, 5),
    (telnets, 5),
    (newcomers, 7),
    (farewells, 7),
    (a_death, 19),
    (a_yield, 7),
    (a_slow_one, 23),
]


#: Sweeps of a scene. Each of them takes every sixteenth stride; all together, with ``--all``, take
#: each stride.
SWEEPS = 16


@pytest.mark.parametrize(
    ("scene", "stride"), SCENES, ids=lambda scene: getattr(scene, "__name__", "")
)
def test_load_4_a_death_at_any_line_loses_and_doubles_nothing(
    scene: Scene, stride: int, sample: Sample
) -> None:
    """The worker dies at later and later lines of its code, until it survives."""
    step = stride * SWEEPS
    for sweep in sample(range(SWEEPS), 2):
        line, survived = stride * (sweep + 1) - step, False
        while not survived:
            line += step
            with a_house() as house:
                seat = scene(house)
                (victim,) = (process for process in house.alive if process.number == seat)
                survived = victim.run(line)
                house.finish()
                house.check()
                assert LeaveReason.LAGGED not in house.left.values()
        assert line - step > 100, "the last death came too early to prove much"


@pytest.mark.parametrize("dies_after", [b"POST / HT", b"POST / HTTP/1.1\r\nHost: x\r\n"])
def test_another_protocol_is_recognised_by_the_next_worker(dies_after: bytes) -> None:
    """The worker dies before it has seen the request line, or before it has reported it."""
    with a_house(workers=1) as house, pytest.MonkeyPatch.context() as dying:
        page, bob = house.joined(2)

        def die(*_: object) -> None:
            raise Killed

        page.say(dies_after)
        dying.setattr(Membership, "note_if_due", die)
        assert not house.alive[0].run()
        dying.undo()
        page.say(b"TP/1.1\r\n\r\nspoken by a web page\n"[0 if dies_after.endswith(b"T") else 6 :])
        house.finish()
        assert house.left == {page.id: LeaveReason.HTTP}
        assert page.heard.startswith(house.settings.greeting + b"HTTP/1.1 400 ")
        assert bob.heard == house.settings.greeting


TIMING_MARK = b"\xff\xfd\x06", b"\xff\xfb\x06"
"""DO TIMING-MARK, and its answer."""


def test_telnet_commands_without_a_message_are_covered_too() -> None:
    """LOAD-4: a slot holds less than a flood of commands, which is followed by a line."""
    with a_house(workers=1) as house:
        alice, bob = house.joined(2)
        for _ in range(4 * house.settings.input_size // 4000):
            alice.say(b"\xff\xfea" * 1300)
            house.settle()
        house.alive[0].kill()
        alice.say(b"hello\n")
        house.finish()
        house.check()
        assert bob.heard.endswith(b"<127.0.0.2>hello\n")


def test_a_telnet_command_is_answered_when_its_client_has_read_the_rest() -> None:
    """The answer is not inside a message, and it is not forgotten."""
    with a_house(workers=1) as house:
        slow = house.join(buffer=2048)
        (speaker,) = house.joined(1)
        for _ in range(40):
            speaker.say(b"." * 500 + b"\n")
            house.settle()
        assert house.alive[0].behind
        request, answer = TIMING_MARK
        slow.say(b"\xff\xf4" + request)
        house.settle()
        house.finish()
        house.check()
        assert slow.heard.endswith(b"\n" + answer)


def test_load_4_a_telnet_answer_is_no_part_of_the_log() -> None:
    """The worker has answered, and dies before it delivers a message of another worker's member."""
    with a_house() as house:
        alice, bob, *_ = house.joined(2)
        hers, his = (house.members.by_id[guest.id].worker for guest in (alice, bob))
        assert hers != his
        alice.say(TIMING_MARK[0])
        house.settle()
        bob.say(b"hello\n")
        house.alive[his].run()
        house.alive[hers].kill()
        house.finish()
        house.check()
        assert alice.heard.endswith(TIMING_MARK[1] + b"<127.0.0.3>hello\n")


def test_load_4_a_worker_dies_between_the_note_of_a_telnet_answer_and_the_answer() -> None:
    with a_house(workers=1) as house:
        alice, bob = house.joined(2)
        with pytest.MonkeyPatch.context() as dying:

            def die(*_: object) -> None:
                raise Killed

            dying.setattr(Membership, "_answer", die)
            alice.say(TIMING_MARK[0])
            assert not house.alive[0].run()
        bob.say(b"hello\n")
        house.finish()
        house.check()
        assert alice.heard.endswith(b"<127.0.0.3>hello\n")


# --- members handed over -------------------------------------------------------------------------


def test_load_4_a_partly_welcomed_client_gets_the_rest_and_then_joins(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Half(Member):
        def __init__(
            self, id: int, address: str, prefix: str, connection: socket.socket, *more: Any
        ) -> None:
            super().__init__(id, address, prefix, connection, *more)

            def send(data: bytes) -> int:
                connection.send(data[:10])
                raise Killed

            self.send = cast(Any, send)

    with a_house() as house:
        guests = house.joined(2)
        with monkeypatch.context() as dying:
            dying.setattr(membership, "Member", Half)
            newcomer = house.join()
            newcomer.say(b"I am early\n")
            house.main()
            assert [process.run() for process in list(house.alive)].count(False) == 1
        assert newcomer.hear() == 10
        (left,) = house.alive
        numbers = [house.members.by_id[guest.id].worker for guest in guests]
        alice = guests[numbers.index(left.number)]
        alice.say(b"it has not joined yet\n")
        left.run()
        house.finish()
        alice.say(b"now it has\n")
        house.finish()
        house.check()
        assert newcomer.heard == house.settings.greeting + alice.prefix + b"now it has\n"
        assert alice.heard.endswith(newcomer.prefix + b"I am early\n")


@pytest.mark.parametrize("changed", ["before", "after"])
@pytest.mark.parametrize("later", [b"Hi\n", b"W" * 100 + b"\n"])
@pytest.mark.parametrize("taken", [0, 2, 26, 27, 100])
def test_welcome_1_each_client_gets_the_welcome_of_its_join_time(
    taken: int, later: bytes, changed: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WELCOME-1: the whole welcome, once, and then messages; also for a member taken over."""

    class Slow(Member):
        def __init__(
            self, id: int, address: str, prefix: str, connection: socket.socket, *more: Any
        ) -> None:
            super().__init__(id, address, prefix, connection, *more)

            def send(data: bytes) -> int:
                connection.send(data[:taken])
                raise Killed

            self.send = cast(Any, send)

    with a_house() as house:
        alice = house.join()
        house.settle()
        if changed == "before":
            house.acceptor.greeting = later
        with monkeypatch.context() as dying:
            dying.setattr(membership, "Member", Slow)
            guest = house.join()
            house.main()
            house.acceptor.greeting = later
            assert [process.run() for process in list(house.alive)].count(False) == 1
        newcomer = house.join()
        house.finish()
        alice.say(b"hello\n")
        house.finish()
        assert alice.heard == house.settings.greeting
        its = later if changed == "before" else house.settings.greeting
        assert guest.heard == its + alice.prefix + b"hello\n"
        assert newcomer.heard == later + alice.prefix + b"hello\n"


@pytest.mark.parametrize("why", ["a death", "a yield"])
def test_load_4_the_log_keeps_entries_that_moving_members_need(why: str) -> None:
    """Meanwhile, members that send much have to wait."""
    with a_house() as house:
        guests = house.joined(8)
        theirs = [guest for guest in guests if house.members.by_id[guest.id].worker == 0]
        others = [guest for guest in guests if guest not in theirs]
        if why == "a yield":
            for guest in others[1:]:
                guest.finish()
            house.settle()
            house.clock.now += 1
            house.main()
        else:
            house.alive[0].kill()
        for _ in range(300):
            for guest in (theirs[-1], others[0]):
                guest.say(b"y" * 20 + b"\n" + b"\n" * 5)
            for _ in range(5):
                for process in house.alive:
                    process.run()
            for guest in guests:
                guest.hear()
        before = house.entries()
        assert not house.left.keys() & {guest.id for guest in (*theirs, others[0])}
        house.finish()
        house.check()
        assert house.entries() > before, "some messages had to wait"
        # They arrive all at once now, so a guest that does not catch up is disconnected (LOAD-2).


def unserved(house: House) -> tuple[Guest, Guest]:
    """Let a guest's worker hang while another guest sends more than the lag limit; return both.

    The first guest lags; the second is the sender.
    """
    slow = house.join(buffer=2048)
    speaker, *_ = house.joined(3)
    hung = house.alive[house.members.by_id[slow.id].worker]
    assert house.members.by_id[speaker.id].worker != hung.number
    for number in range(62):
        speaker.say(b"%d %s\n" % (number, b"." * 500))
        for process in house.alive:
            if process is not hung:
                process.run()
        for guest in house.guests:
            if guest is not slow:
                guest.hear()
    hung.kill()
    house.settle()
    assert house.left == {}
    return slow, speaker


def test_load_4_a_member_of_a_hung_worker_has_time_to_catch_up() -> None:
    """The member lags beyond the limit, and receives only a little at a time."""
    with a_house(max_line=1024) as house:
        slow, speaker = unserved(house)
        for _ in range(400):
            slow.hear(200)
            house.settle()
        speaker.say(b"they may speak again\n")
        house.finish()
        house.check()
        assert house.left == {}
        assert slow.heard.endswith(b"they may speak again\n")


def test_load_2_a_member_still_lagging_after_the_grace_is_disconnected() -> None:
    with a_house(max_line=1024) as house:
        slow, speaker = unserved(house)
        house.clock.now += CATCH_UP_WITHIN - 0.1
        house.settle()
        assert house.left == {}
        house.clock.now += 0.2
        house.settle()
        assert house.left == {slow.id: LeaveReason.LAGGED}
        for _ in range(200):
            speaker.say(b"the log goes on and round\n" * 10)
            house.finish()
        house.check()


def test_load_4_checkpoints_are_renewed_before_the_log_laps_them() -> None:
    """This includes members that send nothing, and one that is behind."""
    with a_house() as house:
        slow = house.join(buffer=2048)
        guests = house.joined(4)
        for _ in range(2):
            for number in range(200):
                for guest in guests[:2]:
                    guest.say(b"%d\n" % number)
                for process in house.alive:
                    process.run()
                slow.hear(20)
                for guest in guests:
                    guest.hear()
            assert house.entries() > house.settings.log_entries
            for process in house.alive:
                process.kill()
            house.main()
            house.finish()
        house.check()
        assert house.left == {}


@pytest.mark.parametrize("how", ["reset", "ended", "ended, and it listens"])
def test_leave_2_text_of_an_unassigned_member_that_leaves_arrives(how: str) -> None:
    with a_house(workers=1) as house:
        alice, bob = house.joined(2)
        alice.say(b"said\nbegun")
        bob.say(b"unread\n")
        house.alive[0].run()
        house.alive[0].kill()
        alice.say(b" and\nunfinished")
        if how == "reset":
            alice.speaks = alice.listens = False
            alice.end.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            alice.end.close()
        else:
            alice.finish()
            alice.listens = how != "ended"
        alice.ended = how != "ended, and it listens"
        house.guests.remove(alice)

        def gone() -> bool:
            house.settle()
            return alice.id in house.left

        until(gone, "the kernel has told the next worker")
        house.finish()
        house.log.record()
        mine = b"".join(run.text for run in house.log.history if run.sender == alice.id)
        said = b"<127.0.0.2>said\n<127.0.0.2>begun and\n<127.0.0.2>unfinished"
        assert mine.startswith(said if how != "reset" else b"<127.0.0.2>said\n<127.0.0.2>begu")
        assert said.startswith(mine)
        assert house.left == {alice.id: "reset" if how == "reset" else "closed"}
        house.check()
        alice.end.close()


def test_load_4_unread_text_of_a_throttled_leaver_is_lost_only_by_a_reset() -> None:
    """The member leaves while it is throttled, and answers later messages by a reset."""
    with a_house(workers=1, rate=2048, burst=1024) as house:
        alice, bob = house.joined(2)
        alice.say(b"".join(b"%d\n" % number for number in range(400)))
        house.settle()
        alice.say(b"more\nhalf a line")
        alice.hear()
        alice.end.close()
        house.guests.remove(alice)
        bob.say(b"to all\n")
        house.settle()
        house.alive[0].kill()
        house.finish()
        house.log.record()
        mine = b"".join(run.text for run in house.log.history if run.sender == alice.id)
        said = mine.replace(b"<127.0.0.2>", b"")
        assert alice.said.startswith(said.rstrip(b"\n"))
        assert len(said) > 1000
        house.check()


def dies(*_: object) -> None:
    raise Killed


@pytest.mark.parametrize("end", ["reset", "closed"])
@pytest.mark.parametrize("again", [False, True])
def test_load_4_input_read_before_a_death_and_a_reset_is_appended(again: bool, end: str) -> None:
    """A worker dies after reading; with `again`, so does the one that takes over."""
    with a_house(workers=1) as house, pytest.MonkeyPatch.context() as monkeypatch:
        alice, _ = house.joined(2)
        with monkeypatch.context() as first:
            first.setattr(Framer, "feed", dies)
            alice.say(b"one\nhalf ")
            assert not house.alive[0].run()
        if again:
            house.main()
            assert house.alive[0].run()
            house.main()
            with monkeypatch.context() as second:
                second.setattr(Membership, "reports", dies)
                assert not house.alive[0].run()
        alice.say(b"a line\n")
        alice.hear()
        alice.go(end)
        connection = house.members.by_id[alice.id].connection
        with EPOLL() as epoll:
            epoll.register(connection, select.EPOLLRDHUP)
            assert epoll.poll(PATIENCE), "its end has arrived"
            epoll.modify(connection, 0)
            with contextlib.suppress(ConnectionError):
                connection.send(b"to nobody")
            assert epoll.poll(PATIENCE), "the reset has arrived"
        house.finish()
        house.log.record()
        mine = b"".join(run.text for run in house.log.history if run.sender == alice.id)
        assert mine == b"<127.0.0.2>one\n<127.0.0.2>half a line\n"


@pytest.mark.parametrize("most", [1, 1 << 20])
def test_leave_2_a_stopping_worker_acks_after_appending_all_input(
    most: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After its ack the worker is told to stop, and would lose input that is in no batch yet.

    With `most` 1, each text fills a batch; otherwise none does.
    """
    monkeypatch.setattr(Settings, "batch", most)
    monkeypatch.setattr(Settings, "batch_entries", most)
    with a_house() as house:
        guests = house.joined(6)
        theirs = [guest for guest in guests if house.members.by_id[guest.id].worker == 0]
        dead, other = house.alive
        for guest in theirs:
            guest.say(b"half a line")
        dead.run()
        house.pool.workers[1].tell({"drain": True})
        other.run()
        dead.kill()
        house.main()
        said: list[bytes] = []
        send = Channel.send

        def note_ack(channel: Channel, record: Record) -> None:
            if "ack" in record:
                house.log.record()
                said.extend(run.text for run in house.log.history)
            send(channel, record)

        monkeypatch.setattr(Channel, "send", note_ack)
        with monkeypatch.context() as full:
            full.setattr(house.log, "append", lambda batch: None)
            other.run()
        house.doorbells[1].ring()
        other.run()
        assert [text.rstrip(b"\n") for text in said if text.strip()] == [
            guest.prefix + b"half a line" for guest in theirs
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
def test_load_4_random_steps_and_deaths_lose_and_double_nothing(seed: int) -> None:
    """Random steps of all processes, and deaths of workers at random lines."""
    chance = random.Random(seed)
    limits = {"rate": 2048, "burst": 1024} if seed % 2 else {}
    if seed % 3 == 0:
        limits["room_rate"] = 16 * KIB
    with a_house(workers=chance.choice([1, 2, 2, 3]), **limits) as house:
        for _ in range(chance.randint(1, 4)):
            house.join(chance.choice([None, 2048]))
        for _ in range(chance.randint(20, 200)):
            step(house, chance)
        house.finish()
        house.check()


def step(house: House, chance: random.Random) -> None:
    if chance.random() < 0.5:
        guest_s_step(house, chance)
        return
    match chance.choices(
        ["run", "main", "settle", "wait", "die", "replace"], [20, 15, 5, 10, 12, 1]
    ):
        case ["run"] if house.alive:
            chance.choice(house.alive).run()
        case ["main"]:
            house.main()
        case ["settle"]:
            house.settle()
        case ["wait"]:
            house.clock.now += chance.choice([0.05, 0.25])
        case ["die"] if house.alive:
            line = chance.choice([1, 10, 100, 300, 1000]) + chance.randrange(300)
            chance.choice(house.alive).run(line)
        case ["replace"]:
            house.pool.replace_all()


def guest_s_step(house: House, chance: random.Random) -> None:
    guest = chance.choice(house.guests)
    match chance.choices(["say", "hear", "join", "finish", "go"], [30, 15, 4, 1, 3]):
        case ["say"]:
            guest.say(chance.choice(WORDS) * chance.choice([1, 1, 1, 5]))
        case ["hear"]:
            guest.hear(chance.choice([1, 100, 3000, 1 << 20]))
        case ["join"] if sum(not guest.gone for guest in house.guests) < 8:
            house.join(chance.choice([None, 2048]))
        case ["finish"]:
            guest.finish()
        case ["go"] if guest.address in house.ids and not guest.gone:
            guest.hear()  # else close resets at once, without a FIN
            guest.go(chance.choice(["closed", "reset"]))
