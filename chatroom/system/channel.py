"""The channel between the main process and one worker: small records, and descriptors with them.

Each record is JSON with the descriptors that it brings along (SCM_RIGHTS). One
that does not fit into the socket now waits in order, and `send` never blocks:
neither the main process nor a worker is held up by the other.
"""

import array
import errno
import json
import socket
import sys
from collections import deque
from collections.abc import Iterator, Sequence
from typing import Any

Record = dict[str, Any]

MAX_RECORD = 32 * 1024
MAX_DESCRIPTORS = 253
"""Descriptors in one record, at most: the kernel takes no more."""

# SEQPACKET keeps the records apart and tells that the other end is gone. macOS
# has no such pair; there the worker's parent sentinel tells it.
KIND = socket.SOCK_DGRAM if sys.platform == "darwin" else socket.SOCK_SEQPACKET
_RIGHTS = socket.CMSG_SPACE(MAX_DESCRIPTORS * array.array("i").itemsize)


_REFUSED = (errno.ENOBUFS, errno.ENOMEM, errno.ETOOMANYREFS)
"""Errors of a system that has no room now. ETOOMANYREFS: as many descriptors of this user are on
their way as it may have open, and others have to take theirs first. ENOBUFS: macOS's datagrams fill
the socket."""
_GONE = (
    errno.EPIPE,
    errno.ECONNRESET,
    errno.ENOTCONN,
    errno.EBADF,
    errno.ECONNREFUSED,
    errno.EDESTADDRREQ,
)
"""Errors where the other end is closed, or ours; the last two are for datagrams."""


class ChannelClosed(Exception):
    """The process at the other end is gone. That is no failure: processes end."""


class Channel:
    """One end. `fileno` is readable when records wait; see `backlog` for when to wait to write."""

    def __init__(self, end: socket.socket) -> None:
        end.setblocking(False)
        self.socket = end
        self.refused = False
        """True if the system refused what waits, though the channel may be writable: `flush` it
        again in a while."""
        self._backlog: deque[tuple[bytes, Sequence[int]]] = deque()

    @classmethod
    def pair(cls) -> "tuple[Channel, Channel]":
        ends = socket.socketpair(socket.AF_UNIX, KIND)
        return cls(ends[0]), cls(ends[1])

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self._backlog.clear()
        self.refused = False
        self.socket.close()

    @property
    def backlog(self) -> int:
        """Records that wait for the channel to become writable, or are `refused`: call `flush`."""
        return len(self._backlog)

    def send(self, record: Record, descriptors: Sequence[int] = ()) -> None:
        """Send a record after those that wait; the descriptors must stay open until it is sent.

        Raises ChannelClosed.
        """
        self._backlog.append((json.dumps(record).encode(), descriptors))
        if len(self._backlog) == 1:
            self.flush()

    def flush(self) -> None:
        """Send what waits, as far as the channel takes it. Raises ChannelClosed."""
        self.refused = False
        while self._backlog:
            data, descriptors = self._backlog[0]
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
            self._backlog.popleft()

    def receive(self) -> Iterator[tuple[Record, list[int]]]:
        """Yield the records that wait, with their descriptors, which the caller has to close.

        Raises ChannelClosed after the last record.
        """
        reset = False
        while True:
            try:
                # Not socket.recv_fds: it drops the flags, and what it receives
                # would be inherited (cpython#107898).
                data, ancillary, flags, _ = self.socket.recvmsg(
                    MAX_RECORD, _RIGHTS, getattr(socket, "MSG_CMSG_CLOEXEC", 0)
                )
            except BlockingIOError:
                return
            except OSError as error:
                # A process that ends with records unread resets the channel. That is told
                # once, and before the last of its own records.
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
                raise RuntimeError(f"a record was truncated: {data[:80]!r}")
            yield json.loads(data), list(descriptors)
