"""Tests of the PROXY header. Quotations are from HAProxy's doc/proxy-protocol.txt."""

import struct
from ipaddress import IPv4Address, IPv6Address
from typing import Literal

import pytest
from hypothesis import given
from hypothesis.strategies import (
    DrawFn,
    SearchStrategy,
    binary,
    booleans,
    builds,
    composite,
    integers,
    ip_addresses,
    just,
    lists,
    none,
    sampled_from,
)

from chatroom.protocol.address import canonical
from chatroom.protocol.proxy_header import (
    LINE_START,
    LONGEST,
    LONGEST_LINE,
    SIGNATURE,
    Header,
    HeaderError,
    compose,
    crc32c,
    parse,
)

Expected = tuple[str | None, int | None]
"""Address and port of a client, or None if the header has none."""

LOCAL, PROXY = b"\x20", b"\x21"
TCP4, UDP4, TCP6, UDP6, STREAM, DATAGRAM = b"\x11", b"\x12", b"\x21", b"\x22", b"\x31", b"\x32"
IPV4 = bytes([192, 0, 2, 7, 198, 51, 100, 1]) + struct.pack("!2H", 56324, 443)
IPV6 = IPv6Address("2001:db8::7").packed + bytes(15) + b"\1" + struct.pack("!2H", 56324, 443)
UNIX = b"/run/a".ljust(108, b"\0") + b"/run/b".ljust(108, b"\0")

CRC32C, NOOP = 3, 4
CHECKSUM_LATER = struct.pack("!BH4x", CRC32C, 4)


def tlv(kind: int, value: bytes) -> bytes:
    return struct.pack("!BH", kind, len(value)) + value


def block(command: bytes, family: bytes, rest: bytes) -> bytes:
    return SIGNATURE + command + family + struct.pack("!H", len(rest)) + rest


def bitwise(data: bytes) -> int:
    """Return the CRC32c of the data, computed bit by bit from its definition."""
    crc = 0xFFFFFFFF
    for bit in (byte >> at & 1 for byte in data for at in range(8)):
        crc = crc >> 1 ^ (0x82F63B78 if (crc ^ bit) & 1 else 0)
    return crc ^ 0xFFFFFFFF


def signed(command: bytes, family: bytes, before: bytes, after: bytes = b"") -> bytes:
    """Return a block whose checksum is between the bytes `before` and `after`."""
    checksum = bitwise(block(command, family, before + CHECKSUM_LATER + after))
    return block(command, family, before + struct.pack("!BHI", CRC32C, 4, checksum) + after)


def answer(data: bytes) -> Header | type[HeaderError] | None:
    try:
        return parse(data)
    except HeaderError:
        return HeaderError


def refused(data: bytes) -> str:
    """Check that `data` is refused with a reason of one line; return this reason."""
    with pytest.raises(HeaderError) as caught:
        parse(data)
    (line,) = str(caught.value).splitlines()
    assert line.isprintable()
    return line


# --- valid headers -------------------------------------------------------------------------------

IN_FULL = b"ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff"
SAYS = ("192.0.2.7", 56324)
SAYS_6 = ("2001:db8::7", 56324)
NOTHING = (None, None)

