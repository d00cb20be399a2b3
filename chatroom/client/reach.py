"""The way to a room: where it is, and whether it is behind something that ends TLS."""

import asyncio
import os
import socket
import ssl
import threading
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any

from chatroom.client.tls import Encrypted

#: Seconds for each of a host's addresses to answer.
CONNECT_TIMEOUT = 10.0

#: What OpenSSL, old or new, says of an answer that is anything but TLS.
NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


@dataclass(frozen=True)
class Reach:
    """Where a room is."""

    host: str
    port: int
    context: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def name(self) -> str:
        """The same, and how much one may trust in it."""
        if self.context is None:
            return str(self)
        unchecked = self.context.verify_mode == ssl.CERT_NONE
        return f"{self} (TLS, unchecked)" if unchecked else f"{self} (TLS)"

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
        """The same, for asyncio."""
        failed = OSError("it has no address")
        for *kind, _, address in await self._resolve():
            try:
                async with asyncio.timeout(CONNECT_TIMEOUT):
                    return await self._enter(socket.socket(*kind), address)
            except OSError as error:
                failed = error
        raise failed

    async def _enter(self, room: socket.socket, address: Any) -> Streams:
        try:
            room.setblocking(False)
            await asyncio.get_running_loop().sock_connect(room, address)
            name = self.host if self.context else None
            return await asyncio.open_connection(sock=room, ssl=self.context, server_hostname=name)
        except BaseException:
            room.close()
            raise

    async def _resolve(self) -> list[Any]:
        """The host's addresses, as `socket.getaddrinfo` has them.

        It may hang where the network does. Who leaves meanwhile has to wait for a thread of
        asyncio's, but not for a daemon.
        """
        found: Future[list[Any]] = Future()
        found.set_running_or_notify_cancel()

        def resolve() -> None:
            try:
                found.set_result(socket.getaddrinfo(self.host, self.port, type=socket.SOCK_STREAM))
            except (OSError, UnicodeError) as error:
                found.set_exception(error)

        threading.Thread(target=resolve, daemon=True).start()
        return await asyncio.wrap_future(found)


def reason(error: Exception) -> str:
    """Why, in words."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError):
        if error.reason in NO_TLS:
            return "it does not speak TLS"
        return f"TLS failed: {(error.reason or 'cut off').lower().replace('_', ' ')}"
    if isinstance(error, UnicodeError):
        return "no host has such a name"
    if isinstance(error, TimeoutError) and not error.errno:  # Ours; the system's own has a number.
        return f"no answer for {CONNECT_TIMEOUT:g} s"
    if isinstance(error, OSError) and not isinstance(error, socket.gaierror) and error.errno:
        return os.strerror(error.errno)  # What asyncio says instead is for programmers.
    return getattr(error, "strerror", None) or str(error) or "no answer"
