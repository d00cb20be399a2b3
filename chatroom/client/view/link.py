"""The connection to a room, and reconnecting when it is lost."""

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import suppress
from random import uniform
from time import monotonic
from typing import Any, Protocol

from chatroom.client.address import reason
from chatroom.client.connection import CHUNK, Connection
from chatroom.protocol.leave_reason import CLOSING_MESSAGES, LeaveReason

#: Backoff: seconds before the first attempt to reconnect, and the maximum. Each pause is twice as
#: long as the previous pause.
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 30.0
#: Each pause is multiplied by a random number in this range, so that the members of a room that has
#: restarted do not all reconnect at the same moment.
JITTER = 0.5, 1.5

#: Last lines of a connection after which the client does not reconnect, each with the client's
#: notice. No member can forge these lines (PREFIX-4).
FINAL = {
    CLOSING_MESSAGES[LeaveReason.KICKED].decode(): "you were kicked",
    CLOSING_MESSAGES[LeaveReason.BANNED].decode(): "you were banned",
}
#: Number of characters to keep from the end of the received text: enough for any line of FINAL.
LAST_LINE = 100

#: Limit for the bytes that wait to be sent: while there are more, `send` refuses text.
FULL = 1 << 20


def pauses() -> Iterator[float]:
    """Yield the seconds to wait before each attempt."""
    pause = FIRST_PAUSE
    while True:
        yield pause * uniform(*JITTER)
        pause = min(2 * pause, LONGEST_PAUSE)


class Listener(Protocol):
    """A receiver of a link's events."""

    def on_text(self, text: str) -> None:
        """Handle text from the room."""

    def on_notice(self, text: str) -> None:
        """Handle a notice for the user, such as that the connection was lost."""

    def on_lost(self) -> None:
        """Handle the end of a connection; later text comes from a new connection."""


class Link:
    """A connection to a room that reconnects.

    `since`: time (monotonic) at which the connection was made; None while there is no connection.
    `until`: time of the next attempt.
    """

    def __init__(
        self,
        room: Connection,
        connect: Callable[[], Awaitable[Connection]],
        *,
        reconnect: bool,
        sleep: Callable[[float], Coroutine[Any, Any, None]] = asyncio.sleep,
    ) -> None:
        """`connect` returns a new connection to the room, or raises OSError or UnicodeError."""
        self._room: Connection | None = room
        self._connect = connect
        self._reconnect = reconnect
        self._sleep = sleep
        self._unsent = bytearray()
        self._sending: asyncio.Task[None] | None = None
        self._send_error: OSError | None = None
        self._pause: asyncio.Future[None] | None = None
        # True once text was sent, or a second line has begun. A first line alone may be a refusal
        # (JOIN-5).
        self._works = False
        self.since: float | None = monotonic()
        self.until = 0.0

    async def run(self, listener: Listener) -> str:
        """Receive and reconnect.

        Without `reconnect`, or after a kick or a ban, return the reason why the connection was
        lost.
        """
        waits = pauses()
        while True:
            assert self._room
            began = monotonic()
            why = await self._listen(self._room, listener)
            listener.on_lost()
            if not self._reconnect or why in FINAL.values():
                return why
            listener.on_notice(f"connection lost: {why}")
            if self._works or monotonic() - began > LONGEST_PAUSE:
                waits = pauses()
            self._works = False
            self._room = await self._connect_again(waits, listener)
            self.since = monotonic()
            listener.on_notice("connected again")

    async def _connect_again(self, waits: Iterator[float], listener: Listener) -> Connection:
        failed = ""
        while True:
            pause = next(waits)
            self.until = monotonic() + pause
            self._pause = asyncio.ensure_future(self._sleep(pause))
            await asyncio.wait([self._pause])
            try:
                return await self._connect()
            except (OSError, UnicodeError) as error:
                if (why := reason(error)) != failed:  # Report a reason only once in a row.
                    listener.on_notice(f"no connection: {why}; trying again")
                    failed = why

    async def _listen(self, room: Connection, listener: Listener) -> str:
        """Receive until the connection ends; return the reason."""
        lost: OSError | None = None
        greeted = False
        last = ""
        try:
            async for text in room.texts():
                last = (last + text)[-LAST_LINE:]
                beyond = text if greeted else text.partition("\n")[2]
                greeted |= "\n" in text
                self._works |= bool(beyond)
                listener.on_text(text)
        except OSError as error:
            lost = error
        lost = self._send_error or lost
        why = reason(lost) if lost else "closed by the server"
        for line, removed in FINAL.items():
            if last.endswith(f"\n{line}"):
                why = removed
                self._unsent.clear()
        if self._unsent:
            why += "; your last messages may not have arrived"
        self._room = self.since = None
        if self._sending:
            self._sending.cancel()
            await asyncio.wait([self._sending])
        self._unsent.clear()
        self._send_error = None
        room.close()
        return why

    @property
    def own_address(self) -> str:
        """Our IP address on the connection; empty while there is no connection."""
        return self._room.own_address if self._room else ""

    def send(self, text: str) -> bool:
        """Queue text to be sent; return False if there is no connection, or the queue is full."""
        if self._room is None or len(self._unsent) > FULL:
            return False
        self._unsent += text.encode()
        self._works = True
        if self._sending is None or self._sending.done():
            self._sending = asyncio.create_task(self._send(self._room))
        return True

    async def _send(self, room: Connection) -> None:
        """Send the queued text."""
        try:
            while data := bytes(self._unsent[:CHUNK]):
                await room.send(data)
                del self._unsent[: len(data)]
        except OSError as error:
            self._send_error = error  # `_listen` reports it after all received text.

    def reconnect_now(self) -> None:
        """Reconnect now if the link waits for the next attempt."""
        if self._pause and not self._pause.done():
            self.until = monotonic()
            self._pause.cancel()

    async def leave(self, listener: Listener, seconds: float) -> None:
        """Close our side, and wait at most `seconds` until the room closes its side."""
        if self._room is None:
            return
        with suppress(OSError, TimeoutError):
            async with asyncio.timeout(seconds):
                if self._sending:
                    await self._sending
                await self._room.send_eof()
                async for text in self._room.texts():
                    listener.on_text(text)
        self._room.close()
