"""The kernel's byte counts of a TCP connection (Linux), for any process that holds the socket.

A killed worker can't report how much it has written to a socket and read from it. The kernel's
counts are exact.
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

# TCP_INQ of linux/tcp.h (since Linux 4.18), which the socket module lacks. With this option,
# recvmsg reports the number of unread bytes, in which a received FIN counts as one.
_TCP_INQ = 36


class Counts(NamedTuple):
    """Bytes since the connection was accepted."""

    taken: int
    """Bytes that the kernel has accepted from us, sent or not."""
    read: int
    """Bytes that we have read."""


class Traffic(NamedTuple):
    """Bytes since the connection was accepted, over all processes that hold it."""

    received: int
    """Bytes received, read or not; a FIN counts as one."""
    taken: int
    """Bytes that the kernel has accepted from us, sent or not."""


def counts(connection: socket.socket) -> Counts | None:
    """Return the numbers of bytes taken and read so far; None if the kernel does not count.

    No other process may read from or write to the connection during the call. The call may consume
    a pending reset; the next read then reports an ordinary end.
    """
    found = traffic(connection)
    while found is not None:
        received, taken = found
        unread = _unread(connection)
        fin = _fin_received(connection, unread)
        found = traffic(connection)
        if found is not None and found.received == received:  # no bytes arrived meanwhile
            return Counts(taken, received - unread - fin)
    return None


def taken(connection: socket.socket) -> int | None:
    """Return the number of bytes taken so far; None if the kernel does not count."""
    found = traffic(connection)
    return None if found is None else found.taken


def _unread(connection: socket.socket) -> int:
    unread = array.array("i", [0])
    fcntl.ioctl(connection, termios.FIONREAD, unread)
    return unread[0]


def _fin_received(connection: socket.socket, unread: int) -> bool:
    """Return whether the peer's FIN has arrived: the kernel counts it as a received byte.

    The state of the connection shows a FIN too, but not after a reset.
    """
    connection.setsockopt(socket.IPPROTO_TCP, _TCP_INQ, 1)
    try:
        _, [(_, _, left)], _, _ = connection.recvmsg(
            1, socket.CMSG_SPACE(4), socket.MSG_PEEK | socket.MSG_DONTWAIT
        )
    except OSError:  # nothing has arrived, or the connection was reset
        return False
    return int.from_bytes(left, sys.byteorder) > unread


def traffic(connection: socket.socket) -> Traffic | None:
    """Return the numbers of bytes received and taken so far; None if the kernel does not count."""
    if not hasattr(socket, "TCP_INFO"):
        return None
    try:
        data = connection.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, _INFO.size)
    except OSError:
        return None  # not TCP
    if len(data) < _INFO.size:
        return None  # a kernel before 4.19
    received, not_sent, sent, retransmitted = _INFO.unpack(data)
    return Traffic(received, sent - retransmitted + not_sent)
