"""Standard input and output without Python's buffers, so that bytes are passed on at once."""

import asyncio
import os
import select
import socket
import threading
from abc import ABC, abstractmethod
from contextlib import suppress

from chatroom.client.connection import CHUNK

STDIN, STDOUT, STDERR = 0, 1, 2


def open_closed_streams() -> None:
    """Open /dev/null for each closed standard stream, so that no socket gets its descriptor."""
    for descriptor in STDIN, STDOUT, STDERR:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # It gets the lowest free number: `descriptor`.


class _Stream(ABC):
    """A standard stream. A thread copies between the stream and a socket.

    A thread is needed, because asyncio can't wait for a file, and on Windows it can wait only for
    sockets. Also, a write to a pipe or a terminal may block even if the pipe or terminal is ready.
    The buffers of the sockets bound the data that is read ahead, or that waits to be written.
    """

    def __init__(self) -> None:
        self.error: OSError | None = None
        """Error that ended the stream, or None."""
        self._socket, end = socket.socketpair()
        self._socket.setblocking(False)
        # A daemon thread: it may block forever on a pipe that is neither written nor read.
        threading.Thread(target=self._run, args=(end,), daemon=True).start()

    def close(self) -> None:
        """Stop reading or writing. The thread ends the next time that it has something to copy."""
        self._socket.close()

    def _run(self, end: socket.socket) -> None:
        with end:
            try:
                self._copy(end)
            except OSError as error:
                self.error = error

    @abstractmethod
    def _copy(self, end: socket.socket) -> None:
        """Copy everything until the end.

        Do not use sys.stdin or sys.stdout: a thread that blocks in one of them holds its lock, and
        the interpreter fails on that lock when it exits.
        """


class Input(_Stream):
    """Standard input: a pipe, a file, or a terminal."""

    async def read(self) -> bytes:
        """Wait for data and return it; return b"" at the end or after an error: see `error`."""
        return await asyncio.get_running_loop().sock_recv(self._socket, CHUNK)

    def _copy(self, end: socket.socket) -> None:
        source = open(STDIN, "rb", buffering=0, closefd=False)  # noqa: SIM115
        while (data := source.read(CHUNK)) != b"":
            if data is None:  # Another process that shares this input made it non-blocking.
                select.select([source], [], [])
            else:
                end.sendall(data)


class Output(_Stream):
    """Standard output. A Windows console accepts UTF-8 if bytes are written without a text
    layer."""

    def __init__(self) -> None:
        super().__init__()
        self._writing: asyncio.Future[None] | None = None

    async def write(self, data: bytes) -> None:
        """Queue data; wait while the queue is full. If the caller is cancelled, the data is still
        written.

        Errors are not raised here: see `wait_closed` and `error`.
        """
        loop = asyncio.get_running_loop()
        self._writing = asyncio.ensure_future(loop.sock_sendall(self._socket, data))
        with suppress(OSError):
            await asyncio.shield(self._writing)

    async def finish(self) -> None:
        """Wait until everything is written, or an error prevents it: see `error`."""
        with suppress(OSError):
            if self._writing:
                await self._writing
            self._socket.shutdown(socket.SHUT_WR)
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until writing has ended, by `finish` or by an error."""
        with suppress(OSError):  # The socket is reset if the thread ends with unread data.
            await asyncio.get_running_loop().sock_recv(self._socket, 1)

    def _copy(self, end: socket.socket) -> None:
        target = open(STDOUT, "wb", buffering=0, closefd=False)  # noqa: SIM115
        while data := end.recv(CHUNK):
            left = memoryview(data)
            while left:
                written = target.write(left)
                if written is None:  # Another process that shares this output made it non-blocking.
                    select.select([], [target], [])
                else:
                    left = left[written:]
