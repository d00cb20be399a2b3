"""Tests of delivery: a member receives the text from its cursor to the head, except its own
text."""

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
from tests.log.entries import Run, append, append_message, head, new_log
from tests.worker.drivers import EVERYTHING, Clock, FakeConnection, member_on

LAG, LAG_ENTRIES = 100, 12
GEOMETRY = Geometry(text=256, entries=32, kept=LAG, kept_entries=LAG_ENTRIES)


class FakeEpoll:
    """An epoll for fake connections, which have no real descriptors."""

    def __init__(self) -> None:
        self.fds: list[int] = []

    def register(self, fd: int, events: int) -> None:
        self.fds.append(fd)

    def unregister(self, fd: int) -> None:
        self.fds.remove(fd)


class DeliveryDriver:
    """The delivery of one worker, and the room's log."""

    def __init__(self, log: Log, *doorbells: Doorbell) -> None:
        self.log = log
        self.writable = FakeEpoll()
        geometry = log.geometry
        with pytest.MonkeyPatch.context() as monkeypatch:
            monkeypatch.setattr(select, "epoll", lambda: self.writable)
            self.delivery = Delivery(0, log, [*doorbells], geometry.kept, geometry.kept_entries)

    def join(self, id: int, space: int = EVERYTHING) -> tuple[Member, FakeConnection]:
        connection = FakeConnection(space)
        member = member_on(connection, id)
        self.delivery.join(member)
        return member, connection

    def append(self, text: bytes, member: Member | None = None) -> None:
        """Append a message of a member, or of another worker's member if `member` is None."""
        with self.log:
            if self.delivery:
                self.log.advance(0, self.delivery.position)
        start = append_message(self.log, text, member.id if member else 99)
        if member:
            # As in the worker's loop, an unfinished line's future LF counts as the member's own
            # text.
            member.owns(start, start + len(text) + (not text.endswith(b"\n")))

    def turn(self) -> list[Member]:
        """Deliver; return the members that have fallen behind."""
        before = set(self.delivery.behind)
        self.delivery.deliver(head(self.log), 0, [])
        behind = self.delivery.behind.values()
        assert self.writable.fds == [member.fileno() for member in behind], "watched connections"
        return [member for id, member in self.delivery.behind.items() if id not in before]


@pytest.fixture(name="driver")
def fixture_driver() -> Iterator[DeliveryDriver]:
    with new_log(GEOMETRY) as log:
        yield DeliveryDriver(log)


def positions(log: Log) -> list[int]:
    with log:
        return log.serving()


# --- caught up -----------------------------------------------------------------------------------


def test_cast_1_all_caught_up_members_receive_new_text_in_one_call(driver: DeliveryDriver) -> None:
    (_, member), (_, other) = driver.join(1), driver.join(2)
    driver.append(b"<a>hi\n")
    driver.append(b"<b>hello\n")
    assert driver.turn() == []
    assert member.received == other.received == b"<a>hi\n<b>hello\n"
    assert member.calls == other.calls == 1
    assert driver.turn() == []
    assert member.calls == 1, "no call without new text"


def test_welcome_3_a_newcomer_receives_all_later_messages(driver: DeliveryDriver) -> None:
    driver.append(b"<a>before\n")
    _, member = driver.join(1)
    driver.append(b"<a>after\n")
    driver.turn()
    assert member.received == b"<a>after\n"


def test_a_newcomer_begins_at_the_worker_s_position(driver: DeliveryDriver) -> None:
    driver.join(1)
    driver.append(b"<a>not delivered yet\n")
    _, late = driver.join(2)
    driver.turn()
    assert late.received == b"<a>not delivered yet\n"


def test_cast_2_no_member_receives_its_own_message(driver: DeliveryDriver) -> None:
    (alice, member), (bob, other), (_, third) = driver.join(1), driver.join(2), driver.join(3)
    driver.append(b"<a>1\n", alice)
    driver.append(b"<b>2\n", bob)
    driver.append(b"<a>3\n", alice)
    driver.turn()
    assert member.received == b"<b>2\n"
    assert other.received == b"<a>1\n<a>3\n"
    assert third.received == b"<a>1\n<b>2\n<a>3\n"
    assert not alice.own
    assert not bob.own, "spans before the cursor are dropped"


