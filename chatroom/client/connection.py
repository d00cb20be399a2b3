"""A connection to a room, over TCP or TLS, for asyncio.

asyncio's own streams are not used, for two reasons. When a write fails, they discard unread input,
which usually contains the room's reason for closing. With TLS, they close both directions at once.
In this module, each direction ends separately, also with TLS: after the end of piped input, the
client closes its sending side, and still receives until the room closes.
"""

import asyncio
import socket
import ssl
from codecs import getincrementaldecoder
from collections.abc import AsyncIterator
from contextlib import suppress

#: Number of bytes to read at once.
CHUNK = 64 * 1024


class Connection:
    """A connection over TCP. All methods but `close` may raise OSError."""

    def __init__(self, room: socket.socket) -> None:
        """`room`: a connected socket that does not block."""
        self._socket = room
        self._loop = asyncio.get_running_loop()

    @property
    def own_address(self) -> str:
        """The client's IP address. The room sees another address if a router translates it."""
        return str(self._socket.getsockname()[0]).partition("%")[0]

    async def receive(self) -> bytes:
        """Wait for data and return it; return b"" at the end."""
        return await self._loop.sock_recv(self._socket, CHUNK)

    async def texts(self) -> AsyncIterator[str]:
        """Yield arriving text until the end. An error is raised after all text that arrived before
        it."""
        decode = getincrementaldecoder("utf-8")("replace").decode
        lost: OSError | None = None
        try:
            while data := await self.receive():
                yield decode(data)
        except OSError as error:
            lost = error
        if rest := decode(b"", final=True):
            yield rest
        if lost:
            raise lost

    async def send(self, data: bytes) -> None:
        """Send all the data. If this fails, data that has arrived can still be received."""
        await self._loop.sock_sendall(self._socket, data)

    async def send_eof(self) -> None:
        """Close the sending side; the receiving side stays open."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()


class TlsConnection(Connection):
    """A connection over TLS. Call `shake_hands` first."""

    def __init__(self, room: socket.socket, context: ssl.SSLContext, host: str) -> None:
        super().__init__(room)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._early = b""
        """Decrypted data that arrived together with the end of the handshake."""
        self._ended = False
        """True once the room has closed its sending side of TLS."""

    async def shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                await self._flush()
                if not (data := await super().receive()):
                    raise ConnectionError("closed by the server") from None
                self._incoming.write(data)
            except ssl.SSLError:
                with suppress(OSError):  # Send the TLS alert, which tells the room the reason.
                    await self._flush()
                raise
            else:
                await self._flush()
                self._early = self._decrypt()
                return

    async def receive(self) -> bytes:
        text, self._early = self._early, b""
        # Do not receive after the end of TLS: the room may leave the TCP connection open, or reset
        # it.
        while not (text or self._ended) and (data := await super().receive()):
            self._incoming.write(data)
            text = self._decrypt()
        return text

    def _decrypt(self) -> bytes:
        """Decrypt all complete records, because `send_eof` would fail if one were left."""
        text = b""
        try:
            while data := self._tls.read(CHUNK):
                text += data
        except ssl.SSLWantReadError:
            return text
        except ssl.SSLZeroReturnError:
            pass
        self._ended = True
        return text

    async def send(self, data: bytes) -> None:
        view = memoryview(data)
        while view:
            view = view[self._tls.write(view) :]
        await self._flush()

    async def send_eof(self) -> None:
        with suppress(ssl.SSLWantReadError):  # `receive` waits for the room's answer.
            self._tls.unwrap()
        await self._flush()

    async def _flush(self) -> None:
        await super().send(self._outgoing.read())
