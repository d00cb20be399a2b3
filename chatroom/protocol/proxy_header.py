"""Who is behind a proxy: the header of HAProxy's PROXY protocol, versions 1 and 2.

The proxy in front sends it before all else, so its reader need take nothing
that is not the header's: it peeks at LONGEST bytes, asks `parse`, and takes
`Header.size` of them.

Invariants: more bytes never change an answer, they only replace "not yet"; and
"not yet" is said only of what a valid header can begin with: whatever can't
become one is refused at its first wrong byte ("abort the connection as soon as
possible"). A wrong checksum alone shows when the header is whole.

The quotations are from the specification, HAProxy's doc/proxy-protocol.txt.
"""

import re
from collections.abc import Callable
from functools import partial
from ipaddress import IPv4Address, IPv6Address
from typing import NamedTuple

from chatroom.protocol.address import canonical
from chatroom.protocol.framing import CRLF

LONGEST = 536
"""Bytes of a header, at most.

Its length field could say 65551. But "both formats are designed to fit in the
smallest TCP segment that any TCP/IP host is required to support (576 - 40 = 536
bytes)", and nobody is to make the server keep more for it than that.
"""
LONGEST_LINE = 107
"""Bytes of a header of version 1, at most, with its CR LF."""


class HeaderError(ValueError):
    """What came is no header, and never will be one; says why, in one line."""


class Header(NamedTuple):
    """A whole header: the first `size` bytes of the stream, and what they say."""

    size: int
    address: str | None = None
    """The sender's, canonical. None: the proxy gives none, the connection's own counts."""
    port: int | None = None
    """None where `address` is."""


def parse(data: bytes) -> Header | None:
    """The header that `data`, the beginning of a stream, begins with; None: more is needed.

    Raises HeaderError where no header begins so.
    """
    for beginning, read in _BEGINNINGS.items():
        if data.startswith(beginning):
            return read(data)
        if beginning.startswith(data):
            return None
    raise HeaderError(f"no PROXY header begins with {data[:13]!r}")


# --- version 1: a line ---------------------------------------------------------------------------

_ADDRESS = re.compile(rb"[0-9A-Fa-f.:]+")  # without a scope, which ipaddress would take
_PORT = re.compile(rb"0|[1-9][0-9]*")


def _tcp(family: type[IPv4Address | IPv6Address], fields: bytes) -> tuple[str, int]:
    """The source's address and port, of all that follows "PROXY TCP4 " or "PROXY TCP6 "."""
    match fields.split(b" "):
        case [source, destination, source_port, destination_port]:
            address, _ = _address(family, source), _address(family, destination)
            port, _ = _port(source_port), _port(destination_port)
            return address, port
    raise HeaderError("version 1: not two addresses and two ports with one space between them")


def _address(family: type[IPv4Address | IPv6Address], field: bytes) -> str:
    if _ADDRESS.fullmatch(field):
        try:
            return canonical(str(family(field.decode())))
        except ValueError:
            pass
    raise HeaderError(
        f"version 1: {field!r} is no {family.__name__.removesuffix('Address')} address"
    )


def _port(field: bytes) -> int:
    if _PORT.fullmatch(field) and int(field) <= 0xFFFF:
        return int(field)
    raise HeaderError(f"version 1: {field!r} is no port")


def _unknown(fields: bytes) -> tuple[None, None]:
    """The receiver "must ignore anything presented before the CRLF", if the word ends there."""
    if fields and not fields.startswith(b" "):
        raise HeaderError("version 1: no space after UNKNOWN")
    return None, None


class _Line(NamedTuple):
    """Lines of one beginning, and all that has to be known to read one."""

    beginning: bytes
    fields: Callable[[bytes], tuple[str, int] | tuple[None, None]]
    """What the rest of the line says."""
    endings: list[bytes]
    """One of these makes a valid line of any part of one."""

    def parse(self, data: bytes) -> Header | None:
        header = self._whole(data)
        if header is None and not any(self._ends(data, ending) for ending in self.endings):
            raise HeaderError(f"version 1: no line of {LONGEST_LINE} bytes begins so")
        return header

    def _whole(self, data: bytes) -> Header | None:
        """The header, if its end is there."""
        start = len(self.beginning)
        end = data.find(CRLF, start, LONGEST_LINE)
        return None if end < 0 else Header(end + len(CRLF), *self.fields(data[start:end]))

    def _ends(self, data: bytes, ending: bytes) -> bool:
        """Whether `ending` makes a header of `data`."""
        try:
            return self._whole(data + ending) is not None
        except HeaderError:
            return False


def _ends_of(*texts: bytes) -> list[bytes]:
    return list(dict.fromkeys(text[at:] for text in texts for at in range(len(text))))


# Whatever part of a line has come, the shortest fields complete it; in IPv6 each address can go on
# in two ways. No fewer bytes complete it, so a line that would be too long is not waited for.
_LINES = [
    _Line(b"PROXY TCP4 ", partial(_tcp, IPv4Address), _ends_of(b"0.0.0.0 0.0.0.0 0 0\r\n")),
    _Line(
        b"PROXY TCP6 ",
        partial(_tcp, IPv6Address),
        _ends_of(b":: :: 0 0\r\n", b"0.0.0.0 :: 0 0\r\n", b"0.0.0.0 0 0\r\n"),
    ),
    _Line(b"PROXY UNKNOWN", _unknown, _ends_of(b"\r\n")),
]


