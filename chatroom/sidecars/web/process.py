"""Start and end of the gateway's process.

The main process imports this module; only the gateway's process imports websockets and asyncio.
"""

import socket
import sys
from typing import NamedTuple

from chatroom.system.channel import PARENT, Channel, ChannelClosed
from chatroom.system.descriptors import raise_limit
from chatroom.system.networks import Network

RESERVED = 256
"""Number of descriptors that the gateway needs besides two for each session."""


class Listeners(NamedTuple):
    """Listening sockets, which the main process keeps open."""

    web: socket.socket | None
    """For browsers."""
    tls: socket.socket | None
    """For line clients over TLS."""


class Rules(NamedTuple):
    """Options of the gateway."""

    origins: tuple[str, ...] = ()
    """Origins of other sites whose pages may connect."""
    proxies: tuple[Network, ...] = ()
    """Trusted reverse proxies."""
    keep: float = 60.0
    """Seconds for which a session continues without a WebSocket."""


def main(listeners: Listeners, rules: Rules, end: socket.socket) -> None:
    """Run the gateway until the main process stops it or ends; the target of its process."""
    import asyncio

    asyncio.run(_run(listeners, rules, Channel(end)))
    sys.exit(0)


async def _run(listeners: Listeners, rules: Rules, channel: Channel) -> None:
    import asyncio

    from chatroom.sidecars.web.gateway import Gateway
    from chatroom.sidecars.web.rooms import ParentDoor
    from chatroom.sidecars.web.site import Site

    loop = asyncio.get_running_loop()
    door = ParentDoor(channel)
    gateway = Gateway(Site(), door, rules, raise_limit(RESERVED) // 2)
    stopped = asyncio.Event()
    ended = asyncio.Event()

    def on_channel() -> None:
        try:
            for record, descriptors in channel.receive():
                match record:
                    case {"stop": True}:
                        stopped.set()
                    case _:
                        door.on_record(record, descriptors)
        except ChannelClosed:
            on_end()

    def on_end() -> None:
        for source in (channel.fileno(), PARENT):
            loop.remove_reader(source)
        ended.set()
        stopped.set()

    loop.add_reader(channel.fileno(), on_channel)
    loop.add_reader(PARENT, on_end)
    if listeners.web is not None:
        await gateway.listen(listeners.web, None)
    channel.send({"ready": True})
    await stopped.wait()
    await gateway.stop()
