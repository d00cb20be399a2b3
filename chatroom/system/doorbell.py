"""A doorbell: a signal from one process to another, without content (eventfd).

A ring means that the log, or other shared memory, has changed. Several rings before a `clear` count
as one.
"""

import contextlib
import os


class Doorbell:
    """An end to ring and an end to wait on; for an eventfd, both are one descriptor.

    The owner waits on `fileno`, which is readable after a ring. Any process that holds the
    descriptors may ring.
    """

    def __init__(self, fds: list[int]) -> None:
        self.fds = fds
        """Descriptors to pass to another process."""
        self._rung, self._ringer = fds[0], fds[-1]

    @classmethod
    def new(cls) -> "Doorbell":
        """Return a new doorbell. Without eventfd (macOS), it is a pipe."""
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
        # If the pipe is full, the owner is woken anyway. A write to an eventfd must have eight
        # bytes.
        try:  # noqa: SIM105 - contextlib.suppress takes as long as the call itself
            os.write(self._ringer, b"\1\0\0\0\0\0\0\0")
        except BlockingIOError:
            pass

    def clear(self) -> None:
        """Reset the doorbell. The owner calls this before it reads the changed memory."""
        with contextlib.suppress(BlockingIOError):
            os.read(self._rung, 4096)

    def close(self) -> None:
        for fd in self.fds:
            os.close(fd)
