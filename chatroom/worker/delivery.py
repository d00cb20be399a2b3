"""Delivery of the log to members: all that is new, less what each of them said itself.

A worker stands at one place in the log: all before it was sent to all its
members. Nearly all of them took it: these are *level*, need no cursor of their
own, and share one view of what comes next. A member that did not take all is
*behind*, goes on at its own cursor when its socket can be written, and is
disconnected when it lags too far. So a slow reader delays nobody (LOAD-1), and a
member that speaks costs a view of its own, once.
"""

import contextlib
import selectors
from time import monotonic

from chatroom.log.ring import Log, Span
from chatroom.system.doorbell import Doorbell
from chatroom.worker.member import Member

FEW = 64
"""Members that are delivered to before the other workers are woken, for whom it is half a
millisecond. To wake a worker costs as much as several of these deliveries; and where processors
are few, it would take one from those who are about to hear something."""

CATCH_UP_WITHIN = 5.0
"""Grace period (s) for members whose worker hung while others said much, before the lag limit
applies to them again. The log keeps what they lack meanwhile, so senders may have to wait."""

MAX_SPANS = 512
"""Spans in one call; the kernel takes 1,024 views (IOV_MAX), and one span may need two."""

MUCH = 2
"""Divisor of the lag limit: a member that lags by more than this part of it when it is taken over
gets the grace period. With what is left of the limit, others meet what is said meanwhile."""


