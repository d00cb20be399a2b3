"""Tests of the members' input, up to the batch that is appended."""

import contextlib
import socket
from collections.abc import Iterator

import pytest

from chatroom.config.sizes import KIB, MIB
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.worker import input as module
from chatroom.worker.allowance import COMMAND_COST
from chatroom.worker.input import Departure, Input
from chatroom.worker.member import Member
from tests.worker.drivers import SMALL, Client, Clock, new_seat


class Reader:
    """An Input with members. The class records the batches, and appends nothing."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, closing: contextlib.ExitStack) -> None:
        self.clock = Clock()
        monkeypatch.setattr(module, "monotonic", self.clock)
        self._closing = closing
        self.members: list[Member] = []
        self.departures: list[Departure] = []
        self.runs: list[tuple[int, int, int]] = []
        """Sender, reach and number of messages of each run in the batches."""
        self.begin()

    def begin(self, **options: object) -> None:
        """Start again with these options instead of the defaults."""
        self.seat = self._closing.enter_context(new_seat(**options))
        self.settings = self.seat.limits
        self.input = Input(self.seat)

    def join(self, read: int = 0) -> Client:
        """Add a member of which an earlier worker has read `read` bytes; return the client."""
        ours, theirs = (self._closing.enter_context(end) for end in socket.socketpair())
        ours.setblocking(False)
        id = len(self.members) + 1
        client = Client(id, f"192.0.2.{id}", theirs)
        member = Member(
            id, client.address, f"<{client.address}>", ours, id - 1, self.settings.max_line
        )
        self.members.append(member)
        self.input.add(member, read)
        return client

    def turn(self) -> bytes:
        """Read once; return the text of the batch."""
        for member in self.input.events.poll(0):
            self.input.note_readable(member)
        departures = self.input.read()
        for member, _ in departures:
            self.input.remove(member)
        self.departures += departures
        batch, before = self.input.batch, 0
        for _, sender, reach, messages, _ in batch.runs:
            self.runs.append((sender, reach, messages - before))
            before = messages
        if batch:
            self.input.record_own(0)
        return batch.text()

    def turns(self) -> list[bytes]:
        """Read until a turn gives no text; return the text of each turn."""
        return [*iter(self.turn, b"")]

    def wait(self) -> float | None:
        """Return the seconds until the next timer is due, or None if no timer is set."""
        due = self.input.due()
        return None if due is None else max(0.0, due - self.clock.now)


@pytest.fixture(name="reader")
def fixture_reader(monkeypatch: pytest.MonkeyPatch) -> Iterator[Reader]:
    with contextlib.ExitStack() as closing:
        yield Reader(monkeypatch, closing)


# --- the end of a member's input -----------------------------------------------------------------


def test_a_throttled_member_that_was_disconnected_is_not_read_from_any_more(
    reader: Reader,
) -> None:
    reader.begin(rate=1000, burst=4 * KIB)
    flooder = reader.join()
    flooder.send(b"flood\n" * 1000 + b"rest")
    reader.turns()
    assert reader.wait(), "the flooder is throttled"
    [member] = reader.members
    covered = member.covered
    reader.input.end(member)
    member.socket.shutdown(socket.SHUT_RDWR)
    assert b"rest" not in reader.turn()
    assert reader.departures == [(member, LeaveReason.CLOSED)]
    assert member.covered - covered < len(b"flood\n"), "after the end, only half a line"


# --- telnet commands -----------------------------------------------------------------------------


COMMANDS = 40


@pytest.mark.parametrize("command", [b"\xff\xf1", b"\xff\xfd\x01", b"\xff\xff"])
def test_telnet_commands_use_up_the_rates_once_even_if_nothing_is_appended(
    command: bytes, reader: Reader
) -> None:
    alice = reader.join()
    alice.send(b"a" + command * COMMANDS)
    assert reader.turn() == b""
    for _ in range(2):
        reader.input.charge(False)
        spent = reader.seat.room_rate.debt(reader.clock.now)
        assert spent == pytest.approx(COMMANDS * COMMAND_COST, abs=1)
    [member] = reader.members
    used = (member.spent_until - reader.clock.now) * reader.settings.rate
    assert used == pytest.approx(1 + COMMANDS * (len(command) + COMMAND_COST))
    assert reader.seat.room_rate.tag(member.source) == 1 + COMMANDS * (len(command) + COMMAND_COST)


# --- the room's rate -----------------------------------------------------------------------------


@pytest.mark.parametrize("end", ["a silence", "the close"])
def test_an_unfinished_line_costs_its_source_as_much_as_the_room(end: str, reader: Reader) -> None:
    """Otherwise, an address that connects again for each line would have more than its share."""
    alice = reader.join()
    [member] = reader.members
    alice.send(b"\x01" * 1000)
    if end == "the close":
        alice.close()
    sent = reader.turn()
    reader.clock.now += 1
    sent += reader.turn()
    assert len(sent) == len("<192.0.2.1>") + 3000
    reader.input.charge(False)
    assert reader.seat.room_rate.tag(member.source) == len(sent)


# --- messages ------------------------------------------------------------------------------------


def test_line_2_and_3_pieces_join_and_lines_are_separate_messages(reader: Reader) -> None:
    """LINE-2, LINE-3: input in pieces, and several lines in one piece."""
    alice = reader.join()
    sent = b""
    for piece in (b"he", b"llo \xe2", b"\x82\xac", b"\r", b"\none\ntwo\n"):
        alice.send(piece)
        sent += reader.turn()
    assert sent == "<192.0.2.1>hello €\n<192.0.2.1>one\n<192.0.2.1>two\n".encode()


@pytest.mark.parametrize(
    ("sent", "received"),
    [
        (b"\n", b"<192.0.2.1>\n"),
        (b"\r\n\n", b"<192.0.2.1>\n<192.0.2.1>\n"),
        (b"one\n\ntwo\r\n", b"<192.0.2.1>one\n<192.0.2.1>\n<192.0.2.1>two\n"),
        (b" kept \t\n", b"<192.0.2.1> kept \t\n"),
    ],
)
def test_line_4_an_empty_line_is_a_message(sent: bytes, received: bytes, reader: Reader) -> None:
    """LINE-1, LINE-3, LINE-4, CAST-3: several lines of all kinds at once, each with its prefix."""
    reader.join().send(sent)
    assert reader.turn() == received


def test_text_2_and_3_input_is_sanitised(reader: Reader) -> None:
    """TEXT-2, TEXT-3: bytes that are not UTF-8, and control characters, are replaced."""
    reader.join().send(b"\x1b[2J\xff\n")
    assert reader.turn() == "<192.0.2.1>␛[2J�\n".encode()


def test_load_4_each_run_contains_its_end_in_the_sender_s_input(reader: Reader) -> None:
    """LOAD-4: another worker can continue from this end."""
    alice = reader.join()
    alice.send(b"one\r\ntwo\nthr")
    reader.turn()
    alice.send(b"ee\nfo\xc3")
    reader.turn()
    reader.clock.now += 1
    reader.turn()
    alice.close()
    reader.turn()
    assert reader.runs == [(1, 9, 2), (1, 15, 1), (1, 17, 1), (1, 18, 1)]
    assert reader.members[0].covered == 18


def test_cast_2_each_sender_s_spans_of_the_batch_are_recorded(reader: Reader) -> None:
    """The LF that will end an unfinished text is also the sender's own (LINE-6)."""
    alice, bob = reader.join(), reader.join()
    first, second = reader.members
    bob.send(b"hel")
    assert reader.turn() == b""
    alice.send(b"hello\n")
    bob.finish()
    reader.input.note_readable(first)
    sent = reader.turn()
    middle = sent.index(b"<192.0.2.2>")
    assert first.own == [(0, middle)]
    assert second.own == [(middle, len(sent) + 1)]


