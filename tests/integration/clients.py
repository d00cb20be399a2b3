"""Clients of a room: sockets with which a test sends lines and checks the received bytes.

A check compares exact bytes, or waits for a token; its result never depends on how `recv` splits
the stream.
"""

import contextlib
import selectors
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping, Sequence
from types import TracebackType
from typing import Self

from tests.integration.waiting import PATIENCE

CHUNK = 1 << 16


class Client:
    """One connection to a room, from a local address that the test chooses."""

    def __init__(self, host: str, port: int, source: str, receive_buffer: int = 0) -> None:
        """Connect. `receive_buffer` is the size of the kernel's receive buffer in bytes; 0: the
        default."""
        self.address = source
        family = socket.AF_INET6 if ":" in source else socket.AF_INET
        self.socket = socket.socket(family)
        try:
            self.socket.settimeout(PATIENCE)
            self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if receive_buffer:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
            self.socket.bind((source, 0))
            self.socket.connect((host, port))
        except BaseException:
            self.socket.close()
            raise
        self.end: tuple[str, int] = self.socket.getsockname()[:2]
        """Local address and port."""
        self.prefix = f"<{source}>".encode()
        self.unread = bytearray()
        """Bytes that were received but not checked yet."""
        self.ended = ""
        """End of the connection: "closed" or "reset"; empty while it is open."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()

    def fileno(self) -> int:
        return self.socket.fileno()

    # --- sending --------------------------------------------------------------

    def send(self, text: str | bytes) -> None:
        """Send a text. A short text is one TCP segment."""
        self.socket.sendall(text.encode() if isinstance(text, str) else text)

    def send_urgently(self, text: bytes) -> None:
        self.socket.send(text, socket.MSG_OOB)

    def send_what_fits(self, text: bytes) -> int:
        """Send until the socket would block; return the number of bytes that were sent."""
        sent = 0
        self.socket.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while sent < len(text):
                sent += self.socket.send(text[sent : sent + CHUNK])
        self.socket.settimeout(PATIENCE)
        return sent

    def finish(self) -> None:
        """Shut down the sending side."""
        self.socket.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        self.socket.close()

    def reset(self) -> None:
        """Reset the connection (RST)."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    # --- receiving -------------------------------------------------------------

    def expect(self, expected: str | bytes) -> None:
        """Check that the next bytes are `expected`."""
        wanted = expected.encode() if isinstance(expected, str) else expected
        while len(self.unread) < len(wanted) and wanted.startswith(self.unread):
            if not self._more():
                break
        heard = self.take(len(wanted))
        assert heard == wanted, self._dispute(wanted, heard)

    def receive_until(self, token: str | bytes) -> bytes:
        """Return the next bytes, up to the end of the token."""
        wanted = token.encode() if isinstance(token, str) else token
        searched = 0
        while (found := self.unread.find(wanted, searched)) < 0:
            searched = max(0, len(self.unread) - len(wanted) + 1)
            assert self._more(), self._dispute(wanted, bytes(self.unread))
        return self.take(found + len(wanted))

    def receive_bytes(self, size: int) -> bytes:
        """Return exactly the next `size` bytes."""
        while len(self.unread) < size:
            assert self._more(), f"{self.address} received only {len(self.unread)} of {size} bytes"
        return self.take(size)

    def receive_rest(self) -> bytes:
        """Receive until the connection ends, and return all bytes. This sets `ended`."""
        while self._more():
            pass
        return self.take(len(self.unread))

    def expect_end(self) -> None:
        """Check that the connection ends before another byte arrives."""
        rest = self.receive_rest()
        assert not rest, f"{self.address} received {rest[:500]!r} before the end"

    def arrived(self) -> bytes:
        """Return all bytes that were received but not checked, and keep them in `unread`."""
        self.socket.setblocking(False)
        size = -1
        while size < len(self.unread):
            size = len(self.unread)
            self.receive()
        self.socket.settimeout(PATIENCE)
        return bytes(self.unread)

    def take(self, size: int) -> bytes:
        taken = bytes(self.unread[:size])
        del self.unread[:size]
        return taken

    def receive(self) -> bool:
        """Call recv once, and append the data to `unread`; return False if the connection has
        ended."""
        try:
            data = self.socket.recv(CHUNK)
        except BlockingIOError:
            return True
        except ConnectionError:
            self.ended = "reset"
            return False
        if not data:
            self.ended = "closed"
        self.unread += data
        return bool(data)

    def _more(self) -> bool:
        try:
            return self.receive()
        except TimeoutError:
            raise AssertionError(
                f"{self.address} received nothing more after {bytes(self.unread[-500:])!r}"
            ) from None

    def _dispute(self, wanted: bytes, heard: bytes) -> str:
        end = f" and then its connection was {self.ended}" if self.ended else ""
        return f"{self.address} expected {wanted[:500]!r}, but received {heard[:500]!r}{end}"