class Delivery:
    """The members of worker `number`, and where it stands.

    Sends to sockets that do not block. `position` and `offset` say where the
    worker stands; they mean nothing while it has no members.
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
        self._level: dict[int, Member] = {}
        self.behind: dict[int, Member] = {}
        """Members that did not take all, by id."""
        self.writable = selectors.DefaultSelector()
        """The sockets of members that are behind: `write` when it is readable."""
        self.position = 0
        self.offset = 0
        self._lag_exempt: set[int] = set()
        """Ids exempt from the lag limit after a takeover: no worker has served them for a while."""
        self.grace_until: float | None = None
        """Time at which that exemption ends. The log has to keep until then what they lack."""
        self._pinned = False
        """Whether the log's notion of where this worker stands stays as it is."""

    def __len__(self) -> int:
        return len(self._level) + len(self.behind)

    def members(self) -> list[Member]:
        return [*self._level.values(), *self.behind.values()]

    def join(self, member: Member) -> None:
        """Send a member what is appended from now on (WELCOME-3)."""
        self._begin()
        if self._log.unfinished(self.offset):
            # The end of a line of which it has not seen the beginning.
            member.owns(self.offset, self.offset + 1)
        self._level[member.id] = member

    def go_on(self, member: Member, cursor: int, entry: int, own: list[Span]) -> None:
        """Serve a member that another worker has served up to `cursor`; send what it lacks at once.

        `entry` is a position not beyond its cursor. What it can't take now it
        gets when it can: then it is `behind`. If that is much, it has CATCH_UP_WITHIN.
        """
        self._begin()
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
        if member.id in self.behind and self._lags(member, MUCH):
            self._lag_exempt.add(member.id)
            self.grace_until = monotonic() + CATCH_UP_WITHIN

    def _begin(self) -> None:
        """Begin at the log's head, if there is no member yet."""
        log = self._log
        if not self:
            with log:
                self.position = log.head
                self.offset = log.offset(self.position)
                if not self._pinned:
                    log.serve(self._number, self.position)

    def leave(self, member: Member) -> None:
        """Send nothing more to a member, which may have left already."""
        self._level.pop(member.id, None)
        if member.id in self.behind:
            self._catch_up(member)
        if not self:
            self.advance()

    def advance(self) -> None:
        """Let the log know where this worker stands, and wake workers that have waited for that."""
        if self._pinned:
            return
        with self._log as log:
            waiting = self.advance_locked() if self else log.retire(self._number)
        self._ring(waiting)

    def make_room(self) -> None:
        """Advance at once where a worker, maybe this one, waits for that."""
        if self and self._log.waited_for:
            self.advance()

    def advance_locked(self) -> list[int]:
        """Do as `advance`, where the log's lock is held; return the workers to wake."""
        if self._pinned or not self:
            return []
        return self._log.advance(self._number, self.position)

    def stands(self, member: Member) -> Span:
        """Return a member's cursor, and a position not beyond it."""
        if member.id in self.behind:
            return member.cursor, self._log.position(member.cursor, member.entry, self.position)
        return self.offset, self.position

    def pin(self) -> None:
        """Stand still in the log, which so keeps what members need that move to another worker."""
        self._pinned = True

    def unpin(self) -> None:
        """Move on in the log: they are served."""
        self._pinned = False
        self.advance()

    def deliver(self, head: int, said: int, wake: list[int]) -> None:
        """Deliver all before `head`; wake the workers `wake`, which are to do the same.

        `said`: messages in it that this worker has appended just now.
        """
        many = len(self) > FEW
        if many:
            self._ring(wake)
        if self:
            news = self._log.messages(head) - self._log.messages(self.position)
            if news:
                self._log.tally(self._number, said, news * len(self) - said)
            self._send_to_level(head)
        elif said:
            self._log.tally(self._number, said, 0)
        if not many:
            self._ring(wake)

    def _ring(self, numbers: list[int]) -> None:
        for number in numbers:
            self._doorbells[number].ring()

    def _send_to_level(self, position: int) -> None:
        """Send all before `position` to all members that are level.

        A member whose connection is broken hears nothing any more, and so can't lag;
        what it said before is still to be read (LEAVE-2).
        """
        start, end = self.offset, self._log.offset(position)
        if start == end:
            return
        size = end - start
        views = self._log.views(start, end)
        whole = views[0] if len(views) == 1 else None
        stuck, gone = [], []
        for member in self._level.values():
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
            del self._level[member.id]
            self._fall_behind(member)
        self.position, self.offset = position, end
        for member in gone:
            self.leave(member)

    def _fall_behind(self, member: Member) -> None:
        self.behind[member.id] = member
        self.writable.register(member, selectors.EVENT_WRITE, member)

    def _catch_up(self, member: Member) -> None:
        self.writable.unregister(member)
        del self.behind[member.id]

    def write(self) -> None:
        """Go on with members whose sockets can be written again."""
        for key, _ in self.writable.select(0):
            self.resume(key.data)

    def resume(self, member: Member) -> bool:
        """Send more to a member that is behind.

        Return whether it no longer is: it is level now, or its connection is broken.
        """
        try:
            if self._send_from(member, member.cursor, self.offset) != self.offset:
                return False
        except OSError:
            self.leave(member)
        else:
            self._catch_up(member)
            self._level[member.id] = member
        return True

    def too_slow(self) -> list[Member]:
        """Return the members that lag beyond the limit (LOAD-2).

        The log need not keep what they lack. Those taken over are exempt until
        all have caught up, or their grace period is over.
        """
        behind = self.behind
        if self.grace_until is not None:
            self._lag_exempt = {
                id for id in self._lag_exempt if id in behind and self._lags(behind[id], MUCH)
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
        """Return whether it lags beyond that part of the limit: 1 is all of it, 2 a half."""
        if self.offset - member.cursor > self._max_lag // part:
            return True
        if self.position - member.entry <= self._max_lag_entries // part:
            return False
        member.entry = self._log.position(member.cursor, member.entry, self.position)
        return self.position - member.entry > self._max_lag_entries // part

    def _send_around_own(
        self, member: Member, start: int, end: int, whole: memoryview | None
    ) -> int:
        """Do as `_send_from` does, at less cost where `member` has spoken once, as in a crowd.

        `whole` is the text from `start` to `end`, where that is one view. Also
        raises BlockingIOError.
        """
        own = member.own
        if whole is None or len(own) > 1 or own[0][1] > end:
            return self._send_from(member, start, end)
        begin, stop = own[0]
        begin = max(begin, start)
        if begin == start and stop == end:
            member.own = []
            return end
        taken = member.sendmsg((whole[: begin - start], whole[stop - start :]))
        if taken < end - start - (stop - begin):
            member.cursor = after(others(start, end, own), taken)
            return member.cursor
        member.own = []
        return end

    def _send_from(self, member: Member, start: int, end: int) -> int:
        """Send `member` the others' text from `start` to `end`; return, and keep, its cursor.

        Raises OSError where its connection is broken.
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
    """Return what lies from `start` to `end`, less the `own` spans, which are in order.

    At most MAX_SPANS; if it is as many, there may be more.
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
    """Return where to go on when `taken` bytes of the `spans` are gone, fewer than they hold."""
    for begin, stop in spans:
        if taken < stop - begin:
            return begin + taken
        taken -= stop - begin
    raise ValueError(f"{taken} bytes more were taken than there are")
