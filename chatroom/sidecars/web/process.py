"""Start and end of the gateway's process.

The main process imports this module; only the gateway's process imports websockets and asyncio.
"""

import contextlib
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from chatroom.errors import WebError
from chatroom.system.channel import Channel, ChannelClosed
from chatroom.system.endpoint import Endpoint
from chatroom.system.networks import Network

MAX_OTHERS = 512
"""Maximum number of a gateway's connections that are not members."""
RESERVED = 64 + MAX_OTHERS
"""Number of descriptors that the gateway needs, in addition to two for each member."""
ACCEPTED_PER_TURN = 8
"""Maximum number of connections to accept from a listener in one turn of the event loop. They
occupy descriptors for a few turns before the gateway can cut those beyond MAX_OTHERS."""
MAX_OPENING = 64
"""Maximum number of unanswered requests to the main process for a new member."""
MAX_CLAIMS = 32
"""Maximum number of unanswered claims for sessions of other gateways."""


def reserved(gateways: int) -> int:
    """Return the number of descriptors that the main process needs for this number of gateways."""
    claims = 2 * MAX_CLAIMS if gateways > 1 else 0  # a connection and a file for each
    return gateways * (4 + MAX_OPENING + claims)  # two listeners, a channel and a sentinel


class Listeners(NamedTuple):
    """Listening sockets, which the main process keeps open."""

    web: socket.socket | None
    """For browsers."""
    tls: socket.socket | None
    """For line clients over TLS."""


class Place(NamedTuple):
    """Position of a gateway among the gateways that serve the same page."""

    number: int
    """Number of the gateway, from 0."""
    gateways: int
    """Total number of gateways."""


class Rooms(NamedTuple):
    """Rooms that the gateway reaches by TCP."""

    endpoints: Sequence[Endpoint]
    """Addresses of the rooms, in the order in which the gateway tries them."""
    proxy_header: bool
    """True if they expect a PROXY header (version 2) from this gateway."""


class Pem(NamedTuple):
    """A certificate and its key, in PEM."""

    chain: bytes
    """The certificate, followed by the intermediate certificates."""
    key: bytes


@dataclass
class Certificate:
    """The two files of a certificate, and their contents."""

    chain: Path
    key: Path
    checked: Pem | None = None
    """Contents of the files at the last check that they passed. A new gateway uses these contents,
    because the files may be invalid by then."""


class Rules(NamedTuple):
    """Options of the gateway."""

    origins: tuple[str, ...] = ()
    """Origins of other sites whose pages may connect."""
    proxies: tuple[Network, ...] = ()
    """Trusted reverse proxies."""
    keep: float = 60.0
    """Seconds for which a session continues without a WebSocket."""
    host: str = ""
    """Host of `--web`, which may be a name."""


def main(
    place: Place,
    listeners: Listeners,
    certificate: Certificate | None,
    rules: Rules,
    rooms: Rooms | None,
    end: socket.socket,
) -> None:
    """Run the gateway until the main process stops it, or ends. This is the target of its process.

    `rooms`: None if the main process makes the members.
    """
    import asyncio

    from chatroom.sidecars.web.supervised import run

    channel = Channel(end)
    try:
        asyncio.run(run(place, listeners, certificate, rules, rooms, channel))
    except WebError as error:
        with contextlib.suppress(ChannelClosed):
            channel.send({"error": str(error)})
        sys.exit(1)
