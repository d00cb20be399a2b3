"""The gateway as a child process: it exchanges records with the main process.

supervisor/web.py lists the records.
"""

import asyncio
import ssl
from collections.abc import Callable

from chatroom.errors import WebError
from chatroom.sidecars.parent import Parent
from chatroom.sidecars.web import certificate as certificates
from chatroom.sidecars.web.claims import Claims
from chatroom.sidecars.web.gateway import Gateway, on_loop_error
from chatroom.sidecars.web.line_clients import LineClients
from chatroom.sidecars.web.process import RESERVED, Certificate, Listeners, Place, Rooms, Rules
from chatroom.sidecars.web.rooms import ParentConnector, TCPConnector
from chatroom.sidecars.web.site import Site
from chatroom.system.channel import PARENT, Channel, ChannelClosed, Record
from chatroom.system.descriptors import raise_limit


async def run(
    place: Place,
    listeners: Listeners,
    certificate: Certificate | None,
    rules: Rules,
    rooms: Rooms | None,
    channel: Channel,
) -> None:
    """Serve until the main process stops the gateway, or ends. Raises WebError."""
    asyncio.get_running_loop().set_exception_handler(on_loop_error)
    tls = None if certificate is None else certificates.context(certificate)
    parent = Parent(channel)
    connector = ParentConnector(parent) if rooms is None else TCPConnector(rooms)
    claims = Claims(parent) if place.gateways > 1 else None
    capacity = raise_limit(RESERVED) // 2
    gateway = Gateway(Site(), connector, rules, capacity, place.number, claims)
    line_clients = LineClients(connector, gateway.connections)

    def on_record(record: Record, descriptors: list[int]) -> None:
        match record:
            case {"stop": True}:
                stopped.set()
            case {"ping": True}:
                parent.send({"turn": True})
            case {"reload": True} if tls is not None and certificate is not None:
                _reload(parent, tls, certificate)
            case _ if claims is not None and claims.on_record(record, descriptors, gateway):
                pass
            case _ if isinstance(connector, ParentConnector):
                connector.on_record(record, descriptors)

    stopped = _watch(channel, on_record)
    if listeners.web is not None:
        await gateway.listen(listeners.web, tls)
    if listeners.tls is not None:
        assert tls is not None
        await line_clients.listen(listeners.tls, tls)
    parent.send({"ready": True})
    await stopped.wait()
    await asyncio.gather(gateway.stop(), line_clients.stop())


def _watch(channel: Channel, on_record: Callable[[Record, list[int]], None]) -> asyncio.Event:
    """Pass the main process's records to `on_record`.

    Return an event that is set when the main process has ended.
    """
    loop = asyncio.get_running_loop()
    stopped = asyncio.Event()

    def on_channel() -> None:
        try:
            for record, descriptors in channel.receive():
                on_record(record, descriptors)
        except ChannelClosed:
            on_end()

    def on_end() -> None:
        loop.remove_reader(channel.fileno())
        loop.remove_reader(PARENT)
        stopped.set()

    loop.add_reader(channel.fileno(), on_channel)
    loop.add_reader(PARENT, on_end)
    return stopped


def _reload(parent: Parent, tls: ssl.SSLContext, certificate: Certificate) -> None:
    try:
        certificates.load(tls, certificate)
    except WebError as error:
        parent.send({"error": str(error)})
