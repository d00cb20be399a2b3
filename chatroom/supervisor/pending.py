"""Who comes by way of a proxy that says, in a PROXY header, who that is.

Only trusted addresses are believed, and of them a header is demanded: nothing
is guessed. The header is taken out of the stream before a member is made of the
connection, so the room's welcome waits for it; the worker is told how many
bytes that were, for the kernel counts them too (LOAD-4).
"""

import logging
import selectors
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

from chatroom.logs import Event
from chatroom.protocol.proxy_header import LONGEST, Header, HeaderError, parse
from chatroom.system.networks import Network, within

HEADER_WITHIN = 5.0
"""Seconds for a header to come; its specification wants at least 3, for a packet may be lost."""
LOCAL_STAYS = 0.2
"""Seconds after which who came for itself is admitted, unless it speaks: a proxy that looks whether
the room is there has gone by then."""
MAX_PENDING = 256
"""Headers that are waited for at once; of more, the one that has let us wait longest goes."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class PendingConnection:
    address: str
    port: int
    due: float | None
    """When its time is over; None: its header has come, and it is admitted when that can be."""
    taken: bytes = b""
    """Of its header."""
    header: Header | None = None
    """The whole of it."""


class PendingConnections:
    """Connections whose headers are yet to come. All is called from the main process's loop.

    `admit(connection, address, port, header_bytes)`: for whom it is, and how many bytes its
    header had. `selector` is the loop's.
    """

    def __init__(
        self,
        trusted: Sequence[Network],
        selector: selectors.BaseSelector,
        admit: Callable[[socket.socket, str, int, int], None],
    ) -> None:
        self._trusted = trusted
        self._selector = selector
        self._admit = admit
        self._pending: dict[socket.socket, PendingConnection] = {}
        """The one that has waited longest first."""
        self._held = False

    def trust(self, address: str) -> bool:
        return within(address, self._trusted)

    def expect(self, connection: socket.socket, address: str, port: int) -> None:
        """A header from a trusted address, whose own these are."""
        if len(self._pending) >= MAX_PENDING:
            self._refuse(next(iter(self._pending)), "others wait, and it came first")
        self._pending[connection] = PendingConnection(address, port, monotonic() + HEADER_WITHIN)
        look = partial(self._look, connection)
        self._selector.register(connection, selectors.EVENT_READ, look)
        look()  # it is mostly there already

    def hold(self) -> None:
        """Admit nobody until `go_on`; headers are heard, and waited for, as ever."""
        self._held = True

    def go_on(self) -> None:
        self._held = False
        ready = [(each, comer) for each, comer in self._pending.items() if comer.due is None]
        for connection, comer in ready:
            self._admit_as(connection, comer)

    def tick(self) -> float | None:
        """Do what is due; return the seconds until something is due again, None for never."""
        now = monotonic()
        for connection, comer in list(self._pending.items()):
            if comer.due is None or comer.due > now:
                continue
            if comer.header is None:
                self._refuse(connection, f"no header came in {HEADER_WITHIN:g} s")
            else:
                self._admit_as(connection, comer)
        times = [comer.due for comer in self._pending.values() if comer.due is not None]
        return max(0.0, min(times) - now) if times else None

    def close(self) -> None:
        for connection in list(self._pending):
            self._forget(connection)
            connection.close()

    def _look(self, connection: socket.socket) -> None:
        comer = self._pending.get(connection)
        if comer is None or comer.due is None:
            return  # since it was seen that something has come
        try:
            data = connection.recv(LONGEST - len(comer.taken), socket.MSG_PEEK)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if not data:  # to see whether somebody listens is enough for a proxy
            self._forget(connection)
            connection.close()
            return
        if comer.header is not None:
            self._admit_as(connection, comer)
            return
        try:
            header = parse(comer.taken + data)
        except HeaderError as error:
            self._refuse(connection, str(error))
            return
        # Not a byte beyond the header is taken; what does not make a whole one is all of it.
        size = len(data) if header is None else header.size - len(comer.taken)
        comer.taken += connection.recv(size)
        comer.header = header
        if header is not None and header.address is not None:
            self._admit_as(connection, comer)
        elif header is not None:
            comer.due = monotonic() + LOCAL_STAYS

    def _admit_as(self, connection: socket.socket, comer: PendingConnection) -> None:
        """Admit whom its header names, now or when that can be."""
        if self._held:
            if comer.due is not None:
                comer.due = None
                self._selector.unregister(connection)
            return
        self._forget(connection)
        assert comer.header is not None
        size, address, port = comer.header
        if address is None or port is None:
            address, port = comer.address, comer.port
        self._admit(connection, address, port, size)

    def _refuse(self, connection: socket.socket, why: str) -> None:
        address = self._pending[connection].address
        logger.warning(Event("proxy-refused", why, address=address))
        self._forget(connection)
        connection.close()

    def _forget(self, connection: socket.socket) -> None:
        if self._pending.pop(connection).due is not None:
            self._selector.unregister(connection)