def test_line_6_the_lf_that_ends_a_line_does_not_reach_its_sender(driver: DeliveryDriver) -> None:
    (alice, member), (_, other) = driver.join(1), driver.join(2)
    driver.append(b"<a>hel", alice)
    driver.turn()
    driver.append(b"<b>hi\n")
    driver.turn()
    assert member.received == b"<b>hi\n"
    assert other.received == b"<a>hel\n<b>hi\n"


def test_line_6_a_newcomer_does_not_receive_the_end_of_an_earlier_line(
    driver: DeliveryDriver,
) -> None:
    driver.append(b"<a>hel")
    _, first = driver.join(1)
    _, second = driver.join(2)
    driver.append(b"<b>hi\n")
    driver.turn()
    assert first.received == second.received == b"<b>hi\n"


def test_line_6_a_newcomer_that_sends_first_receives_no_lf(driver: DeliveryDriver) -> None:
    driver.append(b"<b>hel")
    alice, member = driver.join(1)
    driver.append(b"<a>hi\n", alice)
    driver.append(b"<b>lo\n")
    driver.turn()
    assert member.received == b"<b>lo\n"


def test_text_that_wraps_arrives_whole(driver: DeliveryDriver) -> None:
    (alice, member), (_, other) = driver.join(1), driver.join(2)
    expected = b""
    for number in range(30):
        line = b"<b>%d %s\n" % (number, b"x" * number)
        driver.append(line)
        driver.append(b"<a>\n", alice)
        expected += line
        driver.turn()
    assert member.received == expected
    assert other.received.replace(b"<a>\n", b"") == expected


# --- behind --------------------------------------------------------------------------------------


def test_load_1_a_partial_send_is_resumed_at_its_end(driver: DeliveryDriver) -> None:
    (slow, narrow), (_, wide) = driver.join(1, space=4), driver.join(2)
    driver.append(b"<a>hello\n")
    assert driver.turn() == [slow]
    assert driver.delivery.behind == {1: slow}
    driver.append(b"<b>hi\n")
    assert driver.turn() == [], "no further send before the socket is writable"
    assert wide.received == b"<a>hello\n<b>hi\n"
    assert narrow.received == b"<a>h"
    narrow.space = 6
    assert not driver.delivery.resume(slow)
    narrow.space = EVERYTHING
    assert driver.delivery.resume(slow)
    assert narrow.received == wide.received
    assert not driver.delivery.behind
    driver.append(b"<a>again\n")
    assert driver.turn() == []
    assert narrow.received == wide.received, "the member is caught up again"


def test_load_1_a_member_that_takes_nothing_is_behind(driver: DeliveryDriver) -> None:
    slow, narrow = driver.join(1, space=0)
    driver.append(b"<a>hello\n")
    assert driver.turn() == [slow]
    assert not driver.delivery.resume(slow)
    narrow.space = EVERYTHING
    assert driver.delivery.resume(slow)
    assert narrow.received == b"<a>hello\n"


@pytest.mark.parametrize("space", range(20))
def test_cast_2_a_member_that_was_behind_resumes_between_its_own_messages(
    space: int, driver: DeliveryDriver
) -> None:
    alice, narrow = driver.join(1, space=space)
    for sent in (b"<b>1\n", b"<c>2\n"):
        driver.append(b"<a>mine\n", alice)
        driver.append(sent)
    driver.append(b"<a>and mine", alice)
    stuck = driver.turn()
    assert narrow.received == b"<b>1\n<c>2\n"[:space]
    assert stuck == ([alice] if space < 10 else [])
    driver.append(b"<b>3\n")
    driver.turn()
    narrow.space = EVERYTHING
    if stuck:
        assert driver.delivery.resume(alice)
    assert narrow.received == (
        b"<b>1\n<c>2\n<b>3\n" if stuck or space >= 15 else b"<b>1\n<c>2\n<b>3\n"[:space]
    )


