"""What an entry of the log says of its sender besides the id: packed, as it is in shared memory.

It is packed once for each member, and copied for each entry. Whoever reads the log asks nobody
for it, so it does not matter whether the sender is still in the room.
"""

import struct
from functools import lru_cache
from ipaddress import ip_address
from typing import NamedTuple

ROOM = "room"
"""The address of the room itself."""

_PACKED = struct.Struct("16sII")
"""The address, or a name that stands for one; the IP version, 0 for a name; the prefix's size."""

ORIGIN_SIZE = _PACKED.size
"""Bytes of a packed origin: whole words."""


class Origin(NamedTuple):
    """Where messages come from, and how their text begins."""

    address: str
    """A canonical IP address, ROOM, or the UNIX of system/networks.py."""
    prefix_size: int
    """Bytes that stand before each of its messages."""

    def pack(self) -> bytes:
        try:
            ip = ip_address(self.address)
        except ValueError:
            return _PACKED.pack(self.address.encode(), 0, self.prefix_size)
        return _PACKED.pack(ip.packed, ip.version, self.prefix_size)

    @staticmethod
    @lru_cache(maxsize=1024)
    def unpack(packed: bytes) -> "Origin":
        address, version, prefix_size = _PACKED.unpack(packed)
        if version == 0:
            return Origin(address.rstrip(b"\0").decode(), prefix_size)
        return Origin(str(ip_address(address[: 4 if version == 4 else 16])), prefix_size)
