"""The plain form, without a window: send standard input, and print what the room sends.

In each direction, new data is read only after the previous data was written, so memory stays
bounded. Neither direction can block the other.

The session ends once its `Ending` is known and everything is shown, or after a timeout.
"""

import asyncio
import signal
from collections.abc import Callable
from contextlib import suppress
from typing import NamedTuple

from chatroom.client.address import reason
from chatroom.client.connection import Connection
from chatroom.client.streams import Input, Output
from chatroom.protocol.text import printable

#: Seconds to wait for the room to close after a user at a terminal has left.
PATIENCE = 1.0
#: Timeout (s) for showing the data that has arrived before a signal.
OUTPUT_WITHIN = 0.5
#: Exit code that a shell reports for a program killed by SIGPIPE.
BROKEN_PIPE = 128 + 13


class Ending(NamedTuple):
    """The client's exit code, and a last message for standard error, which may be empty."""

    code: int
    message: str = ""


def ending_of(number: int) -> Ending:
    """Return the ending for a signal. Ctrl-C is an ordinary way to leave, with exit code 0."""
    return Ending(0 if number == signal.SIGINT else 128 + number)


class Session:
    """A connection between a room and standard input and output."""

    def __init__(
        self,
        room: Connection,
        source: Input | None,
        output: Output,
        *,
        patience: float | None,
        show: Callable[[str], str] = printable,
    ) -> None:
        """`source`: standard input; None to send nothing.

        `patience`: seconds to wait for the room to close its side after we have closed ours; None:
        no limit. `show`: function that makes received text safe to show; it is called with each
        part of the text in order.
        """
        self._room = room
        self._source = source
        self._output = output
        self._patience = patience
        self._show = show
        self._sent_all = False  # Our sending side is closed, or about to be.
        self._send_error: OSError | None = None  # Error of a send that has failed.
        self._ending: Ending | None = None
        self._ended = asyncio.Event()
        self._deadline = asyncio.timeout(None)

    async def run(self) -> Ending:
        """Run until the user leaves, the connection ends, or a signal arrives."""
        with suppress(TimeoutError):
            async with self._deadline:
                await self._converse()
                await self._output.finish()
                self._on_output_closed()
        return self._ending or Ending(0)

    def on_signal(self, number: int) -> None:
        """End within OUTPUT_WITHIN. A second signal ends the session at once, even if output is
        left."""
        if self._ending is None:
            self._end(ending_of(number))
            self._end_within(OUTPUT_WITHIN)
        else:
            # Print no message, because printing may block at the same terminal.
            self._ending = self._ending._replace(message="")
            self._end_within(0)

    async def _converse(self) -> None:
        """Copy bytes in both directions until the ending is known."""
        async with asyncio.TaskGroup() as group:
            directions = self._send(), self._receive(), self._watch_output()
            tasks = [group.create_task(direction) for direction in directions]
            await self._ended.wait()
            for task in tasks:
                task.cancel()

    async def _send(self) -> None:
        if self._source is None:
            return
        try:
            while data := await self._source.read():
                await self._room.send(data)
            if self._source.error:
                self._end(Ending(1, f"standard input: {reason(self._source.error)}"))
                return
            self._sent_all = True
            if self._patience is not None:
                self._end_within(self._patience)
            await self._room.send_eof()
        except OSError as error:
            # The room's last messages may still be unread, so `_receive` ends the session.
            self._send_error = error

    async def _receive(self) -> None:
        lost: OSError | None = None
        try:
            async for text in self._room.texts():
                await self._output.write(self._show(text).encode())
        except OSError as error:
            lost = error
        lost = self._send_error or lost
        # If piped input was sent, an error is reported, because the input may not have arrived. If
        # a user has left, no error is reported.
        if self._sent_all and (lost is None or self._patience is not None):
            self._end(Ending(0))
        else:
            why = reason(lost) if lost else "closed by the server"
            self._end(Ending(1, f"connection lost: {why}"))

    async def _watch_output(self) -> None:
        await self._output.wait_closed()
        self._on_output_closed()

    def _on_output_closed(self) -> None:
        error = self._output.error
        if error and (self._ending is None or self._ending.code == 0):
            broken = isinstance(error, BrokenPipeError)
            message = "" if broken else f"standard output: {reason(error)}"
            self._ending = Ending(BROKEN_PIPE if broken else 1, message)
            self._ended.set()

    def _end(self, ending: Ending) -> None:
        if self._ending is None:
            self._ending = ending
            self._ended.set()

    def _end_within(self, seconds: float) -> None:
        """Stop showing output after this many seconds."""
        with suppress(RuntimeError):  # The timeout is over already.
            self._deadline.reschedule(asyncio.get_running_loop().time() + seconds)
