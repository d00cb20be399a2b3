"""Delivery: the text from a member's cursor to the head is sent, except the member's own."""

import contextlib
import select
import socket
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import integers, just, lists, one_of, sampled_from, tuples

from chatroom.log.ring import Geometry, Log, Span
from chatroom.system.doorbell import Doorbell
from chatroom.worker import delivery
from chatroom.worker.delivery import (
    CATCH_UP_WITHIN,
    FEW_MEMBERS,
    MAX_SPANS,
    Delivery,
    after,
    others,
)
from chatroom.worker.member import Member
from tests.log.entries import Run, append, head, new_log, say
from tests.worker.drivers import EVERYTHING, Clock, Line, member_on

LAG, LAG_ENTRIES = 100, 12
GEOMETRY = Geometry(text=256, entries=32, kept=LAG, kept_entries=LAG_ENTRIES)


class Watched:
    """An epoll for Lines, which have no descriptors."""

    def __init__(self) -> None:
        self.fds: list[int] = []

    def register(self, fd: int, events: int) -> None:
        self.fds.append(fd)

    def unregister(self, fd: int) -> None:
        self.fds.remove(fd)


class Stage:
    """The delivery of one worker, and its log."""

    def __init__(self, log: Log, *doorbells: Doorbell) -> None:
        self.log = log
        self.writable = Watched()
        geometry = log.geometry
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(select, "epoll", lambda: self.writable)
            self.delivery = Delivery(0, log, [*doorbells], geometry.kept, geometry.kept_entries)

    def join(self, id: int, room: int = EVERYTHING) -> tuple[Member, Line]:
        line = Line(room)
        member = member_on(line, id)
        self.delivery.join(member)
        return member, line

    def say(self, text: bytes, member: Member | None = None) -> None:
        """Append a message of a member; by default of a member of another worker."""
        with self.log:
            if self.delivery:
                self.log.advance(0, self.delivery.position)
        start = say(self.log, text, member.id if member else 99)
        if member:
            # As the loop does: the LF that will end the line is the member's own too.
            member.owns(start, start + len(text) + (not text.endswith(b"\n")))

    def turn(self) -> list[Member]:
        """Deliver; return the members that fell behind."""
        before = set(self.delivery.behind)
        self.delivery.deliver(head(self.log), 0, [])
        behind = self.delivery.behind.values()
        assert self.writable.fds == [member.fileno() for member in behind], "these are watched"
        return [member for id, member in self.delivery.behind.items() if id not in before]


@pytest.fixture(name="stage")
def fixture_stage() -> Iterator[Stage]:
    with new_log(GEOMETRY) as log:
        yield Stage(log)


def positions(log: Log) -> list[int]:
    with log:
        return log.serving()


# --- level ---------------------------------------------------------------------------------------


def test_cast_1_all_level_members_receive_new_text_in_one_call(stage: Stage) -> None:
    (_, member), (_, other) = stage.join(1), stage.join(2)
    stage.say(b"<a>hi\n")
    stage.say(b"<b>hello\n")
    assert stage.turn() == []
    assert member.heard == other.heard == b"<a>hi\n<b>hello\n"
    assert member.calls == other.calls == 1
    assert stage.turn() == []
    assert member.calls == 1, "no call without new text"


def test_welcome_3_a_newcomer_receives_all_later_messages(stage: Stage) -> None:
    stage.say(b"<a>before\n")
    _, member = stage.join(1)
    stage.say(b"<a>after\n")
    stage.turn()
    assert member.heard == b"<a>after\n"


def test_a_newcomer_begins_at_the_worker_s_position(stage: Stage) -> None:
    stage.join(1)
    stage.say(b"<a>not delivered yet\n")
    _, late = stage.join(2)
    stage.turn()
    assert late.heard == b"<a>not delivered yet\n"


def test_cast_2_no_member_receives_its_own_message(stage: Stage) -> None:
    (alice, member), (bob, other), (_, third) = stage.join(1), stage.join(2), stage.join(3)
    stage.say(b"<a>1\n", alice)
    stage.say(b"<b>2\n", bob)
    stage.say(b"<a>3\n", alice)
    stage.turn()
    assert member.heard == b"<b>2\n"
    assert other.heard == b"<a>1\n<a>3\n"
    assert third.heard == b"<a>1\n<b>2\n<a>3\n"
    assert not alice.own
    assert not bob.own, "spans behind the cursor are dropped"


