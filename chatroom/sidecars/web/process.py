"""Start and end of the gateway's process.

The main process imports this module; only the gateway's process imports websockets and asyncio.
"""

import contextlib
import socket
import sys
from pathlib import Path
from typing import NamedTuple

from chatroom.errors import WebError
from chatroom.system.channel import Channel, ChannelClosed
from chatroom.system.networks import Network

RESERVED = 256
"""Number of descriptors that the gateway needs, in addition to two for each browser."""
MAX_OPENING = 64
"""Maximum number of unanswered requests to the main process."""


class Listeners(NamedTuple):
    """Listening sockets, which the main process keeps open."""

    web: socket.socket | None
    """For browsers."""
    tls: socket.socket | None
    """For line clients over TLS."""


class Certificate(NamedTuple):
    """Two files in PEM."""

    chain: Path
    """The certificate, followed by the intermediate certificates."""
    key: Path


class Rules(NamedTuple):
    """Options of the gateway."""

    origins: tuple[str, ...] = ()
    """Origins of other sites whose pages may connect."""
    proxies: tuple[Network, ...] = ()
    """Trusted reverse proxies."""
    keep: float = 60.0
    """Seconds for which a session continues without a WebSocket."""


def main(
    listeners: Listeners, certificate: Certificate | None, rules: Rules, end: socket.socket
) -> None:
    """Run the gateway until the main process stops it, or ends. This is the target of its
    process."""
    import asyncio

    from chatroom.sidecars.web.supervised import run

    channel = Channel(end)
    try:
        asyncio.run(run(listeners, certificate, rules, channel))
    except WebError as error:
        with contextlib.suppress(ChannelClosed):
            channel.send({"error": str(error)})
        sys.exit(1)
