"""The header of HAProxy's PROXY protocol, versions 1 and 2: the client's address behind a proxy.

The proxy sends the header before any other byte. A reader peeks at up to LONGEST bytes, calls
`parse`, and then reads exactly `Header.size` bytes. `parse` checks the fields only when the header
is complete. If the stream does not begin like a header, `parse` raises an error at once.

Invariant: once `parse` has returned a header or raised an error, more bytes do not change the
result.

The quotations are from the specification, HAProxy's doc/proxy-protocol.txt.
"""

import re
import struct
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import NamedTuple

from chatroom.protocol.address import canonical
from chatroom.protocol.framing import CRLF

LONGEST = 536
"""Size in bytes of the longest header that is accepted.

The length field of version 2 allows 65551. But "both formats are designed to fit
in the smallest TCP segment that any TCP/IP host is required to support (576 - 40 =
536 bytes)", so a server need not buffer more.
"""
LONGEST_LINE = 107
"""Size in bytes of the longest header of version 1, including its CR LF."""

LINE_START = b"PROXY "
"""The first bytes of version 1."""
SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
"""The first bytes of version 2."""


class HeaderError(ValueError):
    """The stream does not begin with a valid header. The message is a single line."""


class Header(NamedTuple):
    """A complete header."""

    size: int
    """Size of the header in bytes."""
    address: str | None = None
    """Canonical address of the client. None if the proxy gives none: use the connection's own
    address."""
    port: int | None = None
    """Port of the client; None if `address` is None."""


def parse(data: bytes) -> Header | None:
    """Return the header at the beginning of `data`, or None while it is incomplete.

    Raises HeaderError if `data` can't begin a valid header.
    """
    if data.startswith(LINE_START):
        return _parse_line(data)
    if data.startswith(SIGNATURE):
        return _parse_block(data)
    if LINE_START.startswith(data) or SIGNATURE.startswith(data):
        return None
    raise HeaderError(f"no PROXY header begins with {data[:13]!r}")


# --- version 1: a line ---------------------------------------------------------------------------

_ADDRESS = re.compile(rb"[0-9A-Fa-f.:]+")  # no scope, which ipaddress would accept
_PORT = re.compile(rb"0|[1-9][0-9]*")

_Family = type[IPv4Address] | type[IPv6Address]
_FAMILIES: dict[bytes, _Family] = {b"TCP4": IPv4Address, b"TCP6": IPv6Address}


def _parse_line(data: bytes) -> Header | None:
    end = data.find(CRLF, 0, LONGEST_LINE)
    if end < 0:
        if b"\n" in data and not data.startswith(b"UNKNOWN", len(LINE_START)):
            raise HeaderError("version 1: the line must end with CR LF")
        if len(data) >= LONGEST_LINE:
            raise HeaderError(f"version 1: no CR LF in the first {LONGEST_LINE} bytes")
        return None
    size = end + len(CRLF)
    protocol, *fields = data[len(LINE_START) : end].split(b" ")
    if protocol == b"UNKNOWN":
        return Header(size)  # "The receiver must ignore anything presented before the CRLF".
    if protocol not in _FAMILIES:
        raise HeaderError(f"version 1: {protocol!r} is not a protocol")
    if len(fields) != 4:
        raise HeaderError("version 1: two addresses and two ports must follow, with single spaces")
    address, _ = (_read_address(_FAMILIES[protocol], field) for field in fields[:2])
    port, _ = (_read_port(field) for field in fields[2:])
    return Header(size, address, port)


def _read_address(family: _Family, field: bytes) -> str:
    if _ADDRESS.fullmatch(field):
        try:
            return canonical(str(family(field.decode())))
        except ValueError:
            pass
    name = family.__name__.removesuffix("Address")
    raise HeaderError(f"version 1: {field!r} is not an {name} address")


def _read_port(field: bytes) -> int:
    if _PORT.fullmatch(field) and int(field) <= 0xFFFF:
        return int(field)
    raise HeaderError(f"version 1: {field!r} is not a port")


# --- version 2: binary ---------------------------------------------------------------------------

_FIXED = struct.Struct("!12sBBH")
"""Signature; version and command; family and transport; length of the rest in bytes."""

_LOCAL, _PROXY = 0x20, 0x21  # version 2 and its two commands

_UNSPEC, _INET, _INET6, _UNIX = range(4)  # families; _UNSPEC is also a transport
_DGRAM = 2  # the transport with the highest number

_ADDRESSES = {
    _INET: struct.Struct("!4s4sHH"),
    _INET6: struct.Struct("!16s16sHH"),
    _UNIX: struct.Struct("!108s108s"),
}
"""For each family: source and destination, then the ports of both, except for _UNIX."""

