"""The origin of a message: its sender's address and prefix size, packed into each log entry.

An origin is packed once for each member and copied into each of its entries. So a reader of the log
finds the sender's address there, even after the sender has left.
"""

import struct
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

ROOM = "room"
"""Address that stands for the room itself."""

_PACKED = struct.Struct("16sII")
"""Address or name; IP version, or 0 for a name; size of the prefix in bytes."""

ORIGIN_SIZE = _PACKED.size
"""Size of a packed origin (bytes), a multiple of the word size."""


class Origin(NamedTuple):
    """Address of a sender, and the size of its prefix."""

    address: str
    """Canonical IP address, ROOM, or UNIX of system/networks.py."""
    prefix_size: int
    """Bytes of the prefix before each message."""

    def pack(self) -> bytes:
        try:
            ip = ip_address(self.address)
        except ValueError:
            return _PACKED.pack(self.address.encode(), 0, self.prefix_size)
        return _PACKED.pack(ip.packed, ip.version, self.prefix_size)

    @staticmethod
    @lru_cache(maxsize=1024)
    def unpack(packed: bytes) -> "Origin":
        """Raises ValueError if `pack` never returns these bytes."""
        address, version, prefix_size = _PACKED.unpack(packed)
        if version == 0:
            return Origin(address.rstrip(b"\0").decode("ascii"), prefix_size)
        if version not in (4, 6):
            raise ValueError(f"IP version {version}")
        return Origin(str(ip_address(address[: 4 if version == 4 else 16])), prefix_size)