def talk(members: Sequence[Client]) -> None:
    """Let the members send a line in turn; check that all others receive this line and nothing
    else."""
    for number, member in enumerate(members):
        member.send(f"{number}\n")
        for other in members:
            if other is not member:
                other.expect(f"<{member.address}>{number}\n")


def grouped(said: Sequence[bytes], size: int) -> Iterator[bytes]:
    """Yield pieces, each of which has `size` lines; the last piece may have fewer."""
    for start in range(0, len(said), size):
        yield b"".join(said[start : start + size])


def exchange(
    pieces: Mapping[Client, Iterable[bytes]],
    sizes: Mapping[Client, int],
    ahead: int | None = None,
) -> None:
    """Let some clients send all their pieces at the same time, and let all clients receive.

    `sizes`: number of bytes that each client must receive; at the end, these bytes are in `unread`.
    `ahead`: maximum number of bytes that are on their way to a client that only receives. At this
    maximum, no client begins to send another piece. So such a client lags by at most `ahead` and
    one piece of each sender, however slow the machine is.
    """
    with _Exchange(pieces, sizes, ahead) as client:
        while not client.done():
            client.turn()


def receive_rests(clients: Iterable[Client]) -> None:
    """Receive from all clients until their connections end; the bytes stay in `unread`."""
    with selectors.DefaultSelector() as selector:
        for client in clients:
            client.socket.setblocking(False)
            selector.register(client, selectors.EVENT_READ)
        while selector.get_map():
            ready = selector.select(PATIENCE)
            assert ready, f"{len(selector.get_map())} connections do not end"
            for key, _ in ready:
                member = key.fileobj
                assert isinstance(member, Client)
                if not member.receive():
                    selector.unregister(member)


class _Exchange:
    """The state of one `exchange`."""

    def __init__(
        self,
        pieces: Mapping[Client, Iterable[bytes]],
        sizes: Mapping[Client, int],
        ahead: int | None,
    ) -> None:
        self._texts = {client: iter(texts) for client, texts in pieces.items()}
        self._sizes = sizes
        self._ahead = ahead
        self._all = {**sizes, **pieces}
        self._listeners = [client for client in sizes if client not in pieces]
        self._unsent: dict[Client, bytes] = {}
        """Rest of the piece that each client is sending."""
        self._expected = 0
        self._selector = selectors.DefaultSelector()

    def __enter__(self) -> "_Exchange":
        for client in self._all:
            client.socket.setblocking(False)
            self._selector.register(client, selectors.EVENT_READ)
        return self

    def __exit__(self, *_: object) -> None:
        self._selector.close()
        for client in self._all:
            client.socket.settimeout(PATIENCE)

    def done(self) -> bool:
        return (
            not self._texts
            and not self._unsent
            and all(len(client.unread) >= size for client, size in self._sizes.items())
        )

    def turn(self) -> None:
        """Send one piece from each client that can send, and then receive all that has arrived."""
        sent = [self._send_next(client) for client in list(self._texts)]
        ready = self._selector.select(0 if any(sent) else PATIENCE)
        assert ready or any(sent), "no client receives anything more: " + ", ".join(
            f"{client.address} received {len(client.unread)} of {size}"
            for client, size in [*self._sizes.items()][:20]
        )
        for key, events in ready:
            client = key.fileobj
            assert isinstance(client, Client)
            if events & selectors.EVENT_READ:
                assert client.receive(), f"{client.address}: its connection was {client.ended}"
            if events & selectors.EVENT_WRITE:
                self._send(client)

    def _send_next(self, client: Client) -> bool:
        """Start to send a client's next piece, if there is one; return False if the client must
        wait."""
        if client in self._unsent or self._too_far_ahead():
            return False
        piece = next(self._texts[client], None)
        if piece is None:
            del self._texts[client]
        else:
            self._expected += len(piece) + piece.count(b"\n") * len(client.prefix)
            self._unsent[client] = piece
            self._send(client)
        return True

    def _send(self, client: Client) -> None:
        with contextlib.suppress(BlockingIOError):
            self._unsent[client] = self._unsent[client][client.socket.send(self._unsent[client]) :]
        events = selectors.EVENT_READ
        if self._unsent[client]:
            events |= selectors.EVENT_WRITE
        else:
            del self._unsent[client]
        self._selector.modify(client, events)

    def _too_far_ahead(self) -> bool:
        if self._ahead is None or not self._listeners:
            return False
        return self._expected - min(len(client.unread) for client in self._listeners) >= self._ahead