# --- version 2: binary ---------------------------------------------------------------------------

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_FIXED = 16  # bytes: signature, version and command, family and transport, length of what follows

_UNSPEC, _INET, _INET6, _UNIX = range(4)  # families; as a transport, _UNSPEC too
_DGRAM = 2  # the last transport

_ADDRESSES = {_INET: 2 * 4 + 2 * 2, _INET6: 2 * 16 + 2 * 2, _UNIX: 2 * 108}  # bytes

_TLV = 3  # bytes before the value: type, length
_CRC32C = 3  # the type of that name


def _local(data: bytes) -> Header | None:
    """A header that says nothing of addresses, whatever it holds.

    LOCAL: "the receiver must […] use the real connection endpoints and discard
    the protocol block including the family which is ignored." So where TLVs
    would begin is unknown, and none is looked for.
    """
    size = _size(data)
    return None if len(data) < size else Header(size)


def _proxied(data: bytes) -> Header | None:
    if len(data) < 14:
        return None
    family, transport = divmod(data[13], 0x10)
    if family > _UNIX:
        raise HeaderError(f"version 2: there is no family {family}")
    if transport > _DGRAM:
        raise HeaderError(f"version 2: there is no transport {transport}")
    if _UNSPEC in (family, transport):
        # "The receiver is free to accept the connection anyway and use the real endpoint addresses
        # […] [It] should ignore address information", whose size is not specified either.
        return _local(data)
    size = _size(data)
    if len(data) < _FIXED:
        return None
    end = _FIXED + _ADDRESSES[family]
    if size < end:
        raise HeaderError(f"version 2: {size - _FIXED} bytes are too few for the addresses")
    checksum = _checksum(data, end, size)
    # "The receiver must not start to parse an address before the whole address block is received."
    if len(data) < size:
        return None
    if checksum is not None:
        _verify(data[:size], checksum)
    return Header(size, *_source(family, data))


def _size(data: bytes) -> int:
    """The size of the whole header, or the least that it can have while its length is not there."""
    size = _FIXED + _least(data[14:16])
    if size > LONGEST:
        raise HeaderError(f"version 2: longer than {LONGEST} bytes")
    return size


def _least(number: bytes) -> int:
    """The least that a 16-bit `number` can be of which perhaps not all has come."""
    return int.from_bytes(number.ljust(2, b"\0"), "big")


def _checksum(data: bytes, at: int, end: int) -> int | None:
    """Where the checksum of the header begins, if it has one; TLVs fill it from `at` to `end`.

    They are looked at as far as they have come.
    """
    checksum = None
    while at < end:
        if end - at < _TLV:
            raise HeaderError("version 2: the last TLV is cut off")
        if at >= len(data):
            break
        length = data[at + 1 : at + _TLV]
        if data[at] == _CRC32C:
            if checksum is not None:
                raise HeaderError("version 2: two checksums")
            if not b"\0\4".startswith(length):
                raise HeaderError("version 2: a checksum that is not of 4 bytes")
            checksum, length = at + _TLV, b"\0\4"
        if at + _TLV + _least(length) > end:
            raise HeaderError("version 2: a TLV is longer than the header")
        if len(length) < 2:
            break
        at += _TLV + _least(length)
    return checksum


def _verify(header: bytes, at: int) -> None:
    """Raise HeaderError unless the checksum `at` that place is that of `header`.

    "Replace the 32 bits of the checksum field in the received PROXY header with
    all '0's and calculate a CRC32c checksum value of the whole PROXY header."
    """
    received = int.from_bytes(header[at : at + 4], "big")
    if received != crc32c(header[:at] + bytes(4) + header[at + 4 :]):
        raise HeaderError("version 2: the checksum is not that of the header")


def _source(family: int, data: bytes) -> tuple[str, int] | tuple[None, None]:
    """The source's address and port, if the family has such; the ports are behind the addresses."""
    address: IPv4Address | IPv6Address
    if family == _INET:
        address, port = IPv4Address(data[16:20]), data[24:26]
    elif family == _INET6:
        address, port = IPv6Address(data[16:32]), data[48:50]
    else:
        return None, None
    return canonical(str(address)), int.from_bytes(port, "big")


def _remainder(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # Castagnoli's polynomial, reflected
    return byte


_REMAINDERS = [_remainder(byte) for byte in range(0x100)]


def crc32c(data: bytes) -> int:
    """The checksum of RFC 4960, Appendix B."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _REMAINDERS[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF


# --- what a header can begin with ----------------------------------------------------------------

# In version 2 the 13th byte is part of it: "the receiver must only accept" version 2, and "must
# drop connections presenting unexpected values" of the command.
_BEGINNINGS: dict[bytes, Callable[[bytes], Header | None]] = {
    **{line.beginning: line.parse for line in _LINES},
    SIGNATURE + b"\x20": _local,
    SIGNATURE + b"\x21": _proxied,
}
