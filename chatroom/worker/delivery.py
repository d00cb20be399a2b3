"""Delivery of the log to members: each member receives all new messages except its own.

A worker has one place in the log: it has tried to send everything before that place to all its
members. The sockets of nearly all members have accepted everything. These members are *caught up*:
they need no cursor, and share one view of the next text. A member whose socket has not accepted
everything is *behind*. Such a member has a cursor, is sent more when its socket is writable, and is
disconnected if it lags too much. So a slow reader delays nobody (LOAD-1). A sender receives the
text before and after its own message.
"""

import contextlib
from collections.abc import Sequence
from time import monotonic

from chatroom.log.history import find_start
from chatroom.log.ring import Log, Span
from chatroom.system.doorbell import Doorbell
from chatroom.system.poller import WRITE, Poller
from chatroom.worker.member import Member

FEW_MEMBERS = 64
"""A worker with at most this many members delivers to all these members before it wakes other
workers. This delays the other workers by up to half a millisecond. But waking a worker costs as
much as several deliveries, and on a machine with few processors the woken worker may take this
worker's processor.
"""

CATCH_UP_WITHIN = 5.0
"""Grace period (s) after a takeover. Meanwhile, the lag limit does not apply to members that lagged
much at the takeover, for example because their worker hung. The log keeps the messages that these
members have not received, so senders may have to wait."""

MAX_SPANS = 512
"""Maximum number of spans in one call of sendmsg. The kernel accepts 1,024 views (IOV_MAX) in a
call, and a span may need two views."""

GRACE_DIVISOR = 2
"""Divisor of the lag limit. A member that is taken over gets the grace period if it lags by more
than the limit divided by GRACE_DIVISOR. A smaller lag takes some time to grow to the limit."""


