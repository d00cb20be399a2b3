"""The plain form: bytes from standard input to the room, and from the room to standard output.

A source is read only when what it brought before was taken, so memory stays bounded, and neither
direction can block the other.

The session ends when it knows its `Ending` and has shown everything, or when its time is up.
"""

import asyncio
import signal
from contextlib import suppress
from typing import NamedTuple

from chatroom.client.address import reason
from chatroom.client.connection import Connection
from chatroom.client.streams import Input, Output
from chatroom.protocol.text import printable

#: Seconds that the room has to close after a user at a terminal left.
PATIENCE = 1.0
#: Seconds after an ending signal in which what had arrived may still be shown.
LAST_WORDS = 0.5
#: The exit code that a shell reports of a program that wrote where nobody reads (SIGPIPE).
BROKEN_PIPE = 128 + 13


class Ending(NamedTuple):
    """How it ended: the exit code, and what there is to say on standard error."""

    code: int
    words: str = ""


def ending_of(number: int) -> Ending:
    """Return how a signal ends the client: Ctrl-C is an ordinary way to leave."""
    return Ending(0 if number == signal.SIGINT else 128 + number)


class Session:
    """A connection to a room, and the user's side of it."""

    def __init__(
        self, room: Connection, source: Input, output: Output, *, patience: float | None
    ) -> None:
        """`patience`: seconds that the room has to close after our side did; None: for ever."""
        self._room = room
        self._source = source
        self._output = output
        self._patience = patience
        self._said_all = False  # Our side of the connection is closed, or about to be.
        self._send_error: OSError | None = None  # The room takes nothing any longer.
        self._ending: Ending | None = None
        self._ended = asyncio.Event()
        self._deadline = asyncio.timeout(None)

    async def run(self) -> Ending:
        """Run until the user leaves, the connection ends, or a signal ends it."""
        with suppress(TimeoutError):
            async with self._deadline:
                await self._converse()
                await self._output.finish()
                self._on_output_closed()
        return self._ending or Ending(0)

    def on_signal(self, number: int) -> None:
        """End soon; or, if it is ending already, at once, whatever is still to be shown."""
        if self._ending is None:
            self._end(ending_of(number))
            self._end_within(LAST_WORDS)
        else:
            # Nor is it said why it ended: that may have to wait for the same terminal.
            self._ending = self._ending._replace(words="")
            self._end_within(0)

    async def _converse(self) -> None:
        """Carry bytes in both directions until the ending is known."""
        async with asyncio.TaskGroup() as group:
            directions = self._send(), self._receive(), self._watch_output()
            tasks = [group.create_task(direction) for direction in directions]
            await self._ended.wait()
            for task in tasks:
                task.cancel()

    async def _send(self) -> None:
        try:
            while data := await self._source.read():
                await self._room.send(data)
            if self._source.error:
                self._end(Ending(1, f"standard input: {reason(self._source.error)}"))
                return
            self._said_all = True
            if self._patience is not None:
                self._end_within(self._patience)
            await self._room.send_eof()
        except OSError as error:
            # What the room said before it went may still be there to read: `_receive` ends this.
            self._send_error = error

    async def _receive(self) -> None:
        lost: OSError | None = None
        try:
            async for text in self._room.texts():
                await self._output.write(printable(text).encode())
        except OSError as error:
            lost = error
        lost = self._send_error or lost
        # A user who pipes something in has to know if it may not have arrived; at a terminal, a
        # user who left has left.
        if self._said_all and (lost is None or self._patience is not None):
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
            words = "" if broken else f"standard output: {reason(error)}"
            self._ending = Ending(BROKEN_PIPE if broken else 1, words)
            self._ended.set()

    def _end(self, ending: Ending) -> None:
        if self._ending is None:
            self._ending = ending
            self._ended.set()

    def _end_within(self, seconds: float) -> None:
        """Show no more after so many seconds."""
        with suppress(RuntimeError):  # The time is up already.
            self._deadline.reschedule(asyncio.get_running_loop().time() + seconds)
