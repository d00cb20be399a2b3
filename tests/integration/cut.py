"""A forwarded port of 127.0.0.1 whose connections a test can cut.

A cut closes or resets neither end, as when a network cable is unplugged.
"""

import contextlib
import select
import socket
import threading
from collections.abc import Iterator

CHUNK = 1 << 16


class Cut:
    """A forwarded port: `port` leads to `target`."""

    def __init__(self, target: int) -> None:
        self._target = target
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._pairs: dict[socket.socket, socket.socket] = {}
        """For each socket, the socket to which its bytes are forwarded."""
        self._passes = True
        self._wake, self._woken = socket.socketpair()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def cut(self) -> None:
        """Stop forwarding and accept no new connections."""
        self._passes = False
        self._wake.send(b".")

    def restore(self) -> None:
        """Accept new connections again, and close the old ones."""
        self._passes = True
        self._wake.send(b"r")

    def close(self) -> None:
        self._wake.send(b"c")
        self._thread.join()

    def _run(self) -> None:
        while True:
            sources = [*self._pairs, self._listener] if self._passes else []
            ready = select.select([self._woken, *sources], [], [])[0]
            if self._woken in ready:
                orders = self._woken.recv(64)
                if b"r" in orders or b"c" in orders:
                    for end in self._pairs:
                        end.close()
                    self._pairs.clear()
                if b"c" in orders:
                    break
                continue
            for end in ready:
                if end is self._listener:
                    self._accept()
                elif end in self._pairs:
                    self._forward(end)
        for each in (self._listener, self._wake, self._woken):
            each.close()

    def _accept(self) -> None:
        near, _ = self._listener.accept()
        try:
            far = socket.create_connection(("127.0.0.1", self._target))
        except OSError:
            near.close()
            return
        self._pairs |= {near: far, far: near}

    def _forward(self, end: socket.socket) -> None:
        other = self._pairs[end]
        data = b""
        with contextlib.suppress(OSError):
            data = end.recv(CHUNK)
            other.sendall(data)
        if not data:
            for each in (end, other):
                del self._pairs[each]
                each.close()


@contextlib.contextmanager
def cuttable(target: int) -> Iterator[Cut]:
    """Yield a forwarded port of 127.0.0.1."""
    here = Cut(target)
    try:
        yield here
    finally:
        here.close()
