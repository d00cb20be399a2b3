"""The address of a room, and how to connect to it."""

import asyncio
import socket
import ssl
import threading
from concurrent.futures import Future
from dataclasses import dataclass

from chatroom.client.connection import Connection, TlsConnection
from chatroom.system.error_text import error_text

#: Timeout in seconds for each of a host's addresses, and for a TLS handshake.
CONNECT_TIMEOUT = 10.0

UNCHECKED = "--insecure: the server is not verified; others may read and change all messages"

#: Reasons that OpenSSL gives, depending on its version, for an answer that is not TLS.
NO_TLS = ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")


@dataclass(frozen=True)
class RoomAddress:
    """A host and a port, and a TLS context if the connection uses TLS."""

    host: str
    port: int
    context: ssl.SSLContext | None = None

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"

    @property
    def name(self) -> str:
        """The address, and whether the connection uses TLS."""
        if self.context is None:
            return str(self)
        return f"{self} (TLS, unchecked)" if self.unchecked else f"{self} (TLS)"

    @property
    def unchecked(self) -> bool:
        """True if the server's certificate is not verified."""
        return self.context is not None and self.context.verify_mode == ssl.CERT_NONE

    async def connect(self) -> Connection:
        """Return a new connection. Raises OSError or UnicodeError: see `reason`."""
        room = await self._connect()
        try:
            if self.context is None:
                return Connection(room)
            encrypted = TlsConnection(room, self.context, self.host)
            async with asyncio.timeout(CONNECT_TIMEOUT):
                await encrypted.shake_hands()
        except BaseException:
            room.close()
            raise
        return encrypted

    async def _connect(self) -> socket.socket:
        """Return a socket connected to the first of the host's addresses that answers.

        Resolving a name may take long if the network does not respond, so a daemon thread does
        this. If one of asyncio's threads did it, asyncio would wait for the thread even after the
        user has left.
        """
        connected: Future[socket.socket] = Future()
        connected.set_running_or_notify_cancel()

        def connect() -> None:
            try:
                room = socket.create_connection((self.host, self.port), CONNECT_TIMEOUT)
                # Send each line at once, without waiting until the previous line is acknowledged.
                room.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                room.setblocking(False)
                connected.set_result(room)
            except (OSError, UnicodeError) as error:
                connected.set_exception(error)

        threading.Thread(target=connect, daemon=True).start()
        return await asyncio.wrap_future(connected)


def tls_context(cafile: str | None, *, insecure: bool) -> ssl.SSLContext:
    """Return a context that trusts the certificates in `cafile`; None: the system's certificates.

    `insecure`: do not verify the server. Raises OSError if `cafile` can't be used.
    """
    made = ssl.create_default_context(cafile=cafile)
    if insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


def reason(error: Exception) -> str:
    """Return a text for the user that says why there is no connection."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"its certificate is not accepted: {error.verify_message.rstrip('.')}"
    if isinstance(error, ssl.SSLError):
        if error.reason in NO_TLS:
            return "the server does not speak TLS"
        return f"TLS failed: {(error.reason or 'cut off').lower().replace('_', ' ')}"
    if isinstance(error, UnicodeError):
        return "invalid host name"
    if isinstance(error, TimeoutError) and not error.errno:  # Our own timeout: errno is not set.
        return f"no answer for {CONNECT_TIMEOUT:g} s"
    return error_text(error) or "no answer"
