"""A doorbell: another process wakes this one without a word (eventfd).

It says that something is new, never what: the log says that. Rings that were
not heard yet count as one.
"""

import contextlib
import os


class Doorbell:
    """One end that is rung and one that is waited on; for an eventfd both are one descriptor.

    `fileno` is what the owner waits on (readable when rung). Any process that
    holds the descriptors may ring.
    """

    def __init__(self, fds: list[int]) -> None:
        self.fds = fds
        """The descriptors to pass on to another process."""
        self._rung, self._ringer = fds[0], fds[-1]

    @classmethod
    def new(cls) -> "Doorbell":
        """Make one that nobody has rung. Where there is no eventfd (macOS), it is a pipe."""
        if hasattr(os, "eventfd"):
            return cls([os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)])
        fds = list(os.pipe())
        for fd in fds:
            os.set_blocking(fd, False)
        return cls(fds)

    def fileno(self) -> int:
        return self._rung

    def ring(self) -> None:
        """Wake the owner. Never blocks."""
        # A full one has been rung already. An eventfd wants eight bytes.
        with contextlib.suppress(BlockingIOError):
            os.write(self._ringer, b"\1\0\0\0\0\0\0\0")

    def clear(self) -> None:
        """Forget the rings so far; the owner calls it before it looks at what is new."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._rung, 4096)

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)