VALID = [
    # Version 1.
    pytest.param(b"PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n", SAYS, id="1: TCP4"),
    pytest.param(b"PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n", ("0.0.0.0", 0), id="1: zeros"),
    pytest.param(
        b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n",
        ("255.255.255.255", 65535),
        id="1: the longest TCP4",
    ),
    pytest.param(b"PROXY TCP6 2001:db8::7 ::1 56324 443\r\n", SAYS_6, id="1: TCP6"),
    pytest.param(b"PROXY TCP6 2001:0DB8::0:7 ::1 56324 443\r\n", SAYS_6, id="1: not canonical"),
    pytest.param(b"PROXY TCP6 ::ffff:192.0.2.7 :: 56324 443\r\n", SAYS, id="1: mapped"),
    pytest.param(b"PROXY TCP6 ::FFFF:C000:207 :: 56324 443\r\n", SAYS, id="1: mapped, hexadecimal"),
    pytest.param(
        b"PROXY TCP6 %s %s 65535 65535\r\n" % (IN_FULL, IN_FULL),
        (IN_FULL.decode(), 65535),
        id="1: the longest TCP6",
    ),
    pytest.param(
        b"PROXY TCP6 1:2:3:4:5:6:7:: :: 1 1\r\n", ("1:2:3:4:5:6:7:0", 1), id="1: one zero"
    ),
    pytest.param(b"PROXY UNKNOWN\r\n", NOTHING, id="1: UNKNOWN"),
    pytest.param(b"PROXY UNKNOWN \r\n", NOTHING, id="1: UNKNOWN and a space"),
    pytest.param(
        b"PROXY UNKNOWN %s %s 65535 65535\r\n" % (IN_FULL, IN_FULL), NOTHING, id="1: the longest"
    ),
    pytest.param(b"PROXY UNKNOWN \r \n \xff\0 99999\r\r\n", NOTHING, id="1: ignored, but CR LF"),
    # Version 2.
    pytest.param(block(PROXY, TCP4, IPV4), SAYS, id="2: TCP4"),
    pytest.param(block(PROXY, UDP4, IPV4), SAYS, id="2: UDP4"),
    pytest.param(block(PROXY, TCP6, IPV6), SAYS_6, id="2: TCP6"),
    pytest.param(block(PROXY, UDP6, IPV6), SAYS_6, id="2: UDP6"),
    pytest.param(
        block(PROXY, TCP6, IPv6Address("::ffff:192.0.2.7").packed + IPV6[16:]),
        SAYS,
        id="2: mapped",
    ),
    pytest.param(block(PROXY, STREAM, UNIX), NOTHING, id="2: UNIX stream"),
    pytest.param(block(PROXY, DATAGRAM, UNIX), NOTHING, id="2: UNIX datagram"),
    pytest.param(block(PROXY, b"\x00", b""), NOTHING, id="2: unspecified"),
    pytest.param(block(PROXY, b"\x00", b"any"), NOTHING, id="2: unspecified, ignored"),
    pytest.param(block(PROXY, b"\x01", b"any"), NOTHING, id="2: family unspecified"),
    pytest.param(block(PROXY, b"\x10", b"any"), NOTHING, id="2: transport unspecified"),
    pytest.param(block(LOCAL, b"\x00", b""), NOTHING, id="2: LOCAL"),
    pytest.param(block(LOCAL, TCP4, IPV4), NOTHING, id="2: LOCAL with addresses"),
    pytest.param(block(LOCAL, b"\xff", b"any"), NOTHING, id="2: LOCAL, of any family"),
    pytest.param(
        block(PROXY, TCP4, IPV4 + tlv(NOOP, b"") + tlv(0xFF, b"\3\0\4")), SAYS, id="2: TLVs"
    ),
    pytest.param(block(PROXY, STREAM, UNIX + tlv(NOOP, bytes(9))), NOTHING, id="2: UNIX, TLV"),
    pytest.param(
        block(PROXY, TCP4, IPV4 + tlv(NOOP, bytes(LONGEST - 16 - 12 - 3))),
        SAYS,
        id="2: the longest",
    ),
    pytest.param(
        block(LOCAL, b"\x00", bytes(LONGEST - 16)), NOTHING, id="2: the longest that is LOCAL"
    ),
    pytest.param(signed(PROXY, TCP4, IPV4), SAYS, id="2: checksum"),
    pytest.param(
        signed(PROXY, TCP6, IPV6 + tlv(2, b"example.org"), tlv(NOOP, bytes(5))),
        SAYS_6,
        id="2: checksum between others",
    ),
    pytest.param(signed(PROXY, STREAM, UNIX), NOTHING, id="2: checksum, UNIX"),
    pytest.param(
        bytes.fromhex("0d0a0d0a000d0a515549540a21110054ac1f0771ac1f0a1fc8f20050030004e8d6892d")
        + tlv(0xEA, b"\x01vpce-08d2bf15fac5001c9")
        + tlv(NOOP, bytes(36)),
        ("172.31.7.113", 51442),
        id="2: as a load balancer sent it",
    ),
]


