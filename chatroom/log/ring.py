"""The room's log: all messages in one order, in memory that all workers share.

The log consists of two rings in one anonymous file. The *text* holds the rendered messages, back to
back, just as members receive them. The *entries* name the senders: one entry for each run of whole
messages that came from one read of one sender. Offsets (bytes of text) and positions (entries) only
grow. The place of an offset or a position in its ring is its value modulo the size of the ring.

Invariants, kept under the lock:
- The head, one word, is the position of the next entry. An append stores the head last, so a
  process that is killed during an append has appended nothing.
- An offset follows from a position: `offset(p)` is the end of entry p-1. The log
  begins with one empty entry, so that this holds from the start.
- A message without LF is followed by the LF that ends its line; nothing comes between them
  (LINE-6). That LF belongs to the sender of the message. So the log's last line is unfinished if
  the log's last byte is not LF. The next byte will be the LF of that line, so a member's own spans
  can include the LF before it is appended.
- An append does not overwrite text after a worker's position, or the last `Geometry.kept` bytes
  before that position. The worker's members may not have received this text yet, or another worker
  may need it to recover them (see `append`). A dead worker's position stays pinned until other
  workers serve its members (LOAD-4).

Shared words are aligned, so a process reads or writes a word in one operation. A process takes the
lock before it reads a word that another process writes: on every CPU, taking the lock is a barrier.
Where an old value does no harm, a process reads without the lock. The lock is `lockf`, which the
kernel releases when its holder dies. The lock excludes processes, not threads: see `_try_lock`. A
process that closes *any* descriptor of the file loses the lock, so the descriptors stay open until
the end. Processes that only read do not take the lock: see follower.py.
"""

import fcntl
import mmap
import struct
import sys
import threading
from bisect import bisect_right
from time import monotonic, sleep
from types import TracebackType
from typing import Final, NamedTuple

from chatroom.config.limits import SEATS, Limits
from chatroom.config.sizes import whole_pages
from chatroom.log.origin import ORIGIN_SIZE

LF: Final = 0x0A

RETRY_AFTER = 0.001
"""Seconds between two attempts to take the lock."""

IDLE: Final = 2**64 - 1
"""Position of a worker without members; no append waits for this worker."""

Span = tuple[int, int]
"""Offsets of the start and the end of some text."""

# Indexes of words in the header.
_HEAD: Final = 0
_IN_USE: Final = 1  # number of seats in use
_HAS_WAITING: Final = 2  # 1 if a worker waits for space, or waited before it died
_BY_SEAT: Final = 8  # the first of the arrays with one word for each seat: see `Log.__init__`
_WORDS_OF_SEAT: Final = 7
_WORD: Final = 8
_HEADER = whole_pages((_BY_SEAT + _WORDS_OF_SEAT * SEATS) * _WORD)

_LOCK = struct.Struct("hhqqi4x")
"""Linux's struct flock: type, whence, start, length, pid."""

Entry = tuple[int, int, int, int, bytes]
"""A run of whole messages of one sender:

- the offset at which its text ends; its text begins where the previous entry's text ends
- the id of its sender
- the reach: bytes of its sender's input that this entry and earlier entries cover (LOAD-4). In a
  cluster, the reach in the room's log is the sequence number of the entry's publication in the
  stream
- the number of messages in the log up to here, including this entry's
- the sender's origin, packed: see origin.py
"""
_ENTRY: Final = struct.Struct(f"4Q{ORIGIN_SIZE}s")
_ENTRY_SIZE: Final = _ENTRY.size
_WORDS: Final = _ENTRY_SIZE // _WORD
_END: Final = 0
_SENDER: Final = 1
_REACH: Final = 2
_MESSAGES: Final = 3


class Geometry(NamedTuple):
    """The sizes of a log, and the part that is kept behind the slowest worker's position.

    `text` and `kept` are in bytes, `entries` and `kept_entries` in entries.
    """

    text: int
    entries: int
    kept: int
    kept_entries: int

    @classmethod
    def of(cls, limits: Limits) -> "Geometry":
        return cls(limits.log_size, limits.log_entries, limits.kept, limits.kept_entries)

    @property
    def file_size(self) -> int:
        return _HEADER + self.entries * _ENTRY.size + self.text


