"""Start and end of the gateway's process.

The main process imports this module; only the gateway's process imports websockets and asyncio.
"""

import contextlib
import socket
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from chatroom.errors import WebError
from chatroom.system.channel import Channel, ChannelClosed
from chatroom.system.networks import Network

MAX_OTHERS = 512
"""Maximum number of the gateway's connections that are no members."""
RESERVED = 64 + MAX_OTHERS
"""Number of descriptors that the gateway needs besides two for each member."""
MAX_OPENING = 64
"""Maximum number of requests to the main process that are not answered yet."""


class Listeners(NamedTuple):
    """Listening sockets, which the main process keeps open."""

    web: socket.socket | None
    """For browsers."""
    tls: socket.socket | None
    """For line clients over TLS."""


class Pem(NamedTuple):
    """A certificate and its key, in PEM."""

    chain: bytes
    """The certificate, then those of the authorities between it and the root."""
    key: bytes


@dataclass
class Certificate:
    """The files of a certificate."""

    chain: Path
    key: Path
    checked: Pem | None = None
    """Contents of the files when they were last checked and right. A new gateway uses these
    contents, because the files may be wrong now."""


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
    """Run the gateway until the main process stops it or ends; the target of its process."""
    import asyncio

    from chatroom.sidecars.web.supervised import run

    channel = Channel(end)
    try:
        asyncio.run(run(listeners, certificate, rules, channel))
    except WebError as error:
        with contextlib.suppress(ChannelClosed):
            channel.send({"error": str(error)})
        sys.exit(1)
