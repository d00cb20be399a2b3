"""The connections of the gateway's clients, which share its memory and its descriptors.

A member has two descriptors, so the number of members is limited. The other connections still send
a TLS handshake, a request or a first frame, or have not read the answer or the reason of a close.
They cost their owners little, so they are limited, too.
"""

import asyncio
from asyncio import sslproto
from collections.abc import Callable
from typing import Any, cast

from chatroom.sidecars.web.process import MAX_OTHERS

READ_SIZE = 16 * 1024
"""Maximum number of bytes to read from a client at once: a whole record of TLS. asyncio would read
256 KiB. A flooding client would occupy them, and each TLS connection always."""

cast(Any, sslproto.SSLProtocol).max_size = READ_SIZE


class Connections:
    """The number of members, and the connections that are no members."""

    def __init__(self, capacity: int) -> None:
        """`capacity`: maximum number of members."""
        self._capacity = capacity
        self.members = 0
        """Number of members, and of connections for which the room is asked."""
        self._others: dict[object, Callable[[], object]] = {}
        """For each connection that is no member, a function that cuts it. The oldest is first."""

    @property
    def full(self) -> bool:
        """True if there can't be another member."""
        return self.members >= self._capacity

    def add_other(self, connection: object, cut: Callable[[], object]) -> None:
        """Add a connection that is no member yet, or no longer. If there are too many (MAX_OTHERS),
        cut the oldest."""
        self._others.pop(connection, None)
        self._others[connection] = cut
        if len(self._others) > MAX_OTHERS:
            self._others.pop(next(iter(self._others)))()

    def discard_other(self, connection: object) -> None:
        """Remove a connection that is a member now, or has gone."""
        self._others.pop(connection, None)

    def counts_handshakes(self, protocol: Callable[..., Any]) -> Callable[..., Any]:
        """Return a factory of protocols for asyncio that counts the TLS handshakes.

        asyncio calls it in a task that accepts the connection and ends with the handshake.
        """

        def make(*arguments: Any, **options: Any) -> Any:
            task = asyncio.current_task()
            if task is not None:
                self.add_other(task, task.cancel)
                task.add_done_callback(self.discard_other)
            return protocol(*arguments, **options)

        return make