def test_a_member_with_only_its_own_text_ahead_needs_no_send(driver: DeliveryDriver) -> None:
    alice, connection = driver.join(1, space=0)
    driver.append(b"<a>1\n", alice)
    driver.append(b"<a>2", alice)
    assert driver.turn() == []
    assert connection.calls == 0


def test_more_views_than_the_kernel_takes_go_out_in_several_calls() -> None:
    count = MAX_SPANS + 100
    with new_log(Geometry(1 << 16, 1 << 12, 1 << 14, 1 << 11)) as log:
        driver = DeliveryDriver(log)
        alice, connection = driver.join(1)
        for number in range(count):
            driver.append(b"<a>\n", alice)
            driver.append(b"<b>%d\n" % number)
        assert driver.turn() == [alice]
        assert connection.received == b"".join(b"<b>%d\n" % number for number in range(MAX_SPANS))
        assert driver.delivery.resume(alice)
        assert connection.received == b"".join(b"<b>%d\n" % number for number in range(count))


# --- gone ----------------------------------------------------------------------------------------


def test_leave_1_a_broken_connection_does_not_affect_others(driver: DeliveryDriver) -> None:
    (_, broken), (sender, also_broken), (_, connection) = (driver.join(id) for id in (1, 2, 3))
    broken.broken = also_broken.broken = True
    driver.append(b"<a>1\n", sender)
    driver.append(b"<b>2\n")
    assert driver.turn() == []
    assert connection.received == b"<a>1\n<b>2\n"
    assert len(driver.delivery) == 1, "broken members are dropped"


def test_leave_1_a_connection_may_break_while_it_is_behind(driver: DeliveryDriver) -> None:
    gone, broken = driver.join(1, space=0)
    driver.append(b"<a>1\n")
    assert driver.turn() == [gone]
    broken.broken = True
    assert driver.delivery.resume(gone), "a broken connection needs no more sends"
    assert not driver.delivery
    assert positions(driver.log) == [], "the log does not wait for this worker"


def test_leave_1_a_member_that_left_is_sent_nothing(driver: DeliveryDriver) -> None:
    (alice, first), (bob, other), (_, third) = (
        driver.join(1),
        driver.join(2, space=3),
        driver.join(3),
    )
    driver.append(b"<x>1\n")
    driver.turn()
    for member in (alice, bob, alice):
        driver.delivery.leave(member)
    other.space = EVERYTHING
    driver.append(b"<x>2\n")
    driver.turn()
    assert (first.received, other.received, third.received) == (b"<x>1\n", b"<x>", b"<x>1\n<x>2\n")
    assert len(driver.delivery) == 1


def test_leave_3_the_log_does_not_wait_for_a_worker_without_members(driver: DeliveryDriver) -> None:
    assert positions(driver.log) == []
    alice, bob = driver.join(1)[0], driver.join(2)[0]
    assert positions(driver.log) == [0]
    driver.delivery.leave(alice)
    assert positions(driver.log) == [0]
    driver.delivery.leave(bob)
    assert positions(driver.log) == []
    assert not driver.delivery
    assert driver.delivery.members() == []


def test_leave_5_a_member_that_comes_back_begins_at_the_head(driver: DeliveryDriver) -> None:
    driver.delivery.leave(driver.join(1)[0])
    for _ in range(100):
        driver.append(b"<b>nobody receives this\n")
    _, connection = driver.join(1)
    driver.append(b"<b>hello\n")
    driver.turn()
    assert connection.received == b"<b>hello\n"
    assert positions(driver.log) == [0]


# --- served by another worker before -------------------------------------------------------------


