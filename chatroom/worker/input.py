"""Read the members' input, and make the batch of messages that the worker appends.

The sizes of a read and of a batch are bounded, so one member's flood delays another member's line
by one turn at most. A batch waits until the log has space for it, and the room's rate permits it.
Nothing is read meanwhile, so TCP backpressure slows the members down, and nothing is lost. While
much of the room's burst is used up, members are read from in the order of fair_queue.py.
"""

import contextlib
from time import monotonic

from chatroom.log.ring import Batch
from chatroom.log.uplink import Uplink
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.protocol.message import count, render
from chatroom.protocol.opening import is_undecided, other_protocol
from chatroom.protocol.telnet import MAX_ANSWERS
from chatroom.protocol.text import sanitize
from chatroom.system.poller import READ, Poller
from chatroom.worker.allowance import COMMAND_COST, Allowance, cost
from chatroom.worker.fair_queue import TURN_READ, FairQueue, turn_size
from chatroom.worker.member import Member
from chatroom.worker.seat import Seat

MAX_ANSWER = 3 * MAX_ANSWERS
"""Maximum size (bytes) of the telnet answers that wait for a member that does not read."""

Departure = tuple[Member, LeaveReason]


def earliest(*times: float | None) -> float | None:
    """Return the earliest of several times. None means never."""
    found = None
    for time in times:
        if time is not None and (found is None or time < found):
            found = time
    return found


