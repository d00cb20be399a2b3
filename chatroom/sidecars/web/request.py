"""A browser's request: its true address behind reverse proxies, and its origin. Pure.

A reverse proxy names the client in X-Forwarded-For (a list, to which each proxy appends) or in
Forwarded (RFC 7239). Anybody can send these headers, so they count only if the connection comes
from a trusted proxy; and of their entries, only those that trusted proxies have appended count.
"""

import re
from collections.abc import Iterator, Sequence

from chatroom.protocol.address import canonical
from chatroom.system.networks import Network, within

_FOR = re.compile(
    r'(?:^|;)\s*for\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))\s*(?=;|$)', re.IGNORECASE
)
_NODE = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::(\d{1,5}))?|([0-9.]+)(?::(\d{1,5}))?|([0-9A-Fa-f:.]+)")


class ForwardedError(ValueError):
    """The headers of a trusted proxy contradict each other. The message is a single line."""


Client = tuple[str, int]
"""Canonical address and port; 0 if the port is unknown."""


def client(
    peer: Client, trusted: Sequence[Network], x_forwarded_for: list[str], forwarded: list[str]
) -> Client:
    """Return the client of a connection from `peer`; `x_forwarded_for`, `forwarded`: headers.

    Raises ForwardedError if a trusted proxy passes both headers: it has written one of them, and
    the client may have forged the other.
    """
    if not within(peer[0], trusted):
        return peer
    if x_forwarded_for and forwarded:
        raise ForwardedError("both X-Forwarded-For and Forwarded: the proxy must remove one")
    nodes = [*_x_forwarded_for(x_forwarded_for), *_forwarded(forwarded)]
    found = peer
    for node in reversed(nodes):
        named = _parse(node)
        if named is None:
            break  # an obfuscated or unknown client: the last known proxy stands for it
        found = named
        if not within(found[0], trusted):
            break
    return found


def _x_forwarded_for(headers: list[str]) -> Iterator[str]:
    for header in headers:
        yield from (entry.strip() for entry in header.split(","))


def _forwarded(headers: list[str]) -> Iterator[str]:
    for header in headers:
        # A quoted string holds no comma here: an address has none.
        for element in header.split(","):
            found = _FOR.search(element)
            yield (found[1] or found[2] or "") if found else ""


def _parse(node: str) -> Client | None:
    """Return the address and port of `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`,
    `[2001:db8::1]:80`; None if the node is no address."""
    found = _NODE.fullmatch(node)
    if found is None:
        return None
    address = found[1] or found[3] or found[5]
    try:
        return canonical(address), min(int(found[2] or found[4] or 0), 65535)
    except ValueError:
        return None


def is_same_origin(origin: str, host: str) -> bool:
    """Return whether a page of `origin` was served by this gateway. `host`: the header Host.

    The scheme is not compared: behind a proxy that terminates TLS, the gateway does not know it.
    """
    scheme, separator, place = origin.partition("://")
    if not separator or scheme not in ("http", "https"):
        return False
    port = ":443" if scheme == "https" else ":80"
    return place.lower().removesuffix(port) == host.lower().removesuffix(port)