_STREAM = 1  # the transport of TCP

_TLV = struct.Struct("!BH")
"""Type and length of a TLV; the value follows."""
_CRC32C = 3
"""Type of the TLV that holds the header's checksum."""
_CHECKSUM = struct.Struct("!I")


def _parse_block(data: bytes) -> Header | None:
    if len(data) < _FIXED.size:
        return None
    _, command, kind, length = _FIXED.unpack_from(data)
    size = _FIXED.size + length
    # The byte holds version and command. "The receiver must only accept" version 2, and "must drop
    # connections presenting unexpected values" of the command.
    if command not in (_LOCAL, _PROXY):
        raise HeaderError(f"version 2: unknown command {command:#04x}")
    if size > LONGEST:
        raise HeaderError(f"version 2: longer than {LONGEST} bytes")
    # "The receiver must not start to parse an address before the whole address block is received."
    if len(data) < size:
        return None
    if command == _LOCAL:
        # "The receiver must […] use the real connection endpoints and discard the protocol block
        # including the family which is ignored." So TLVs can be neither found nor checked.
        return Header(size)
    return _parse_addresses(data[:size], *divmod(kind, 0x10))


def _parse_addresses(header: bytes, family: int, transport: int) -> Header:
    if family > _UNIX:
        raise HeaderError(f"version 2: unknown family {family}")
    if transport > _DGRAM:
        raise HeaderError(f"version 2: unknown transport {transport}")
    if _UNSPEC in (family, transport):
        # "The receiver is free to accept the connection anyway and use the real endpoint addresses
        # […] [It] should ignore address information". The size of this information is not specified
        # either.
        return Header(len(header))
    addresses = _ADDRESSES[family]
    length = len(header) - _FIXED.size
    if length < addresses.size:
        raise HeaderError(f"version 2: {length} bytes are too few for the addresses")
    _check_tlvs(header, _FIXED.size + addresses.size)
    if family == _UNIX:
        return Header(len(header))
    source, _, port, _ = addresses.unpack_from(header, _FIXED.size)
    address = IPv4Address(source) if family == _INET else IPv6Address(source)
    return Header(len(header), canonical(str(address)), port)


def compose(address: str, port: int, to: str, to_port: int) -> bytes:
    """Return a header of version 2 for a TCP connection from `address` to `to` (numeric).

    If one of them is an IPv6 address, the other is mapped into IPv6.
    """
    ends = [ip_address(host.partition("%")[0]) for host in (address, to)]
    family = _INET
    if any(end.version == 6 for end in ends):
        family = _INET6
        ends = [
            IPv6Address(bytes(10) + b"\xff\xff" + end.packed) if end.version == 4 else end
            for end in ends
        ]
    block = _ADDRESSES[family].pack(*(end.packed for end in ends), port, to_port)
    return _FIXED.pack(SIGNATURE, _PROXY, family << 4 | _STREAM, len(block)) + block


def _check_tlvs(header: bytes, at: int) -> None:
    """Check that TLVs fill the header from `at` to its end; check the checksum if there is one.

    Raises HeaderError.

    "Replace the 32 bits of the checksum field in the received PROXY header with
    all '0's and calculate a CRC32c checksum value of the whole PROXY header."
    """
    checksum = None
    while at < len(header):
        if len(header) - at < _TLV.size:
            raise HeaderError("version 2: the last TLV is cut off")
        kind, length = _TLV.unpack_from(header, at)
        at += _TLV.size
        if kind == _CRC32C:
            if checksum is not None:
                raise HeaderError("version 2: two checksums")
            if length != _CHECKSUM.size:
                raise HeaderError("version 2: the checksum must have 4 bytes")
            checksum = at
        at += length
        if at > len(header):
            raise HeaderError("version 2: a TLV is longer than the header")
    if checksum is not None:
        (received,) = _CHECKSUM.unpack_from(header, checksum)
        if received != crc32c(header[:checksum] + bytes(4) + header[checksum + 4 :]):
            raise HeaderError("version 2: the checksum is wrong")


def _remainder(byte: int) -> int:
    for _ in range(8):
        byte = byte >> 1 ^ (0x82F63B78 if byte & 1 else 0)  # Castagnoli's polynomial, reflected
    return byte


_REMAINDERS = [_remainder(byte) for byte in range(0x100)]


def crc32c(data: bytes) -> int:
    """Return the CRC32c checksum of `data` (RFC 4960, Appendix B)."""
    crc = 0xFFFFFFFF
    for byte in data:
        crc = crc >> 8 ^ _REMAINDERS[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF
