"""The connection to a room, which is made again when it is lost."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from time import monotonic
from typing import Any, Protocol

from chatroom.client.address import reason
from chatroom.client.connection import CHUNK, Connection

#: Seconds before the first try to come back, twice as many before each other, and the most.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0

#: Bytes waiting to be sent, of a room that does not read, from which on nothing is taken.
FULL = 1 << 20


def pauses() -> Iterator[float]:
    """Seconds to wait before each try."""
    pause = FIRST_PAUSE
    while True:
        yield pause
        pause = min(2 * pause, LONGEST_PAUSE)


class Listener(Protocol):
    """Who is told what happens to a link."""

    def heard(self, text: str) -> None:
        """The room sent `text`."""

    def told(self, words: str) -> None:
        """The connection was lost, or is there again."""

    def lost(self) -> None:
        """What the room sends next has nothing to do with what it sent before."""


class Link:
    """`since`: when it was made; None while there is no connection. `until`: when to try again."""

    def __init__(
        self,
        room: Connection,
        connect: Callable[[], Awaitable[Connection]],
        *,
        reconnect: bool,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        """`connect`: connect to the same room again. Raises OSError or UnicodeError."""
        self._room: Connection | None = room
        self._connect = connect
        self._reconnect = reconnect
        self._sleep = sleep
        self._unsent = bytearray()
        self._sending: asyncio.Task[None] | None = None
        self._send_error: OSError | None = None
        self._pause: asyncio.Future[None] | None = None
        self._works = False  # There was more than a greeting, which may be why we are turned away.
        self.since: float | None = monotonic()
        self.until = 0.0

    async def run(self, listener: Listener) -> str:
        """Listen; return why the connection was lost, where it is not to be made again."""
        waits = pauses()
        while True:
            assert self._room
            began = monotonic()
            why = await self._listen(self._room, listener)
            listener.lost()
            if not self._reconnect:
                return why
            listener.told(f"connection lost: {why}")
            if self._works or monotonic() - began > LONGEST_PAUSE:
                waits = pauses()
            self._works = False
            self._room = await self._come_back(waits, listener)
            self.since = monotonic()
            listener.told("connected again")

    async def _come_back(self, waits: Iterator[float], listener: Listener) -> Connection:
        failed = ""
        while True:
            pause = next(waits)
            self.until = monotonic() + pause
            self._pause = asyncio.ensure_future(self._sleep(pause))
            await asyncio.wait([self._pause])
            try:
                return await self._connect()
            except (OSError, UnicodeError) as error:
                if (why := reason(error)) != failed:  # Once for each reason.
                    listener.told(f"no connection: {why}; trying again")
                    failed = why

    async def _listen(self, room: Connection, listener: Listener) -> str:
        """Hear all that the room says; return why it is over."""
        lost: OSError | None = None
        greeted = False
        try:
            async for text in room.texts():
                beyond = text if greeted else text.partition("\n")[2]
                greeted |= "\n" in text
                self._works |= bool(beyond)
                listener.heard(text)
        except OSError as error:
            lost = error
        lost = self._send_error or lost
        why = reason(lost) if lost else "closed by the server"
        if self._unsent:
            why += "; what you said last may not have arrived"
        self._room = self.since = None
        if self._sending:
            self._sending.cancel()
            await asyncio.wait([self._sending])
        self._unsent.clear()
        self._send_error = None
        room.close()
        return why

    def send(self, text: str) -> bool:
        """Send it, if there is a connection that takes it; returns whether it was taken."""
        if self._room is None or len(self._unsent) > FULL:
            return False
        self._unsent += text.encode()
        self._works = True
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send(self._room))
        return True

    async def _send(self, room: Connection) -> None:
        """Send what is unsent."""
        try:
            while data := bytes(self._unsent[:CHUNK]):
                await room.send(data)
                del self._unsent[: len(data)]
        except OSError as error:
            self._send_error = error  # `_listen` says so, after all that arrived before.

    def hurry(self) -> None:
        """Try again now, if it is between two tries that we are."""
        if self._pause and not self._pause.done():
            self.until = monotonic()
            self._pause.cancel()

    async def leave(self, listener: Listener, seconds: float) -> None:
        """Close our side, and wait until the room has closed its own, so many seconds at most."""
        if self._room is None:
            return
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(seconds):
                if self._sending:
                    await self._sending
                await self._room.send_eof()
                async for text in self._room.texts():
                    listener.heard(text)
        self._room.close()
