"""A terminal that can't make us wait.

prompt_toolkit writes a frame and waits until the terminal has taken it. Where nobody reads the
terminal (its ssh hangs), no key and no signal would be handled then. Here, what is not taken waits
instead, and no frame is drawn before it has gone.
"""

import asyncio
import os
from collections.abc import Callable
from contextlib import suppress
from io import FileIO
from typing import TextIO, cast

from prompt_toolkit.data_structures import Size
from prompt_toolkit.output.vt100 import Vt100_Output

from chatroom.client.streams import STDOUT

USUAL_SIZE = os.terminal_size((80, 24))


def size() -> Size:
    try:
        columns, rows = os.get_terminal_size(STDOUT)
    except OSError:  # It has hung up.
        columns, rows = USUAL_SIZE
    return Size(rows or USUAL_SIZE.lines, columns or USUAL_SIZE.columns)


def open_terminal() -> FileIO:
    """Open standard output a second time, to be written to without waiting.

    The first is shared with the shell. A terminal that was ready may still make its writer wait,
    until somebody reads it.
    """
    how = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK
    with suppress(OSError):  # After `su` it is another user's; in a container it may be unseen.
        return open(os.open(os.ttyname(STDOUT), how), "wb", buffering=0)
    with suppress(OSError):
        os.tcgetpgrp(STDOUT)  # Raises if it is not the one that controls us.
        return open(os.open("/dev/tty", how), "wb", buffering=0)
    return open(STDOUT, "wb", buffering=0, closefd=False)


class Output(Vt100_Output):
    """`drained` is called when the terminal has taken what it had refused."""

    drained: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, terminal: FileIO) -> None:
        # No cursor position is asked for: a window begins in its corner.
        super().__init__(
            cast("TextIO", terminal), size, term=os.environ.get("TERM"), enable_cpr=False
        )
        self._terminal = terminal
        self._waiting = bytearray()
        self._left = asyncio.Event()
        self._left.set()

    @property
    def stuck(self) -> bool:
        return bool(self._waiting)

    def flush(self) -> None:
        self._waiting += "".join(self._buffer).encode("utf-8", "replace")
        self._buffer = []
        self._write()

    def encoding(self) -> str:
        return "utf-8"

    async def drain(self, seconds: float) -> None:
        """Wait until all is written, so many seconds at most."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._left.wait()
        asyncio.get_running_loop().remove_writer(self._terminal)

    def _write(self) -> None:
        try:
            while self._waiting and (written := self._terminal.write(self._waiting)):
                del self._waiting[:written]
        except OSError:  # It has hung up; a signal says so too, and ends us.
            self._waiting.clear()
        loop = asyncio.get_running_loop()
        if self._waiting:
            self._left.clear()
            loop.add_writer(self._terminal, self._write)
        elif not self._left.is_set():
            self._left.set()
            loop.remove_writer(self._terminal)
            self.drained()
