"""A worker's loop. One turn:

    wait → read who is readable → have texts said that nothing follows
         → append the batch once → look at the head
         → deliver to all who are level → note where they stand, if it is time
         → tell who waits for room → adopt → yield → tell the main process who left

A batch is bounded in size, and so is the read of each member in it: one
member's flood delays another's line by no more than a turn. Where the log has
no room for a batch (the slowest worker is waited for), the worker keeps it and
reads nothing more, so its members feel it as TCP backpressure and nothing is
lost; it goes on delivering meanwhile. A newcomer begins at a head that was
looked at after it had connected: what anyone had heard by then is not for it.
"""

import contextlib
import selectors
import socket
from time import monotonic

from chatroom.config.settings import Settings
from chatroom.log.ring import Batch, Log
from chatroom.log.slots import Slots
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.protocol.message import count, render
from chatroom.protocol.text import sanitize
from chatroom.system.channel import Channel, ChannelClosed, Record
from chatroom.system.doorbell import Doorbell
from chatroom.system.tcp_counters import taken
from chatroom.worker.allowance import Allowance
from chatroom.worker.delivery import Delivery
from chatroom.worker.member import Member
from chatroom.worker.recovery import Assigned, Past, RecoveredState, note

CATCH_UP_WITHIN = 5.0
"""Seconds for those to catch up whom nobody has served while others said much, as where a worker
hung. What they lack is kept meanwhile, and who says more may have to wait."""

STOP_WITHIN = 1.2
"""Seconds that members who are behind are given when the room stops."""

HEAR_OUT_WITHIN = 0.3
"""Seconds, then, for those who are still talking."""
SILENCE = 0.05
"""Seconds in which none of them says anything: they are done."""

IDS_PER_RECORD = 500

FEW = 64
"""Members who are delivered to before the other workers are woken, for whom it is half a
millisecond. To wake a worker costs as much as several of these deliveries; and where processors
are few, it would take one from those who are about to hear something."""