def test_load_4_input_read_by_a_dead_worker_is_framed_again(reader: Reader) -> None:
    """The old input is framed first. New input is read only after that."""
    sent = b"one\ntw"
    reader.seat.slots.input_buffer(0, 0, len(sent))[:] = sent
    alice = reader.join(read=len(sent))
    assert reader.wait() == 0
    alice.send(b"o\n")
    assert b"".join(reader.turns()) == b"<192.0.2.1>one\n<192.0.2.1>two\n"
    assert not reader.input.unbatched
    assert reader.runs[-1] == (1, 8, 1)


def test_a_read_without_data_does_not_remove_a_member(reader: Reader) -> None:
    alice = reader.join()
    reader.input.note_readable(reader.members[0])
    assert reader.turn() == b""
    alice.send(b"hello\n")
    assert reader.turn() == b"<192.0.2.1>hello\n"
    assert reader.departures == []


# --- the end of a connection ---------------------------------------------------------------------


def test_leave_2_the_end_of_a_connection_ends_its_last_line(reader: Reader) -> None:
    alice = reader.join()
    alice.send(b"bye\nfor now\xc3")
    alice.finish()
    assert b"".join(reader.turns()) == "<192.0.2.1>bye\n<192.0.2.1>for now�".encode()
    assert reader.departures == [(reader.members[0], LeaveReason.CLOSED)]
    assert reader.wait() is None