@pytest.mark.parametrize(("header", "expected"), VALID)
def test_a_header_is_parsed_once_it_is_complete(header: bytes, expected: Expected) -> None:
    for end in range(len(header)):
        assert parse(header[:end]) is None, header[:end]
    whole = Header(len(header), *expected)
    assert parse(header) == whole
    for more in (b"\0", b"\r\n", b"hello\r\n", header, bytes(2 * LONGEST)):
        assert parse(header + more) == whole


def test_the_limits_are_those_of_the_specification() -> None:
    """ "So a 108-byte buffer is always enough to store all the line and a trailing zero"; "the
    smallest TCP segment that any TCP/IP host is required to support (576 - 40 = 536 bytes)"."""
    assert (LONGEST_LINE, LONGEST) == (107, 536)


@pytest.mark.parametrize(
    ("data", "checksum"),
    [
        pytest.param(b"123456789", 0xE3069283, id="the usual"),
        # RFC 3720, Appendix B.4. The RFC lists the bytes in the order in which iSCSI sends them.
        pytest.param(bytes(32), 0x8A9136AA, id="zeros"),
        pytest.param(b"\xff" * 32, 0x62A8AB43, id="ones"),
        pytest.param(bytes(range(32)), 0x46DD794E, id="upwards"),
        pytest.param(bytes(reversed(range(32))), 0x113FDB5C, id="downwards"),
        pytest.param(b"", 0, id="nothing"),
    ],
)
def test_the_checksum_is_castagnoli_s(data: bytes, checksum: int) -> None:
    assert crc32c(data) == bitwise(data) == checksum


# --- invalid headers -----------------------------------------------------------------------------

OF_TCP4, OF_TCP6 = b"PROXY TCP4 ", b"PROXY TCP6 "
LINE = OF_TCP4 + b"192.0.2.7 198.51.100.1 "
IPV6_IN_DOTS = b"ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255"


def started(family: bytes, length: int, rest: bytes = b"") -> bytes:
    """Return the beginning of a block whose length field is `length`."""
    return SIGNATURE + PROXY + family + struct.pack("!H", length) + rest


NO_BEGINNING = [
    pytest.param(b"G", id="something else"),
    pytest.param(b"\n", id="a line end"),
    pytest.param(b"PROXX", id="1: not PROXY"),
    pytest.param(b"p", id="1: small letters"),
    pytest.param(b"PROXY\t", id="1: a TAB"),
    pytest.param(SIGNATURE[:-1] + b"\r", id="2: not the signature"),
]

