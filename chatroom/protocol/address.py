"""A sender's address as its messages show it (PREFIX-2, PREFIX-3)."""

from ipaddress import IPv6Address, ip_address


def canonical(host: str) -> str:
    """The one spelling of a numeric `host`, by which members are shown and counted.

    An IPv4 address mapped into IPv6 is the IPv4 address; an IPv6 address is in
    its shortest form (RFC 5952) and without its scope, which means something
    on this machine only. Raises ValueError where `host` is not numeric.
    """
    address = ip_address(host.partition("%")[0])
    if isinstance(address, IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    return str(address)