def test_line_6_the_lf_that_ends_a_line_does_not_reach_its_sender(stage: Stage) -> None:
    (alice, member), (_, other) = stage.join(1), stage.join(2)
    stage.say(b"<a>hel", alice)
    stage.turn()
    stage.say(b"<b>hi\n")
    stage.turn()
    assert member.heard == b"<b>hi\n"
    assert other.heard == b"<a>hel\n<b>hi\n"


def test_line_6_a_newcomer_does_not_receive_the_end_of_an_earlier_line(stage: Stage) -> None:
    stage.say(b"<a>hel")
    _, first = stage.join(1)
    _, second = stage.join(2)
    stage.say(b"<b>hi\n")
    stage.turn()
    assert first.heard == second.heard == b"<b>hi\n"


def test_line_6_a_newcomer_that_speaks_first_receives_no_lf(stage: Stage) -> None:
    stage.say(b"<b>hel")
    alice, member = stage.join(1)
    stage.say(b"<a>hi\n", alice)
    stage.say(b"<b>lo\n")
    stage.turn()
    assert member.heard == b"<b>lo\n"


def test_text_that_wraps_arrives_whole(stage: Stage) -> None:
    (alice, member), (_, other) = stage.join(1), stage.join(2)
    expected = b""
    for number in range(30):
        line = b"<b>%d %s\n" % (number, b"x" * number)
        stage.say(line)
        stage.say(b"<a>\n", alice)
        expected += line
        stage.turn()
    assert member.heard == expected
    assert other.heard.replace(b"<a>\n", b"") == expected


# --- behind --------------------------------------------------------------------------------------


def test_load_1_a_partial_send_is_resumed_at_its_end(stage: Stage) -> None:
    (slow, narrow), (_, wide) = stage.join(1, room=4), stage.join(2)
    stage.say(b"<a>hello\n")
    assert stage.turn() == [slow]
    assert stage.delivery.behind == {1: slow}
    stage.say(b"<b>hi\n")
    assert stage.turn() == [], "no further send before the socket is writable"
    assert wide.heard == b"<a>hello\n<b>hi\n"
    assert narrow.heard == b"<a>h"
    narrow.room = 6
    assert not stage.delivery.resume(slow)
    narrow.room = EVERYTHING
    assert stage.delivery.resume(slow)
    assert narrow.heard == wide.heard
    assert not stage.delivery.behind
    stage.say(b"<a>again\n")
    assert stage.turn() == []
    assert narrow.heard == wide.heard, "it is level again"


def test_load_1_a_member_that_takes_nothing_is_behind(stage: Stage) -> None:
    slow, narrow = stage.join(1, room=0)
    stage.say(b"<a>hello\n")
    assert stage.turn() == [slow]
    assert not stage.delivery.resume(slow)
    narrow.room = EVERYTHING
    assert stage.delivery.resume(slow)
    assert narrow.heard == b"<a>hello\n"


@pytest.mark.parametrize("room", range(20))
def test_cast_2_a_member_that_was_behind_resumes_between_its_own_messages(
    room: int, stage: Stage
) -> None:
    alice, narrow = stage.join(1, room=room)
    for said in (b"<b>1\n", b"<c>2\n"):
        stage.say(b"<a>mine\n", alice)
        stage.say(said)
    stage.say(b"<a>and mine", alice)
    stuck = stage.turn()
    assert narrow.heard == b"<b>1\n<c>2\n"[:room]
    assert stuck == ([alice] if room < 10 else [])
    stage.say(b"<b>3\n")
    stage.turn()
    narrow.room = EVERYTHING
    if stuck:
        assert stage.delivery.resume(alice)
    assert narrow.heard == (
        b"<b>1\n<c>2\n<b>3\n" if stuck or room >= 15 else b"<b>1\n<c>2\n<b>3\n"[:room]
    )


