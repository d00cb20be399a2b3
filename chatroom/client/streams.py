"""Standard input and output, below Python's buffers: bytes as they come, as soon as they come."""

import asyncio
import os
import select
import socket
import threading
from abc import ABC, abstractmethod
from contextlib import suppress

from chatroom.client.connection import CHUNK

STDIN, STDOUT, STDERR = 0, 1, 2


def hold_places() -> None:
    """Open what was closed: a socket that took the place of standard output would get its text."""
    for descriptor in STDIN, STDOUT, STDERR:
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # The lowest number that is free, so this one.


class _Stream(ABC):
    """A standard stream. A thread copies between it and a socket, for which asyncio can wait.

    asyncio can't wait for a file, nor on Windows for anything but a socket; and a pipe or terminal
    that is ready may still make its writer wait. The sockets' buffers bound what is read ahead, and
    what waits to be written.
    """

    def __init__(self) -> None:
        self.error: OSError | None = None
        """The reason why the stream ended, if it is one."""
        self._socket, end = socket.socketpair()
        self._socket.setblocking(False)
        # A daemon: it may wait for ever, on a pipe that nobody writes to, or nobody reads.
        threading.Thread(target=self._run, args=(end,), daemon=True).start()

    def close(self) -> None:
        """Read or write no more; the thread finds out when it has something to copy."""
        self._socket.close()

    def _run(self, end: socket.socket) -> None:
        with end:
            try:
                self._copy(end)
            except OSError as error:
                self.error = error

    @abstractmethod
    def _copy(self, end: socket.socket) -> None:
        """Copy everything. Not by sys.stdin or sys.stdout: a thread that waits in one of them holds
        its lock, and the interpreter would trip over that at its end."""


class Input(_Stream):
    """Standard input, whatever it is: a pipe, a file, a terminal that hands over whole lines."""

    async def read(self) -> bytes:
        """Return what there is; nothing at its end, which `error` may explain."""
        return await asyncio.get_running_loop().sock_recv(self._socket, CHUNK)

    def _copy(self, end: socket.socket) -> None:
        source = open(STDIN, "rb", buffering=0, closefd=False)  # noqa: SIM115
        while (data := source.read(CHUNK)) != b"":
            if data is None:  # Another process that shares this input has made it non-blocking.
                select.select([source], [], [])
            else:
                end.sendall(data)


class Output(_Stream):
    """Standard output. A console of Windows takes UTF-8 this way."""

    def __init__(self) -> None:
        super().__init__()
        self._writing: asyncio.Future[None] | None = None

    async def write(self, data: bytes) -> None:
        """Wait until there is room for it. If the caller is cancelled, it is written all the same.

        An error is left to `wait_closed`.
        """
        loop = asyncio.get_running_loop()
        self._writing = asyncio.ensure_future(loop.sock_sendall(self._socket, data))
        with suppress(OSError):
            await asyncio.shield(self._writing)

    async def finish(self) -> None:
        """Wait until all is written, or can't be: see `error`."""
        with suppress(OSError):
            if self._writing:
                await self._writing
            self._socket.shutdown(socket.SHUT_WR)
        await self.wait_closed()

    async def wait_closed(self) -> None:
        """Wait until nothing is written any longer."""
        with suppress(OSError):  # A reset: something was left unread when the thread ended.
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
