"""A connection to a room, by TCP or by TLS over it, on asyncio.

Not asyncio's own streams: where a write fails, they discard what has arrived and is yet to be read
(mostly the reason why the room closes), and their TLS ends both directions at once. Here each
direction ends on its own, with TLS as without: a user who pipes something in closes one side and
receives the rest.
"""

import asyncio
import socket
import ssl
from codecs import getincrementaldecoder
from collections.abc import AsyncIterator
from contextlib import suppress

#: Bytes read at once.
CHUNK = 64 * 1024


class Connection:
    """A connection by TCP. All of its methods but `close` raise OSError."""

    def __init__(self, room: socket.socket) -> None:
        """`room` is connected, and does not block."""
        self._socket = room
        self._loop = asyncio.get_running_loop()

    async def receive(self) -> bytes:
        """Return what has arrived; nothing, at the end."""
        return await self._loop.sock_recv(self._socket, CHUNK)

    async def texts(self) -> AsyncIterator[str]:
        """Yield what arrives as text, to the end; raise an error when all before it was taken."""
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
        """Send all of it. What has arrived can be received even where this fails."""
        await self._loop.sock_sendall(self._socket, data)

    async def send_eof(self) -> None:
        """Tell the room that nothing more comes; what it sends still arrives."""
        self._socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self._socket.close()


class TlsConnection(Connection):
    """A connection by TLS. `shake_hands` comes before all else."""

    def __init__(self, room: socket.socket, context: ssl.SSLContext, host: str) -> None:
        super().__init__(room)
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing, server_hostname=host)
        self._early = b""
        """Text that came with the end of the handshake."""
        self._ended = False
        """The room has said that nothing more comes."""

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
                with suppress(OSError):  # The alert tells the room why.
                    await self._flush()
                raise
            else:
                await self._flush()
                self._early = self._decrypt()
                return

    async def receive(self) -> bytes:
        text, self._early = self._early, b""
        # The room may end TLS and leave TCP open, or reset it: what comes after the end is ignored.
        while not (text or self._ended) and (data := await super().receive()):
            self._incoming.write(data)
            text = self._decrypt()
        return text

    def _decrypt(self) -> bytes:
        """Return all that can be: `send_eof` would fail on a whole record that is left."""
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
        with suppress(ssl.SSLWantReadError):  # The room's answer, for which `receive` waits.
            self._tls.unwrap()
        await self._flush()

    async def _flush(self) -> None:
        await super().send(self._outgoing.read())