class Delivery:
    """The members of worker `number`, and its place in the log.

    The members' sockets do not block. `position` and `offset` are the worker's place; they are
    undefined before `begin`, and when the last member has left.
    """

    def __init__(
        self,
        number: int,
        log: Log,
        doorbells: list[Doorbell],
        max_lag: int,
        max_lag_entries: int,
    ) -> None:
        self._number = number
        self._log = log
        self._doorbells = doorbells
        self._max_lag = max_lag
        self._max_lag_entries = max_lag_entries
        self._caught_up: dict[int, Member] = {}
        self.behind: dict[int, Member] = {}
        """Members whose sockets have not accepted everything, by id."""
        self.writable = Poller()
        """Poller of the sockets of members that are behind. Call `write` when it is readable."""
        self.position = 0
        self.offset = 0
        self._lag_exempt: set[int] = set()
        """Ids of members exempt from the lag limit after a takeover."""
        self.grace_until: float | None = None
        """Time (s, monotonic) at which the exemption ends; None if no member is exempt. Until then,
        the log keeps the messages that the exempt members have not received."""
        self._begun = False
        """True from `begin` until the last member has left."""
        self._pinned = False
        """True while this worker's position in the log must not move: see `pin`."""

    def __len__(self) -> int:
        return len(self._caught_up) + len(self.behind)

    def members(self) -> list[Member]:
        return [*self._caught_up.values(), *self.behind.values()]

    def join(self, member: Member, after: int | None = None) -> None:
        """Begin to send a member the text that is appended from now on (WELCOME-3).

        `after`: number of the message after which the member's history begins. If the log holds
        later messages, the member is `behind`: it receives them first, when its socket is writable.
        """
        self.begin()
        if after is not None and after < self._log.messages(self.position):
            member.cursor, member.entry = find_start(self._log, after, self.position)
            if member.cursor < self.offset:
                self._fall_behind(member)
                return
        if self._log.unfinished(self.offset):
            # The next byte is the LF of a line whose beginning the member has not received.
            member.owns(self.offset, self.offset + 1)
        self._caught_up[member.id] = member

    def take_over(self, member: Member, cursor: int, entry: int, own: Sequence[Span]) -> None:
        """Serve a member that another worker has served up to `cursor`.

        `entry` is a position at or before the cursor; `own` are the member's spans from that
        position on. Send everything that the member has not received. If its socket does not accept
        everything, the member is `behind`. If it then lags much, it gets the grace period.
        """
        self.begin()
        end = self.offset
        member.own = [span for span in own if span[1] > cursor]
        if self._log.unfinished(end) and (
            cursor > end or self._log.sender(self.position) == member.id
        ):
            member.owns(end, end + 1)
        member.cursor = min(cursor, end)
        member.entry = self._log.position(member.cursor, entry, self.position)
        self._fall_behind(member)
        before = -1
        while member.id in self.behind and member.cursor > before:
            before = member.cursor
            self.resume(member)
        if member.id in self.behind and self._lags(member, GRACE_DIVISOR):
            self._lag_exempt.add(member.id)
            self.grace_until = monotonic() + CATCH_UP_WITHIN

    def begin(self) -> None:
        """Move to the log's head if the worker has no members yet.

        The caller must then add a member.
        """
        log = self._log
        if not self._begun:
            self._begun = True
            with log:
                self.position = log.head
                self.offset = log.offset(self.position)
                if not self._pinned:
                    log.serve(self._number, self.position)

    def leave(self, member: Member) -> None:
        """Stop delivering to a member. The member may have left already."""
        self._caught_up.pop(member.id, None)
        if member.id in self.behind:
            self._catch_up(member)
        if not self:
            self._begun = False
            self.advance()

    def advance(self) -> None:
        """Store this worker's position in the log, and wake the workers that wait for space."""
        if self._pinned:
            return
        with self._log as log:
            waiting = self.advance_locked() if self else log.retire(self._number)
        self._ring(waiting)

    def free_space(self) -> None:
        """Advance at once if any worker waits for space in the log."""
        if self and self._log.has_waiting:
            self.advance()

    def advance_locked(self) -> list[int]:
        """Advance while the caller holds the log's lock; return the workers to wake."""
        if self._pinned or not self:
            return []
        return self._log.advance(self._number, self.position)

    def cursor_of(self, member: Member) -> Span:
        """Return a member's cursor, and the position of an entry at or before the cursor."""
        if member.id in self.behind:
            return member.cursor, self._log.position(member.cursor, member.entry, self.position)
        return self.offset, self.position

    def pin(self) -> None:
        """Stop advancing this worker's position in the log.

        The log then keeps the entries that are needed to recover members that move to another
        worker.
        """
        self._pinned = True

    def unpin(self) -> None:
        """Let this worker's position advance again, because other workers now serve the members
        that moved."""
        self._pinned = False
        self.advance()

    def deliver(self, head: int, appended: int, wake: list[int]) -> None:
        """Deliver everything before `head`, and ring the doorbells `wake`.

        `appended`: number of messages that this worker has just appended.
        """
        many = len(self) > FEW_MEMBERS
        if many:
            self._ring(wake)
        if self:
            news = self._log.messages(head) - self._log.messages(self.position)
            if news:
                self._log.count_work(self._number, appended, news * len(self) - appended)
            self._send_to_caught_up(head)
        elif appended:
            self._log.count_work(self._number, appended, 0)
        if not many:
            self._ring(wake)

    def _ring(self, numbers: list[int]) -> None:
        for number in numbers:
            self._doorbells[number].ring()

    def _send_to_caught_up(self, position: int) -> None:
        """Send everything before `position` to all members that are caught up.

        A member whose connection is broken is dropped from delivery, so it can't lag. Its input is
        still read (LEAVE-2).
        """
        start, end = self.offset, self._log.offset(position)
        if start == end:
            return
        size = end - start
        views = self._log.views(start, end)
        whole = views[0] if len(views) == 1 else None
        stuck, gone = [], []
        for member in self._caught_up.values():
            try:
                if member.own or whole is None:
                    if self._send_around_own(member, start, end, whole) == end:
                        continue
                else:
                    taken = member.send(whole)
                    if taken == size:
                        continue
                    member.cursor = start + taken
            except BlockingIOError:
                member.cursor = start
            except OSError:
                gone.append(member)
                continue
            stuck.append(member)
        for member in stuck:
            member.entry = self.position
            del self._caught_up[member.id]
            self._fall_behind(member)
        self.position, self.offset = position, end
        for member in gone:
            self.leave(member)

    def _fall_behind(self, member: Member) -> None:
        self.behind[member.id] = member
        self.writable.register(member, WRITE, member)

    def _catch_up(self, member: Member) -> None:
        self.writable.unregister(member)
        del self.behind[member.id]

    def write(self) -> None:
        """Send more to members whose sockets are writable again."""
        for member in self.writable.poll(0):
            self.resume(member)

    def resume(self, member: Member) -> bool:
        """Send more to a member that is behind; return False if it is still behind.

        If the result is True, the member is caught up, or its connection is broken.
        """
        try:
            if self._send_from(member, member.cursor, self.offset) != self.offset:
                return False
        except OSError:
            self.leave(member)
        else:
            self._catch_up(member)
            self._caught_up[member.id] = member
        return True

    def laggards(self) -> list[Member]:
        """Return the members that lag beyond the limit (LOAD-2).

        The log may overwrite text that these members have not received. A member that was taken
        over is exempt until its lag is small, or the grace period is over.
        """
        behind = self.behind
        if not behind and self.grace_until is None:
            return []
        if self.grace_until is not None:
            self._lag_exempt = {
                id
                for id in self._lag_exempt
                if id in behind and self._lags(behind[id], GRACE_DIVISOR)
            }
            if not self._lag_exempt or monotonic() >= self.grace_until:
                self._lag_exempt.clear()
                self.grace_until = None
        return [
            member
            for id, member in behind.items()
            if id not in self._lag_exempt and self._lags(member)
        ]

    def _lags(self, member: Member, part: int = 1) -> bool:
        """Return True if a member lags by more than the limit divided by `part`."""
        if self.offset - member.cursor > self._max_lag // part:
            return True
        if self.position - member.entry <= self._max_lag_entries // part:
            return False
        member.entry = self._log.position(member.cursor, member.entry, self.position)
        return self.position - member.entry > self._max_lag_entries // part

    def _send_around_own(
        self, member: Member, start: int, end: int, whole: memoryview | None
    ) -> int:
        """Send like `_send_from`, but faster if the member has only one own span.

        `whole`: the text from `start` to `end` if that is one view, or None. Raises OSError if the
        connection is broken, and BlockingIOError if the socket accepts nothing.
        """
        own = member.own
        if whole is None or len(own) > 1 or own[0][1] > end:
            return self._send_from(member, start, end)
        begin, stop = own[0]
        begin = max(begin, start)
        if begin == start and stop == end:
            member.own = []
            return end
        if begin == start:
            taken = member.send(whole[stop - start :])
        elif stop == end:
            taken = member.send(whole[: begin - start])
        else:
            taken = member.sendmsg((whole[: begin - start], whole[stop - start :]))
        if taken < end - start - (stop - begin):
            member.cursor = after(others(start, end, own), taken)
            return member.cursor
        member.own = []
        return end

    def _send_from(self, member: Member, start: int, end: int) -> int:
        """Send a member the text from `start` to `end` without its own spans; store and return its
        cursor.

        Raises OSError if the connection is broken.
        """
        spans = others(start, end, member.own)
        views: list[memoryview] = []
        size = taken = 0
        for begin, stop in spans:
            views += self._log.views(begin, stop)
            size += stop - begin
        if views:
            with contextlib.suppress(BlockingIOError):
                taken = member.sendmsg(views)
        if taken < size:
            cursor = after(spans, taken)
        else:
            cursor = end if len(spans) < MAX_SPANS else spans[-1][1]
        member.cursor = cursor
        if member.own and member.own[0][1] <= cursor:
            member.own = [own for own in member.own if own[1] > cursor]
        return cursor


def others(start: int, end: int, own: list[Span]) -> list[Span]:
    """Return the spans from `start` to `end` without the `own` spans, which must be in order.

    At most MAX_SPANS are returned. If MAX_SPANS are returned, there may be more.
    """
    spans: list[Span] = []
    for begin, stop in own:
        if begin >= end or len(spans) == MAX_SPANS:
            break
        if start < begin:
            spans.append((start, begin))
        if start < stop:
            start = stop
    if start < end and len(spans) < MAX_SPANS:
        spans.append((start, end))
    return spans


def after(spans: list[Span], taken: int) -> int:
    """Return the offset after the first `taken` bytes of the spans.

    Raises ValueError if the spans hold `taken` bytes or fewer.
    """
    for begin, stop in spans:
        if taken < stop - begin:
            return begin + taken
        taken -= stop - begin
    raise ValueError("taken must be less than the size of the spans")
