"""A sender's address as its messages show it (PREFIX-2, PREFIX-3)."""

from ipaddress import IPv6Address, ip_address


def canonical(host: str) -> str:
    """Return the canonical form of a numeric `host`, by which members are shown and counted.

    An IPv4 address mapped into IPv6 becomes the IPv4 address. An IPv6 address is written in its
    shortest form (RFC 5952) and without its scope, which is only valid on this machine. Raises
    ValueError if `host` is not numeric.
    """
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)