def test_a_member_with_only_its_own_text_ahead_needs_no_send(stage: Stage) -> None:
    alice, line = stage.join(1, room=0)
    stage.say(b"<a>1\n", alice)
    stage.say(b"<a>2", alice)
    assert stage.turn() == []
    assert line.calls == 0


def test_more_views_than_the_kernel_takes_go_out_in_several_calls() -> None:
    count = MAX_SPANS + 100
    with new_log(Geometry(1 << 16, 1 << 12, 1 << 14, 1 << 11)) as log:
        stage = Stage(log)
        alice, line = stage.join(1)
        for number in range(count):
            stage.say(b"<a>\n", alice)
            stage.say(b"<b>%d\n" % number)
        assert stage.turn() == [alice]
        assert line.heard == b"".join(b"<b>%d\n" % number for number in range(MAX_SPANS))
        assert stage.delivery.resume(alice)
        assert line.heard == b"".join(b"<b>%d\n" % number for number in range(count))


# --- gone ----------------------------------------------------------------------------------------


def test_leave_1_a_broken_connection_does_not_affect_others(stage: Stage) -> None:
    (_, broken), (speaker, also_broken), (_, line) = (stage.join(id) for id in (1, 2, 3))
    broken.broken = also_broken.broken = True
    stage.say(b"<a>1\n", speaker)
    stage.say(b"<b>2\n")
    assert stage.turn() == []
    assert line.heard == b"<a>1\n<b>2\n"
    assert len(stage.delivery) == 1, "broken members are dropped"


def test_leave_1_a_connection_may_break_while_it_is_behind(stage: Stage) -> None:
    gone, broken = stage.join(1, room=0)
    stage.say(b"<a>1\n")
    assert stage.turn() == [gone]
    broken.broken = True
    assert stage.delivery.resume(gone), "there is nothing to wait for"
    assert not stage.delivery
    assert positions(stage.log) == [], "the log does not wait for this worker"


def test_leave_1_a_member_that_left_is_sent_nothing(stage: Stage) -> None:
    (alice, first), (bob, other), (_, third) = stage.join(1), stage.join(2, room=3), stage.join(3)
    stage.say(b"<x>1\n")
    stage.turn()
    for member in (alice, bob, alice):
        stage.delivery.leave(member)
    other.room = EVERYTHING
    stage.say(b"<x>2\n")
    stage.turn()
    assert (first.heard, other.heard, third.heard) == (b"<x>1\n", b"<x>", b"<x>1\n<x>2\n")
    assert len(stage.delivery) == 1


def test_leave_3_the_log_does_not_wait_for_a_worker_without_members(stage: Stage) -> None:
    assert positions(stage.log) == []
    alice, bob = stage.join(1)[0], stage.join(2)[0]
    assert positions(stage.log) == [0]
    stage.delivery.leave(alice)
    assert positions(stage.log) == [0]
    stage.delivery.leave(bob)
    assert positions(stage.log) == []
    assert not stage.delivery
    assert stage.delivery.members() == []


def test_leave_5_a_member_that_comes_back_begins_at_the_head(stage: Stage) -> None:
    stage.delivery.leave(stage.join(1)[0])
    for _ in range(100):
        stage.say(b"<b>nobody hears this\n")
    _, line = stage.join(1)
    stage.say(b"<b>hello\n")
    stage.turn()
    assert line.heard == b"<b>hello\n"
    assert positions(stage.log) == [0]


# --- served by another ---------------------------------------------------------------------------


