"""Addresses and networks in the notation of options and commands.

Addresses have the canonical form of protocol/address.py.
"""

from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Literal

UNIX: Literal["unix"] = "unix"
"""Address of all clients of Unix sockets, and the network of these clients."""

Network = IPv4Network | IPv6Network | Literal["unix"]


def parse_network(text: str) -> Network:
    """Parse an address, a network such as 10.0.0.0/8, or UNIX.

    Raises ValueError with a message that says what the text must be.
    """
    if text == UNIX:
        return UNIX
    try:
        found = ip_network(text)
    except ValueError:
        demand = f"an address, a network such as 10.0.0.0/8 or 2001:db8::/32, or unix, not {text!r}"
        raise ValueError(demand) from None
    if isinstance(found, IPv6Network) and found.network_address.ipv4_mapped is not None:
        raise ValueError(f"a plain IPv4 address or network, not {text!r}")
    return found


def format_network(network: Network) -> str:
    """Return a network in the notation of `parse_network`; a single address has no /32 or /128."""
    if network == UNIX:
        return UNIX
    return str(network.network_address if network.num_addresses == 1 else network)


def within(address: str, networks: Collection[Network]) -> bool:
    """Return whether a canonical address is in one of the networks."""
    if address == UNIX:
        return UNIX in networks
    if not networks:  # fast path: the usual case at each join
        return False
    found = ip_address(address)
    return any(network != UNIX and found in network for network in networks)
