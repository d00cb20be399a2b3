"""Accept connections from a listener, with a pause when the system runs out of resources."""

import errno
import socket
from collections.abc import Callable
from typing import Any

from chatroom.system.event_loop import EventLoop

PAUSE = 0.2
"""Pause (s) when there is no descriptor or memory for another connection. The connection stays in
the kernel's queue; without the pause, the event loop would spin on it."""

EXHAUSTED = (errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM)


class Accepting:
    """Accepts connections from a non-blocking listener, from `open` to `close`.

    `on_connection(connection, peer)` is called for each connection, with the address that `accept`
    returns. `on_exhausted(error)` is called before each pause. `per_turn`: connections to accept in
    a row before the event loop turns to its other sources.
    """

    def __init__(
        self,
        loop: EventLoop,
        listener: socket.socket,
        on_connection: Callable[[socket.socket, Any], None],
        on_exhausted: Callable[[OSError], None] | None = None,
        per_turn: int = 1,
    ) -> None:
        self._loop = loop
        self._listener = listener
        self._on_connection = on_connection
        self._on_exhausted = on_exhausted
        self._per_turn = per_turn
        self._resume = loop.timer(self.open)

    def open(self) -> None:
        """Start accepting."""
        self._loop.watch(self._listener, self._accept)

    def close(self) -> None:
        """Stop accepting. The listener stays open. Idempotent."""
        self._resume.cancel()
        self._loop.forget(self._listener)

    def _accept(self) -> None:
        for _ in range(self._per_turn):
            try:
                connection, peer = self._listener.accept()
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno not in EXHAUSTED:
                    continue  # reset before it was accepted (JOIN-2)
                self.close()
                self._resume.set_after(PAUSE)
                if self._on_exhausted is not None:
                    self._on_exhausted(error)
                return
            self._on_connection(connection, peer)
