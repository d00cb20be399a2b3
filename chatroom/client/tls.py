"""TLS for the plain form, by the standard library.

Not `ssl.SSLSocket`: its end ends both directions, and what arrives meanwhile is lost. Who pipes
something in closes its own side and hears the rest, and so it is here, as without TLS.
"""

import socket
import ssl
from contextlib import suppress
from typing import Self

from chatroom.client.streams import CHUNK

#: Seconds that a room has to make room for the end of what it was sent, a few bytes.
LAST_WORD = 10.0


def context(cafile: str | None, *, insecure: bool) -> ssl.SSLContext:
    """How to speak TLS. `cafile`: whom to trust instead of whom the system does. Raises OSError."""
    made = ssl.create_default_context(cafile=cafile)
    if insecure:
        made.check_hostname = False
        made.verify_mode = ssl.CERT_NONE
    return made


class Encrypted:
    """A connection that can be waited for, received from and sent to like one without TLS.

    Nothing is left undone that `select` would not know of: `recv` returns all that has come, and
    `send` says that something is sent when the socket has taken the whole of it.
    """

    def __init__(self, room: socket.socket, context: ssl.SSLContext, host: str) -> None:
        """`room` waits, or has a timeout, until this is done. Raises OSError."""
        self._room = room
        self._come, self._due = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._come, self._due, server_hostname=host)
        self._sending = bytearray()
        self._taken = 0
        self._shake_hands()

    def _shake_hands(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
            except ssl.SSLWantReadError:
                self._room.sendall(self._due.read())
                if not (data := self._room.recv(CHUNK)):
                    raise ConnectionError("closed by the server") from None
                self._come.write(data)
            except ssl.SSLError:
                with suppress(OSError):  # It may hear why.
                    self._room.sendall(self._due.read())
                raise
            else:
                self._room.sendall(self._due.read())
                return

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._room.close()

    def fileno(self) -> int:
        return self._room.fileno()

    def recv(self, size: int) -> bytes:
        """All that has come; nothing, at its end. Raises BlockingIOError, or another OSError."""
        come = self._room.recv(size)
        self._come.write(come)
        data = bytearray()
        with suppress(ssl.SSLWantReadError):
            with suppress(ssl.SSLZeroReturnError):
                while piece := self._tls.read(size):
                    data += piece
            # It has said that it is done, and might not close: the next call finds the end.
            with suppress(OSError):  # It has closed, or reset, already.
                self._room.shutdown(socket.SHUT_RD)
        if come and not data:
            raise BlockingIOError
        return bytes(data)

    def send(self, data: bytes | bytearray) -> int:
        """Who was refused (BlockingIOError) comes again with the same data, or with more."""
        if not self._sending:
            self._taken = self._tls.write(data)
            self._sending += self._due.read()
        del self._sending[: self._room.send(self._sending)]
        if self._sending:
            raise BlockingIOError
        return self._taken

    def shutdown(self, _how: int) -> None:
        """Say that nothing more comes (close_notify), and go on to hear what does."""
        with suppress(ssl.SSLWantReadError):  # For the other's answer, which `recv` waits for.
            self._tls.unwrap()
        self._room.settimeout(LAST_WORD)
        try:
            self._room.sendall(self._due.read())
        finally:
            self._room.setblocking(False)
