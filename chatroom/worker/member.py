"""What a worker holds of one member: a socket, an unfinished line, a cursor."""

import contextlib
import socket
import struct

from chatroom.log.origin import Origin
from chatroom.log.ring import Span
from chatroom.protocol.framing import Framer

ABORT = struct.pack("ii", 1, 0)
"""SO_LINGER, for no seconds: the last close resets the connection."""


class Member:
    """A connection that is in the room (CAST-6: a connection, not an address)."""

    __slots__ = (
        "covered",
        "cursor",
        "entry",
        "framer",
        "id",
        "origin",
        "own",
        "prefix",
        "recv_into",
        "send",
        "sendmsg",
        "slot",
        "socket",
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
    ) -> None:
        self.id = id
        self.socket = connection
        self.slot = slot
        """Number of the slot where another worker finds what it needs to go on with it."""
        self.prefix = prefix.encode()
        self.origin = Origin(address, len(self.prefix)).pack()
        """What each of its entries in the log says of it."""
        self.framer = Framer(max_line, covered)
        self.covered = covered
        """Bytes of its input that the log's entries cover."""
        self.spent_until = 0.0
        """Time at which its rate makes up for all that was read from it: see allowance.py."""
        self.own: list[Span] = []
        """Spans that it must not receive (CAST-2), in order; those behind its cursor are dropped.
        """
        self.cursor = 0
        """Offset at which it goes on, while it is behind; a level member stands where its worker
        does."""
        self.entry = 0
        """A position not beyond its cursor, while it is behind."""
        self.recv_into = connection.recv_into
        self.send = connection.send
        self.sendmsg = connection.sendmsg

    def fileno(self) -> int:
        return self.socket.fileno()

    def owns(self, begin: int, end: int) -> None:
        """Note that what is appended from `begin` to `end` is its own."""
        if self.own and self.own[-1][1] == begin:
            begin, _ = self.own.pop()
        self.own.append((begin, end))

    def has_unread(self) -> bool:
        """Return whether some of its input has come that was not read."""
        try:
            return bool(self.socket.recv(1, socket.MSG_PEEK))
        except OSError:  # no more than that, for now or for ever
            return False

    def close(self, *, abort: bool = False) -> None:
        """End the connection, which the main process holds as well: close alone sends no FIN.

        `abort`: drop what the kernel has yet to send. A peer that does not
        read would make it keep that for minutes.
        """
        with contextlib.suppress(OSError):  # the peer may have reset it
            if abort:
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABORT)
            self.socket.shutdown(socket.SHUT_RDWR)
        self.socket.close()
