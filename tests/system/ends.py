"""The end of a connection, as the other end sees it."""

import socket
from typing import Any


def has_ended(end: socket.socket) -> bool:
    """Whether all that came was read, and then the end. It waits no more from now on."""
    end.setblocking(False)
    try:
        return end.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


class Reluctant:
    """A listener whose next accepts fail, each with one of `failures` (errno)."""

    def __init__(self, listener: socket.socket, failures: list[int]) -> None:
        self._listener = listener
        self._failures = failures

    def accept(self) -> Any:
        if self._failures:
            raise OSError(self._failures.pop(), "no")
        return self._listener.accept()

    def fileno(self) -> int:
        return self._listener.fileno()

    def close(self) -> None:
        self._listener.close()
