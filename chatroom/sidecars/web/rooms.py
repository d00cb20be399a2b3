"""Connections to the room: `Connector.open` returns the connection of a new member.

ParentConnector    requests the connection from the main process (supervisor/web.py)
TCPConnector       connects to rooms by TCP; for a gateway that runs by itself
"""

import asyncio
import socket
from typing import Protocol

from chatroom.protocol.proxy_header import compose
from chatroom.sidecars.parent import Parent
from chatroom.sidecars.web.process import MAX_OPENING, Rooms
from chatroom.system.channel import ChannelClosed, Record
from chatroom.system.endpoint import Endpoint
from chatroom.system.error_text import error_text

CONNECT_WITHIN = 5.0
"""Timeout (s) for a connection to a room."""
OPEN_WITHIN = 10.0
"""Timeout (s) for the main process to make a member. It may have to wait for a worker first."""


class RefusedError(Exception):
    """The room refuses the member. The message is the reason, for people."""


class UnreachableError(Exception):
    """No room can be reached now. A later attempt may succeed. The message is one line."""


class Connector(Protocol):
    async def open(self, address: str, port: int) -> socket.socket:
        """Return the non-blocking connection of a new member. Raises RefusedError,
        UnreachableError.

        `address`, `port`: those of the client, such as a browser.
        """


class ParentConnector:
    """Requests connections from the main process. Call `on_record` with each of its answers."""

    def __init__(self, parent: Parent) -> None:
        self._parent = parent
        self._turn = asyncio.Semaphore(MAX_OPENING)
        self._number = 0
        self._asked: dict[int, asyncio.Future[socket.socket]] = {}

    async def open(self, address: str, port: int) -> socket.socket:
        async with self._turn:
            self._number += 1
            number = self._number
            answer = self._asked[number] = asyncio.get_running_loop().create_future()
            try:
                self._parent.send({"open": number, "address": address, "port": port})
                async with asyncio.timeout(OPEN_WITHIN):
                    connection: socket.socket = await answer
                    return connection
            except TimeoutError:
                raise UnreachableError("the room does not answer") from None
            except ChannelClosed:
                raise UnreachableError("the room has ended") from None
            finally:
                del self._asked[number]

    def on_record(self, record: Record, descriptors: list[int]) -> None:
        """Handle an answer of the main process."""
        connections = [socket.socket(fileno=descriptor) for descriptor in descriptors]
        match record:
            case {"opened": number}:
                answer = self._asked.get(number)
                if answer is None or answer.done():
                    for connection in connections:  # `open` has given up
                        connection.close()
                else:
                    [connection] = connections
                    connection.setblocking(False)
                    answer.set_result(connection)
            case {"refused": number, "reason": reason}:
                self._fail(number, RefusedError(reason))
            case {"failed": number}:
                self._fail(number, UnreachableError("the room is stopping"))

    def _fail(self, number: int, error: Exception) -> None:
        answer = self._asked.get(number)
        if answer is not None and not answer.done():
            answer.set_exception(error)


class TCPConnector:
    """Connects to the first room that answers. The room that answered last is tried first."""

    def __init__(self, rooms: Rooms) -> None:
        self._rooms = list(rooms.endpoints)
        self._proxy_header = rooms.proxy_header

    async def open(self, address: str, port: int) -> socket.socket:
        connection = await self._connect()
        if self._proxy_header:
            try:
                host, room_port = connection.getpeername()[:2]
                header = compose(address, port, host, room_port)
                await asyncio.get_running_loop().sock_sendall(connection, header)
            except OSError as error:  # the room has ended meanwhile
                connection.close()
                raise UnreachableError(f"the room has ended: {error_text(error)}") from None
        return connection

    async def probe(self) -> None:
        """Check that a room answers. Raises UnreachableError."""
        (await self._connect()).close()

    async def _connect(self) -> socket.socket:
        errors = []
        for room in list(self._rooms):
            try:
                return await _connect(room)
            except OSError as error:
                errors.append(f"{room}: {error_text(error)}")
                if room == self._rooms[0]:  # no concurrent attempt has moved it
                    self._rooms.append(self._rooms.pop(0))
        raise UnreachableError(f"no room answers at {'; '.join(errors)}")


async def _connect(room: Endpoint) -> socket.socket:
    """Return a connection to a room. Raises OSError."""
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(CONNECT_WITHIN):
            found = await loop.getaddrinfo(room.host, room.port, type=socket.SOCK_STREAM)
            error: OSError = OSError("no address")
            for family, kind, protocol, _, address in found:
                connection = socket.socket(family, kind, protocol)
                connection.setblocking(False)
                try:
                    await loop.sock_connect(connection, address)
                except OSError as failed:
                    connection.close()
                    error = failed
                except BaseException:
                    connection.close()
                    raise
                else:
                    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                    return connection
            raise error
    except TimeoutError:
        raise OSError(f"no answer within {CONNECT_WITHIN:g} s") from None
