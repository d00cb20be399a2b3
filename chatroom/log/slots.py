"""What another worker needs to go on with a member, besides the log and the kernel's counts.

One slot for each member, in memory that all workers share:

- a *checkpoint*: where in the log a member stood when the kernel had taken so
  many bytes for it. It is noted now and then, before the log laps it; what was
  taken since then, walked along the log, gives the cursor;
- its *allowance*: the time at which its rate makes up for all that it has sent
  (LOAD-3), so that another worker does not give it a new burst;
- the *input*: what was last read from it, so that what is not in the log yet can
  be framed again. It is read straight into the slot, at the place that its
  offset in the member's stream gives it: there is nothing to note, and so
  nothing that a death could leave half noted.

A slot has one writer at a time: the worker that serves its member. The main
process gives slots out, and clears them.
"""

import contextlib
import mmap
from typing import NamedTuple

from chatroom.config.settings import Settings
from chatroom.config.sizes import whole_pages

_WORD = 8

_NANOSECONDS = 1_000_000_000

# The words of a slot: which half of the checkpoint is valid, the allowance, and the two halves.
_VALID = 0
_SPENT_UNTIL = 1
_HALVES = (4, 8)
_FIELDS = 4
_STRIDE = 12


class Checkpoint(NamedTuple):
    """When the kernel had taken `taken` bytes for a member, it stood at `offset`."""

    offset: int
    position: int
    """Of an entry that does not begin beyond `offset`. 0: the member was never served."""
    taken: int
    reach: int
    """Bytes of its input that the entries before the log's head covered by then."""


class Slots:
    """One process's view of the slots in the file `fd`."""

    def __init__(self, fd: int, settings: Settings) -> None:
        """`fd`: an anonymous file of `Slots.file_size(settings)`."""
        self.fd = fd
        self._input_size = settings.input_size
        self._table = _table_size(settings)
        self._map = mmap.mmap(fd, self.file_size(settings))
        memory = memoryview(self._map)
        self._words = memory[: self._table].cast("Q")
        self._input = memory[self._table :]

    @staticmethod
    def file_size(settings: Settings) -> int:
        """Bytes; only those that were written to cost memory."""
        return _table_size(settings) + settings.max_clients * settings.input_size

    def note(self, slot: int, checkpoint: Checkpoint) -> None:
        """Replace the checkpoint. Whoever dies in here leaves the old one, or the new one."""
        words, at = self._words, slot * _STRIDE
        half = 1 - words[at + _VALID]
        first = at + _HALVES[half]
        for number in range(_FIELDS):
            words[first + number] = checkpoint[number]
        words[at + _VALID] = half

    def checkpoint(self, slot: int) -> Checkpoint:
        """What was noted last; zeros in a slot that is new."""
        at = slot * _STRIDE
        first = at + _HALVES[self._words[at + _VALID]]
        return Checkpoint(*self._words[first : first + _FIELDS])

    def note_spent(self, slot: int, until: float) -> None:
        """Keep the time (s, monotonic) at which a member's rate makes up for all that it sent."""
        self._words[slot * _STRIDE + _SPENT_UNTIL] = int(until * _NANOSECONDS)

    def spent_until(self, slot: int) -> float:
        """Return the time that `note_spent` kept last; 0.0 in a slot that is new."""
        return self._words[slot * _STRIDE + _SPENT_UNTIL] / _NANOSECONDS

    def room(self, slot: int, begin: int, most: int) -> memoryview:
        """Where the input from `begin` on is to be read to: `most` bytes, or fewer at the end."""
        first = slot * self._input_size
        at = first + begin % self._input_size
        return self._input[at : min(at + most, first + self._input_size)]

    def input(self, slot: int, begin: int, end: int) -> bytes:
        """The input from `begin` to `end`; the last `Settings.input_size` bytes are kept."""
        found = bytearray()
        while begin < end:
            view = self.room(slot, begin, end - begin)
            found += view
            begin += len(view)
        return bytes(found)

    def clear(self, slot: int) -> None:
        """Make a slot new, and give its memory back. By the main process, while nobody has it."""
        at = slot * _STRIDE
        for number in range(_STRIDE):
            self._words[at + number] = 0
        if hasattr(mmap, "MADV_REMOVE"):
            with contextlib.suppress(OSError):  # where it can't be given back, it is used again
                self._map.madvise(
                    mmap.MADV_REMOVE, self._table + slot * self._input_size, self._input_size
                )


def _table_size(settings: Settings) -> int:
    return whole_pages(settings.max_clients * _STRIDE * _WORD)