def test_load_4_a_pinned_worker_keeps_its_position_until_it_is_unpinned(
    driver: DeliveryDriver,
) -> None:
    """While pinned, the worker delivers, loses its last member and gets another member."""
    with driver.log:
        driver.log.wait_for_space(1)
    alice, connection = driver.join(1)
    driver.delivery.pin()
    append_message(driver.log, b"<b>1\n", 99)
    driver.turn()
    driver.delivery.advance()
    driver.delivery.leave(alice)
    driver.join(2)
    with driver.log:
        assert driver.delivery.advance_locked() == []
    assert driver.log.worker_position(0) == 1
    driver.delivery.unpin()
    assert driver.log.worker_position(0) == 2
    driver.delivery.leave(driver.delivery.members()[0])
    assert positions(driver.log) == []
    assert connection.received == b"<b>1\n"


@pytest.mark.parametrize("others", [0, 1])
@pytest.mark.parametrize("space", [0, 3, EVERYTHING])
def test_load_4_a_member_taken_over_continues_at_its_cursor(
    space: int, others: int, driver: DeliveryDriver
) -> None:
    """All text but the member's own is sent at once. If the socket is full, the rest follows when
    the socket is writable again."""
    start = append_message(driver.log, b"<a>1\n", 99)
    own = append_message(driver.log, b"<b>mine\n", 1)
    append_message(driver.log, b"<a>2", 99)
    for id in range(others):
        driver.join(id + 7)
    connection = FakeConnection(space)
    member = member_on(connection, 1)
    driver.delivery.take_over(member, start + 3, 1, [(own, own + 8)])
    assert connection.received == b"1\n<a>2"[:space]
    assert driver.delivery.behind == ({1: member} if space < 6 else {})
    assert driver.delivery.cursor_of(member) == (
        (start + 3 + space, 1) if space < 2 else ((own + 9, 3) if space < 6 else (own + 12, 4))
    )
    connection.space = EVERYTHING
    driver.append(b"<a>3\n")
    driver.turn()
    if member.id in driver.delivery.behind:
        driver.delivery.resume(member)
    assert connection.received == b"1\n<a>2\n<a>3\n"


@pytest.mark.parametrize("last", ["its own", "another's"])
def test_line_6_a_member_taken_over_does_not_receive_the_lf_of_its_own_line(
    last: str, driver: DeliveryDriver
) -> None:
    sender = 1 if last == "its own" else 2
    start = append_message(driver.log, b"<a>hel", sender)
    connection = FakeConnection()
    member = member_on(connection, 1)
    end = start + 6
    driver.delivery.take_over(member, end, 1, [(start, end)] if sender == 1 else [])
    driver.append(b"<c>hi\n")
    driver.turn()
    assert connection.received == (b"<c>hi\n" if sender == 1 else b"\n<c>hi\n")


def test_line_6_a_checkpoint_after_a_future_lf_skips_this_lf(driver: DeliveryDriver) -> None:
    """The member joined during an unfinished line, so its checkpoint is after the LF that will end
    this line."""
    start = append_message(driver.log, b"<a>hel", 2)
    connection = FakeConnection()
    driver.delivery.take_over(member_on(connection, 1), start + 7, 1, [])
    driver.append(b"<c>hi\n")
    driver.turn()
    assert connection.received == b"<c>hi\n"


# --- how far behind ------------------------------------------------------------------------------


def test_load_2_the_limit_in_bytes(driver: DeliveryDriver) -> None:
    slow, _ = driver.join(1, space=10)
    driver.join(2)
    driver.append(b"x" * 59 + b"\n")
    driver.turn()
    driver.append(b"x" * 49 + b"\n")
    driver.turn()
    assert driver.delivery.offset - slow.cursor == LAG
    assert driver.delivery.laggards() == []
    driver.append(b"\n")
    driver.turn()
    assert driver.delivery.laggards() == [slow]


def test_load_2_the_limit_in_entries(driver: DeliveryDriver) -> None:
    slow, narrow = driver.join(1, space=1)
    driver.join(2)
    for _ in range(LAG_ENTRIES + 1):
        driver.append(b"\n")
        driver.turn()
    assert driver.delivery.laggards() == [], "the member has received one entry"
    narrow.space = 3
    driver.delivery.resume(slow)
    for _ in range(3):
        assert driver.delivery.laggards() == []
        driver.append(b"\n")
        driver.turn()
    assert driver.delivery.laggards() == []
    driver.append(b"\n")
    driver.turn()
    assert driver.delivery.laggards() == [slow]


