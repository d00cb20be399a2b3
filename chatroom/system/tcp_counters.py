"""The kernel's counts of a connection's bytes, for every process that holds it (Linux, TCP).

A worker that was killed has told nobody how much it had written to a socket
and read from it. The kernel knows, to the byte.
"""

import array
import fcntl
import socket
import struct
import sys
import termios
from typing import NamedTuple

# From struct tcp_info: bytes_received, notsent_bytes, bytes_sent, bytes_retrans.
_INFO = struct.Struct("=128xQ8xI52xQQ")

# From linux/tcp.h, 4.18; the socket module doesn't have it. With it, a message that is received
# tells how many bytes are left to be read, and a FIN that has come is one of them.
_TCP_INQ = 36


class Counts(NamedTuple):
    """Bytes since the connection was accepted."""

    taken: int
    """Bytes that the kernel has taken from us, on their way or delivered."""
    read: int
    """Bytes that we have read."""


class Traffic(NamedTuple):
    """Bytes since the connection was accepted, whichever process reads them."""

    received: int
    """Bytes that have come, read or not; a FIN is one."""
    taken: int
    """Bytes that the kernel has taken from us, on their way or delivered."""


def counts(connection: socket.socket) -> Counts | None:
    """Return the bytes taken and read so far; None where the kernel does not count.

    No other process may read from the connection, or write to it, meanwhile. A reset
    that has not been reported yet may be reported as an ordinary end afterwards.
    """
    found = traffic(connection)
    while found is not None:
        received, taken = found
        unread = _unread(connection)
        fin = _fin_received(connection, unread)
        found = traffic(connection)
        if found is not None and found.received == received:  # else more came in between
            return Counts(taken, received - unread - fin)
    return None


def taken(connection: socket.socket) -> int | None:
    """Return the bytes taken so far, as `counts` does; other processes may read meanwhile."""
    found = traffic(connection)
    return None if found is None else found.taken


def _unread(connection: socket.socket) -> int:
    unread = array.array("i", [0])
    fcntl.ioctl(connection, termios.FIONREAD, unread)
    return unread[0]


def _fin_received(connection: socket.socket, unread: int) -> bool:
    """Tell whether the peer's FIN, which counts as a byte received, has come, read or not.

    The connection's state tells that too, but not after a reset.
    """
    connection.setsockopt(socket.IPPROTO_TCP, _TCP_INQ, 1)
    try:
        _, [(_, _, left)], _, _ = connection.recvmsg(
            1, socket.CMSG_SPACE(4), socket.MSG_PEEK | socket.MSG_DONTWAIT
        )
    except OSError:  # nothing has come, or a reset
        return False
    return int.from_bytes(left, sys.byteorder) > unread


def traffic(connection: socket.socket) -> Traffic | None:
    """Return the bytes that have come and gone so far; None where the kernel does not count."""
    if not hasattr(socket, "TCP_INFO"):
        return None
    try:
        data = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    except OSError:
        return None  # no TCP
    if len(data) < _INFO.size:
        return None  # a kernel before 4.19
    received, notsent, sent, again = _INFO.unpack(data)
    return Traffic(received, sent - again + notsent)