WRONG = [
    pytest.param(b"PROXY  ", id="1: two spaces"),
    pytest.param(b"PROXY TCP5", id="1: another protocol"),
    pytest.param(b"PROXY TCP4\r", id="1: no addresses"),
    pytest.param(b"PROXY UD", id="1: another transport"),
    pytest.param(b"PROXY UNKNOWNS", id="1: another word"),
    pytest.param(b"PROXY UNKNOWN\n", id="1: LF alone after UNKNOWN"),
    pytest.param(b"PROXY UNKNOWN\r ", id="1: CR alone after UNKNOWN"),
    pytest.param(b"PROXY UNKNOWN ".ljust(106, b"x"), id="1: UNKNOWN, no room for CR LF"),
    pytest.param(b"PROXY UNKNOWN ".ljust(105, b"x") + b"\rx", id="1: UNKNOWN, no room for LF"),
    pytest.param(OF_TCP4 + b" ", id="1: two spaces before the source"),
    pytest.param(OF_TCP4 + b"192.0.2.7  ", id="1: two spaces before destination"),
    pytest.param(LINE + b" ", id="1: two spaces before source's port"),
    pytest.param(LINE + b"1  ", id="1: two spaces before last port"),
    pytest.param(LINE + b"1 2 ", id="1: a space at the end"),
    pytest.param(LINE + b"1\r", id="1: one port"),
    pytest.param(OF_TCP4 + b"192.0.2.7\r", id="1: one address"),
    pytest.param(OF_TCP4 + b"192.0.2.7 198.51.100.1\r", id="1: no ports"),
    pytest.param(LINE + b"1 2\n", id="1: LF alone"),
    pytest.param(LINE + b"1 2\r\r", id="1: CR alone"),
    pytest.param(LINE + b"1 2\0", id="1: NUL"),
    pytest.param(LINE + b"1 \r", id="1: no port"),
    pytest.param(LINE + b"01", id="1: a port with a leading zero"),
    pytest.param(LINE + b"1 00", id="1: a zero before the last port"),
    pytest.param(LINE + b"65536", id="1: a port too high"),
    pytest.param(LINE + b"1 65536", id="1: a destination's port too high"),
    pytest.param(LINE + b"655350", id="1: a port too long"),
    pytest.param(LINE + b"+", id="1: a port with a sign"),
    pytest.param(LINE + b"1_", id="1: a port with an underscore"),
    pytest.param(LINE + "٣".encode()[:1], id="1: a port in other digits"),
    pytest.param(OF_TCP4 + b"256", id="1: a number above 255"),
    pytest.param(OF_TCP4 + b"01", id="1: an octal number"),
    pytest.param(OF_TCP4 + b"1.00", id="1: two zeros"),
    pytest.param(OF_TCP4 + b"1..", id="1: two dots"),
    pytest.param(OF_TCP4 + b"1.2.3 ", id="1: three numbers"),
    pytest.param(OF_TCP4 + b"1.2.3. ", id="1: no fourth number"),
    pytest.param(OF_TCP4 + b"1.2.3.4.", id="1: a fifth number"),
    pytest.param(OF_TCP4 + b"1.2.3.4/", id="1: a network"),
    pytest.param(OF_TCP4 + b"1:", id="1: TCP4 with IPv6"),
    pytest.param(OF_TCP4 + b"1.2.3.4 1:", id="1: TCP4 with an IPv6 destination"),
    pytest.param(OF_TCP4 + b"l", id="1: a name"),
    pytest.param(OF_TCP4 + b"\xff", id="1: not ASCII"),
    pytest.param(OF_TCP6 + b"1.", id="1: TCP6 with IPv4"),
    pytest.param(OF_TCP6 + b":: 1.", id="1: TCP6 with an IPv4 destination"),
    pytest.param(OF_TCP6 + b":::", id="1: three colons"),
    pytest.param(OF_TCP6 + b":1", id="1: one colon first"),
    pytest.param(OF_TCP6 + b"1::2::", id="1: two double colons"),
    pytest.param(OF_TCP6 + b"::12345", id="1: five digits"),
    pytest.param(OF_TCP6 + b"1:2 ", id="1: too few groups"),
    pytest.param(OF_TCP6 + b"1:2:3:4:5:6:7: ", id="1: one colon last"),
    pytest.param(OF_TCP6 + b"1:2:3:4:5:6:7:8:", id="1: too many groups"),
    pytest.param(OF_TCP6 + b"1:2:3:4:5:6:7.7.7.7:", id="1: a group after dots"),
    pytest.param(OF_TCP6 + b"1:2:3:4:5:6:7:8.", id="1: dots too late"),
    pytest.param(OF_TCP6 + b"::256.", id="1: dots, a number above 255"),
    pytest.param(OF_TCP6 + b"::g", id="1: no hexadecimal digit"),
    pytest.param(OF_TCP6 + b"[", id="1: brackets"),
    pytest.param(OF_TCP6 + b"fe80::1%", id="1: a scope"),
    pytest.param(OF_TCP6 + b":: fe80::1%", id="1: destination: a scope"),
    pytest.param(OF_TCP6 + IPV6_IN_DOTS + b" " + IPV6_IN_DOTS, id="1: longer than 107 bytes"),
    pytest.param(SIGNATURE + b"\x11", id="2: version 1"),
    pytest.param(SIGNATURE + b"\x31", id="2: version 3"),
    pytest.param(SIGNATURE + b"\x22", id="2: command 2"),
    pytest.param(SIGNATURE + b"\x2f", id="2: command 15"),
    pytest.param(SIGNATURE + PROXY + b"\x41", id="2: family 4"),
    pytest.param(SIGNATURE + PROXY + b"\xf0", id="2: family 15, transport unspecified"),
    pytest.param(SIGNATURE + PROXY + b"\x13", id="2: transport 3"),
    pytest.param(SIGNATURE + PROXY + b"\x0f", id="2: transport 15, family unspecified"),
    pytest.param(started(TCP4, 521), id="2: too long"),
    pytest.param(SIGNATURE + PROXY + b"\x00\x02\x09", id="2: too long, unspecified"),
    pytest.param(SIGNATURE + LOCAL + b"\x00\x02\x09", id="2: too long, LOCAL"),
    pytest.param(started(TCP4, 11), id="2: too short for IPv4"),
    pytest.param(started(UDP4, 0), id="2: no IPv4 address"),
    pytest.param(started(TCP6, 35), id="2: too short for IPv6"),
    pytest.param(started(STREAM, 215), id="2: too short for UNIX"),
    pytest.param(started(TCP4, 12 + 1), id="2: one byte of a TLV"),
    pytest.param(started(TCP4, 12 + 2), id="2: two bytes of a TLV"),
    pytest.param(started(STREAM, 216 + 2), id="2: UNIX: two bytes of a TLV"),
    pytest.param(started(TCP4, 12 + 4, IPV4 + b"\4\0\2"), id="2: a TLV too long"),
    pytest.param(started(TCP4, 12 + 8, IPV4 + b"\4\0\0\4\0\3"), id="2: the next TLV too long"),
    pytest.param(started(TCP4, 12 + 5, IPV4 + b"\4\0\0"), id="2: two bytes of the next TLV"),
    pytest.param(started(TCP4, 12 + 10, IPV4 + b"\3\0\5"), id="2: a checksum of 5 bytes"),
    pytest.param(started(TCP4, 12 + 10, IPV4 + b"\3\0\3"), id="2: a checksum of 3 bytes"),
    pytest.param(started(TCP4, 500, IPV4 + b"\3\1"), id="2: a checksum of 256 bytes"),
    pytest.param(started(TCP4, 12 + 6, IPV4 + b"\3"), id="2: no room for a checksum"),
    pytest.param(started(TCP4, 12 + 8, IPV4 + b"\3"), id="2: no room after a checksum"),
    pytest.param(
        started(TCP4, 12 + 14, IPV4 + CHECKSUM_LATER + CHECKSUM_LATER[:1]), id="2: two checksums"
    ),
]


