"""A gateway in this process, between a fake room and raw clients."""

import asyncio
import base64
import json
import os
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from typing import Any

from chatroom.sidecars.web.gateway import Gateway
from chatroom.sidecars.web.process import Rules
from chatroom.sidecars.web.rooms import RefusedError, UnreachableError
from chatroom.sidecars.web.site import Site

PATIENCE = 20.0
WELCOME = b"Welcome\n"

TEXT, BINARY, CLOSE, PING, PONG = 0x81, 0x82, 0x88, 0x89, 0x8A


Test = Callable[..., Awaitable[None]]


def in_loop(test: Test) -> Callable[..., None]:
    """Run a test in an event loop."""

    @wraps(test)
    def run(*arguments: Any, **options: Any) -> None:
        async def main() -> None:
            await test(*arguments, **options)

        asyncio.run(main())

    return run


@dataclass
class FakeRoom:
    """A fake room. `members` are the room's ends of the members' connections."""

    members: list[socket.socket] = field(default_factory=list)
    addresses: list[tuple[str, int]] = field(default_factory=list)
    refuses: str = ""
    stopping: bool = False

    async def open(self, address: str, port: int) -> socket.socket:
        if self.refuses:
            raise RefusedError(self.refuses)
        if self.stopping:
            raise UnreachableError("no room")
        ours, theirs = socket.socketpair()
        for end in (ours, theirs):
            end.setblocking(False)
        self.members.append(ours)
        self.addresses.append((address, port))
        ours.send(WELCOME)
        return theirs

    async def read(self, size: int, member: int = -1) -> bytes:
        """Return exactly `size` bytes that a member has sent."""
        data = b""
        while len(data) < size:
            async with asyncio.timeout(PATIENCE):
                loop = asyncio.get_running_loop()
                piece = await loop.sock_recv(self.members[member], size - len(data))
            assert piece, data
            data += piece
        return data


class Client:
    """A raw client, which can break every rule of the protocol."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def request(self, path: str = "/room", method: str = "GET", **headers: str) -> bytes:
        """Send a request for a WebSocket; return the head of the answer."""
        names = {
            "Host": "room.local",
            "Connection": "Upgrade",
            "Upgrade": "websocket",
            "Sec-WebSocket-Version": "13",
            "Sec-WebSocket-Key": base64.b64encode(os.urandom(16)).decode(),
        }
        names |= {name.replace("_", "-"): value for name, value in headers.items()}
        lines = "".join(f"{name}: {value}\r\n" for name, value in names.items())
        self.writer.write(f"{method} {path} HTTP/1.1\r\n{lines}\r\n".encode())
        async with asyncio.timeout(PATIENCE):
            return await self.reader.readuntil(b"\r\n\r\n")

    async def join(
        self, session: str | None = None, seen: int = 0, **headers: str
    ) -> dict[str, Any]:
        """Open a WebSocket and send the first frame; return the first answer."""
        head = await self.request(**headers)
        assert head.startswith(b"HTTP/1.1 101 "), head
        self.send({"session": session, "seen": seen})
        return await self.receive()

    def send(self, frame: object) -> None:
        self.send_frame(TEXT, json.dumps(frame).encode())

    def send_frame(
        self, first: int, payload: bytes, mask: bytes | None = b"\x01\x02\x03\x04"
    ) -> None:
        """Send a frame whose first byte is `first`."""
        size = len(payload)
        masked = 0x80 if mask is not None else 0
        head = bytes([first])
        if size < 126:
            head += bytes([masked | size])
        elif size < 1 << 16:
            head += bytes([masked | 126]) + size.to_bytes(2)
        else:
            head += bytes([masked | 127]) + size.to_bytes(8)
        if mask is not None:
            payload = bytes(byte ^ mask[at % 4] for at, byte in enumerate(payload))
            head += mask
        self.writer.write(head + payload)

    async def receive_frame(self) -> tuple[int, bytes]:
        async with asyncio.timeout(PATIENCE):
            first, size = await self.reader.readexactly(2)
            if size == 126:
                size = int.from_bytes(await self.reader.readexactly(2))
            elif size == 127:
                size = int.from_bytes(await self.reader.readexactly(8))
            return first, await self.reader.readexactly(size)

    async def receive(self) -> dict[str, Any]:
        first, payload = await self.receive_frame()
        assert first == TEXT, (first, payload)
        found: dict[str, Any] = json.loads(payload)
        return found

    async def closed(self) -> tuple[int, str | None]:
        """Wait for the gateway's close frame; return its code, and the reason in `closed`."""
        reason = None
        while True:
            first, payload = await self.receive_frame()
            if first == CLOSE:
                return int.from_bytes(payload[:2]), reason
            if first == TEXT:
                reason = json.loads(payload).get("closed", reason)

    async def ended(self) -> bytes:
        """Return everything until the gateway closes the connection."""
        async with asyncio.timeout(PATIENCE):
            return await self.reader.read()

    def cut(self) -> None:
        self.writer.transport.abort()


def create_listener() -> socket.socket:
    """Return a listener on a free port."""
    listener = socket.create_server(("127.0.0.1", 0))
    _bound_buffers(listener)  # the accepted sockets inherit these limits
    return listener


async def connect(port: int, tls: ssl.SSLContext | None = None) -> Client:
    """Return a client of the gateway that listens on this port; `tls`: it uses TLS."""
    sock = socket.socket()
    sock.setblocking(False)
    _bound_buffers(sock)
    await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
    host = None if tls is None else "127.0.0.1"
    return Client(*await asyncio.open_connection(sock=sock, ssl=tls, server_hostname=host))


def _bound_buffers(sock: socket.socket) -> None:
    """Limit the kernel's buffers for the data of a connection. Otherwise, they grow to several MiB,
    and could take everything that a test sends."""
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF):
        sock.setsockopt(socket.SOL_SOCKET, option, 1 << 16)


@dataclass
class Stage:
    room: FakeRoom
    port: int
    clients: list[Client] = field(default_factory=list)

    async def connect(self, tls: ssl.SSLContext | None = None) -> Client:
        client = await connect(self.port, tls)
        self.clients.append(client)
        return client

    async def end(self) -> None:
        for client in self.clients:
            client.cut()
            with suppress(OSError, asyncio.IncompleteReadError):
                await client.writer.wait_closed()
        for member in self.room.members:
            member.close()


@asynccontextmanager
async def serving(
    rules: Rules | None = None, capacity: int = 100, tls: ssl.SSLContext | None = None
) -> AsyncIterator[Stage]:
    """Run a gateway, and yield it with its room and clients."""
    listener = create_listener()
    room = FakeRoom()
    gateway = Gateway(Site(), room, rules or Rules(), capacity)
    await gateway.listen(listener, tls)
    stage = Stage(room, listener.getsockname()[1])
    try:
        yield stage
    finally:
        await stage.end()
        await gateway.stop()
        await asyncio.sleep(0)
