"""Helpers for the end of a connection, and a listener whose accepts fail."""

import socket
from typing import Any


def receive_all(end: socket.socket) -> bytes:
    """Receive until EOF."""
    received = b""
    while data := end.recv(65536):
        received += data
    return received


def has_ended(end: socket.socket) -> bool:
    """Make the socket non-blocking; return True if it has no unread input and is at EOF."""
    end.setblocking(False)
    try:
        return end.recv(1, socket.MSG_PEEK) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


class Reluctant:
    """A listener whose next accepts fail, once with each error number in `failures`."""

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