@pytest.mark.parametrize("data", NO_BEGINNING)
def test_data_that_is_no_header_is_refused_at_the_first_wrong_byte(data: bytes) -> None:
    """ "It is recommended to abort the connection as soon as possible"."""
    assert parse(data[:-1]) is None
    for more in (b"", b"\r\n", bytes(LONGEST)):
        refused(data + more)


@pytest.mark.parametrize("data", WRONG)
def test_an_invalid_header_is_refused_once_it_is_complete(data: bytes) -> None:
    ends = [bytes(LONGEST)]
    if data.startswith(LINE_START):
        ends += [b"\r\n", b"0\r\n"]
    for end in ends:
        refused(data + end)


@pytest.mark.parametrize(
    "data", [started(TCP4, 521), SIGNATURE + b"\x31\x11\0\x0c"], ids=["too long", "version 3"]
)
def test_an_invalid_block_is_refused_before_its_end(data: bytes) -> None:
    refused(data)


# These are all bytes after the length field, except the type of the checksum. If this type changes,
# the header has no checksum.
@pytest.mark.parametrize("at", [*range(16, 32), *range(33, 43)])
def test_a_changed_byte_is_found_by_the_checksum(at: int) -> None:
    """ "If it is not [the same], the receiver MUST treat the TCP connection […] as invalid"."""
    header = bytearray(signed(PROXY, TCP4, IPV4 + tlv(NOOP, b"a"), tlv(NOOP, b"b")))
    assert answer(bytes(header)) == Header(len(header), *SAYS)
    header[at] ^= 1
    refused(bytes(header))


def test_a_wrong_checksum_is_refused_once_the_header_is_complete() -> None:
    header = block(PROXY, TCP4, IPV4 + CHECKSUM_LATER + tlv(NOOP, b"a"))
    assert parse(header[:-1]) is None
    assert "checksum" in refused(header)


