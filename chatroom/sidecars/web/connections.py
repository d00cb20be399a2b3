"""The connections of the gateway's clients, which share its memory and its descriptors.

    members   Each has two descriptors: for its own connection, and for its connection to the room.
              Limit: `capacity`.
    others    Connections that send a TLS handshake, a request or a first frame, or were refused.
              They cost their owners little. Limit: MAX_OTHERS.
    closing   Connections of former members, which receive the room's last lines. Limit: the
              descriptors of the members that could still join.

If there are too many connections of one of the last two kinds, the oldest of this kind is cut.
"""

import asyncio
from asyncio import sslproto
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, cast

from chatroom.sidecars.web.process import MAX_OTHERS

READ_SIZE = 16 * 1024
"""Maximum number of bytes to read from a client at once: a whole record of TLS. The default of
asyncio is 256 KiB, which each flooding client and each TLS connection would occupy."""

cast(Any, sslproto.SSLProtocol).max_size = READ_SIZE

Cut = Callable[[], object]
"""A function that cuts a connection."""


class Connections:
    """The number of members, and the connections that are not members."""

    def __init__(self, capacity: int) -> None:
        """`capacity`: maximum number of members."""
        self._capacity = capacity
        self._members = 0
        """Number of members, and of places that are reserved for members."""
        self._others: dict[object, Cut] = {}
        """Connections that are not members yet, or were refused. The oldest is first."""
        self._closing: dict[object, Cut] = {}
        """Connections of former members. The oldest is first."""

    # --- members -------------------------------------------------------------

    @property
    def full(self) -> bool:
        """True if there is no place for another member."""
        return self._members >= self._capacity

    def add_member(self) -> None:
        """Note that there is one member more, even beyond the limit."""
        self._members += 1
        self._limit_closing()

    def remove_member(self) -> None:
        """Note that there is one member less."""
        self._members -= 1

    @contextmanager
    def reserve(self) -> Iterator[None]:
        """Reserve the place of a member, for example while the room is asked."""
        self.add_member()
        try:
            yield
        finally:
            self.remove_member()

    # --- connections that are not members ------------------------------------

    def add_other(self, connection: object, cut: Cut) -> None:
        """Add a connection that is not a member yet, or that was refused."""
        self.discard(connection)
        self._others[connection] = cut
        if len(self._others) > MAX_OTHERS:
            _cut_oldest(self._others)

    def add_closing(self, connection: object, cut: Cut) -> None:
        """Add the connection of a former member, which has been removed before."""
        self.discard(connection)
        self._closing[connection] = cut
        self._limit_closing()

    def discard(self, connection: object) -> None:
        """Remove a connection that is a member now, or was lost. Idempotent."""
        self._others.pop(connection, None)
        self._closing.pop(connection, None)

    def _limit_closing(self) -> None:
        while self._closing and len(self._closing) > 2 * (self._capacity - self._members):
            _cut_oldest(self._closing)

    def count_handshakes(self, protocol: Callable[..., Any]) -> Callable[..., Any]:
        """Return a factory of protocols for asyncio; it adds each TLS handshake to the others.

        asyncio calls the factory in a task that accepts the connection, and ends with the
        handshake.
        """

        def make(*arguments: Any, **options: Any) -> Any:
            task = asyncio.current_task()
            if task is not None:
                self.add_other(task, task.cancel)
                task.add_done_callback(self.discard)
            return protocol(*arguments, **options)

        return make


def _cut_oldest(connections: dict[object, Cut]) -> None:
    connections.pop(next(iter(connections)))()
