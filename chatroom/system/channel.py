"""The channel between the main process and a child: small records, with descriptors.

A record is JSON, with descriptors attached (SCM_RIGHTS). `send` never blocks, so neither process
waits for the other: a record that does not fit into the socket waits in the backlog, in order.
"""

import array
import errno
import json
import os
import socket
import sys
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

Record = dict[str, Any]

PARENT = 0
"""Descriptor (standard input) of a spawned process that is readable once the main process has
ended."""

MAX_RECORD = 32 * 1024
"""Maximum size of a record (bytes)."""
MAX_DESCRIPTORS = 253
"""Maximum number of descriptors in one record: the kernel's limit."""

# SEQPACKET keeps the records separate and reports that the other end was closed. macOS has no
# SEQPACKET pairs; a worker on macOS learns from its sentinel that the main process has ended.
KIND = socket.SOCK_DGRAM if sys.platform == "darwin" else socket.SOCK_SEQPACKET
_RIGHTS = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)


_REFUSED = (errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS)
"""Temporary errors. ETOOMANYREFS: too many descriptors of this user are in flight (RLIMIT_NOFILE);
processes must receive some first. ENOBUFS: on macOS, the socket is full."""
_GONE = (
    errno.EPIPE,
    errno.ECONNRESET,
    errno.ENOTCONN,
    errno.EBADF,
    errno.ECONNREFUSED,
    errno.EDESTADDRREQ,
)
"""Errors that occur after one end was closed; the last two occur only with SOCK_DGRAM."""


class ChannelClosed(Exception):
    """The process at the other end has ended. This is not an error."""


def close_all(descriptors: Iterable[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)


class _Unsent(NamedTuple):
    data: bytes
    descriptors: Sequence[int]
    owned: bool
    """True if the channel closes the descriptors."""


class Channel:
    """One end of a channel. It is readable when there are records to receive. While its `backlog`
    is not empty, wait until it is writable, and call `flush`."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end
        self.refused = False
        """True after a temporary error. The channel may then be writable, but call `flush` only
        after a pause."""
        self._backlog: deque[_Unsent] = deque()

    @classmethod
    def pair(cls) -> "tuple[Channel, Channel]":
        """Return two connected ends."""
        ends = socket.socketpair(socket.AF_UNIX, KIND)
        return cls(ends[0]), cls(ends[1])

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        while self._backlog:
            self._pop()
        self.refused = False
        self.socket.close()

    @property
    def backlog(self) -> int:
        """Number of records that are not sent yet."""
        return len(self._backlog)

    def send(self, record: Record, descriptors: Sequence[int] = (), owned: bool = False) -> None:
        """Send a record after the backlog. Raises ChannelClosed.

        The descriptors must stay open until the record is sent. If `owned`, the channel closes them
        then, or in `close`.
        """
        self._backlog.append(_Unsent(json.dumps(record).encode(), descriptors, owned))
        if len(self._backlog) == 1:
            self.flush()

    def flush(self) -> None:
        """Send as much of the backlog as the socket accepts. Raises ChannelClosed."""
        self.refused = False
        while self._backlog:
            data, descriptors, _ = self._backlog[0]
            try:
                if descriptors:
                    socket.send_fds(self.socket, [data], list(descriptors))
                else:
                    self.socket.send(data)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno in _GONE:
                    raise ChannelClosed from error
                if error.errno not in _REFUSED:
                    raise
                self.refused = True
                return
            self._pop()

    def _pop(self) -> None:
        unsent = self._backlog.popleft()
        if unsent.owned:
            close_all(unsent.descriptors)

    def receive(self) -> Iterator[tuple[Record, list[int]]]:
        """Yield the waiting records, with their descriptors, which the caller must close.

        Raises ChannelClosed after the last record if the other end is closed.
        """
        reset = False
        while True:
            try:
                # Not socket.recv_fds: it ignores the flags, so its descriptors would be
                # inheritable (cpython#107898).
                data, ancillary, flags, _ = self.socket.recvmsg(
                    MAX_RECORD, _RIGHTS, getattr(socket, "MSG_CMSG_CLOEXEC", 0)
                )
            except BlockingIOError:
                return
            except OSError as error:
                # A process that ends before it has read all records resets the channel. This error
                # is reported once, before the records that the process has sent.
                if reset or not isinstance(error, ConnectionResetError):
                    raise ChannelClosed from error
                reset = True
                continue
            if not data:
                raise ChannelClosed
            descriptors = array.array("i")
            for _, _, rights in ancillary:
                descriptors.frombytes(rights[: len(rights) - len(rights) % descriptors.itemsize])
            if flags & (socket.MSG_CTRUNC | socket.MSG_TRUNC):
                close_all(descriptors)
                raise RuntimeError(f"a record was truncated: {data[:80]!r}")
            yield json.loads(data), list(descriptors)
