"""Find the sockets that listen at a port, and a process's open sockets.

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
from collections.abc import Iterator
from pathlib import Path

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
_ANSWER = struct.Struct("=4x2s50xI8xI")
"""Answer: the port, in network byte order, the number of connections that have not been accepted,
and the inode; other fields are skipped."""
_LISTEN = 1 << 10


def listening(port: int) -> set[int] | None:
    """Return the inodes of the sockets that listen at a port; None if the system hides them."""
    found = _queues(port)
    return None if found is None else {*found}


def unaccepted(port: int) -> int:
    """Return the number of connections to a port that the server has not accepted; 0 if the system
    hides them."""
    return sum((_queues(port) or {}).values())


def _queues(port: int) -> dict[int, int] | None:
    """Return the sockets that listen at a port: the number of connections that wait to be accepted,
    by inode. Return None if the system hides the sockets."""
    try:
        return {inode: waiting for found, waiting, inode in _ask_kernel() if found == port}
    except (OSError, AttributeError):  # AttributeError: there is no AF_NETLINK
        return _read_tables(port)


def _ask_kernel() -> Iterator[tuple[int, int, int]]:
    """Yield port, waiting connections and inode of each listening socket. Raise OSError without
    netlink."""
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, _SOCK_DIAG) as kernel:
        for family in _FAMILIES:
            request = _REQUEST.pack(family, socket.IPPROTO_TCP, 0, 0, _LISTEN)
            size = _HEADER.size + len(request)
            kernel.send(_HEADER.pack(size, _SOCK_DIAG_BY_FAMILY, _REQUEST_DUMP, 0, 0) + request)
            yield from _answers(kernel)


def _answers(kernel: socket.socket) -> Iterator[tuple[int, int, int]]:
    while True:
        data = kernel.recv(1 << 16)
        while data:
            size, kind, *_ = _HEADER.unpack_from(data)
            if kind == _DONE:
                return
            if kind == _ERROR:
                raise OSError("sock_diag was refused")
            port, waiting, inode = _ANSWER.unpack_from(data, _HEADER.size)
            yield int.from_bytes(port, "big"), waiting, inode
            data = data[(size + 3) & ~3 :]


def _read_tables(port: int) -> dict[int, int] | None:
    tables = [table.read_bytes() for table in _TABLES if table.exists()]
    line = re.compile(rb":%04X [0-9A-F]+:0000 0A [0-9A-F]+:([0-9A-F]+) (?:\S+ +){4}(\d+)" % port)
    found = (pair for table in tables for pair in line.findall(table))
    return {int(inode): int(waiting, 16) for waiting, inode in found} if tables else None


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
