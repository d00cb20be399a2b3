"""The way to a room: where it is, and whether it is behind something that ends TLS."""

import asyncio
import socket
import ssl
from dataclasses import dataclass

from chatroom.client.tls import Encrypted

#: Seconds for a room to answer; for each of a host's addresses, where they are tried in turn.
CONNECT_TIMEOUT = 10.0
#: Seconds that an address has before the host's next one is tried beside it (RFC 8305).
NEXT_ADDRESS = 0.25

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Reach:
    """Where a room is."""

    host: str
    port: int
    context: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    def connect(self) -> socket.socket | Encrypted:
        """A connection that does not block. Raises OSError or UnicodeError, see `reason`."""
        room = socket.create_connection((self.host, self.port), CONNECT_TIMEOUT)
        try:
            # A line is sent when Enter is pressed, not when the one before it was acknowledged.
            room.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            encrypted = self.context and Encrypted(room, self.context, self.host)
            room.setblocking(False)
        except BaseException:
            room.close()
            raise
        return encrypted or room

    async def open(self) -> Streams:
        """The same, for asyncio, which sets TCP_NODELAY itself."""
        async with asyncio.timeout(CONNECT_TIMEOUT):
            return await asyncio.open_connection(
                self.host,
                self.port,
                ssl=self.context,
                happy_eyeballs_delay=NEXT_ADDRESS,
            )


def reason(error: Exception) -> str:
    """Why, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError) and error.reason:
        return f"TLS failed: {error.reason.lower().replace('_', ' ')}"
    return getattr(error, "strerror", None) or str(error) or "no answer"
