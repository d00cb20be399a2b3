"""A worker's event loop. One turn is `Worker._turn`; __init__.py describes its steps."""

from time import monotonic

from chatroom.protocol.leave_reason import LeaveReason
from chatroom.system.channel import Channel, ChannelClosed, Record
from chatroom.system.poller import READ, WRITE, Poller
from chatroom.system.processors import processors
from chatroom.worker.delivery import Delivery
from chatroom.worker.input import Input, earliest
from chatroom.worker.member import Member
from chatroom.worker.membership import Membership
from chatroom.worker.seat import Seat
from chatroom.worker.shutdown import Shutdown

POLL_BEFORE_SLEEP = 100e-6
"""Time (s) for which a worker polls for events before it sleeps, if its last wait was shorter. On a
virtual machine, putting a process to sleep and waking it again took about 25 µs."""

GATHER = 20e-6
"""Time (s) per member for which a worker may wait for more messages before it delivers. Delivering
to a member takes 5 to 10 µs."""

GATHER_AFTER = 0.01
"""Time (s) after a turn in which several members have sent, during which a worker gathers."""


class Worker:
    """A worker: its parts, and its event loop."""

    def __init__(self, seat: Seat, channel: Channel) -> None:
        limits = seat.limits
        self._number = seat.number
        self._log = seat.log
        self._room_rate = seat.room_rate
        self._readers = range(limits.seats, len(seat.doorbells))
        """Numbers of the doorbells of other readers of the log, such as the transcript."""
        self._channel = channel
        self.input = Input(seat)
        self.delivery = Delivery(
            seat.number, seat.log, seat.doorbells, limits.max_lag, limits.max_lag_entries
        )
        self.membership = Membership(seat, self.input, self.delivery)
        self.shutdown = Shutdown(self.input, self.delivery)
        self.has_spare_processor = processors() > 1
        """True if other processes can run while this worker polls."""
        self._is_alone = False
        """True if no other worker served members at the last append."""
        self._wait_was_short = False
        """True if the last wait took less than POLL_BEFORE_SLEEP."""
        self._gather_until = 0.0
        """Time (s, monotonic) before which a worker gathers: shortly after a turn in which several
        members have sent. 0.0 after a turn in which only one member has sent."""
        self._full = False
        """True while the batch can't be appended: the log has no space, or the room's rate is used
        up."""
        self._append_at: float | None = None
        """Time (s, monotonic) at which the room's rate permits the batch; None if the batch does
        not wait for the rate."""
        self.events = Poller()
        """Poller that the worker uses while it does not read from its members."""
        self._pollers = self.events, self.input.events
        doorbell = seat.doorbells[seat.number]
        for poller in self._pollers:
            poller.register(channel, READ, self._on_channel)
            poller.register(doorbell, READ, doorbell.clear)
            poller.register(self.delivery.writable, READ, self.delivery.write)

    def watch(self, sentinel: int) -> None:
        """Let `run` raise ChannelClosed when `sentinel` is readable."""
        for poller in self._pollers:
            poller.register(sentinel, READ, self._on_orphaned)

    def _on_orphaned(self) -> None:
        raise ChannelClosed

    def run(self) -> None:
        """Serve until the main process asks to stop. Raises ChannelClosed if that process ends."""
        while not self.shutdown.is_over():
            self._turn()
        self.shutdown.close_gracefully()

    def _turn(self) -> None:
        self._wait()
        self._log.turn(self._number)
        self._read()
        gathered, wake = self._gather()
        head, appended, also = self._append()
        self.delivery.deliver(head, gathered + appended, _union(wake, also))
        if self.input.telnet_answers and not self._full:
            self.membership.answer_telnet()
        for member in self.delivery.laggards():
            self.membership.remove(member, LeaveReason.LAGGED)
        self.membership.note_if_due()
        self.delivery.free_space()
        if self.membership.has_work:
            self.membership.adopt()
            for record in self.membership.reports(self._full):
                self._tell(record)
        if self.input.draining and self.shutdown.has_drained(self._full):
            self._tell({"drained": True})

    # --- wait ----------------------------------------------------------------

    def _wait(self) -> None:
        """Wait for an event. Poll before sleeping if the last wait was short."""
        timeout = self._timeout()
        if timeout == 0.0 or not self._may_poll:
            self._poll(timeout)
            return
        start = monotonic()
        if self._wait_was_short:
            until = start + POLL_BEFORE_SLEEP
            while monotonic() < until:
                if self._poll(0.0):
                    return
        self._poll(timeout)
        self._wait_was_short = monotonic() - start < POLL_BEFORE_SLEEP

    @property
    def _may_poll(self) -> bool:
        """True if this worker may use a processor while it waits."""
        return self._is_alone and self.has_spare_processor

    def _poll(self, timeout: float | None) -> bool:
        """Handle the events that occur within `timeout` (s); return False if there are none."""
        reading = not (self._full or self.input.draining)
        poller = self.input.events if reading else self.events
        events = poller.poll(timeout)
        for data in events:
            if isinstance(data, Member):
                self.input.note_readable(data)
            else:
                data()
        return bool(events)

    def _timeout(self) -> float | None:
        read_at = None if self._full else self.input.due()
        due = earliest(read_at, self.delivery.grace_until, self.shutdown.deadline, self._append_at)
        return None if due is None else max(0.0, due - monotonic())

    # --- read ----------------------------------------------------------------

    def _read(self) -> None:
        if not self._full:
            for member, reason in self.input.read():
                self.membership.remove(member, reason)

    def _gather(self) -> tuple[int, list[int]]:
        """Wait for more messages for a short time, if several members send at the same time.

        Sending a member ten messages in one call takes hardly longer than sending it one message.
        The worker reads and appends until as many members have sent as in the last round
        (`Input.round`), or the time is over.

        Return the number of messages appended, and the numbers of the doorbells to ring.
        """
        input, members = self.input, len(self.delivery)
        gathered = 0
        wake: list[int] = []
        if not input.reads:
            return gathered, wake
        now = monotonic()
        if now < self._gather_until and self._may_poll:
            expected = min(input.round, members)
            until = now + GATHER * members
            while (
                input.reads < expected
                and not (self._full or input.draining or input.batch_is_full)
                and monotonic() < until
            ):
                if self._poll(0.0):
                    self._read()
                elif input.batch:
                    _, appended, also = self._append()
                    gathered += appended
                    wake = _union(wake, also)
        self._gather_until = now + GATHER_AFTER if input.reads > 1 else 0.0
        input.reads = 0
        return gathered, wake

    # --- append --------------------------------------------------------------

    def _append(self) -> tuple[int, int, list[int]]:
        """Append the batch, if there is one.

        Return the head, the number of messages appended, and the numbers of the doorbells to ring.
        """
        log, batch, start = self._log, self.input.batch, None
        wake: list[int] = []
        with log:
            wake += self.delivery.advance_locked()
            if batch and self._may_append():
                start = log.append(batch)
                if start is None:
                    log.wait_for_space(self._number)
                    wake += log.yet_to_deliver()  # only these workers can free space
                else:
                    serving = log.serving()  # these workers deliver the batch
                    self._is_alone = len(serving) <= 1
                    wake += serving
            self.input.charge(start is not None)
            head = log.head
        self._full = bool(batch) and start is None
        if start is not None:
            self.input.record_own(start)
            wake += self._readers
        appended = 0 if start is None else batch.messages
        return head, appended, [number for number in wake if number != self._number]

    def _may_append(self) -> bool:
        """Return True if the room's rate permits the batch; otherwise, set `_append_at`.

        A room that stops ignores the rate.
        """
        self._append_at = None
        if self.input.draining or not self._room_rate.rate:
            return True
        now = monotonic()
        wait = self._room_rate.wait(self.input.cost, now)
        if wait:
            self._append_at = now + wait
        return not wait

    # --- the channel ---------------------------------------------------------

    def _on_channel(self) -> None:
        if self._channel.backlog:
            self._channel.flush()
            if not self._channel.backlog:
                self._watch_channel(READ)
        for record, descriptors in self._channel.receive():
            self._handle_message(record, descriptors)

    def _handle_message(self, record: Record, descriptors: list[int]) -> None:
        match record:
            case {"adopt": members, "greeting": greeting}:
                self.membership.assign(members, greeting, descriptors)
            case {"yield": ids}:
                self.membership.request_yield(ids)
            case {"end": ids}:
                self.membership.end_input(ids)
            case {"settled": True}:
                self.delivery.unpin()
            case {"ack": number}:
                self.membership.acknowledge(number)
            case {"drain": True}:
                self.shutdown.drain()
            case {"stop": True}:
                self.shutdown.stop()

    def _tell(self, record: Record) -> None:
        waiting = self._channel.backlog
        self._channel.send(record)
        if self._channel.backlog and not waiting:
            self._watch_channel(READ | WRITE)

    def _watch_channel(self, events: int) -> None:
        for poller in self._pollers:
            poller.modify(self._channel, events)


def _union(numbers: list[int], others: list[int]) -> list[int]:
    """Return all numbers of both lists, each once."""
    return numbers + [number for number in others if number not in numbers] if numbers else others
