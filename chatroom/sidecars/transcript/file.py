"""The transcript's file: it is appended to, and at every moment all of its lines are whole.

What can't be written whole is taken back at once. What a process has left half written that was
killed, the next one takes away: see `repair`.
"""

import contextlib
import fcntl
import os
import stat
from pathlib import Path

from chatroom.config.sizes import KIB
from chatroom.sidecars.transcript.lines import accounted, begins_like_ours

BLOCK = 64 * KIB
"""Bytes that are read at once, from the end backwards."""


class TranscriptFile:
    """One file that is open. All raise OSError."""

    def __init__(self, fd: int, begin: int, after: int) -> None:
        """`begin`: where this room's lines begin there; `after`: see lines.py."""
        self.fd = fd
        self.begin = begin
        self.after = after
        self._unsynced = False
        self._damaged: int | None = None
        """Where what is half written begins, if it could not be taken away."""

    @classmethod
    def open(cls, path: Path, after: int) -> "TranscriptFile":
        """Open it, or make it, for lines behind `after`; a torn last line of an earlier room goes.

        One room has it at a time.
        """
        fd = os.open(path, os.O_RDWR | os.O_APPEND | os.O_CREAT | os.O_NONBLOCK, 0o600)
        try:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                raise OSError(0, "it is no regular file")
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise OSError(0, "another room writes there") from None
            except OSError:
                pass  # a file system without locks
            return cls(fd, _mend(fd, 0), after)
        except BaseException:
            os.close(fd)
            raise

    def is_at(self, path: Path) -> bool:
        """Whether `path` leads to this very file."""
        try:
            found, ours = os.stat(path), os.fstat(self.fd)
        except OSError:
            return False
        return os.path.samestat(found, ours)

    @property
    def gone(self) -> bool:
        """Whether no name leads to it any more."""
        try:
            return os.fstat(self.fd).st_nlink == 0
        except OSError:
            return True

    @property
    def fresh(self) -> bool:
        """Whether nothing of this room is in it."""
        return os.fstat(self.fd).st_size == self.begin

    def repair(self) -> int:
        """Take away a torn last line, and return the last number that its lines account for."""
        if os.fstat(self.fd).st_size < self.begin:
            self.begin = 0  # somebody has cut it
        end = _mend(self.fd, self.begin)
        while end > self.begin:
            start = _line_start(self.fd, end - 1, self.begin)
            number = accounted(os.pread(self.fd, end - start, start))
            if number is not None:
                return number
            end = start
        return self.after

    def append(self, data: bytes) -> None:
        """Append whole lines: all of them, or none."""
        if self._damaged is not None:
            os.ftruncate(self.fd, self._damaged)
            self._damaged = None
        size = os.fstat(self.fd).st_size
        rest = memoryview(data)
        try:
            while rest:
                rest = rest[os.write(self.fd, rest) :]
        except OSError:
            self._damaged = size
            with contextlib.suppress(OSError):
                os.ftruncate(self.fd, size)
                self._damaged = None
            raise
        self._unsynced = True

    def sync(self) -> None:
        """Have the disk take it, if it has not."""
        if self._unsynced:
            os.fsync(self.fd)
            self._unsynced = False

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.sync()
        os.close(self.fd)


def _mend(fd: int, begin: int) -> int:
    """Have the file end with a whole line, and return its size; nothing before `begin` is touched.

    What is no torn line of a transcript is nothing that may be lost: it is ended.
    """
    size = os.fstat(fd).st_size
    start = _line_start(fd, size, begin)
    if start < size:
        if not begins_like_ours(os.pread(fd, BLOCK, start)):
            os.write(fd, b"\n")
            return size + 1
        os.ftruncate(fd, start)
    return start


def _line_start(fd: int, end: int, begin: int) -> int:
    """Where the line begins that reaches up to `end`, and has no LF before it."""
    while end > begin:
        first = max(begin, end - BLOCK)
        found = os.pread(fd, end - first, first).rfind(b"\n")
        if found >= 0:
            return first + found + 1
        end = first
    return begin
