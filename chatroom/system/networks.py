"""Addresses and networks as a room's owner writes them, and who is in them.

An address is spelled as members' are: protocol/address.py.
"""

from collections.abc import Collection
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_network
from typing import Literal

UNIX: Literal["unix"] = "unix"
"""The address of who comes by a Unix socket, which has none; and the network of all of those."""

Network = IPv4Network | IPv6Network | Literal["unix"]


def parse_network(text: str) -> Network:
    """An address, a network such as 10.0.0.0/8, or UNIX. Raises ValueError: what it has to be."""
    if text == UNIX:
        return UNIX
    try:
        found = ip_network(text)
    except ValueError:
        demand = f"an address, a network such as 10.0.0.0/8 or 2001:db8::/32, or unix, not {text!r}"
        raise ValueError(demand) from None
    if isinstance(found, IPv6Network) and found.network_address.ipv4_mapped is not None:
        raise ValueError(f"an IPv4 address is written as such, not {text!r}")
    return found


def format_network(network: Network) -> str:
    """So that `parse_network` understands it; one of a single address as that address."""
    if network == UNIX:
        return UNIX
    return str(network.network_address if network.num_addresses == 1 else network)


def within(address: str, networks: Collection[Network]) -> bool:
    """Whether an address is in one of them."""
    if address == UNIX:
        return UNIX in networks
    if not networks:  # as mostly, of each who joins
        return False
    found = ip_address(address)
    return any(network != UNIX and found in network for network in networks)
