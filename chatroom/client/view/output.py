"""Output to a terminal that never blocks.

prompt_toolkit writes a frame and waits until the terminal has taken it. If the terminal is not read
(its ssh hangs), no key and no signal would be handled meanwhile. Here the rest of a frame is
queued, and no other frame is drawn until the queue is empty.
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
    except OSError:  # The terminal has hung up.
        columns, rows = USUAL_SIZE
    return Size(rows or USUAL_SIZE.lines, columns or USUAL_SIZE.columns)


def open_terminal() -> FileIO:
    """Open standard output a second time, without blocking.

    The first open file is shared with the shell and must stay blocking. A terminal that is ready
    may still block its writer.
    """
    how = os.O_WRONLY | os.O_NOCTTY | os.O_NONBLOCK
    with suppress(OSError):  # After `su` another user owns it; a container may not have its name.
        return open(os.open(os.ttyname(STDOUT), how), "wb", buffering=0)
    with suppress(OSError):
        os.tcgetpgrp(STDOUT)  # Raises OSError if it is not our controlling terminal.
        return open(os.open("/dev/tty", how), "wb", buffering=0)
    return open(STDOUT, "wb", buffering=0, closefd=False)


class Output(Vt100_Output):
    """An output that queues what the terminal does not take.

    `drained` is called when the queue is empty again.
    """

    drained: Callable[[], None] = staticmethod(lambda: None)

    def __init__(self, terminal: FileIO) -> None:
        # No need to ask for the cursor's position: a window begins at the corner of the screen.
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
        """Wait until everything is written, at most `seconds`."""
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._left.wait()
        asyncio.get_running_loop().remove_writer(self._terminal)

    def _write(self) -> None:
        try:
            while self._waiting and (written := self._terminal.write(self._waiting)):
                del self._waiting[:written]
        except OSError:  # The terminal has hung up; SIGHUP will end the client.
            self._waiting.clear()
        loop = asyncio.get_running_loop()
        if self._waiting:
            self._left.clear()
            loop.add_writer(self._terminal, self._write)
        elif not self._left.is_set():
            self._left.set()
            loop.remove_writer(self._terminal)
            self.drained()
