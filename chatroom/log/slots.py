"""Slots: the state that another worker needs to take a member over.

(That worker also needs the log and the kernel's counts: see worker/recovery.py.) Each member has a
slot, in memory that all workers share. A slot holds:

- a *checkpoint*: the member's offset in the log, and the number of bytes that the member's socket
  had accepted at that offset. The cursor follows from the checkpoint and the bytes accepted since
  then. A new checkpoint is noted before the log overwrites text that the old checkpoint needs;
- the *allowance*: the time at which the member will have its full burst again (LOAD-3), so that
  another worker does not grant a full burst earlier;
- the *source*: the number of the source whose share of the room's rate the member uses
  (room_rate.py);
- in a cluster, the *uplink's reach*: the bytes of the member's input that the uplink covers;
- the *input*: the bytes that were last read, so that bytes that are not in the log yet can be
  framed again. A read stores the bytes directly in the slot, at a place that follows from their
  offset in the member's stream. No other record is needed, so a worker's death can't leave a record
  incomplete.

A slot has one writer at a time: the worker that serves its member. The main process assigns slots
and clears them.
"""

import contextlib
import mmap
from typing import NamedTuple

from chatroom.config.limits import Limits
from chatroom.config.sizes import whole_pages

_WORD = 8

_NANOSECONDS = 1_000_000_000

# The words of a slot: the index of the valid half, the allowance, the source, the uplink's reach,
# and two halves, each of which holds a checkpoint.
_VALID = 0
_SPENT_UNTIL = 1
_SOURCE = 2
_UPLINK_REACH = 3
_HALVES = (4, 8)
_FIELDS = 4
_STRIDE = 12


class Checkpoint(NamedTuple):
    """A member's place in the log: the member was at `offset` when its socket had accepted `taken`
    bytes."""

    offset: int
    position: int
    """Position of an entry that begins at or before `offset`. 0: the member was never served."""
    taken: int
    reach: int
    """Number of bytes of the member's input that the log covered at that time."""


class Slots:
    """A process' view of the slots in the file `fd`."""

    def __init__(self, fd: int, limits: Limits) -> None:
        """`fd`: an anonymous file of `Slots.file_size(limits)`."""
        self.fd = fd
        self._input_size = limits.input_size
        self._table = _table_size(limits)
        self._map = mmap.mmap(fd, self.file_size(limits))
        memory = memoryview(self._map)
        self._words = memory[: self._table].cast("Q")
        self._input = memory[self._table :]

    @staticmethod
    def file_size(limits: Limits) -> int:
        """Return the size of the file in bytes. Memory is used only for pages that were written."""
        return _table_size(limits) + limits.max_clients * limits.input_size

    def note(self, slot: int, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint. If the process is killed during this call, either the old or the
        new checkpoint is valid."""
        words, at = self._words, slot * _STRIDE
        half = 1 - words[at + _VALID]
        first = at + _HALVES[half]
        for number in range(_FIELDS):
            words[first + number] = checkpoint[number]
        words[at + _VALID] = half

    def checkpoint(self, slot: int) -> Checkpoint:
        """Return the checkpoint that was noted last; all zeros in a new slot."""
        at = slot * _STRIDE
        first = at + _HALVES[self._words[at + _VALID]]
        return Checkpoint(*self._words[first : first + _FIELDS])

    def note_spent(self, slot: int, until: float) -> None:
        """Record the time (s, monotonic) at which a member will have its full burst again."""
        self._words[slot * _STRIDE + _SPENT_UNTIL] = int(until * _NANOSECONDS)

    def spent_until(self, slot: int) -> float:
        """Return the time that was noted last; 0.0 in a new slot."""
        return self._words[slot * _STRIDE + _SPENT_UNTIL] / _NANOSECONDS

    def set_source(self, slot: int, source: int) -> None:
        """Store the source of a new member. Only the main process may call this."""
        self._words[slot * _STRIDE + _SOURCE] = source

    def source(self, slot: int) -> int:
        """Return the source of a member."""
        return self._words[slot * _STRIDE + _SOURCE]

    def note_uplink_reach(self, slot: int, reach: int) -> None:
        """Note the number of bytes of a member's input that the uplink covers.

        The caller must hold the uplink's lock.
        """
        self._words[slot * _STRIDE + _UPLINK_REACH] = reach

    def uplink_reach(self, slot: int) -> int:
        """Return the reach that was noted last; 0 in a new slot."""
        return self._words[slot * _STRIDE + _UPLINK_REACH]

    def input_buffer(self, slot: int, begin: int, most: int) -> memoryview:
        """Return the part of a slot's buffer for the input after the first `begin` bytes.

        The part has `most` bytes, or fewer if the buffer wraps.
        """
        first = slot * self._input_size
        at = first + begin % self._input_size
        return self._input[at : min(at + most, first + self._input_size)]

    def input(self, slot: int, begin: int, end: int) -> bytes:
        """Return the input from `begin` to `end`; the last `Limits.input_size` bytes are kept."""
        at = begin % self._input_size
        if at + end - begin <= self._input_size:  # nearly always, it does not wrap
            first = self._table + slot * self._input_size + at
            return self._map[first : first + end - begin]
        found = bytearray()
        while begin < end:
            view = self.input_buffer(slot, begin, end - begin)
            found += view
            begin += len(view)
        return bytes(found)

    def clear(self, slot: int) -> None:
        """Reset a slot that no member has, and release its memory. Only the main process may call
        this."""
        at = slot * _STRIDE
        for number in range(_STRIDE):
            self._words[at + number] = 0
        if hasattr(mmap, "MADV_REMOVE"):
            with contextlib.suppress(OSError):  # if not released, the next member reuses it
                self._map.madvise(
                    mmap.MADV_REMOVE, self._table + slot * self._input_size, self._input_size
                )


def _table_size(limits: Limits) -> int:
    return whole_pages(limits.max_clients * _STRIDE * _WORD)
