"""The room's log: what was said, in one order, in memory that all workers share.

Two rings in one anonymous file. The *text* holds the rendered messages, back
to back, just as members receive them. The *entries* say whose they are: one
entry for each run of whole messages that one sender's input gave at once.
Offsets (bytes of text) and positions (entries) only grow; their place in a ring
is the number modulo the ring's size.

Invariants, kept under the lock:
- The head, one word, is the position at which the next entry goes, and it is
  stored last. A writer that is killed half-way has appended nothing.
- An offset follows from a position: `offset(p)` is where entry p-1 ends. The
  log begins with one empty entry, so that this holds from the start.
- A message that ends without LF is followed by the LF that ends its line, which
  is its sender's too, before anything else (LINE-6). So the room's line is
  unfinished just where the last byte of the log is not LF, and whoever must not
  see that LF can skip it before it exists.
- No worker's position is passed by more than the window, so what a worker's
  members have yet to get, and what it takes to find out what they have got, is
  still there: see `append`. A dead worker's position stays where it was until
  its members are served by others (LOAD-4).

Shared words are read and written as whole aligned words, and under the lock
where another process writes them: taking it is a barrier on every CPU. The lock
is `lockf`, which the kernel releases when its holder dies. It excludes
processes, not threads: in each process one thread only takes it. It is lost
when *any* descriptor of the file is closed, so they stay open until the end.
A process that only reads does not take it: see follower.py.
"""

import fcntl
import mmap
import struct
import sys
import threading
from bisect import bisect_right
from dataclasses import dataclass
from time import monotonic, sleep
from types import TracebackType
from typing import NamedTuple

from chatroom.config.settings import SEATS, Settings
from chatroom.config.sizes import whole_pages
from chatroom.log.origin import ORIGIN_SIZE

LF = 0x0A

RETRY_AFTER = 0.001
"""Seconds between two attempts to take the lock."""

IDLE = 2**64 - 1
"""The position of a worker that has no members, and for which nobody has to wait."""

Span = tuple[int, int]
"""Offsets: from the first, up to the second."""

# The first pages, in words: the head, and how many seats for workers are in use; from the eighth
# word on what there is of each seat: see `Log.__init__`.
_HEAD = 0
_IN_USE = 1
_BY_SEAT = 8
_WORDS_OF_SEAT = 7
_WORD = 8
_HEADER = whole_pages((_BY_SEAT + _WORDS_OF_SEAT * SEATS) * _WORD)

_LOCK = struct.Struct("hhqqi4x")
"""Linux's struct flock: type, whence, start, length, pid."""

Entry = tuple[int, int, int, int, bytes]
"""A run of whole messages of one sender:

- the offset at which its text ends; it begins where the entry before it ends
- the id of the member that sent it
- the reach: bytes of its sender's input that this entry and those before it cover (LOAD-4)
- the messages in the log up to here, this entry's included
- the sender's origin, packed: see origin.py
"""
_ENTRY = struct.Struct(f"4Q{ORIGIN_SIZE}s")
_WORDS = _ENTRY.size // _WORD
_END = 0
_SENDER = 1
_MESSAGES = 3


@dataclass(frozen=True, slots=True)
class Geometry:
    """The sizes of a log, and how much of it is kept behind the slowest worker's position."""

    text: int
    entries: int
    kept: int
    kept_entries: int

    @classmethod
    def of(cls, settings: Settings) -> "Geometry":
        return cls(settings.log_size, settings.log_entries, settings.kept, settings.kept_entries)

    @property
    def file_size(self) -> int:
        return _HEADER + self.entries * _ENTRY.size + self.text


class Work(NamedTuple):
    """What the workers that have had one seat have done."""

    waits: int
    """Times that one found no room for its batch."""
    said: int
    """Messages of its members that it has appended."""
    due: int
    """Deliveries: messages that became due to its members, one for each of them. The last words of
    those who left may count as if they had still been there."""


