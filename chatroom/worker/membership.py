"""The members of one worker: adopt them, note their checkpoints, remove them.

A newcomer, a dead worker's member and a member that moves to this worker are all adopted by
`Membership.adopt`. A member leaves by `Membership.remove`, unless it is yielded. A newcomer begins
at the head of the log, which the worker reads after the newcomer has connected. So without
--history, a newcomer receives no message that was delivered before it connected.
"""

import socket
from typing import Any

from chatroom.protocol.leave_reason import CLOSING_MESSAGES, LeaveReason
from chatroom.system.channel import Record
from chatroom.system.tcp_counters import taken
from chatroom.worker.delivery import Delivery
from chatroom.worker.input import Departure, Input
from chatroom.worker.member import Member
from chatroom.worker.recovery import Assigned, RecoveredState, Recovery, note
from chatroom.worker.seat import Seat

IDS_PER_RECORD = 500
"""Maximum number of members in one record: with their reasons, they fit into MAX_RECORD."""


class Membership:
    """The members of a worker, and the main process's pending requests."""

    def __init__(self, seat: Seat, input: Input, delivery: Delivery) -> None:
        self._number = seat.number
        self._limits = seat.limits
        self._log = seat.log
        self._slots = seat.slots
        self._uplink = seat.uplink
        self._input = input
        self._delivery = delivery
        self.members: dict[int, Member] = {}
        """All members, by id."""
        self.departures: list[Departure] = []
        """Members that have left, to be closed once all their messages are in the log."""
        self._to_adopt: list[Assigned] = []
        """Connections to adopt in this turn."""
        self._to_yield: list[int] = []
        """Ids of members to yield to another worker."""
        self._to_end: list[int] = []
        """Ids of members from which nothing more is to be read."""
        self._acks: list[int] = []
        """Numbers of acks to send when all earlier requests are done."""
        self._note_every = (
            seat.limits.checkpoint_every,
            seat.limits.checkpoint_every_entries,
        )
        """Bytes and entries of the log after which to note the members' checkpoints again."""
        self._noted = 0, 0
        """Offset and position at which the checkpoints were last noted."""

    @property
    def has_work(self) -> bool:
        """True if `adopt` or `reports` has something to do."""
        return bool(
            self._to_adopt or self._to_yield or self._to_end or self._acks or self.departures
        )

    # --- requests of the main process ----------------------------------------

    def assign(self, members: list[Any], greeting: str, descriptors: list[int]) -> None:
        """Note connections, which `adopt` serves later in this turn.

        `members`: id, address, prefix, slot and header bytes of each, and with --history also the
        number of the message after which its history begins.
        """
        encoded = greeting.encode()
        for (id, address, prefix, slot, header_bytes, *after), fd in zip(
            members, descriptors, strict=True
        ):
            self._to_adopt.append(
                Assigned(
                    id,
                    address,
                    prefix,
                    slot,
                    header_bytes,
                    encoded,
                    socket.socket(fileno=fd),
                    after[0] if after else None,
                )
            )

    def request_yield(self, ids: list[int]) -> None:
        """Note members to yield to another worker; `reports` yields them."""
        self._to_yield += ids

    def end_input(self, ids: list[int]) -> None:
        """Note members that the main process has disconnected; `adopt` ends their input."""
        self._to_end += ids

    def acknowledge(self, number: int) -> None:
        """Note an ack, which `reports` sends when all earlier requests are done."""
        self._acks.append(number)

    # --- adopt ---------------------------------------------------------------

    def adopt(self) -> None:
        """Serve newcomers, and take over members that another worker has served.

        Then end the input of disconnected members, including members that were just adopted.
        """
        if self._to_adopt:
            self._adopt_all()
        to_end, self._to_end = self._to_end, []
        for id in to_end:
            if id in self.members:  # if not, it has left, or moves to another worker
                self._input.end(self.members[id])

    def _adopt_all(self) -> None:
        to_adopt, self._to_adopt = self._to_adopt, []
        # In a cluster, the bridge may append these members' own messages meanwhile. `Recovery`
        # finds own messages before the head that it reads; `ClusterWorker` finds own messages after
        # this worker's place. So the place must be set before the head is read (CAST-2).
        self._delivery.begin()
        recovery = Recovery(self._log, self._slots, to_adopt, self._uplink)
        for assigned in to_adopt:
            self._log.mark_suspect(self._number, assigned.id)
            state = recovery.state_of(assigned)
            assigned.connection.setblocking(False)
            member = Member(
                assigned.id,
                assigned.address,
                assigned.prefix,
                assigned.connection,
                assigned.slot,
                self._limits.max_line,
                state.covered,
                self._slots.source(assigned.slot),
                assigned.header_bytes,
            )
            self.members[member.id] = member
            self._input.add(member, state.read)
            if state.cursor is None:
                self._greet(member, assigned, state.greeted)
            else:
                self._take_over(member, state.cursor, state)
        self._log.mark_suspect(self._number, 0)

    def _greet(self, member: Member, assigned: Assigned, greeted: int) -> None:
        """Send a newcomer the rest of the greeting, of which it has received `greeted` bytes."""
        delivery, greeting = self._delivery, assigned.greeting
        delivery.join(member, assigned.after)
        note(self._slots, member, len(greeting), *delivery.cursor_of(member))
        try:
            complete = member.send(greeting[greeted:]) == len(greeting) - greeted
        except BlockingIOError:
            complete = False
        except OSError:  # the connection is broken, but its input is still read (LEAVE-2)
            delivery.leave(member)
            return
        if not complete:  # a new socket that does not accept one line is broken
            self.remove(member, LeaveReason.RESET)

    def _take_over(self, member: Member, cursor: int, state: RecoveredState) -> None:
        self._delivery.take_over(member, cursor, state.position, state.own)
        self._note(member)

    # --- checkpoints ---------------------------------------------------------

    def note_if_due(self) -> None:
        """Note new checkpoints before the log can overwrite what the last checkpoints need."""
        offset, position = self._noted
        every, every_entries = self._note_every
        delivery = self._delivery
        if delivery.offset - offset >= every or delivery.position - position >= every_entries:
            self._note_all()

    def _note_all(self) -> None:
        self._noted = self._delivery.offset, self._delivery.position
        for member in self.members.values():
            self._note(member)

    def _note(self, member: Member, ahead: int = 0) -> None:
        """Note a checkpoint.

        `ahead`: size (bytes) of a telnet answer that is sent next; it does not come from the log.
        """
        count = taken(member.socket)
        if count is not None:
            note(self._slots, member, count + ahead, *self._delivery.cursor_of(member))

    # --- telnet commands -----------------------------------------------------

    def answer_telnet(self) -> None:
        """Answer members' telnet commands, and count the commands as covered input.

        Call this only when all messages that were read are in the log. A member that is behind gets
        its answers when it is caught up again: until then, its socket is full, and its stream may
        end inside a message.
        """
        for member, answer in list(self._input.telnet_answers.items()):
            member.covered = member.framer.framed
            if member.id in self._delivery.behind:
                self._note(member)
            else:
                self._note(member, len(answer))
                self._answer(member, answer)

    def _answer(self, member: Member, answer: bytes) -> None:
        """Send an answer. The member's checkpoint already includes the bytes of the answer.

        If this worker is killed before it has sent the answer, the answer is lost.
        """
        try:
            complete = not answer or member.send(answer) == len(answer)
        except BlockingIOError:
            self._note(member)  # the next turn sends the answer
            return
        except OSError:  # the connection is broken, but its input is still read (LEAVE-2)
            complete = True
        del self._input.telnet_answers[member]
        if not complete:  # the client would read the next message as the rest of the answer
            self.remove(member, LeaveReason.RESET)

    # --- leave ---------------------------------------------------------------

    def remove(self, member: Member, reason: LeaveReason) -> None:
        """Stop reading from a member and delivering to it; `reports` closes it later."""
        self._forget(member)
        self.departures.append((member, reason))

    def _forget(self, member: Member) -> None:
        del self.members[member.id]
        self._input.remove(member)
        self._delivery.leave(member)

    def reports(self, full: bool) -> list[Record]:
        """Yield members, close members that left, and return the reports to the main process.

        `full`: the batch could not be appended. In this case, no member is yielded or closed,
        because all its messages must be in the log first (LEAVE-2).
        """
        records: list[Record] = []
        if self._to_yield and not full:
            records.append(self._yield_members())
        if self._acks and self._all_served(full):
            records += [{"ack": number} for number in self._acks]
            self._acks = []
        if self.departures and not full:
            left = [(member.id, reason) for member, reason in self.departures]
            for member, reason in self.departures:
                member.close(CLOSING_MESSAGES.get(reason, b""), abort=reason == LeaveReason.LAGGED)
            self.departures = []
            for first in range(0, len(left), IDS_PER_RECORD):
                records.append({"left": left[first : first + IDS_PER_RECORD]})
        return records

    def _yield_members(self) -> Record:
        """Yield members to another worker.

        The log keeps the entries that the other worker needs, until the main process reports
        "settled".
        """
        to_yield, self._to_yield = self._to_yield, []
        found = [self.members[id] for id in to_yield if id in self.members]
        self._delivery.pin()
        for member in found:
            self._slots.note_spent(member.slot, member.spent_until)
            self._forget(member)
            member.socket.close()
        return {"yielded": [member.id for member in found]}

    def _all_served(self, full: bool) -> bool:
        """Return True if the log keeps nothing for members that were taken over.

        While the room stops, all input that was read must be in the log, too.
        """
        if self._input.draining and (full or self._input.unbatched):
            return False
        return self._delivery.grace_until is None
