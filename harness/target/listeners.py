"""Find the sockets that listen or are connected, by inode, and the inodes of a process's sockets.

Goals:

- A check is cheap: a starting server is polled every 10 milliseconds, and a run starts many
  servers.
- A check is harmless: it makes no test connection, which could disturb a server.

Linux answers by netlink (sock_diag(7)) in 50 µs. Without netlink, as in some sandboxes, /proc/net
is read. This takes milliseconds, because the kernel lists all connections, including those closed
within the last minute. On other systems, the sockets are unknown.
"""

from __future__ import annotations

import contextlib
import os
import re
import socket
import struct
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import NamedTuple

_FAMILIES = (socket.AF_INET, socket.AF_INET6)
_TABLES = (Path("/proc/net/tcp"), Path("/proc/net/tcp6"))

# linux/netlink.h, linux/sock_diag.h, linux/inet_diag.h
_SOCK_DIAG = 4
_SOCK_DIAG_BY_FAMILY = 20
_REQUEST_DUMP = 0x301
_ERROR, _DONE = 2, 3
_HEADER = struct.Struct("=IHHII")
"""Header of each message: length, type, flags, sequence number, port."""
_REQUEST = struct.Struct("=BBBBI48x")
"""Request: family, protocol, two unused bytes, states, and zeros, which match any socket."""
_ANSWER = struct.Struct("=4x2s2s60xI")
"""Answer: the port and the peer's port, in network byte order, and the inode; other fields are
skipped."""
_ESTABLISHED = 1 << 1
_CONNECTED = 1 << 1 | 1 << 4 | 1 << 5 | 1 << 8
"""States of a connection of which at most one side is closed."""
_LISTEN = 1 << 10


class TcpSocket(NamedTuple):
    """A socket. peer: the other end's port; 0: it listens."""

    inode: int
    port: int
    peer: int


def listening(port: int) -> set[int] | None:
    """Return the inodes of the sockets that listen at a port; None if the system hides them."""
    found = _sockets(_LISTEN)
    return None if found is None else {each.inode for each in found if each.port == port}


def tcp_sockets() -> dict[int, TcpSocket] | None:
    """Return all sockets that listen or are connected, by inode; None if the system hides them."""
    found = _sockets(_LISTEN | _CONNECTED)
    return None if found is None else {each.inode: each for each in found}


def unaccepted(port: int) -> int:
    """Return the number of connections to a port that the server has not accepted; 0 if the system
    hides them."""
    # Such a connection belongs to no descriptor yet, so it has no inode.
    return sum(each.port == port and not each.inode for each in _sockets(_ESTABLISHED) or ())


def overflowed(port: int, clients: Iterable[int]) -> int:
    """Return how many connections to a port exist only at the client.

    The server's kernel has dropped them, because its queue of connections that wait for `accept`
    was full.

    `clients`: ports of the clients. Return 0 if the system hides the connections.
    """
    there = [*(_sockets(_CONNECTED) or ())]
    known = {each.peer for each in there if each.port == port}
    connected = {each.port for each in there if each.peer == port}
    return len(connected.intersection(clients) - known)


def _sockets(states: int) -> list[TcpSocket] | None:
    try:
        return [*_ask_kernel(states)]
    except (OSError, AttributeError):  # AttributeError: there is no AF_NETLINK
        return _read_tables(states)


def _ask_kernel(states: int) -> Iterator[TcpSocket]:
    """Yield each socket in one of the states. Raise OSError without netlink."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        for family in _FAMILIES:
            request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, states)
            size = _HEADER.size + len(request)
            kernel.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 0, 0) + request)
            yield from _answers(kernel)


def _answers(kernel: socket.socket) -> Iterator[TcpSocket]:
    while True:
        data = kernel.recv(1 << 16)
        begin = 0
        while begin < len(data):
            size, kind, *_ = _HEADER.unpack_from(data, begin)
            if kind == _DONE:
                return
            if kind == _ERROR:
                raise OSError("sock_diag was refused")
            port, peer, inode = _ANSWER.unpack_from(data, begin + _HEADER.size)
            yield TcpSocket(inode, int.from_bytes(port, "big"), int.from_bytes(peer, "big"))
            begin += (size + 3) & ~3


def _read_tables(states: int) -> list[TcpSocket] | None:
    tables = [table.read_bytes() for table in _TABLES if table.exists()]
    line = re.compile(rb":([0-9A-F]{4}) [0-9A-F]+:([0-9A-F]{4}) ([0-9A-F]{2}) (?:\S+ +){5}(\d+)")
    found = [
        TcpSocket(int(inode), int(port, 16), int(peer, 16))
        for table in tables
        for port, peer, state, inode in line.findall(table)
        if states >> int(state, 16) & 1
    ]
    return found if tables else None


def sockets_of(process: int) -> set[int]:
    """Return the inodes of a process's open sockets; an empty set if the process has ended, or
    belongs to another user."""
    found = set()
    with contextlib.suppress(OSError):
        for entry in os.scandir(f"/proc/{process}/fd"):
            with contextlib.suppress(OSError):  # the descriptor was closed meanwhile
                if match := re.fullmatch(r"socket:\[(\d+)\]", os.readlink(entry.path)):
                    found.add(int(match[1]))
    return found