@pytest.mark.parametrize(
    ("family", "addresses"),
    [(TCP4, IPV4), (UDP4, IPV4), (TCP6, IPV6), (UDP6, IPV6), (STREAM, UNIX), (DATAGRAM, UNIX)],
)
def test_the_checksum_is_verified_in_every_family(family: bytes, addresses: bytes) -> None:
    header = signed(PROXY, family, addresses)
    assert isinstance(answer(header), Header)
    refused(header[:-1] + bytes([header[-1] ^ 1]))


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"GET / HTTP/1.1\r\n\r\n", "no PROXY header begins with b'GET / HTTP/1.'"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1\r\n", "version 1: two addresses and two ports must "),
        (b"PROXY TCP4 ::1 5.6.7.8 1 2\r\n", "version 1: b'::1' is not an IPv4 address"),
        (b"PROXY TCP6 :: 5.6.7.8 1 2\r\n", "version 1: b'5.6.7.8' is not an IPv6 address"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 x 2\r\n", "version 1: b'x' is not a port"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 99999\r\n", "version 1: b'99999' is not a port"),
        (b"PROXY UNKNOWNS\r\n", "version 1: b'UNKNOWNS' is not a protocol"),
        (b"PROXY TCP4 1.2.3.4 5.6.7.8 1 2\n", "version 1: the line must end with CR LF"),
        (b"PROXY UNKNOWN " + bytes(99), "version 1: no CR LF in the first 107 bytes"),
        (block(b"\x31", TCP4, b""), "version 2: unknown command 0x31"),
        (block(PROXY, b"\x41", b""), "version 2: unknown family 4"),
        (block(PROXY, b"\x13", b""), "version 2: unknown transport 3"),
        (block(PROXY, TCP4, bytes(521)), "version 2: longer than 536 bytes"),
        (block(PROXY, TCP4, bytes(11)), "version 2: 11 bytes are too few for the addresses"),
        (block(PROXY, TCP4, IPV4 + b"a"), "version 2: the last TLV is cut off"),
        (block(PROXY, TCP4, IPV4 + b"\4\0\1"), "version 2: a TLV is longer than the header"),
        (block(PROXY, TCP4, IPV4 + tlv(3, b"")), "version 2: the checksum must have 4 bytes"),
        (block(PROXY, TCP4, IPV4 + CHECKSUM_LATER * 2), "version 2: two checksums"),
        (block(PROXY, TCP4, IPV4 + CHECKSUM_LATER), "version 2: the checksum is wrong"),
    ],
)
def test_a_refusal_gives_the_reason(data: bytes, reason: str) -> None:
    assert refused(data).startswith(reason)


# --- random input --------------------------------------------------------------------------------

ports = integers(0, 0xFFFF)
versions: SearchStrategy[Literal[4, 6]] = sampled_from([4, 6])


def spellings(address: IPv4Address | IPv6Address) -> SearchStrategy[str]:
    """Return a strategy for all spellings of an address in version 1."""
    if isinstance(address, IPv4Address):
        return just(str(address))
    groups, last_two = address.exploded[:30], IPv4Address(address.packed[12:])
    return sampled_from(
        [str(address), str(address).upper(), address.exploded, f"{groups}{last_two}"]
    )


@composite
def lines(draw: DrawFn) -> tuple[bytes, Expected]:
    version = draw(versions)
    source, destination = draw(ip_addresses(v=version)), draw(ip_addresses(v=version))
    port, other = draw(ports), draw(ports)
    addresses = f"{draw(spellings(source))} {draw(spellings(destination))}"
    line = f"PROXY TCP{version} {addresses} {port} {other}\r\n"
    return line.encode(), (canonical(str(source)), port)


unknown_lines = (
    binary(max_size=LONGEST_LINE - 16)
    .filter(lambda rest: b"\r\n" not in rest)
    .map(lambda rest: (b"PROXY UNKNOWN " + rest + b"\r\n", NOTHING))
)

tlvs = lists(
    builds(tlv, integers(0, 0xFF).filter(lambda kind: kind != CRC32C), binary(max_size=30)),
    max_size=4,
).map(b"".join)