def test_load_2_one_batch_may_exceed_the_limit_in_entries(driver: DeliveryDriver) -> None:
    slow, _ = driver.join(1, space=0)
    append(driver.log, *[Run(99, b"\n")] * (LAG_ENTRIES + 1))
    assert driver.turn() == [slow]
    assert driver.delivery.laggards() == [slow]


def test_load_2_a_caught_up_member_is_never_too_slow(driver: DeliveryDriver) -> None:
    _, connection = driver.join(1)
    for _ in range(50):
        driver.append(b"x" * 99 + b"\n")
        driver.turn()
        assert driver.delivery.laggards() == []
    assert len(connection.received) == 5000


# --- the grace period ----------------------------------------------------------------------------


@pytest.mark.parametrize("catches_up", [False, True])
def test_load_4_a_lagging_member_taken_over_has_a_grace_period(
    catches_up: bool, driver: DeliveryDriver, monkeypatch: pytest.MonkeyPatch
) -> None:
    """LOAD-2: the member is disconnected if it still lags too much when the grace period ends."""
    clock = Clock()
    monkeypatch.setattr(delivery, "monotonic", clock)
    start = append_message(driver.log, b"x" * LAG + b"\n", 99)
    connection = FakeConnection(0)
    member = member_on(connection, 1)
    driver.delivery.take_over(member, start, 1, [])
    assert driver.delivery.grace_until == clock.now + CATCH_UP_WITHIN
    assert driver.delivery.laggards() == []
    clock.now += CATCH_UP_WITHIN - 1
    if catches_up:
        connection.space = LAG // 2 + 1
        assert not driver.delivery.resume(member)
        assert driver.delivery.laggards() == []
    else:
        assert driver.delivery.laggards() == []
        clock.now += 1
        assert driver.delivery.laggards() == [member]
    assert driver.delivery.grace_until is None


def test_a_member_taken_over_with_little_lag_has_no_grace_period(driver: DeliveryDriver) -> None:
    start = append_message(driver.log, b"x" * 49 + b"\n", 99)
    driver.delivery.take_over(member_on(FakeConnection(0), 1), start, 1, [])
    assert driver.delivery.grace_until is None


# --- other workers -------------------------------------------------------------------------------


@pytest.mark.parametrize(("members", "first"), [(FEW_MEMBERS, "sent"), (FEW_MEMBERS + 1, "rung")])
def test_few_members_are_served_before_others_are_woken_many_after(
    members: int, first: str
) -> None:
    rung: list[bool] = []

    class RecordingConnection(FakeConnection):
        def send(self, data: bytes | memoryview) -> int:
            rung.append(is_rung())
            return super().send(data)

    def is_rung() -> bool:
        return bool(select.select([doorbell], [], [], 0)[0])

    with new_log(GEOMETRY) as log, contextlib.closing(Doorbell.new()) as doorbell:
        driver = DeliveryDriver(log, doorbell)
        for id in range(1, members + 1):
            driver.delivery.join(member_on(RecordingConnection(), id))
        driver.append(b"<a>hi\n")
        driver.delivery.deliver(head(log), 0, [0])
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
    assert all(begin < stop for begin, stop in spans), "no span is empty"


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
            just("append"),
            sampled_from([0, *IDS]),
            sampled_from([b"a\n", b"bb", b"\n", b"ccccccc\nc\n", b"d" * 30 + b"\n", b"e" * 50]),
        ),
        tuples(just("turn"), just(0), just(b"")),
        tuples(just("space"), sampled_from(IDS), integers(0, 60).map(bytes)),
        tuples(just("resume"), sampled_from(IDS), just(b"")),
        tuples(just("join"), sampled_from(IDS), just(b"")),
        tuples(just("leave"), sampled_from(IDS), just(b"")),
    ),
    max_size=80,
)