class Batch:
    """Messages to be appended at once, in the order in which they were added."""

    __slots__ = ("_parts", "ends_line", "messages", "runs", "size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.ends_line = True
        """Whether LF ends it; if not, the LF that will is its last sender's."""
        self.runs: list[Entry] = []
        """Entries to be; their ends and messages are counted from the batch's start."""
        self.size = 0
        self.messages = 0

    def __len__(self) -> int:
        return len(self.runs)

    def add(self, sender: int, origin: bytes, reach: int, text: bytes, messages: int) -> None:
        """Add a run of whole messages; only its last may be without LF."""
        if not self.ends_line:
            self._parts.append(b"\n")  # it is the last sender's: LINE-6
            self.size += 1
            self.runs[-1] = (self.size, *self.runs[-1][1:])
        self._parts.append(text)
        self.ends_line = text[-1] == LF
        self.size += len(text)
        self.messages += messages
        self.runs.append((self.size, sender, reach, self.messages, origin))

    def text(self) -> bytes:
        return b"".join(self._parts)


class Log:
    """One process's view of the log in the file `fd`; `with log:` holds the lock."""

    def __init__(self, fd: int, geometry: Geometry) -> None:
        """`fd`: an anonymous file of `geometry.file_size`."""
        self.fd = fd
        self.geometry = geometry
        memory = memoryview(mmap.mmap(fd, geometry.file_size))
        entries_end = geometry.file_size - geometry.text
        self._words = memory[:_HEADER].cast("Q")
        by_seat = [
            self._words[first : first + SEATS]
            for first in range(_BY_SEAT, _BY_SEAT + _WORDS_OF_SEAT * SEATS, SEATS)
        ]
        # Where its worker stands, whether it waits for room, its turns, over whom it would die.
        self._positions, self._waiting, self._turns, self._blamed, *work = by_seat
        # What all that have had it have done: see `Work`.
        self._waits, self._said, self._due = work
        self._entries = memory[_HEADER:entries_end]
        self._fields = self._entries.cast("Q")
        self._text = memory[entries_end:]
        self._threads = threading.Lock()
        """Held with the log's lock by a thread that must not wait for it: see `_try_lock`."""

    def format(self) -> None:
        """Make a zeroed file an empty log; once, before another process sees it."""
        self._words[_HEAD] = 1  # the empty entry
        for worker in range(SEATS):
            self._positions[worker] = IDLE

    def holder(self) -> int | None:
        """The process that holds the lock, if it is another, and the system tells. Never waits."""
        if sys.platform != "linux":
            return None
        asked = _LOCK.pack(fcntl.F_WRLCK, 0, 0, 0, 0)
        kind, _, _, _, pid = _LOCK.unpack(fcntl.fcntl(self.fd, fcntl.F_GETLK, asked))
        return None if kind == fcntl.F_UNLCK else pid

    def __enter__(self) -> "Log":
        fcntl.lockf(self.fd, fcntl.LOCK_EX)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        fcntl.lockf(self.fd, fcntl.LOCK_UN)

    # --- what was appended ---------------------------------------------------

    @property
    def head(self) -> int:
        """The position behind the last entry. Hold the lock, unless an old one does no harm."""
        return self._words[_HEAD]

    def try_head(self) -> int | None:
        """Return the head, without waiting for the lock; None while another process has it.

        The process that has stored this head has released the lock by then, so all that lies
        before it can be seen. Where the system does not tell who has the lock, it is taken.
        """
        if sys.platform != "linux":
            if not self._try_lock():
                return None
            try:
                return self.head
            finally:
                self._unlock()
        head = self.head
        return head if self.holder() is None else None

    def still_valid(self, position: int, offset: int) -> bool:
        """Whether the entries from the one before `position` on, and the text from `offset` on, are
        there, and so were when they were read just now. Needs no lock: see `append`.

        It takes its time to tell (a call of the kernel's): what was read before it, was read.
        """
        self.holder()
        head = self.head
        return (
            head - (position - 1) <= self.geometry.kept_entries
            and self.offset(head) - offset <= self.geometry.kept
        )

    def offset(self, position: int) -> int:
        """Where the text of the entries before `position` ends."""
        return self._field(position - 1, _END)

    def sender(self, position: int) -> int:
        """Who sent the last of the entries before `position`."""
        return self._field(position - 1, _SENDER)

    def messages(self, position: int) -> int:
        """How many messages the entries before `position` hold, from the room's beginning."""
        return self._field(position - 1, _MESSAGES)

    def position(self, offset: int, first: int, last: int) -> int:
        """The last position from `first` to `last` whose offset is not beyond `offset`.

        `offset` must lie between theirs, and their entries must not be lapped.
        """
        return first - 1 + bisect_right(range(first, last + 1), offset, key=self.offset)

    def unfinished(self, offset: int) -> bool:
        """Whether the line that ends at `offset` is without LF, so that LF comes next."""
        return offset > 0 and self._text[(offset - 1) % self.geometry.text] != LF

    def said(self, first: int, last: int) -> tuple[dict[int, list[Span]], dict[int, int]]:
        """What each sender has in the entries from `first` up to `last`: spans, and the last reach.

        One pass, for all of a dead worker's members at once.
        """
        begin = self.offset(first)
        spans: dict[int, list[Span]] = {}
        reaches: dict[int, int] = {}
        for end, sender, reach, _, _ in self.entries(first, last):
            spans.setdefault(sender, []).append((begin, end))
            reaches[sender] = reach
            begin = end
        return spans, reaches

    def entries(self, first: int, last: int) -> list[Entry]:
        """Return the entries from `first` up to `last`."""
        views = _views(self._entries, first * _ENTRY.size, last * _ENTRY.size)
        return [entry for view in views for entry in _ENTRY.iter_unpack(view)]

    def views(self, start: int, end: int) -> list[memoryview]:
        """The text from `start` to `end`: one view, or two where it wraps; no copy."""
        return _views(self._text, start, end)

    # --- appending -----------------------------------------------------------

    def append(self, batch: Batch) -> int | None:
        """Append a batch that is not empty and return the offset of its start. Hold the lock.

        None where a worker has not delivered enough yet to leave room for it:
        what lies up to `kept` before a worker's position may still be owed to
        its members, and is not overwritten. The slowest worker is waited for,
        so that nothing is lost; the slowest client never is.
        """
        geometry = self.geometry
        head = self.head
        end, sender, reach, messages, origin = self._entry(head - 1)
        ending = self.unfinished(end)
        slowest = min(head, *self._in_use(self._positions))
        if (
            end + ending + batch.size - self.offset(slowest) > geometry.text - geometry.kept
            or head + ending + len(batch) - slowest > geometry.entries - geometry.kept_entries
        ):
            return None
        start, position = end, head
        if ending:
            _store(self._text, end, b"\n")
            self._put(head, end + 1, sender, reach, messages, origin)
            start += 1
            position += 1
        _store(self._text, start, batch.text())
        for run_end, sender, reach, run_messages, origin in batch.runs:
            self._put(position, start + run_end, sender, reach, messages + run_messages, origin)
            position += 1
        self._words[_HEAD] = position
        return start

    def append_within(self, seconds: float, batch: Batch) -> bool:
        """Append, unless there is no room, or the lock is not had in time.

        The main process appends so: the lock's holder may hang, and the main process is what
        ends it then.
        """
        deadline = monotonic() + seconds
        while not self._try_lock():
            if monotonic() >= deadline:
                return False
            sleep(RETRY_AFTER)
        try:
            return self.append(batch) is not None
        finally:
            self._unlock()

    def _try_lock(self) -> bool:
        """Take the lock if neither another process nor another thread of this one has it so.

        `lockf` does not exclude threads: the end of one's lock would be that of the other's.
        """
        if not self._threads.acquire(blocking=False):
            return False
        try:
            fcntl.lockf(self.fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            self._threads.release()
            return False
        return True

    def _unlock(self) -> None:
        fcntl.lockf(self.fd, fcntl.LOCK_UN)
        self._threads.release()

    # --- workers -------------------------------------------------------------

    def seat(self, worker: int) -> None:
        """`worker` is about to start, in a seat that is free. By the main process only.

        The seats in use only grow: who appends looks at no more of them.
        """
        self._waiting[worker] = self._blamed[worker] = 0
        self._words[_IN_USE] = max(self._words[_IN_USE], worker + 1)

    def stands(self, worker: int) -> int:
        """Up to which position `worker` has delivered, as far as it has said so."""
        return self._positions[worker]

    def turn(self, worker: int) -> None:
        """`worker` has done another turn: it makes progress."""
        self._turns[worker] += 1

    def turns(self, worker: int) -> int:
        """A number that changes when `worker` has done a turn."""
        return self._turns[worker]

    def mark_suspect(self, worker: int, member: int) -> None:
        """Should `worker` die now, it was over this member; 0: over nobody in particular."""
        self._blamed[worker] = member

    def suspect(self, worker: int) -> int:
        """Over whom `worker` has died."""
        return self._blamed[worker]

    def serve(self, worker: int, position: int) -> None:
        """`worker` has members from now on, and stands at `position`. Hold the lock."""
        self._positions[worker] = position

    def advance(self, worker: int, position: int) -> list[int]:
        """Record that `worker` has delivered all before `position`. Hold the lock.

        Returns the workers that waited for room: ring them, there may be some.
        """
        if self._positions[worker] == position:
            return []  # nothing was gained: to wake them would make them, and us, go round
        self._positions[worker] = position
        waiting = [number for number, waits in enumerate(self._in_use(self._waiting)) if waits]
        for number in waiting:
            self._waiting[number] = 0
        return waiting

    def retire(self, worker: int) -> list[int]:
        """Wait for `worker` no more: it has no members, or is dead. Returns as `advance` does.

        Hold the lock; or ring everyone afterwards, who may have found no room.
        """
        return self.advance(worker, IDLE)

    def wait_for_room(self, worker: int) -> None:
        """Have `worker` rung when another advances, after `append` returned None. Hold the lock."""
        self._waiting[worker] = 1
        self._waits[worker] += 1

    @property
    def waited_for(self) -> bool:
        """Whether anyone waits for room. Without the lock: who begins to, rings the slowest."""
        return any(self._in_use(self._waiting))

    def tally(self, worker: int, said: int, due: int) -> None:
        """`worker` has appended so many messages, and so many became due to its members."""
        self._said[worker] += said
        self._due[worker] += due

    def work(self, worker: int) -> Work:
        """What all that have had this seat have done."""
        return Work(self._waits[worker], self._said[worker], self._due[worker])

    def serving(self) -> list[int]:
        """The workers that have members. Hold the lock."""
        positions = self._in_use(self._positions)
        return [number for number, position in enumerate(positions) if position != IDLE]

    def yet_to_deliver(self) -> list[int]:
        """Those of them that have not said that they have delivered all. Hold the lock."""
        head, positions = self.head, self._in_use(self._positions)
        return [number for number, position in enumerate(positions) if position < head]

    def _in_use(self, words: memoryview) -> list[int]:
        """Of words that there is one of for each seat, those that are in use."""
        return words[: self._words[_IN_USE]].tolist()

    # --- the rings -----------------------------------------------------------

    def _field(self, position: int, field: int) -> int:
        return self._fields[position % self.geometry.entries * _WORDS + field]

    def _entry(self, position: int) -> Entry:
        at = position % self.geometry.entries * _ENTRY.size
        return _ENTRY.unpack_from(self._entries, at)

    def _put(
        self, position: int, end: int, sender: int, reach: int, messages: int, origin: bytes
    ) -> None:
        at = position % self.geometry.entries * _ENTRY.size
        _ENTRY.pack_into(self._entries, at, end, sender, reach, messages, origin)


def _views(ring: memoryview, start: int, end: int) -> list[memoryview]:
    """The bytes `start` to `end` of what only grows, of which `ring` holds the last ones."""
    size = len(ring)
    at = start % size
    stop = at + end - start
    if stop <= size:
        return [ring[at:stop]]
    return [ring[at:], ring[: stop - size]]


def _store(ring: memoryview, start: int, data: bytes) -> None:
    """Write `data`, not longer than `ring`, at `start` of what only grows."""
    done = 0
    for view in _views(ring, start, start + len(data)):
        view[:] = data[done : done + len(view)]
        done += len(view)
