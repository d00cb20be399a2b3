"""The state of a member in its worker: socket, unfinished line, cursor."""

import contextlib
import socket
import struct

from chatroom.log.origin import Origin
from chatroom.log.ring import Span
from chatroom.protocol.framing import Framer

ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER of 0 seconds: the last close resets the connection."""


class Member:
    """A connection that is in the room (CAST-6: a connection, not an address)."""

    __slots__ = (
        "covered",
        "cursor",
        "ended",
        "entry",
        "framer",
        "id",
        "opening",
        "origin",
        "own",
        "prefix",
        "read_at",
        "recv_into",
        "send",
        "sendmsg",
        "slot",
        "socket",
        "source",
        "spent_until",
    )

    def __init__(
        self,
        id: int,
        address: str,
        prefix: str,
        connection: socket.socket,
        slot: int,
        max_line: int,
        covered: int = 0,
        source: int = 0,
        header_bytes: int = 0,
    ) -> None:
        self.id = id
        self.socket = connection
        self.slot = slot
        """Number of the member's slot: see log/slots.py."""
        self.source = source
        """Number of the source whose share of the room's rate the member uses
        (log/room_rate.py)."""
        self.prefix = prefix.encode()
        self.origin = Origin(address, len(self.prefix)).pack()
        """Packed origin of the member's entries in the log."""
        self.framer = Framer(max_line, covered)
        self.covered = covered
        """Number of bytes of the member's input that the log's entries cover."""
        self.opening: bytes | None = b"" if covered == header_bytes else None
        """First bytes of the member's input, while they may be the start of another protocol; None
        once the input is known to be text."""
        self.ended = False
        """True once the member's input counts as ended, because the main process has disconnected
        the member."""
        self.read_at = 0
        """Number of reads that the worker had made, of all members, at the last read from this
        member."""
        self.spent_until = 0.0
        """Time (s, monotonic) at which the member will have its full burst again: see
        allowance.py."""
        self.own: list[Span] = []
        """Spans that the member must not receive (CAST-2), in order. Spans before its cursor are
        dropped."""
        self.cursor = 0
        """Offset of the next byte to send, while the member is behind. A member that is caught
        up has the worker's offset."""
        self.entry = 0
        """Position of an entry at or before the cursor, while the member is behind."""
        self.recv_into = connection.recv_into
        self.send = connection.send
        self.sendmsg = connection.sendmsg

    def fileno(self) -> int:
        return self.socket.fileno()

    def owns(self, begin: int, end: int) -> None:
        """Note that the text from `begin` to `end` in the log is the member's own."""
        if self.own:
            last_begin, last_end = self.own[-1]
            if end <= last_end:  # noted before: by a takeover, or as the LF of an unfinished line
                return
            if begin <= last_end:
                self.own.pop()
                begin = last_begin
        self.own.append((begin, end))

    def has_unread(self) -> bool:
        """Return True if the socket holds input that was not read."""
        return bool(self.peek(1))

    def peek(self, most: int) -> bytes:
        """Return at most `most` bytes of input that the socket holds, without reading them."""
        try:
            return self.socket.recv(most, socket.MSG_PEEK)
        except OSError:  # no input yet, or the connection is broken
            return b""

    def close(self, closing_message: bytes = b"", *, abort: bool = False) -> None:
        """Send the closing message if the socket accepts it; then shut the socket down and close
        it.

        Closing alone would send no FIN: the main process holds a dup of the socket. `abort`: drop
        the bytes that are not sent yet. Without `abort`, the kernel would keep these bytes for
        minutes if the peer does not read.
        """
        with contextlib.suppress(OSError):  # the send buffer is full, or the connection was reset
            if closing_message:
                self.send(closing_message)
        with contextlib.suppress(OSError):
            if abort:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