@composite
def addresses(draw: DrawFn) -> tuple[bytes, bytes, Expected]:
    """Draw a byte for family and transport, a block of addresses, and the client that they name."""
    transport = draw(sampled_from([1, 2]))
    if draw(booleans()):
        return bytes([0x30 + transport]), draw(binary(min_size=216, max_size=216)), NOTHING
    version = draw(versions)
    source, destination = draw(ip_addresses(v=version)), draw(ip_addresses(v=version))
    port, other = draw(ports), draw(ports)
    packed = source.packed + destination.packed + struct.pack("!2H", port, other)
    family = 0x10 if version == 4 else 0x20
    return bytes([family + transport]), packed, (canonical(str(source)), port)


@composite
def blocks(draw: DrawFn) -> tuple[bytes, Expected]:
    family, packed, expected = draw(addresses())
    before, after = draw(tlvs), draw(tlvs)
    if draw(booleans()):
        return signed(PROXY, family, packed + before, after), expected
    return block(PROXY, family, packed + before), expected


@composite
def ignored_blocks(draw: DrawFn) -> tuple[bytes, Expected]:
    command, families = draw(
        sampled_from([(LOCAL, range(0x100)), (PROXY, [0x00, 0x01, 0x02, 0x10, 0x20, 0x30])])
    )
    family = bytes([draw(sampled_from(families))])
    return block(command, family, draw(binary(max_size=LONGEST - 16))), NOTHING


short_lines = lines().filter(lambda line: len(line[0]) <= LONGEST_LINE)
headers = short_lines | unknown_lines | blocks() | ignored_blocks()


@composite
def streams(draw: DrawFn) -> bytes:
    """Draw headers, most of them damaged or truncated, with other bytes after them."""
    stream, _ = draw(headers)
    for _ in range(draw(integers(0, 2))):
        at = draw(integers(0, len(stream)))
        gone = draw(integers(0, 3))
        stream = stream[:at] + draw(binary(max_size=3)) + stream[at + gone :]
    return stream[: draw(none() | integers(0, len(stream)))] + draw(binary(max_size=4))


anything = binary() | streams()


@given(headers, binary())
def test_the_fields_of_a_header_are_read(header: tuple[bytes, Expected], more: bytes) -> None:
    data, expected = header
    assert parse(data + more) == Header(len(data), *expected)


@given(headers)
def test_every_beginning_of_a_header_waits_for_the_rest(header: tuple[bytes, Expected]) -> None:
    data, _ = header
    assert [parse(data[:end]) for end in range(len(data))] == [None] * len(data)


@given(anything)
def test_more_bytes_do_not_change_an_answer(stream: bytes) -> None:
    answers = [answer(stream[:end]) for end in range(len(stream) + 1)]
    answered = [answer for answer in answers if answer is not None]
    assert answers == [None] * (len(answers) - len(answered)) + answered
    assert len(set(answered)) <= 1


@given(anything)
def test_a_header_needs_all_its_bytes(stream: bytes) -> None:
    header = answer(stream)
    if isinstance(header, Header):
        assert header.size <= min(len(stream), LONGEST)
        assert parse(stream[: header.size]) == header
        assert parse(stream[: header.size - 1]) is None
        assert (header.address is None) == (header.port is None)
        if header.address is not None:
            assert header.address == canonical(header.address)


@given(anything)
def test_a_peek_is_long_enough_for_an_answer(stream: bytes) -> None:
    assert answer(stream.ljust(LONGEST, b" ")) is not None
    assert answer(stream + bytes(LONGEST)) == answer((stream + bytes(LONGEST))[:LONGEST])


# --- headers to send ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("address", "to"),
    [
        ("192.0.2.7", "127.0.0.1"),
        ("2001:db8::7", "::1"),
        ("192.0.2.7", "::1"),
        ("2001:db8::7", "127.0.0.1"),
    ],
)
def test_a_composed_header_names_the_client(address: str, to: str) -> None:
    header = compose(address, 4711, to, 4000)
    assert parse(header + b"text") == Header(len(header), address, 4711)
