"""Standard input and output, below Python's buffers: bytes as they come, as soon as they come."""

import os
import select
import socket
import threading
from contextlib import suppress
from io import FileIO

STDIN, STDOUT, STDERR = 0, 1, 2

#: Bytes read at once.
CHUNK = 64 * 1024


def hold_places() -> None:
    """Open what was closed: a socket that took the place of standard output would get its text."""
    for descriptor in STDIN, STDOUT, STDERR:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest number that is free, so this one.


def output() -> FileIO:
    """Standard output, unbuffered; a console of Windows takes UTF-8 this way.

    A terminal that was ready may still make its writer wait, until somebody reads it. So it is
    opened a second time, to be written to without waiting: the first is shared with the shell.
    """
    if os.name == "posix" and os.isatty(STDOUT):
        how = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK
        with suppress(OSError):  # After `su` it is another user's; in a container it may be unseen.
            return open(os.open(os.ttyname(STDOUT), how), "wb", buffering=0)
        with suppress(OSError):
            os.tcgetpgrp(STDOUT)  # Raises if it is not the one that controls us.
            return open(os.open("/dev/tty", how), "wb", buffering=0)
    return open(STDOUT, "wb", buffering=0, closefd=False)


class Piped:
    """Standard input, whatever it is: a pipe, a file, a terminal that hands over whole lines.

    `select` can't wait on a file on Windows. So a thread copies the input into a socket, which can
    be waited on everywhere, and whose buffer bounds what is read ahead.
    """

    def __init__(self) -> None:
        self._socket, end = socket.socketpair()
        self._error: OSError | None = None
        # A daemon: it may wait for ever on a pipe into which nobody writes.
        threading.Thread(target=self._copy, args=(end,), daemon=True).start()

    def fileno(self) -> int:
        return self._socket.fileno()

    def read(self) -> bytes:
        """What there is; nothing, at its end. Raises OSError where it can't be read."""
        data = self._socket.recv(CHUNK)
        if not data and self._error:
            raise self._error
        return data

    def close(self) -> None:
        """Read no more; the thread finds out when it has something to copy."""
        self._socket.close()

    def _copy(self, end: socket.socket) -> None:
        with end:
            try:
                # Not sys.stdin: a thread that waits in it holds its lock, and the interpreter
                # would trip over that at its end.
                source = open(STDIN, "rb", buffering=0, closefd=False)  # noqa: SIM115
                while (data := source.read(CHUNK)) != b"":
                    if data is None:  # Whoever shares this input has made it non-blocking.
                        select.select([source], [], [])
                    else:
                        end.sendall(data)
            except OSError as error:
                self._error = error