def test_leave_2_a_reset_ends_waiting_text(reader: Reader) -> None:
    alice = reader.join()
    alice.send(b"hel")
    assert reader.turn() == b""
    reader.members[0].socket.send(b"unread\n")
    alice.close()
    assert reader.turn() == b"<192.0.2.1>hel"
    assert reader.departures == [(reader.members[0], LeaveReason.RESET)]
    assert reader.wait() is None, "no silence is timed for text that is already flushed"


def test_a_member_that_was_removed_is_not_read_from(reader: Reader) -> None:
    """Before its removal, the member was readable, silent or throttled."""
    reader.begin(rate=1000, burst=KIB)
    readable, silent, throttled = (reader.join() for _ in range(3))
    silent.send(b"half")
    throttled.send(b"x" * 3000 + b"\n")
    reader.turn()
    readable.send(b"hello\n")
    reader.input.note_readable(reader.members[0])
    for client, member in zip((readable, silent, throttled), reader.members, strict=True):
        reader.input.remove(member)
        client.send(b"more\n")
    assert reader.turns() == []
    reader.clock.now += 10
    assert reader.turns() == []
    assert reader.wait() is None


# --- silence -------------------------------------------------------------------------------------


def test_line_5_unfinished_text_is_appended_after_a_silence(reader: Reader) -> None:
    reader.join().send(b"hel")
    assert reader.turn() == b""
    assert reader.wait() == pytest.approx(0.2)
    reader.clock.now += 0.15
    assert reader.turn() == b""
    assert reader.wait() == pytest.approx(0.05)
    reader.clock.now += 0.1
    assert reader.turn() == b"<192.0.2.1>hel"
    assert reader.wait() is None


def test_line_5_the_silence_begins_with_the_last_piece(reader: Reader) -> None:
    alice = reader.join()
    for piece in (b"h", b"e", b"l"):
        alice.send(piece)
        reader.clock.now += 0.15
        assert reader.turn() == b""
    reader.clock.now += 0.25
    assert reader.turn() == b"<192.0.2.1>hel"


def test_line_5_each_member_s_silence_is_timed_separately(reader: Reader) -> None:
    alice, bob = reader.join(), reader.join()
    alice.send(b"a")
    reader.turn()
    reader.clock.now += 0.1
    bob.send(b"b")
    assert reader.turn() == b""
    assert reader.wait() == pytest.approx(0.1)
    reader.clock.now += 0.15
    assert reader.turn() == b"<192.0.2.1>a"
    assert reader.wait() == pytest.approx(0.05)
    reader.clock.now += 0.1
    assert reader.turn() == b"<192.0.2.2>b"
    assert reader.wait() is None


def test_line_5_a_line_end_before_the_silence_completes_the_line(reader: Reader) -> None:
    alice = reader.join()
    alice.send(b"hel")
    reader.turn()
    reader.clock.now += 0.15
    alice.send(b"lo\n")
    assert reader.turn() == b"<192.0.2.1>hello\n"
    assert reader.wait() is None


def test_line_5_time_in_which_the_worker_did_not_read_is_no_silence(reader: Reader) -> None:
    """A busy worker finds the end of the line at its next read. This is no silence of the
    member."""
    alice = reader.join()
    alice.send(b"hel")
    reader.turn()
    reader.clock.now += 10
    alice.send(b"lo\n")
    assert b"".join(reader.turns()) == b"<192.0.2.1>hello\n"


