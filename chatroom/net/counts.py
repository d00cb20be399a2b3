"""What the kernel counts of a connection, for whoever holds it (Linux, TCP).

A worker that was killed has told nobody how much it had written to a socket
and read from it. The kernel knows, to the byte.
"""

import array
import fcntl
import socket
import struct
import termios
from typing import NamedTuple

# Of struct tcp_info: state, bytes_received, notsent_bytes, bytes_sent, bytes_retrans.
_INFO = struct.Struct("=B127xQ8xI52xQQ")

# States of a connection (include/net/tcp_states.h).
_CLOSED = 7
_PEER_HAS_FINISHED = (6, 8, 9, 11)  # TIME_WAIT, CLOSE_WAIT, LAST_ACK, CLOSING


class Counts(NamedTuple):
    """Bytes since the connection was accepted."""

    taken: int
    """That the kernel has taken from us, on their way or delivered."""
    read: int
    """That we have read."""


def counts(connection: socket.socket, read: int = 0) -> Counts | None:
    """What was taken and read so far; None where the kernel does not count.

    `read`: bytes that were read, as far as somebody has noted, 0 where nobody has: it
    decides where the kernel leaves two answers. Nobody else may read from the
    connection, or write to it, meanwhile.
    """
    found = _info(connection)
    while found is not None:
        state, received, taken = found
        unread = array.array("i", [0])
        fcntl.ioctl(connection, termios.FIONREAD, unread)
        found = _info(connection)
        if found is not None and found[:2] == (state, received):  # else more came in between
            gone = received - unread[0]
            if state == _CLOSED and read in (gone, gone - 1):
                return Counts(taken, read)
            return Counts(taken, gone - _finish(state))
    return None


def taken(connection: socket.socket) -> int | None:
    """As `counts`, but only what was taken, and who reads does not matter."""
    found = _info(connection)
    return None if found is None else found[2]


def _finish(state: int) -> int:
    """Whether the peer's FIN, which counts as a byte received, is among the bytes read.

    After a reset the kernel does not tell whether it had been there. Where nobody
    has noted it either, the last byte is given up: rather one too few than one that
    the peer has not sent.
    """
    return state in _PEER_HAS_FINISHED or state == _CLOSED


def _info(connection: socket.socket) -> tuple[int, int, int] | None:
    """State, bytes received with the FIN, bytes taken without it."""
    if not hasattr(socket, "TCP_INFO"):
        return None
    try:
        data = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    except OSError:
        return None  # no TCP
    if len(data) < _INFO.size:
        return None  # a kernel before 4.19
    state, received, notsent, sent, again = _INFO.unpack(data)
    return state, received, sent - again + notsent