def test_load_4_a_pinned_worker_keeps_its_position_until_it_is_unpinned(stage: Stage) -> None:
    """The worker delivers, loses its last member and gets another one meanwhile."""
    with stage.log:
        stage.log.wait_for_space(1)
    alice, line = stage.join(1)
    stage.delivery.pin()
    say(stage.log, b"<b>1\n", 99)
    stage.turn()
    stage.delivery.advance()
    stage.delivery.leave(alice)
    stage.join(2)
    with stage.log:
        assert stage.delivery.advance_locked() == []
    assert stage.log.worker_position(0) == 1
    stage.delivery.unpin()
    assert stage.log.worker_position(0) == 2
    stage.delivery.leave(stage.delivery.members()[0])
    assert positions(stage.log) == []
    assert line.heard == b"<b>1\n"


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("room", [0, 3, EVERYTHING])
def test_load_4_a_member_taken_over_continues_at_its_cursor(
    room: int, others: int, stage: Stage
) -> None:
    """All but its own messages are sent at once; the rest follows when the socket is writable."""
    start = say(stage.log, b"<a>1\n", 99)
    own = say(stage.log, b"<b>mine\n", 1)
    say(stage.log, b"<a>2", 99)
    for id in range(others):
        stage.join(id + 7)
    line = Line(room)
    member = member_on(line, 1)
    stage.delivery.take_over(member, start + 3, 1, [(own, own + 8)])
    assert line.heard == b"1\n<a>2"[:room]
    assert stage.delivery.behind == ({1: member} if room < 6 else {})
    assert stage.delivery.cursor_of(member) == (
        (start + 3 + room, 1) if room < 2 else ((own + 9, 3) if room < 6 else (own + 12, 4))
    )
    line.room = EVERYTHING
    stage.say(b"<a>3\n")
    stage.turn()
    if member.id in stage.delivery.behind:
        stage.delivery.resume(member)
    assert line.heard == b"1\n<a>2\n<a>3\n"


@pytest.mark.parametrize("last", ["its own", "another's"])
def test_line_6_a_member_taken_over_does_not_receive_its_own_lf(last: str, stage: Stage) -> None:
    sender = 1 if last == "its own" else 2
    start = say(stage.log, b"<a>hel", sender)
    line = Line()
    member = member_on(line, 1)
    end = start + 6
    stage.delivery.take_over(member, end, 1, [(start, end)] if sender == 1 else [])
    stage.say(b"<c>hi\n")
    stage.turn()
    assert line.heard == (b"<c>hi\n" if sender == 1 else b"\n<c>hi\n")


def test_line_6_a_checkpoint_behind_a_coming_lf_skips_that_lf(stage: Stage) -> None:
    """The member joined during the unfinished line, so its checkpoint lies behind the coming LF."""
    start = say(stage.log, b"<a>hel", 2)
    line = Line()
    stage.delivery.take_over(member_on(line, 1), start + 7, 1, [])
    stage.say(b"<c>hi\n")
    stage.turn()
    assert line.heard == b"<c>hi\n"


# --- how far behind ------------------------------------------------------------------------------


def test_load_2_the_limit_in_bytes(stage: Stage) -> None:
    slow, _ = stage.join(1, room=10)
    stage.join(2)
    stage.say(b"x" * 59 + b"\n")
    stage.turn()
    stage.say(b"x" * 49 + b"\n")
    stage.turn()
    assert stage.delivery.offset - slow.cursor == LAG
    assert stage.delivery.laggards() == []
    stage.say(b"\n")
    stage.turn()
    assert stage.delivery.laggards() == [slow]


def test_load_2_the_limit_in_entries(stage: Stage) -> None:
    slow, narrow = stage.join(1, room=1)
    stage.join(2)
    for _ in range(LAG_ENTRIES + 1):
        stage.say(b"\n")
        stage.turn()
    assert stage.delivery.laggards() == [], "the member has received one entry"
    narrow.room = 3
    stage.delivery.resume(slow)
    for _ in range(3):
        assert stage.delivery.laggards() == []
        stage.say(b"\n")
        stage.turn()
    assert stage.delivery.laggards() == []
    stage.say(b"\n")
    stage.turn()
    assert stage.delivery.laggards() == [slow]


def test_load_2_one_batch_may_exceed_the_limit_in_entries(stage: Stage) -> None:
    slow, _ = stage.join(1, room=0)
    append(stage.log, *[Run(99, b"\n")] * (LAG_ENTRIES + 1))
    assert stage.turn() == [slow]
    assert stage.delivery.laggards() == [slow]


def test_load_2_a_level_member_is_never_too_slow(stage: Stage) -> None:
    _, line = stage.join(1)
    for _ in range(50):
        stage.say(b"x" * 99 + b"\n")
        stage.turn()
        assert stage.delivery.laggards() == []
    assert len(line.heard) == 5000