class Work(NamedTuple):
    """Counters of a seat, summed over all workers that have had the seat."""

    waits: int
    """Number of times that a worker found no space for its batch."""
    appended: int
    """Messages appended."""
    due: int
    """Deliveries: a message counts once for each member except its sender. If the sender leaves
    before the delivery, one delivery too few is counted."""


class Batch:
    """Messages to append at once, in the order in which they were added."""

    __slots__ = ("_parts", "ends_line", "messages", "runs", "size")

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self.ends_line = True
        """True if the last byte is LF. If not, the LF that follows belongs to the last sender."""
        self.runs: list[Entry] = []
        """Entries to append. The ends and message numbers in them are relative to the batch's
        start."""
        self.size = 0
        self.messages = 0

    def __len__(self) -> int:
        return len(self.runs)

    def add(self, sender: int, origin: bytes, reach: int, text: bytes, messages: int) -> None:
        """Add a run of whole messages; only the last of them may lack LF."""
        if not self.ends_line:
            self._parts.append(b"\n")  # this LF belongs to the last sender (LINE-6)
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
    """A process' view of the log in the file `fd`; `with log:` holds the lock."""

    def __init__(self, fd: int, geometry: Geometry) -> None:
        """`fd`: an anonymous file of `geometry.file_size`."""
        self.fd = fd
        self.geometry = geometry
        self._text_size, self._entry_count = geometry.text, geometry.entries
        memory = memoryview(mmap.mmap(fd, geometry.file_size))
        entries_end = geometry.file_size - geometry.text
        self._words = memory[:_HEADER].cast("Q")
        by_seat = [
            self._words[first : first + SEATS]
            for first in range(_BY_SEAT, _BY_SEAT + _WORDS_OF_SEAT * SEATS, SEATS)
        ]
        # For each seat: its worker's position, 1 if the worker waits for space, the number of its
        # turns, the id of its suspect; and the counters of `Work`.
        self._positions, self._waiting, self._turns, self._suspects, *work = by_seat
        self._waits, self._appended, self._due = work
        self._entries = memory[_HEADER:entries_end]
        self._fields = self._entries.cast("Q")
        self._text = memory[entries_end:]
        self._free_until = 0, 0
        """Position and offset up to which there was space when `_has_space` last looked at the
        workers' positions."""
        self._threads = threading.Lock()
        """Lock between threads of this process that call `_try_lock`."""

    def format(self) -> None:
        """Turn a zeroed file into an empty log. Call once, before another process maps the file."""
        self._words[_HEAD] = 1  # the empty entry
        for worker in range(SEATS):
            self._positions[worker] = IDLE

    def holder(self) -> int | None:
        """Return the pid of another process that holds the lock, or None. Never waits.

        Only Linux reports the pid; on other systems, the result is always None.
        """
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

    # --- reading -------------------------------------------------------------

    @property
    def head(self) -> int:
        """Position after the last entry. The caller must hold the lock, unless an old value does no
        harm."""
        return self._words[_HEAD]

    def try_head(self) -> int | None:
        """Return the head without waiting for the lock; None while another process has the lock.

        The process that stored this head has released the lock since, so all entries before this
        head are visible. Only Linux reports the lock's holder; on other systems, the lock is taken
        for a moment.
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
        """Return True if data that was just read was not overwritten meanwhile.

        The data are entries from `position` - 1 on, and text from `offset` on. No lock is needed:
        see `append`. The system call in `holder` is a barrier: all reads before it are complete
        when the head is read.
        """
        self.holder()
        head = self.head
        return (
            head - (position - 1) <= self.geometry.kept_entries
            and self.offset(head) - offset <= self.geometry.kept
        )

    def offset(self, position: int) -> int:
        """Return the offset at which the text of the entries before `position` ends."""
        return self._field(position - 1, _END)

    def sender(self, position: int) -> int:
        """Return the id of the sender of the last entry before `position`."""
        return self._field(position - 1, _SENDER)

    def reach(self, position: int) -> int:
        """Return the reach of the last entry before `position`."""
        return self._field(position - 1, _REACH)

    def messages(self, position: int) -> int:
        """Return the number of messages before `position`, counted from the room's start."""
        return self._field(position - 1, _MESSAGES)

    def position(self, offset: int, first: int, last: int) -> int:
        """Return the last position from `first` to `last` whose offset is at most `offset`.

        `offset` must lie between the offsets of `first` and `last`. The entries from `first` - 1 on
        must not be overwritten yet.
        """
        return first - 1 + bisect_right(range(first, last + 1), offset, key=self.offset)

    def unfinished(self, offset: int) -> bool:
        """Return True if the text up to `offset` ends without LF; then the next byte must be LF."""
        return offset > 0 and self._text[(offset - 1) % self._text_size] != LF

    def spans_by_sender(
        self, first: int, last: int
    ) -> tuple[dict[int, list[Span]], dict[int, int]]:
        """Return each sender's spans, and its last reach, in the entries from `first` up to `last`.

        One pass is enough for all members of a dead worker.
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
        views = _views(self._entries, first * _ENTRY_SIZE, last * _ENTRY_SIZE)
        return [entry for view in views for entry in _ENTRY.iter_unpack(view)]

    def views(self, start: int, end: int) -> list[memoryview]:
        """Return the text from `start` to `end` without a copy: one view, or two if it wraps."""
        return _views(self._text, start, end)

    # --- appending -----------------------------------------------------------

    def append(self, batch: Batch) -> int | None:
        """Append a batch that is not empty and return the offset of its start.

        The caller must hold the lock.

        Return None if there is no space because a worker has not delivered enough yet. The last
        `kept` bytes and `kept_entries` entries before a worker's position are not overwritten,
        because the worker's members may not have received this text yet. So senders wait for the
        slowest worker, but never for the slowest client, and nothing is lost.
        """
        head = self.head
        end, messages = self.offset(head), self.messages(head)
        ending = self.unfinished(end)
        if not self._has_space(head + ending + len(batch), end + ending + batch.size):
            return None
        start, position = end, head
        if ending:
            _, sender, reach, _, origin = self._entry(head - 1)
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

    def _has_space(self, position: int, offset: int) -> bool:
        """Return True if an append up to this position and offset overwrites no needed data.

        The lowest position of the workers never decreases: a worker that gets members begins at the
        head. So the positions are read only when the space found earlier is used up.
        """
        last_position, last_offset = self._free_until
        if position > last_position or offset > last_offset:
            geometry = self.geometry
            slowest = min(self.head, *self._in_use(self._positions))
            last_position = slowest + geometry.entries - geometry.kept_entries
            last_offset = self.offset(slowest) + geometry.text - geometry.kept
            self._free_until = last_position, last_offset
        return position <= last_position and offset <= last_offset

    def append_within(self, seconds: float, batch: Batch) -> bool:
        """Append a batch; return False if there is no space, or the lock can't be taken in time.

        The main process uses this method, because it must not wait for the lock: it has to kill a
        worker that hangs while holding the lock.
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
        """Take the lock if no other process and no other thread in `_try_lock` has it.

        `lockf` does not exclude threads: one thread would release the lock of another thread.
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

    def prepare_seat(self, worker: int) -> None:
        """Prepare a free seat for a worker that is about to start. Only the main process may call
        this.

        `append` looks only at the seats in use, and their number only grows.
        """
        self._waiting[worker] = self._suspects[worker] = 0
        self._words[_IN_USE] = max(self._words[_IN_USE], worker + 1)

    def worker_position(self, worker: int) -> int:
        """Return the position that `worker` has published, or IDLE. The worker has delivered
        everything before it."""
        return self._positions[worker]

    def turn(self, worker: int) -> None:
        """Count a turn of `worker`, which shows that it makes progress."""
        self._turns[worker] += 1

    def turns(self, worker: int) -> int:
        """Return the number of turns of `worker`."""
        return self._turns[worker]

    def mark_suspect(self, worker: int, member: int) -> None:
        """Note the id of the member whose data `worker` handles; 0: none. It is the suspect if the
        worker dies."""
        self._suspects[worker] = member

    def suspect(self, worker: int) -> int:
        """Return the id of the member that `worker` was handling when it died, or 0."""
        return self._suspects[worker]

    def serve(self, worker: int, position: int) -> None:
        """Record that `worker` has members and has delivered everything before `position`.

        The caller must hold the lock.
        """
        self._positions[worker] = position

    def advance(self, worker: int, position: int) -> list[int]:
        """Record that `worker` has delivered everything before `position`.

        The caller must hold the lock. Return the workers that waited for space; the caller rings
        their doorbells.
        """
        words = self._words
        if self._positions[worker] == position:
            return []  # no space was freed: the woken workers would only spin
        self._positions[worker] = position
        if not words[_HAS_WAITING]:
            return []
        words[_HAS_WAITING] = 0
        waiting = [number for number, waits in enumerate(self._in_use(self._waiting)) if waits]
        for number in waiting:
            self._waiting[number] = 0
        return waiting

    def retire(self, worker: int) -> list[int]:
        """Stop waiting for `worker`, which has no members or is dead. Return what `advance`
        returns.

        The caller must hold the lock, or ring all workers afterwards: another worker may have begun
        to wait for space meanwhile.
        """
        return self.advance(worker, IDLE)

    def wait_for_space(self, worker: int) -> None:
        """Record that `worker` waits for space, after `append` returned None.

        The caller must hold the lock.
        """
        self._waiting[worker] = self._words[_HAS_WAITING] = 1
        self._waits[worker] += 1

    @property
    def has_waiting(self) -> bool:
        """True while a worker waits for space.

        No lock is needed: a worker that begins to wait rings the workers that must deliver.
        """
        return self._words[_HAS_WAITING] != 0

    def count_work(self, worker: int, appended: int, due: int) -> None:
        """Count messages that `worker` has appended, and deliveries to its members."""
        if appended:
            self._appended[worker] += appended
        self._due[worker] += due

    def work(self, worker: int) -> Work:
        """Return the counters of a seat."""
        return Work(self._waits[worker], self._appended[worker], self._due[worker])

    def serving(self) -> list[int]:
        """Return the workers that have members. The caller must hold the lock."""
        positions = self._positions
        return [number for number in range(self._words[_IN_USE]) if positions[number] != IDLE]

    def yet_to_deliver(self) -> list[int]:
        """Return the workers that have not reported everything as delivered.

        The caller must hold the lock.
        """
        head, positions = self.head, self._in_use(self._positions)
        return [number for number, position in enumerate(positions) if position < head]

    def _in_use(self, words: memoryview) -> list[int]:
        """Return the words of the seats in use, from an array with one word for each seat."""
        return words[: self._words[_IN_USE]].tolist()

    # --- the rings -----------------------------------------------------------

    def _field(self, position: int, field: int) -> int:
        return self._fields[position % self._entry_count * _WORDS + field]

    def _entry(self, position: int) -> Entry:
        at = position % self._entry_count * _ENTRY_SIZE
        return _ENTRY.unpack_from(self._entries, at)

    def _put(
        self, position: int, end: int, sender: int, reach: int, messages: int, origin: bytes
    ) -> None:
        at = position % self._entry_count * _ENTRY_SIZE
        _ENTRY.pack_into(self._entries, at, end, sender, reach, messages, origin)


def _views(ring: memoryview, start: int, end: int) -> list[memoryview]:
    """Return the bytes from `start` to `end` of a stream whose last bytes `ring` holds."""
    size = len(ring)
    at = start % size
    stop = at + end - start
    if stop <= size:
        return [ring[at:stop]]
    return [ring[at:], ring[: stop - size]]


def _store(ring: memoryview, start: int, data: bytes) -> None:
    """Write `data`, which is not longer than `ring`, at offset `start` of the stream."""
    at = start % len(ring)
    stop = at + len(data)
    if stop <= len(ring):
        ring[at:stop] = data
    else:
        ring[at:] = data[: len(ring) - at]
        ring[: stop - len(ring)] = data[len(ring) - at :]
