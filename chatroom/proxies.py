"""Who comes by way of a proxy that says, in a PROXY header, who that is.

Only trusted addresses are believed, and of them a header is demanded: nothing
is guessed. The header is taken out of the stream before a member is made of the
connection, so the room's welcome waits for it; the worker is told how many
bytes that were, for the kernel counts them too (LOAD-4).
"""

import contextlib
import logging
import selectors
import socket
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from time import monotonic

from chatroom.logs import Event
from chatroom.networks import Network, within
from chatroom.protocol.proxy_header import LONGEST, Header, HeaderError, parse

HEADER_WITHIN = 5.0
"""Seconds for a header to come; its specification wants at least 3, for a packet may be lost."""
LOCAL_STAYS = 0.2
"""Seconds after which who came for itself is admitted, unless it speaks: a proxy that looks whether
the room is there has gone by then."""
MAX_COMERS = 256
"""Headers that are waited for at once; of more, the one that has let us wait longest goes."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Comer:
    address: str
    port: int
    due: float
    taken: bytes = b""
    """Of its header."""
    header: Header | None = None
    """The whole of it, of one that came for itself."""


class Proxies:
    """Connections whose headers are yet to come. All is called from the main process's loop.

    `admit(connection, address, port, begun)`: for whom it is, and how many bytes its
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
        self._comers: dict[socket.socket, _Comer] = {}
        """The one that has waited longest first."""
        self._held = False

    def trust(self, address: str) -> bool:
        return within(address, self._trusted)

    def expect(self, connection: socket.socket, address: str, port: int) -> None:
        """A header from a trusted address, whose own these are."""
        if len(self._comers) >= MAX_COMERS:
            self._refuse(next(iter(self._comers)), "no header came, and others wait")
        self._comers[connection] = _Comer(address, port, monotonic() + HEADER_WITHIN)
        look = partial(self._look, connection)
        self._selector.register(connection, selectors.EVENT_READ, look)
        look()  # it is mostly there already

    def hold(self) -> None:
        """Admit nobody until `go_on`."""
        if not self._held:
            self._held = True
            for connection in self._comers:
                self._selector.unregister(connection)

    def go_on(self) -> None:
        if self._held:
            self._held = False
            for connection, comer in list(self._comers.items()):
                del self._comers[connection]
                comer.due = monotonic() + HEADER_WITHIN  # it was we who let it wait
                self._comers[connection] = comer
                self._selector.register(
                    connection, selectors.EVENT_READ, partial(self._look, connection)
                )

    def tick(self) -> float | None:
        """Do what is due; return the seconds until something is due again, None for never."""
        if self._held:
            return None
        now = monotonic()
        for connection, comer in list(self._comers.items()):
            if comer.due > now:
                continue
            if comer.header is None:
                self._refuse(connection, f"no header came in {HEADER_WITHIN:g} s")
            else:
                self._admit_as(comer.header, connection, comer)
        due = min((comer.due for comer in self._comers.values()), default=None)
        return None if due is None else max(0.0, due - now)

    def close(self) -> None:
        for connection in list(self._comers):
            self._forget(connection)
            connection.close()

    def _look(self, connection: socket.socket) -> None:
        comer = self._comers.get(connection)
        if comer is None or self._held:
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
            self._admit_as(comer.header, connection, comer)
            return
        try:
            header = parse(comer.taken + data)
        except HeaderError as error:
            self._refuse(connection, str(error))
            return
        # Not a byte beyond the header is taken; what does not make a whole one is all of it.
        size = len(data) if header is None else header.size - len(comer.taken)
        comer.taken += connection.recv(size)
        if header is None:
            return
        if header.address is None:
            comer.header, comer.due = header, monotonic() + LOCAL_STAYS
        else:
            self._admit_as(header, connection, comer)

    def _admit_as(self, header: Header, connection: socket.socket, comer: _Comer) -> None:
        self._forget(connection)
        address = comer.address if header.address is None else header.address
        port = comer.port if header.port is None else header.port
        self._admit(connection, address, port, header.size)

    def _refuse(self, connection: socket.socket, why: str) -> None:
        address = self._comers[connection].address
        logger.warning(Event("proxy-refused", why, address=address))
        self._forget(connection)
        connection.close()

    def _forget(self, connection: socket.socket) -> None:
        del self._comers[connection]
        with contextlib.suppress(KeyError):  # it is held
            self._selector.unregister(connection)