# --- the grace period ----------------------------------------------------------------------------


@pytest.mark.parametrize("catches_up", [False, True])
def test_load_4_a_lagging_member_taken_over_has_a_grace_period(
    catches_up: bool, stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LOAD-2: it is disconnected if it has not caught up when the grace period ends."""
    clock = Clock()
    monkeypatch.setattr(delivery, "monotonic", clock)
    start = say(stage.log, b"x" * LAG + b"\n", 99)
    line = Line(0)
    member = member_on(line, 1)
    stage.delivery.take_over(member, start, 1, [])
    assert stage.delivery.grace_until == clock.now + CATCH_UP_WITHIN
    assert stage.delivery.laggards() == []
    clock.now += CATCH_UP_WITHIN - 1
    if catches_up:
        line.room = LAG // 2 + 1
        assert not stage.delivery.resume(member)
        assert stage.delivery.laggards() == []
    else:
        assert stage.delivery.laggards() == []
        clock.now += 1
        assert stage.delivery.laggards() == [member]
    assert stage.delivery.grace_until is None


def test_a_member_taken_over_with_little_lag_has_no_grace_period(stage: Stage) -> None:
    start = say(stage.log, b"x" * 49 + b"\n", 99)
    stage.delivery.take_over(member_on(Line(0), 1), start, 1, [])
    assert stage.delivery.grace_until is None


# --- other workers -------------------------------------------------------------------------------


@pytest.mark.parametrize(("members", "first"), [(FEW_MEMBERS, "sent"), (FEW_MEMBERS + 1, "rung")])
def test_few_members_are_served_before_others_are_woken_many_after(
    members: int, first: str
) -> None:
    rung: list[bool] = []

    class Rung(Line):
        def send(self, data: bytes | memoryview) -> int:
            rung.append(is_rung())
            return super().send(data)

    def is_rung() -> bool:
        return bool(select.select([doorbell], [], [], 0)[0])

    with new_log(GEOMETRY) as log, contextlib.closing(Doorbell.new()) as doorbell:
        stage = Stage(log, doorbell)
        for id in range(1, members + 1):
            stage.delivery.join(member_on(Rung(), id))
        stage.say(b"<a>hi\n")
        stage.delivery.deliver(head(log), 0, [0])
        assert rung == [first == "rung"] * members
        assert is_rung()


# --- spans ---------------------------------------------------------------------------------------

SPANS = lists(integers(0, 30), unique=True, max_size=8).map(
    lambda ends: [*zip(sorted(ends)[::2], sorted(ends)[1::2], strict=False)]
)


@given(SPANS, integers(0, 30), integers(0, 30))
def test_others_yields_everything_but_the_own_spans(
    own: list[Span], start: int, length: int
) -> None:
    end = start + length
    spans = others(start, end, own)
    covered = [offset for begin, stop in spans for offset in range(begin, stop)]
    mine = {offset for begin, stop in own for offset in range(begin, stop)}
    assert covered == [offset for offset in range(start, end) if offset not in mine]
    assert all(begin < stop for begin, stop in spans), "no empty view is sent"


@given(SPANS.filter(bool))
def test_after_returns_the_offset_behind_the_taken_bytes(spans: list[Span]) -> None:
    offsets = [offset for begin, stop in spans for offset in range(begin, stop)]
    for taken, following in enumerate(offsets):
        assert after(spans, taken) == following
    with pytest.raises(ValueError, match="taken must be less than the size"):
        after(spans, len(offsets) + 1)


# --- against a model -----------------------------------------------------------------------------

IDS = [1, 2, 3, 4]
STEPS = lists(
    one_of(
        tuples(
            just("say"),
            sampled_from([0, *IDS]),
            sampled_from([b"a\n", b"bb", b"\n", b"ccccccc\nc\n", b"d" * 30 + b"\n", b"e" * 50]),
        ),
        tuples(just("turn"), just(0), just(b"")),
        tuples(just("room"), sampled_from(IDS), integers(0, 60).map(bytes)),
        tuples(just("resume"), sampled_from(IDS), just(b"")),
        tuples(just("join"), sampled_from(IDS), just(b"")),
        tuples(just("leave"), sampled_from(IDS), just(b"")),
    ),
    max_size=80,
)


class Model:
    """A model of the room in which every byte has an owner."""

    def __init__(self, stage: Stage) -> None:
        self.stage = stage
        self.stream: list[tuple[int, int]] = []
        """Bytes of the log, each with the id of its sender."""
        self.joined: dict[int, tuple[Member, Line, int]] = {}
        """Members by id, each with the offset at which it joined."""

    def say(self, id: int, text: bytes) -> None:
        member = self.joined[id][0] if id in self.joined else None
        self.turn()  # without delivery there is no room
        self.stage.say(text, member)
        if self.stream and self.stream[-1][0] != ord("\n"):
            self.stream.append((ord("\n"), self.stream[-1][1]))
        self.stream += [(byte, member.id if member else 0) for byte in text]

    def turn(self) -> None:
        if not self.stage.delivery:
            return
        self.stage.turn()
        for member in self.stage.delivery.laggards():
            lag = self.stage.delivery.offset - member.cursor
            entries = self.stage.delivery.position - member.entry
            assert lag > LAG or entries > LAG_ENTRIES
            self.leave(member.id)

    def join(self, id: int) -> None:
        if id not in self.joined:
            offset = self.stage.delivery.offset if self.stage.delivery else len(self.stream)
            self.joined[id] = (*self.stage.join(id, room=10), offset)

    def leave(self, id: int) -> None:
        if id in self.joined:
            member, line, offset = self.joined.pop(id)
            self.stage.delivery.leave(member)
            assert self.due(id, offset).startswith(line.heard)
            # Another member may get the id, so its bytes belong to nobody now.
            self.stream = [(byte, 0 if owner == id else owner) for byte, owner in self.stream]

    def resume(self, id: int) -> None:
        if id in self.stage.delivery.behind:
            self.stage.delivery.resume(self.joined[id][0])

    def due(self, id: int, offset: int) -> bytes:
        """Return the bytes that a member must receive.

        These are all after `offset`, except its own and a LF that ends a line before it joined.
        """
        if offset > 0 and self.stream[offset - 1][0] != ord("\n"):
            offset += 1
        return bytes(byte for byte, owner in self.stream[offset:] if owner != id)

    def play(self, steps: list[tuple[str, int, bytes]]) -> None:
        for action, id, data in steps:
            match action:
                case "say":
                    self.say(id, data)
                case "turn":
                    self.turn()
                case "room" if id in self.joined:
                    self.joined[id][1].room += len(data)
                case "resume":
                    self.resume(id)
                case "join":
                    self.join(id)
                case "leave":
                    self.leave(id)


@given(STEPS)
def test_cast_5_each_member_receives_all_but_its_own_in_one_order(steps: list[Any]) -> None:
    with new_log(GEOMETRY) as log:
        model = Model(Stage(log))
        for id in IDS[:2]:
            model.join(id)
        model.play(steps)
        model.turn()
        for id, (_, line, offset) in model.joined.items():
            line.room = EVERYTHING
            while id in model.stage.delivery.behind:
                model.resume(id)
            assert line.heard == model.due(id, offset)


# --- a real connection ---------------------------------------------------------------------------


def test_load_1_a_narrow_socket_receives_everything_in_the_end() -> None:
    with new_log(Geometry(1 << 20, 1 << 12, 1 << 19, 1 << 11)) as log:
        stage = Stage(log)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            ours.setblocking(False)
            theirs.settimeout(10)
            member = Member(1, "192.0.2.1", "<192.0.2.1>", ours, 0, 64)
            stage.delivery.join(member)
            expected = b""
            for number in range(100):
                stage.say(b"<a>%s\n" % (b"%d" % number * 500))
                stage.say(b"<b>mine\n", member)
                expected += b"<a>%s\n" % (b"%d" % number * 500)
            assert stage.turn() == [member]
            heard = b""
            while not stage.delivery.resume(member):
                heard += theirs.recv(10_000)
            ours.shutdown(socket.SHUT_WR)
            while data := theirs.recv(1 << 20):
                heard += data
            assert heard == expected
