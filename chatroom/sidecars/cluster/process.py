"""Start and end of the bridge's process.

The main process imports this module; only the bridge's process imports nats-py and asyncio.
"""

import contextlib
import socket
import sys
from pathlib import Path
from typing import NamedTuple

from chatroom.config.cluster_url import ClusterURL
from chatroom.config.limits import Limits
from chatroom.log.ring import Geometry, Log
from chatroom.log.uplink import Uplink
from chatroom.system.channel import Channel, ChannelClosed
from chatroom.system.doorbell import Doorbell
from chatroom.system.poller import wait


class Credentials(NamedTuple):
    """Files for the connection to NATS."""

    credentials: Path | None = None
    """Credentials of a user (a .creds file); None: no credentials."""
    ca: Path | None = None
    """Certificate authorities (PEM); None: the system's authorities."""


class Position(NamedTuple):
    """A place in the stream: after the message `sequence`, which was stored at `time` (s)."""

    sequence: int
    time: float = 0.0
    """Time in seconds since the epoch; 0.0 if it is unknown."""


class Node(NamedTuple):
    """This node: the values that do not change from one bridge to the next."""

    number: int
    """Random number, 64 bits."""
    name: str
    """Addresses at which the room listens, for people."""
    url: ClusterURL
    credentials: Credentials
    replicas: int
    """Number of copies of a new stream; 0: the default."""
    control: Path | None
    """Path of the room's control socket; None if there is no control socket."""


def main(node: Node, limits: Limits, end: socket.socket) -> None:
    """Run a bridge until the main process ends. This is the target of its process."""
    channel = Channel(end)
    wait([channel])
    try:
        record, (log, uplink, *bells) = next(channel.receive())
    except ChannelClosed:
        sys.exit(1)
    each = len(bells) // record["doorbells"]  # number of descriptors of one doorbell
    import asyncio
    import logging

    from chatroom.sidecars.cluster.bridge import Bridge
    from chatroom.sidecars.cluster.engine import EngineError

    # asyncio logs a warning when a TLS connection ends. The room itself logs `cluster-down`.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    bridge = Bridge(
        node,
        Uplink(uplink, limits),
        Log(log, Geometry.of(limits)),
        [Doorbell(bells[first : first + each]) for first in range(0, len(bells), each)],
        channel,
        None if record["after"] is None else Position(*record["after"]),
        record["told"],
    )
    try:
        asyncio.run(bridge.run())
    except EngineError as error:
        with contextlib.suppress(ChannelClosed):
            channel.send({"failed": str(error)})
        sys.exit(1)
    except ChannelClosed:
        sys.exit(0)