class Input:
    """The members that are read from, and the batch of their messages."""

    def __init__(self, seat: Seat) -> None:
        limits = seat.limits
        self._number = seat.number
        self._log = seat.log
        self._slots = seat.slots
        self._room_rate = seat.room_rate
        self._read_size = limits.read_size
        self._max_line = limits.max_line
        self._max_cost = limits.max_cost
        self._fair_batch = limits.fair_batch
        self._batch_limits = limits.batch, limits.batch_entries, limits.batch_cost
        self._flush_after = limits.flush_after
        self._allowance = Allowance(limits.rate, limits.burst)
        self.events = Poller()
        """Poller of members that may be read from; the loop adds its own sources."""
        self.batch = Batch()
        """Messages to append."""
        self._refused: list[Departure] = []
        """Members that speak another protocol. The next `read` returns them."""
        self._senders: list[Member] = []
        """Sender of each run of the batch."""
        self._reads: list[tuple[int, int]] = []
        """Source and cost (bytes) of each read that was not counted yet (log/room_rate.py)."""
        self.cost = 0
        """Cost of the batch (bytes)."""
        self._commands_cost = 0
        """Cost (bytes) of the telnet commands that were read and not counted yet. The commands
        count even if nothing is appended."""
        self._queue = FairQueue(seat.room_rate, seat.number) if limits.room_rate else None
        """Members that wait because the room's rate is used up; None if the room has no limit."""
        self._readable: dict[Member, None] = {}
        """Members with input to read, the longest waiting first."""
        self._to_reframe: dict[Member, int] = {}
        """Members whose input an earlier worker has read but not appended completely, each with the
        number of bytes read. The bytes that are not in the log must be framed again."""
        self.telnet_answers: dict[Member, bytes] = {}
        """Answers to send to members that have sent telnet commands; an answer may be empty."""
        self._flush_times: dict[Member, float] = {}
        """Time (s, monotonic) at which to flush each unfinished text (LINE-5), the earliest
        first."""
        self.reads = 0
        """Number of reads in this turn."""
        self.round = 0
        """Number of reads since the previous read from the member that was the first one in this
        turn. If members send in rounds, it is the number of members that send."""
        self._all_reads = 0
        """Number of reads since the worker's start."""
        self.draining = False
        """True once the worker reads nothing more, because the room stops."""

    # --- the members ---------------------------------------------------------

    def add(self, member: Member, read: int) -> None:
        """Begin to read from a member; an earlier worker has read `read` bytes of its input."""
        until = self._slots.spent_until(member.slot)
        self._allowance.resume(member, until, monotonic(), self._max_cost)
        if read > member.covered:
            self._to_reframe[member] = read
        else:
            self._watch(member)

    def remove(self, member: Member) -> None:
        """Stop reading from a member. The batch keeps its messages."""
        self._readable.pop(member, None)
        self._to_reframe.pop(member, None)
        self._flush_times.pop(member, None)
        self.telnet_answers.pop(member, None)
        self._allowance.forget(member)
        if self._queue is not None:
            self._queue.discard(member)
        with contextlib.suppress(KeyError):  # it may be throttled, waiting, or not watched yet
            self.events.unregister(member)

    def end(self, member: Member) -> None:
        """Let a member's input end now, although its socket may contain more input.

        The main process has shut the socket down, so an event follows.
        """
        member.ended = True
        if self._allowance.forget(member):
            self._watch(member)

    def note_readable(self, member: Member) -> None:
        """Note a member with input, for the next `read`."""
        self._readable.setdefault(member)

    def drain(self) -> None:
        """Stop reading. `read` then flushes unfinished texts without waiting."""
        self.draining = True
        self._readable.clear()

    def _watch(self, member: Member) -> None:
        self.events.register(member, READ, member)

    # --- pending work --------------------------------------------------------

    @property
    def unbatched(self) -> bool:
        """True while some text was read but not added to a batch."""
        return bool(self._flush_times or self._to_reframe)

    def due(self) -> float | None:
        """Return the time at which to call `read` even without an event.

        0.0 means at once, None never.
        """
        if self.draining:
            return 0.0 if self.unbatched else None
        if self._readable or self._to_reframe:
            return 0.0
        silence = next(iter(self._flush_times.values())) if self._flush_times else None
        turn = None if self._queue is None else self._queue.due
        return earliest(silence, self._allowance.next_release, turn)

    @property
    def batch_is_full(self) -> bool:
        """True if `read` would not read from any more members."""
        size, entries, max_cost = self._batch_limits
        return (
            self.batch.size >= size
            or len(self.batch.runs) >= entries
            or (self._queue is not None and self._all_costs >= max_cost)
        )

    @property
    def _all_costs(self) -> int:
        return self.cost + self._commands_cost

    # --- one turn ------------------------------------------------------------

    def read(self) -> list[Departure]:
        """Fill the batch; return the members that have left, each with the reason.

        Read once from each readable member, until the batch is full. The remaining readable members
        come first in the next turn.
        """
        departures: list[Departure] = []
        if self._to_reframe:
            self._reframe()
        if not self.draining:
            now = monotonic()
            self._resume_reading(now)
            if self._queue is not None and self._queue.is_needed(now):
                self._read_in_turn(self._queue, now, departures)
            else:
                ready, self._readable = self._readable, {}
                for member in ready:
                    if self.batch_is_full:
                        self._readable[member] = None
                    else:
                        self._read_from(member, self._read_size, now, departures)
        if self._flush_times:
            self._flush_silent()
        departures += self._refused
        self._refused = []
        return departures

    def _read_in_turn(self, queue: FairQueue, now: float, departures: list[Departure]) -> None:
        """Read from the members that have a turn; let all other readable members wait."""
        for member in self._readable:
            self.events.unregister(member)
            queue.put(member)
        self._readable.clear()
        queue.begin(now)
        debt = self._room_rate.debt(now)
        while (spent := self._all_costs) < self._fair_batch and (found := queue.pop(debt + spent)):
            self._watch(found)
            self._read_from(found, turn_size(found.peek(TURN_READ)), now, departures)
        self.round = 0  # the members that wait for a turn are not expected to send

    def _read_from(
        self, member: Member, most: int, now: float, departures: list[Departure]
    ) -> None:
        """Read at most `most` bytes from a member, once."""
        room = self._slots.input_buffer(member.slot, member.framer.fed, most)
        reason = LeaveReason.CLOSED
        try:
            size = 0 if member.ended else member.recv_into(room)
        except BlockingIOError:
            return
        except OSError:
            size, reason = 0, LeaveReason.RESET
        if not size:
            self._on_eof(member)
            departures.append((member, reason))
            return
        self._count_read(member)
        fed = member.framer.fed
        size += self._feed(member, self._slots.input(member.slot, fed, fed + size))
        if self._queue is not None:
            self._reads.append((member.source, size))
        if not self._allowance.spend(member, size, now):
            self.events.unregister(member)
            self._slots.note_spent(member.slot, member.spent_until)

    def _count_read(self, member: Member) -> None:
        self._all_reads += 1
        if not self.reads:
            self.round = self._all_reads - member.read_at
        self.reads += 1
        member.read_at = self._all_reads

    def _feed(self, member: Member, data: bytes) -> int:
        """Frame input; return the cost of its messages minus their size (bytes)."""
        if member.opening is not None and self._is_other_protocol(member, data):
            return 0
        framer = member.framer
        block = framer.feed(data)
        extra = self._add_to_batch(member, block) if block else 0
        if framer.commands:
            due = COMMAND_COST * framer.commands
            framer.commands = 0
            self._commands_cost += due
            extra += due
        if framer.answers is not None:
            waiting = self.telnet_answers.get(member, b"")
            self.telnet_answers[member] = (waiting + framer.answers)[:MAX_ANSWER]
            framer.answers = None
        if self._flush_times:
            self._flush_times.pop(member, None)
        if framer.unfinished:
            self._flush_times[member] = monotonic() + self._flush_after
        return extra

    def _is_other_protocol(self, member: Member, data: bytes) -> bool:
        """Return whether a member speaks another protocol; if so, `read` returns the member."""
        assert member.opening is not None
        opening = member.opening + data
        reason = other_protocol(opening, self._max_line)
        if reason is not None:
            self._flush_times.pop(member, None)
            self._refused.append((member, reason))
            return True
        member.opening = opening if is_undecided(opening, self._max_line) else None
        return False

    def _reframe(self) -> None:
        """Frame the input that an earlier worker read but did not append; then watch the
        sockets."""
        for member, read in list(self._to_reframe.items()):
            if self.batch_is_full:
                break
            self._log.mark_suspect(self._number, member.id)
            del self._to_reframe[member]
            self._feed(member, self._slots.input(member.slot, member.framer.fed, read))
            self._watch(member)
            self._log.mark_suspect(self._number, 0)

    def _resume_reading(self, now: float) -> None:
        """Watch the sockets of members that were throttled until now (LOAD-3)."""
        for member in self._allowance.release(now):
            self._watch(member)

    def _on_eof(self, member: Member) -> None:
        """Add a member's unfinished line to the batch at the end of its connection (LEAVE-2)."""
        self._flush_times.pop(member, None)
        block = member.framer.close()
        if block:
            extra = self._add_to_batch(member, block)
            if self._queue is not None:
                self._reads.append((member.source, extra))

    def _flush_silent(self) -> None:
        """Flush the unfinished texts whose timeout is over (LINE-5). While draining, flush all
        texts.

        The timeout starts again if the room's rate does not permit the flush, or if the socket
        holds unread bytes. Bytes may be unread because the sender is throttled, or because the log
        was full.
        """
        now = monotonic()
        for member, due in list(self._flush_times.items()):
            if (due > now and not self.draining) or self.batch_is_full:
                break
            del self._flush_times[member]
            if not self.draining and (member.has_unread() or not self._may_flush(member, now)):
                self._flush_times[member] = now + self._flush_after
            else:
                extra = self._add_to_batch(member, member.framer.flush())
                if self._queue is not None:
                    self._reads.append((member.source, extra))
                self._allowance.add(member, extra, now)

    def _may_flush(self, member: Member, now: float) -> bool:
        """Return False if the room's rate is used up and other members are read from first."""
        if self._queue is None:
            return True
        return self._queue.may_read(member.source, self._room_rate.debt(now) + self._all_costs)

    def _add_to_batch(self, member: Member, block: bytes) -> int:
        """Add messages to the batch; return their cost minus their size (bytes)."""
        text = render(member.prefix, sanitize(block))
        messages = count(block)
        self.batch.add(member.id, member.origin, member.framer.framed, text, messages)
        self._senders.append(member)
        due = cost(text, messages)
        self.cost += due
        return due - len(block)

    # --- after the append ----------------------------------------------------

    def charge(self, appended: bool) -> None:
        """Count the reads, and the batch if it was `appended`, for the room's rate.

        The caller must hold the log's lock.
        """
        due = self._commands_cost + (self.cost if appended else 0)
        self._commands_cost = 0
        if self._queue is None or not (self._reads or due):
            return
        now = monotonic()
        if self._reads:
            self._room_rate.charge_sources(self._reads, now)
            self._reads = []
        if due:
            self._room_rate.charge(due, now)

    def record_own(self, start: int) -> None:
        """Record each run of the appended batch as its sender's own, and begin a new batch.

        `start`: offset of the batch in the log.
        """
        batch, senders = self.batch, self._senders
        self.batch, self._senders, self.cost = Batch(), [], 0
        begin = start
        for number, sender in enumerate(senders):
            run = batch.runs[number]
            end = start + run[0]
            sender.owns(begin, end)
            sender.covered = run[2]
            begin = end
        if not batch.ends_line:
            senders[-1].owns(begin, begin + 1)  # the LF that will end its line (LINE-6)

    def append_to(self, uplink: Uplink) -> bool:
        """Append the batch to the uplink of a cluster; return False if there is no space.

        The caller must hold the uplink's lock.
        """
        slots = [sender.slot for sender in self._senders]
        return uplink.append_from(self._number, self.batch, slots, self._slots) is not None

    def record_covered(self) -> None:
        """Record how much of each sender's input the uplink contains; begin a new batch.

        Call it after the batch was appended to the uplink.
        """
        for sender, run in zip(self._senders, self.batch.runs, strict=True):
            sender.covered = run[2]
        self.batch, self._senders, self.cost = Batch(), [], 0
