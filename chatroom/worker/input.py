"""Members' input, up to the batch that is appended.

A read of one member is bounded in size, and so is a batch: one member's flood
delays another's line by no more than a turn. A batch stays until the log has
room for it. Nothing is read meanwhile, so members feel TCP backpressure and
nothing is lost.
"""

import contextlib
import selectors
from time import monotonic

from chatroom.log.ring import Batch
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.protocol.message import count, render
from chatroom.protocol.text import sanitize
from chatroom.worker.allowance import Allowance
from chatroom.worker.member import Member
from chatroom.worker.seat import Seat

Departure = tuple[Member, LeaveReason]


class Input:
    """The members that are read from, and the batch of their messages."""

    def __init__(self, seat: Seat) -> None:
        settings = seat.settings
        self._number = seat.number
        self._log = seat.log
        self._slots = seat.slots
        self._read_size = settings.read_size
        self._batch_limits = settings.batch, settings.batch_entries
        self._flush_after = settings.flush_after
        self._allowance = Allowance(settings.rate, settings.burst)
        self.events = selectors.DefaultSelector()
        """Events of members that may be read from; the loop adds its other events."""
        self.batch = Batch()
        """Messages to append."""
        self._senders: list[Member] = []
        """Sender of each run of the batch."""
        self._readable: dict[Member, None] = {}
        """Members with input to read, the longest waiting first."""
        self._again: dict[Member, int] = {}
        """Bytes that an earlier worker has read, for members whose input it did not append
        completely. The rest must be framed again."""
        self._silences: dict[Member, float] = {}
        """Time (s, monotonic) at which each unfinished text is to be flushed (LINE-5), the soonest
        first."""
        self.draining = False
        """True once the worker reads no more, because the room stops."""

    # --- the members ---------------------------------------------------------

    def add(self, member: Member, read: int) -> None:
        """Read from a member, after the `read` bytes that an earlier worker has read."""
        until = self._slots.spent_until(member.slot)
        self._allowance.resume(member, until, monotonic(), self._read_size)
        if read > member.covered:
            self._again[member] = read
        else:
            self._watch(member)

    def remove(self, member: Member) -> None:
        """Read no more from a member. The batch keeps its messages."""
        self._readable.pop(member, None)
        self._again.pop(member, None)
        self._silences.pop(member, None)
        self._allowance.forget(member)
        with contextlib.suppress(KeyError):  # it may be throttled, or not watched yet
            self.events.unregister(member)

    def note_readable(self, member: Member) -> None:
        """Read from a member in the next `read`."""
        self._readable.setdefault(member)

    def drain(self) -> None:
        """Stop reading. `read` then flushes unfinished texts without waiting."""
        self.draining = True
        self._readable.clear()

    def _watch(self, member: Member) -> None:
        self.events.register(member, selectors.EVENT_READ, member)

    # --- pending work --------------------------------------------------------

    @property
    def unbatched(self) -> bool:
        """True while some text was read but is in no batch yet."""
        return bool(self._silences or self._again)

    def due(self) -> float | None:
        """Return the time at which to call `read` even without an event.

        0.0 means at once, None never.
        """
        if self.draining:
            return 0.0 if self.unbatched else None
        if self._readable or self._again:
            return 0.0
        silence = next(iter(self._silences.values()), None)
        more = self._allowance.next
        if silence is None or more is None:
            return more if silence is None else silence
        return min(silence, more)

    def _batch_is_full(self) -> bool:
        size, entries = self._batch_limits
        return self.batch.size >= size or len(self.batch.runs) >= entries

    # --- one turn ------------------------------------------------------------

    def read(self) -> list[Departure]:
        """Fill the batch; return the members that have left, each with the reason.

        Each readable member is read from once, until the batch is full; the others
        come first in the next turn.
        """
        departures: list[Departure] = []
        if self._again:
            self._read_again()
        if not self.draining:
            now = monotonic()
            self._resume_reading(now)
            ready, self._readable = self._readable, {}
            for member in ready:
                if self._batch_is_full():
                    self._readable[member] = None
                    continue
                room = self._slots.room(member.slot, member.framer.fed, self._read_size)
                reason = LeaveReason.CLOSED
                try:
                    size = member.recv_into(room)
                except BlockingIOError:
                    continue
                except OSError:
                    size, reason = 0, LeaveReason.RESET
                if not size:
                    self._on_eof(member)
                    departures.append((member, reason))
                    continue
                self._feed(member, bytes(room[:size]))
                if not self._allowance.spend(member, size, now):
                    self.events.unregister(member)
                    self._slots.note_spent(member.slot, member.spent_until)
        if self._silences:
            self._flush_silent()
        return departures

    def _feed(self, member: Member, data: bytes) -> None:
        block = member.framer.feed(data)
        if block:
            self._add_to_batch(member, block)
        if self._silences:
            self._silences.pop(member, None)
        if member.framer.unfinished:
            self._silences[member] = monotonic() + self._flush_after

    def _read_again(self) -> None:
        """Frame again what an earlier worker had read and not appended, then watch the socket."""
        for member, read in list(self._again.items()):
            if self._batch_is_full():
                break
            self._log.mark_suspect(self._number, member.id)
            del self._again[member]
            self._feed(member, self._slots.input(member.slot, member.framer.fed, read))
            self._watch(member)
            self._log.mark_suspect(self._number, 0)

    def _resume_reading(self, now: float) -> None:
        """Watch the sockets of members that were throttled until now (LOAD-3)."""
        for member in self._allowance.over(now):
            self._watch(member)

    def _on_eof(self, member: Member) -> None:
        """Add a member's unfinished line to the batch at the end of its connection (LEAVE-2)."""
        self._silences.pop(member, None)
        block = member.framer.close()
        if block:
            self._add_to_batch(member, block)

    def _flush_silent(self) -> None:
        """Flush unfinished texts whose timeout is over (LINE-5); all of them while draining.

        The timeout starts again if the socket holds unread bytes, as it may when the
        sender is throttled or the log was full.
        """
        now = monotonic()
        for member, due in list(self._silences.items()):
            if (due > now and not self.draining) or self._batch_is_full():
                break
            del self._silences[member]
            if not self.draining and member.has_unread():
                self._silences[member] = now + self._flush_after
            else:
                self._add_to_batch(member, member.framer.flush())

    def _add_to_batch(self, member: Member, block: bytes) -> None:
        text = render(member.prefix, sanitize(block))
        self.batch.add(member.id, member.origin, member.framer.framed, text, count(block))
        self._senders.append(member)

    # --- after the append ----------------------------------------------------

    def attribute(self, start: int) -> None:
        """Note each run of the batch as its sender's own, and begin a new batch.

        `start`: offset of the batch in the log.
        """
        batch, senders = self.batch, self._senders
        self.batch, self._senders = Batch(), []
        begin = start
        for sender, run in zip(senders, batch.runs, strict=True):
            end = start + run[0]
            sender.owns(begin, end)
            sender.covered = run[2]
            begin = end
        if not batch.ends_line:
            senders[-1].owns(begin, begin + 1)  # the LF that will end its line (LINE-6)