def test_line_2_time_in_which_a_member_is_throttled_is_no_silence(reader: Reader) -> None:
    """The sender is throttled in the middle of a line."""
    reader.begin(rate=10_000, burst=10_000)
    sent = b"".join(b"%d %s\n" % (number, b"." * 90) for number in range(400))
    reader.join().send(sent)
    received = b""
    for _ in range(500):
        reader.clock.now += 0.1
        received += reader.turn()
    assert received == b"".join(b"<192.0.2.1>" + line for line in sent.splitlines(keepends=True))


def test_line_5_a_flooding_member_that_stops_is_silent(reader: Reader) -> None:
    reader.begin(rate=10_000, burst=10_000, room_rate=0)
    reader.join().send((b"much" * 25 + b"\n") * 150 + b"and half")
    assert b"".join(reader.turns()).endswith(b"much\n")
    reader.clock.now += 0.3
    assert reader.turn() == b"<192.0.2.1>and half"


def test_line_5_an_incomplete_character_waits_for_its_end(reader: Reader) -> None:
    alice = reader.join()
    alice.send(b"a\xe2\x82")
    reader.turn()
    reader.clock.now += 1
    assert reader.turn() == b"<192.0.2.1>a"
    assert reader.wait() is None
    alice.send(b"\xac\n")
    assert reader.turn() == "<192.0.2.1>€\n".encode(), "TEXT-1: the character is whole"


def test_flush_after_is_a_setting(reader: Reader) -> None:
    reader.begin(flush_after=3)
    reader.join().send(b"hel")
    reader.turn()
    assert reader.wait() == pytest.approx(3)


# --- batches -------------------------------------------------------------------------------------


def senders(reader: Reader) -> list[int]:
    """Return the senders of the runs since the last call."""
    found = [sender for sender, _, _ in reader.runs]
    reader.runs.clear()
    return found


def test_simultaneous_input_is_one_batch(reader: Reader) -> None:
    for client in [reader.join() for _ in range(5)]:
        client.send(b"hello\n")
    reader.turn()
    assert sorted(senders(reader)) == [1, 2, 3, 4, 5]


def test_load_3_a_flood_is_read_in_small_parts_and_delays_nobody(reader: Reader) -> None:
    reader.begin(max_line=64, max_lag=MIB, log_size=MIB + 64 * KIB)
    flooders = [reader.join() for _ in range(40)]
    victim = reader.join()
    for client in flooders:
        client.send(b"\n" * 1000)
    victim.send(b"hello\n")
    most_at_once = reader.settings.read_size * len(b"<192.0.2.40>\n")
    assert all(len(sent) < reader.settings.batch + most_at_once for sent in reader.turns())
    order = senders(reader)
    assert {*order[: len(reader.members)]} == {member.id for member in reader.members}, (
        "each member once before one member twice"
    )
    for client in flooders:
        assert order.count(client.id) >= 1000 // reader.settings.read_size


@pytest.mark.parametrize(
    ("text", "later"),
    [
        pytest.param(b"\n", 0.0, id="lines"),
        pytest.param(b"a", 1.0, id="silences that end at once"),
    ],
)
def test_batches_are_bounded_in_entries_too(text: bytes, later: float, reader: Reader) -> None:
    reader.begin(**SMALL)
    for client in [reader.join() for _ in range(100)]:
        client.send(text)
    sizes = []
    if later:
        assert reader.turn() == b""
        reader.clock.now += later
    while reader.turn():
        sizes.append(len(senders(reader)))
    assert sum(sizes) == 100
    assert max(sizes) == reader.settings.batch_entries


# --- drain ---------------------------------------------------------------------------------------


def test_drain_appends_all_input_that_was_read(reader: Reader) -> None:
    """The input is appended in several batches, in the usual order."""
    reader.begin(**SMALL)
    clients = [reader.join() for _ in range(3 * reader.settings.batch_entries)]
    for client in clients:
        client.send(b"unfinished")
        reader.turn()
    reader.input.note_readable(reader.members[0])
    reader.input.drain()
    clients[0].send(b" and more\n")
    assert reader.wait() == 0
    sent = reader.turns()
    assert len(sent) == 3
    assert b"\n".join(sent) == b"\n".join(client.prefix + b"unfinished" for client in clients)
    assert not reader.input.unbatched
    assert reader.wait() is None