class Model:
    """A model of the room, in which each byte has an owner: the id of its sender."""

    def __init__(self, driver: DeliveryDriver) -> None:
        self.driver = driver
        self.stream: list[tuple[int, int]] = []
        """Bytes of the log, each with its owner."""
        self.joined: dict[int, tuple[Member, FakeConnection, int]] = {}
        """Members by id, with the offset at which each joined."""

    def append(self, id: int, text: bytes) -> None:
        member = self.joined[id][0] if id in self.joined else None
        self.turn()  # Without a delivery, the log would have no space.
        self.driver.append(text, member)
        if self.stream and self.stream[-1][0] != ord("\n"):
            self.stream.append((ord("\n"), self.stream[-1][1]))
        self.stream += [(byte, member.id if member else 0) for byte in text]

    def turn(self) -> None:
        if not self.driver.delivery:
            return
        self.driver.turn()
        for member in self.driver.delivery.laggards():
            lag = self.driver.delivery.offset - member.cursor
            entries = self.driver.delivery.position - member.entry
            assert lag > LAG or entries > LAG_ENTRIES
            self.leave(member.id)

    def join(self, id: int) -> None:
        if id not in self.joined:
            offset = self.driver.delivery.offset if self.driver.delivery else len(self.stream)
            self.joined[id] = (*self.driver.join(id, space=10), offset)

    def leave(self, id: int) -> None:
        if id in self.joined:
            member, connection, offset = self.joined.pop(id)
            self.driver.delivery.leave(member)
            assert self.due(id, offset).startswith(connection.received)
            # Another member may get this id, so these bytes have no owner from now on.
            self.stream = [(byte, 0 if owner == id else owner) for byte, owner in self.stream]

    def resume(self, id: int) -> None:
        if id in self.driver.delivery.behind:
            self.driver.delivery.resume(self.joined[id][0])

    def due(self, id: int, offset: int) -> bytes:
        """Return the bytes that a member must receive.

        These are all bytes after `offset`, except the member's own. If `offset` is in an unfinished
        line, the LF that ends this line is also omitted.
        """
        if offset > 0 and self.stream[offset - 1][0] != ord("\n"):
            offset += 1
        return bytes(byte for byte, owner in self.stream[offset:] if owner != id)

    def run_steps(self, steps: list[tuple[str, int, bytes]]) -> None:
        for action, id, data in steps:
            match action:
                case "append":
                    self.append(id, data)
                case "turn":
                    self.turn()
                case "space" if id in self.joined:
                    self.joined[id][1].space += len(data)
                case "resume":
                    self.resume(id)
                case "join":
                    self.join(id)
                case "leave":
                    self.leave(id)


@given(STEPS)
def test_cast_5_each_member_receives_all_but_its_own_in_one_order(steps: list[Any]) -> None:
    with new_log(GEOMETRY) as log:
        model = Model(DeliveryDriver(log))
        for id in IDS[:2]:
            model.join(id)
        model.run_steps(steps)
        model.turn()
        for id, (_, connection, offset) in model.joined.items():
            connection.space = EVERYTHING
            while id in model.driver.delivery.behind:
                model.resume(id)
            assert connection.received == model.due(id, offset)


# --- a real connection ---------------------------------------------------------------------------


def test_load_1_a_narrow_socket_receives_everything_in_the_end() -> None:
    with new_log(Geometry(1 << 20, 1 << 12, 1 << 19, 1 << 11)) as log:
        driver = DeliveryDriver(log)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
            ours.setblocking(False)
            theirs.settimeout(10)
            member = Member(1, "192.0.2.1", "<192.0.2.1>", ours, 0, 64)
            driver.delivery.join(member)
            expected = b""
            for number in range(100):
                driver.append(b"<a>%s\n" % (b"%d" % number * 500))
                driver.append(b"<b>mine\n", member)
                expected += b"<a>%s\n" % (b"%d" % number * 500)
            assert driver.turn() == [member]
            received = b""
            while not driver.delivery.resume(member):
                received += theirs.recv(10_000)
            ours.shutdown(socket.SHUT_WR)
            while data := theirs.recv(1 << 20):
                received += data
            assert received == expected
