"""A browser's address behind reverse proxies, its origin, and the host name that it uses, from the
headers of a request. Pure.

A reverse proxy writes the client's address into X-Forwarded-For (a list, to which each proxy
appends) or into Forwarded (RFC 7239). Anybody can send these headers. So a header counts only if
the connection comes from a trusted proxy. In the header, only the entries that trusted proxies have
appended count.
"""

import re
from collections.abc import Collection, Iterator, Sequence

from chatroom.protocol.address import canonical
from chatroom.system.networks import Network, within

_FOR = re.compile(
    r'(?:^|;)\s*for\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s;"]+))\s*(?=;|$)', re.IGNORECASE
)
_PORT = re.compile(r":\d*$")
_NODE = re.compile(r"\[([0-9A-Fa-f:.]+)\](?::(\d{1,5}))?|([0-9.]+)(?::(\d{1,5}))?|([0-9A-Fa-f:.]+)")


class ForwardedError(ValueError):
    """The headers of a trusted proxy contradict each other. The message is a single line."""


Client = tuple[str, int]
"""Canonical address and port; 0 if the port is unknown."""


def client(
    peer: Client, trusted: Sequence[Network], x_forwarded_for: list[str], forwarded: list[str]
) -> Client:
    """Return the client of a connection from `peer`.

    `x_forwarded_for`, `forwarded`: values of these headers. Raises ForwardedError if a trusted
    proxy passes both headers on: the client may have forged the header that the proxy has not
    written.
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
            break  # the client is hidden or unknown: use the proxy before it
        found = named
        if not within(found[0], trusted):
            break
    return found


def _x_forwarded_for(headers: list[str]) -> Iterator[str]:
    for header in headers:
        yield from (entry.strip() for entry in header.split(","))


def _forwarded(headers: list[str]) -> Iterator[str]:
    for header in headers:
        # This also splits at commas in quoted strings, but an address contains no comma.
        for element in header.split(","):
            found = _FOR.search(element)
            yield (found[1] or found[2] or "") if found else ""


def _parse(node: str) -> Client | None:
    """Return the address and port of `192.0.2.1`, `192.0.2.1:80`, `2001:db8::1`,
    `[2001:db8::1]:80`; None if the node is not an address."""
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

    The schemes are not compared: behind a proxy that terminates TLS, the gateway does not know
    whether the browser uses http or https.
    """
    scheme, separator, place = origin.partition("://")
    if not separator or scheme not in ("http", "https"):
        return False
    port = ":443" if scheme == "https" else ":80"
    return place.lower().removesuffix(port) == host.lower().removesuffix(port)


def host_of(origin: str) -> str:
    """Return the host of an origin, without its port."""
    return _PORT.sub("", origin.partition("://")[2])


def is_local(host: str, known: Collection[str]) -> bool:
    """Return whether a host is known, or no name server on the internet can answer for it.

    Otherwise, an attacker may have let the name resolve first to a server with the attacker's page,
    and then to this gateway (DNS rebinding). Name servers on the internet answer neither for an IP
    address, nor for a name without a dot, nor for a name under .local (RFC 6762).

    `host`: the header Host. `known`: hosts in lower case.
    """
    name = _PORT.sub("", host.lower())
    return name in known or "." not in name or name.endswith(".local") or _is_address(name)


def _is_address(name: str) -> bool:
    try:
        canonical(name.removeprefix("[").removesuffix("]"))
    except ValueError:
        return False
    return True
