"""Sources, which share the room's rate (log/room_rate.py).

A source is an IPv4 address, an IPv6 network of 64 bits (its owner can use all of its addresses), or
all Unix sockets together.
"""

from collections import Counter
from ipaddress import IPv6Address, ip_address

SOURCE_BITS = 64
"""Leading bits of an IPv6 address that identify its source."""


class Sources:
    """The numbers of the sources, from 0 to `size` - 1. Only the main process assigns numbers.

    A source keeps its number while it has members, and as long as possible afterwards, so that a
    sender that reconnects does not get a new share. At most `size` sources may have members.
    """

    def __init__(self, size: int) -> None:
        self._size = size
        self._numbers: dict[str, int] = {}
        self._members: Counter[str] = Counter()
        self._idle: dict[str, None] = {}
        """Sources without members, the longest idle first."""

    def join(self, address: str) -> int:
        """Return the number of the source of a member that joins."""
        source = source_of(address)
        self._idle.pop(source, None)
        self._members[source] += 1
        if source not in self._numbers:
            number = len(self._numbers)
            if number == self._size:
                oldest = next(iter(self._idle))
                del self._idle[oldest]
                number = self._numbers.pop(oldest)
            self._numbers[source] = number
        return self._numbers[source]

    def leave(self, address: str) -> None:
        """Note that a member has left."""
        source = source_of(address)
        self._members[source] -= 1
        if not self._members[source]:
            del self._members[source]
            self._idle[source] = None


def source_of(address: str) -> str:
    """Return the source of an address: a canonical IP address, or UNIX of system/networks.py."""
    try:
        ip = ip_address(address)
    except ValueError:
        return address
    if isinstance(ip, IPv6Address):
        return str(IPv6Address(int(ip) >> SOURCE_BITS << SOURCE_BITS))
    return address