class Worker:
    """Worker `number`, from when the log is mapped until it is told to stop.

    `doorbells`: one for each seat, by the number of the worker that has it, and
    behind them those of others who read the log (the console).
    """

    def __init__(
        self,
        number: int,
        settings: Settings,
        channel: Channel,
        log: Log,
        slots: Slots,
        doorbells: list[Doorbell],
    ) -> None:
        self._number = number
        self._settings = settings
        self._channel = channel
        self._log = log
        self._slots = slots
        self._doorbells = doorbells
        self._readers = range(settings.seats, len(doorbells))
        self._read_size = settings.read_size
        self._batch_limits = settings.batch, settings.batch_entries
        self._note_every = settings.checkpoint_every, settings.checkpoint_every_entries
        self._delivery = Delivery(
            log, number, settings.max_lag, settings.max_lag_entries, self._ring
        )
        self._members: dict[int, Member] = {}
        """By id: who is read from, or delivered to, or both."""
        self._to_adopt: list[Assigned] = []
        """Connections to adopt in this turn."""
        self._yielding: list[int] = []
        """Who is to be served by another worker, by id."""
        self._acks: list[int] = []
        """Numbers of acks to send when all that was asked for before is done."""
        self._catch_up_by: float | None = None
        """Until when those may catch up whom nobody has served for a while."""
        self._noted = 0, 0
        """Offset and position at which it was last noted where the members stand."""
        self._allowance = Allowance(settings.rate, settings.burst)
        self._again: dict[Member, int] = {}
        """Whose input an earlier worker has read, up to so many bytes, and not appended."""
        self._readable: dict[Member, None] = {}
        """Who has something to read, the longest waiting first."""
        self._silences: dict[Member, float] = {}
        """When each unfinished text has waited long enough (LINE-5), the soonest first."""
        self._batch = Batch()
        self._speakers: list[Member] = []
        """Whose the runs of the batch are."""
        self._full = False
        """Whether the log had no room for the batch."""
        self._said = 0
        """Messages of its members that it has appended in this turn."""
        self._departures: list[tuple[Member, LeaveReason]] = []
        self._draining = False
        self._drained = False
        self._stop_at: float | None = None

        self._writable = selectors.DefaultSelector()
        """The members that are behind, and the channel while it is full."""
        self._events = selectors.DefaultSelector()
        """What is attended to even when the members are not read."""
        self._all_events = selectors.DefaultSelector()
        for selector in (self._events, self._all_events):
            for source, act in (
                (channel, self._handle_message),
                (doorbells[number], doorbells[number].clear),
                (self._writable, self._write),
            ):
                selector.register(source, selectors.EVENT_READ, act)

    def watch(self, sentinel: int) -> None:
        """End, as if the channel did, when `sentinel` is readable."""
        for selector in (self._events, self._all_events):
            selector.register(sentinel, selectors.EVENT_READ, self._orphaned)

    def _orphaned(self) -> None:
        raise ChannelClosed

    def run(self) -> None:
        """Serve until the main process says stop. Raises ChannelClosed when it is gone."""
        while not self._stopped():
            self._wait()
            self._log.turn(self._number)
            self._read()
            self._flush_silent()
            head, others = self._append()
            self._deliver(head, others)
            self._make_room()
            self._adopt()
            self._yield()
            self._report()
        self._close_gracefully()

    # --- wait ----------------------------------------------------------------

    def _wait(self) -> None:
        reading = not (self._full or self._draining)
        selector = self._all_events if reading else self._events
        for key, _ in selector.select(self._timeout()):
            if isinstance(key.data, Member):
                self._readable.setdefault(key.data)
            else:
                key.data()

    def _timeout(self) -> float | None:
        if self._stop_at is not None:
            return max(0.0, self._stop_at - monotonic())
        if self._draining and not self._full:
            return 0.0 if self._silences or self._again else None
        times = [self._catch_up_by]
        if not self._full:
            if self._readable or self._again:
                return 0.0
            times += next(iter(self._silences.values()), None), self._allowance.next
        due = min((time for time in times if time is not None), default=None)
        return None if due is None else max(0.0, due - monotonic())

    def _handle_message(self) -> None:
        for record, descriptors in self._channel.receive():
            match record:
                case {"adopt": members, "greeting": greeting}:
                    theirs = greeting.encode()
                    for (id, address, prefix, slot, header_bytes), fd in zip(
                        members, descriptors, strict=True
                    ):
                        connection = socket.socket(fileno=fd)
                        self._to_adopt.append(
                            Assigned(id, address, prefix, slot, header_bytes, theirs, connection)
                        )
                case {"yield": ids}:
                    self._yielding += ids
                case {"settled": True}:
                    self._delivery.unpin()
                case {"ack": number}:
                    self._acks.append(number)
                case {"drain": True}:
                    self._draining = True
                    self._readable.clear()
                case {"stop": True}:
                    self._stop_at = monotonic() + STOP_WITHIN

    # --- read ----------------------------------------------------------------

    def _read(self) -> None:
        """Read once from each who is readable, until the batch is full; the rest is first next."""
        if self._full:
            return
        self._read_again()
        if self._draining:
            return
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
                self._on_eof(member, reason)
                continue
            self._feed(member, bytes(room[:size]))
            if not self._allowance.spend(member, size, now):
                self._all_events.unregister(member)
                self._slots.note_spent(member.slot, member.spent_until)

    def _feed(self, member: Member, data: bytes) -> None:
        block = member.framer.feed(data)
        if block:
            self._say(member, block)
        if self._silences:
            self._silences.pop(member, None)
        if member.framer.unfinished:
            self._silences[member] = monotonic() + self._settings.flush_after

    def _read_again(self) -> None:
        """Frame again what a worker had read that is no more, and read on from there."""
        for member, read in list(self._again.items()):
            if self._batch_is_full():
                break
            self._log.mark_suspect(self._number, member.id)
            del self._again[member]
            self._feed(member, self._slots.input(member.slot, member.framer.fed, read))
            self._all_events.register(member, selectors.EVENT_READ, member)
            self._log.mark_suspect(self._number, 0)

    def _resume_reading(self, now: float) -> None:
        """Read on from those who have said too much some time ago (LOAD-3)."""
        for member in self._allowance.over(now):
            if self._members.get(member.id) is member:
                self._all_events.register(member, selectors.EVENT_READ, member)

    def _on_eof(self, member: Member, reason: LeaveReason) -> None:
        """Its connection's end ends its last line (LEAVE-2), and we close at once (LEAVE-4)."""
        block = member.framer.close()
        if block:
            self._say(member, block)
        self._remove(member, reason)

    def _flush_silent(self) -> None:
        """Have the texts said that no LF has followed for long enough (LINE-5), or will.

        What has come and was not read, because its sender has used up its
        allowance or the log was full, is no silence.
        """
        if not self._silences or self._full:
            return
        now = monotonic()
        for member, due in list(self._silences.items()):
            if (due > now and not self._draining) or self._batch_is_full():
                break
            del self._silences[member]
            if not self._draining and member.has_unread():
                self._silences[member] = now + self._settings.flush_after
            else:
                self._say(member, member.framer.flush())

    def _say(self, member: Member, block: bytes) -> None:
        text = render(member.prefix, sanitize(block))
        self._batch.add(member.id, member.origin, member.framer.taken, text, count(block))
        self._speakers.append(member)

    def _batch_is_full(self) -> bool:
        size, entries = self._batch_limits
        return self._batch.size >= size or len(self._batch.runs) >= entries

    # --- append, deliver -----------------------------------------------------

    def _append(self) -> tuple[int, list[int]]:
        """Append the batch, if there is one; return the head, and whom to wake because of it."""
        log, batch, start = self._log, self._batch, None
        wake: list[int] = []
        with log:
            wake += self._delivery.advance_locked()
            if batch:
                start = log.append(batch)
                if start is None:
                    log.wait_for_room(self._number)
                    wake += log.yet_to_deliver()  # to make room: the others can't
                else:
                    wake += log.serving()  # to deliver it
            head = log.head
        self._full = bool(batch) and start is None
        self._said = 0 if start is None else batch.messages
        if start is not None:
            self._attribute(start)
            wake += self._readers
        return head, [number for number in wake if number != self._number]

    def _attribute(self, start: int) -> None:
        """Tell the speakers what of the log is their own, now that the batch begins at `start`."""
        batch, speakers = self._batch, self._speakers
        self._batch, self._speakers = Batch(), []
        begin = start
        for speaker, run in zip(speakers, batch.runs, strict=True):
            end = start + run[0]
            speaker.owns(begin, end)
            speaker.covered = run[2]
            begin = end
        if not batch.ends_line:
            speakers[-1].owns(begin, begin + 1)  # the LF that will end its line (LINE-6)

    def _deliver(self, head: int, others: list[int]) -> None:
        """Deliver all before `head`, and wake those who are to do the same."""
        many = len(self._delivery) > FEW
        if many:
            self._ring(others)
        if self._delivery:
            self._deliver_to_members(head)
        elif self._said:
            self._log.tally(self._number, self._said, 0)
        if not many:
            self._ring(others)

    def _deliver_to_members(self, head: int) -> None:
        news = self._log.messages(head) - self._log.messages(self._delivery.position)
        if news:
            self._log.tally(self._number, self._said, news * len(self._delivery) - self._said)
        for member in self._delivery.deliver(head):
            self._writable.register(member, selectors.EVENT_WRITE, member)
        self._disconnect_laggards()
        offset, position = self._noted
        every, every_entries = self._note_every
        if (
            self._delivery.offset - offset >= every
            or self._delivery.position - position >= every_entries
        ):
            self._note_all()

    def _disconnect_laggards(self) -> None:
        for member in self._delivery.too_slow():
            self._remove(member, LeaveReason.LAGGED)

    def _note_all(self) -> None:
        """Note where the members stand, before the log may lap what was noted last."""
        self._noted = self._delivery.offset, self._delivery.position
        for member in self._members.values():
            self._note(member)

    def _note(self, member: Member) -> None:
        count = taken(member.socket)
        if count is not None:
            note(self._slots, member, count, *self._delivery.stands(member))

    def _make_room(self) -> None:
        """Let those who wait for it, itself too, know at once what was delivered."""
        if self._delivery and self._log.waited_for:
            self._delivery.advance()

    def _write(self) -> None:
        """Go on with what could not be sent before."""
        for key, _ in self._writable.select(0):
            if not isinstance(key.data, Member):
                key.data()
            elif self._delivery.resume(key.data):
                self._writable.unregister(key.data)

    def _ring(self, numbers: list[int]) -> None:
        for number in numbers:
            self._doorbells[number].ring()

    # --- adopt ---------------------------------------------------------------

    def _adopt(self) -> None:
        """Serve newcomers from now on, and go on with those whom another worker has served."""
        if not self._to_adopt:
            return
        to_adopt, self._to_adopt = self._to_adopt, []
        past = Past(self._log, self._slots, to_adopt)
        now = monotonic()
        for assigned in to_adopt:
            self._log.mark_suspect(self._number, assigned.id)
            state = past.of(assigned)
            assigned.connection.setblocking(False)
            member = Member(
                assigned.id,
                assigned.address,
                assigned.prefix,
                assigned.connection,
                assigned.slot,
                self._settings.max_line,
                state.covered,
            )
            until = self._slots.spent_until(assigned.slot)
            self._allowance.resume(member, until, now, self._read_size)
            self._members[member.id] = member
            if state.read > state.covered:
                self._again[member] = state.read  # and then it is read from
            else:
                self._all_events.register(member, selectors.EVENT_READ, member)
            if state.cursor is None:
                self._greet(member, assigned.greeting, state.greeted)
            else:
                self._go_on(member, state.cursor, state)
        self._log.mark_suspect(self._number, 0)

    def _greet(self, member: Member, greeting: bytes, taken: int) -> None:
        """`taken`: so many bytes of the greeting it has had."""
        delivery = self._delivery
        delivery.join(member)
        note(self._slots, member, len(greeting), delivery.offset, delivery.position)
        try:
            complete = member.send(greeting[taken:]) == len(greeting) - taken
        except BlockingIOError:
            complete = False
        except OSError:  # it is gone, but what it said before is still to be read (LEAVE-2)
            delivery.leave(member)
            return
        if not complete:  # an empty socket that takes less than a line is of no use
            self._remove(member, LeaveReason.RESET)

    def _go_on(self, member: Member, cursor: int, found: RecoveredState) -> None:
        self._delivery.go_on(member, cursor, found.position, found.own)
        self._note(member)
        if member.id in self._delivery.behind:
            self._writable.register(member, selectors.EVENT_WRITE, member)
        if member.id in self._delivery.lag_exempt:
            self._catch_up_by = monotonic() + CATCH_UP_WITHIN

    # --- leave ---------------------------------------------------------------

    def _remove(self, member: Member, reason: LeaveReason) -> None:
        """`member` is neither read nor delivered to; what it said is appended before it is gone."""
        self._forget(member)
        self._departures.append((member, reason))

    def _forget(self, member: Member) -> None:
        self._delivery.leave(member)
        del self._members[member.id]
        self._readable.pop(member, None)
        self._silences.pop(member, None)
        self._again.pop(member, None)
        for selector in (self._all_events, self._writable):
            with contextlib.suppress(KeyError):  # unless it was read, or was behind
                selector.unregister(member)

    def _yield(self) -> None:
        """Leave members to another worker, when all that they said is in the log.

        Until all is settled, the log keeps what that worker needs.
        """
        if self._full or not self._yielding:
            return
        yielding, self._yielding = self._yielding, []
        found = [self._members[id] for id in yielding if id in self._members]
        self._delivery.pin()
        for member in found:
            self._slots.note_spent(member.slot, member.spent_until)
            self._forget(member)
            member.socket.close()
        self._tell({"yielded": [member.id for member in found]})

    def _report(self) -> None:
        """Close those who left, and say so, when all that they said is in the log."""
        self._send_acks()
        if self._full:
            return
        if self._departures:
            departures, self._departures = self._departures, []
            for member, reason in departures:
                member.close(abort=reason == LeaveReason.LAGGED)
            left = [(member.id, reason) for member, reason in departures]
            for first in range(0, len(left), IDS_PER_RECORD):
                self._tell({"left": left[first : first + IDS_PER_RECORD]})
        if self._draining and not (self._silences or self._again or self._drained):
            self._drained = True
            self._tell({"drained": True})

    def _send_acks(self) -> None:
        """Say that all are served whom it was handed, when what they lack need not be kept.

        Where the room stops, also when what they had said is in the log.
        """
        if self._draining and (self._again or self._silences or self._full):
            return
        if self._catch_up_by is not None:
            if not self._delivery.all_caught_up():
                if monotonic() < self._catch_up_by:
                    return
                self._delivery.end_grace()
                self._disconnect_laggards()
            self._catch_up_by = None
        acks, self._acks = self._acks, []
        for number in acks:
            self._tell({"ack": number})

    def _tell(self, record: Record) -> None:
        waiting = self._channel.backlog
        self._channel.send(record)
        if self._channel.backlog and not waiting:
            self._writable.register(self._channel, selectors.EVENT_WRITE, self._tell_rest)

    def _tell_rest(self) -> None:
        self._channel.flush()
        if not self._channel.backlog:
            self._writable.unregister(self._channel)

    # --- stop ----------------------------------------------------------------

    def _stopped(self) -> bool:
        """Whether the room stops and all was delivered, or its time is over."""
        if self._stop_at is None:
            return False
        return not self._delivery.behind or monotonic() >= self._stop_at

    def _close_gracefully(self) -> None:
        """Close all connections so that what was sent still arrives.

        Input that is unread when a socket is closed, or that comes afterwards,
        makes the kernel reset the connection and drop what the peer has yet to
        take. So our side is ended first, and who is still talking is heard out.
        """
        members = self._delivery.members()
        for member in members:
            with contextlib.suppress(OSError):
                member.socket.shutdown(socket.SHUT_WR)
        deadline = monotonic() + HEAR_OUT_WITHIN
        talking = [member for member in members if self._drain_input(member)]
        with selectors.DefaultSelector() as selector:
            for member in talking:
                selector.register(member, selectors.EVENT_READ, member)
            while selector.get_map() and monotonic() < deadline:
                ready = selector.select(SILENCE)
                if not ready:
                    break
                for key, _ in ready:
                    if not self._drain_input(key.data):
                        selector.unregister(key.data)
        for member in members:
            member.close()

    def _drain_input(self, member: Member) -> bool:
        """Whether something has come from a member, and is dropped."""
        try:
            return bool(member.socket.recv(self._read_size))
        except OSError:
            return False
