"""The gateway as a child of the room: its records, from its start until the main process stops it.

supervisor/web.py lists the records.
"""

import asyncio
import ssl

from chatroom.errors import WebError
from chatroom.sidecars.web import certificate as certificates
from chatroom.sidecars.web.gateway import Gateway, on_loop_error
from chatroom.sidecars.web.line_clients import LineClients
from chatroom.sidecars.web.process import RESERVED, Certificate, Listeners, Rules
from chatroom.sidecars.web.rooms import ParentDoor
from chatroom.sidecars.web.site import Site
from chatroom.system.channel import PARENT, Channel, ChannelClosed
from chatroom.system.descriptors import raise_limit


async def run(
    listeners: Listeners, certificate: Certificate | None, rules: Rules, channel: Channel
) -> None:
    """Serve until the main process stops the gateway, or ends. Raises WebError."""
    asyncio.get_running_loop().set_exception_handler(on_loop_error)
    tls = None if certificate is None else certificates.context(certificate)
    door = ParentDoor(channel)
    gateway = Gateway(Site(), door, rules, raise_limit(RESERVED) // 2)
    stopped = _watch(channel, door, tls, certificate)
    if listeners.web is not None:
        await gateway.listen(listeners.web, tls)
    if listeners.tls is not None:
        assert tls is not None
        await LineClients(door, gateway.connections).listen(listeners.tls, tls)
    channel.send({"ready": True})
    await stopped.wait()
    await gateway.stop()


def _watch(
    channel: Channel,
    door: ParentDoor,
    tls: ssl.SSLContext | None,
    certificate: Certificate | None,
) -> asyncio.Event:
    """Handle the main process's records; return an event that is set when the gateway must stop."""
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def on_channel() -> None:
        try:
            for record, descriptors in channel.receive():
                match record:
                    case {"stop": True}:
                        stopped.set()
                    case {"ping": True}:
                        channel.send({"turn": True})
                    case {"reload": True} if tls is not None and certificate is not None:
                        _reload(channel, tls, certificate)
                    case _:
                        door.on_record(record, descriptors)
        except ChannelClosed:
            on_end()

    def on_end() -> None:
        loop.remove_reader(channel.fileno())
        loop.remove_reader(PARENT)
        stopped.set()

    loop.add_reader(channel.fileno(), on_channel)
    loop.add_reader(PARENT, on_end)
    return stopped


def _reload(channel: Channel, tls: ssl.SSLContext, certificate: Certificate) -> None:
    try:
        certificates.load(tls, certificate)
    except WebError as error:
        channel.send({"error": str(error)})
