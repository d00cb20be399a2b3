"""The transcript's file. The process only appends to the file, and the file holds only whole lines.

Lines that can't be written completely are removed at once. If a process was killed while it was
writing, the next process removes the incomplete line: see `repair`. A full file is renamed: see
`rotate`.
"""

import contextlib
import fcntl
import os
import stat
from pathlib import Path

from chatroom.config.sizes import KIB
from chatroom.sidecars.transcript.lines import begins_like_a_line, last_number

BLOCK = 64 * KIB
"""Number of bytes to read at once when the file is searched backwards for a line end."""


class TranscriptFile:
    """An open file. All methods but `is_at` and `gone` may raise OSError."""

    def __init__(self, fd: int, begin: int, after: int) -> None:
        """`begin`: offset at which this room's lines begin; `after`: see lines.py."""
        self.fd = fd
        self.begin = begin
        self.after = after
        self._unsynced = False
        self._damaged: int | None = None
        """Offset of an incomplete write that could not be removed, or None."""

    @classmethod
    def open(cls, path: Path, after: int) -> "TranscriptFile":
        """Open or create a file for the lines after message number `after`.

        An incomplete last line of an earlier room is removed. Raises OSError, also if it is not a
        regular file or another room writes to it.
        """
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(0, "not a regular file")
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OSError(0, "another room is writing to it") from None
            except OSError:
                pass  # a file system without locks
            return cls(fd, _repair_end(fd, 0), after)
        except BaseException:
            os.close(fd)
            raise

    def is_at(self, path: Path) -> bool:
        """Return True if `path` is a name of this file."""
        try:
            found, ours = os.stat(path), os.fstat(self.fd)
        except OSError:
            return False
        return os.path.samestat(found, ours)

    @property
    def gone(self) -> bool:
        """True once the file was deleted: no name refers to it any more."""
        try:
            return os.fstat(self.fd).st_nlink == 0
        except OSError:
            return True

    @property
    def size(self) -> int:
        """Size of the file (bytes)."""
        return os.fstat(self.fd).st_size

    @property
    def fresh(self) -> bool:
        """True while the file holds no line of this room."""
        return self.size == self.begin

    def repair(self) -> int:
        """Remove an incomplete last line; return the number of the last message in the file.

        A message that the file reports as missed counts too.
        """
        if self.size < self.begin:
            self.begin = 0  # another program has truncated the file
        end = _repair_end(self.fd, self.begin)
        while end > self.begin:
            start = _line_start(self.fd, end - 1, self.begin)
            number = last_number(os.pread(self.fd, end - start, start))
            if number is not None:
                return number
            end = start
        return self.after

    def append(self, data: bytes) -> None:
        """Append whole lines, either all or none of them."""
        self._cut_off_damage()
        size = self.size
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self.fd, rest) :]
        except OSError:
            self._damaged = size
            with contextlib.suppress(OSError):
                self._cut_off_damage()
            raise
        self._unsynced = True

    def sync(self) -> None:
        """Flush to the disk everything that was appended."""
        if self._unsynced:
            os.fsync(self.fd)
            self._unsynced = False

    def rotate(self, path: Path) -> Path | None:
        """Flush the file to the disk, add ".1" to its name `path`, and return the new name.

        An older file with the new name is replaced. The file may have the new name already, if a
        process died after it had renamed the file. If another program has moved the file, leave the
        file where it is and return None.
        """
        self._cut_off_damage()
        self.sync()
        name = os.path.realpath(path)  # if `path` is a link, rename its target
        aside = Path(f"{name}.1")
        if self.is_at(path):
            try:
                if self.is_at(aside):
                    os.unlink(name)  # two names of one file: `rename` would do nothing
                else:
                    os.rename(name, aside)
            except OSError as error:
                reason = f"it can't be renamed to {aside.name}: {error.strerror}"
                raise OSError(error.errno, reason) from None
        return aside if self.is_at(aside) else None

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sync()
        os.close(self.fd)

    def _cut_off_damage(self) -> None:
        if self._damaged is not None:
            os.ftruncate(self.fd, self._damaged)
            self._damaged = None


def _repair_end(fd: int, begin: int) -> int:
    """Make the file end with a whole line, change nothing before `begin`, and return the size.

    An incomplete line of a transcript is removed. Any other text is kept, and a LF is appended.
    """
    size = os.fstat(fd).st_size
    start = _line_start(fd, size, begin)
    if start < size:
        if not begins_like_a_line(os.pread(fd, BLOCK, start)):
            os.write(fd, b"\n")
            return size + 1
        os.ftruncate(fd, start)
    return start


def _line_start(fd: int, end: int, begin: int) -> int:
    """Return the offset after the last LF from `begin` to `end`; `begin` if there is none."""
    while end > begin:
        first = max(begin, end - BLOCK)
        found = os.pread(fd, end - first, first).rfind(b"\n")
        if found >= 0:
            return first + found + 1
        end = first
    return begin
