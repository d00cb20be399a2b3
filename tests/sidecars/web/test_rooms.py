"""Connections of the gateway to the room: through the main process, and by TCP."""

import asyncio
import os
import socket
import struct
from collections.abc import Iterator

import pytest

from chatroom.protocol.proxy_header import parse
from chatroom.sidecars.parent import Parent
from chatroom.sidecars.web import rooms as module
from chatroom.sidecars.web.process import MAX_OPENING, Rooms
from chatroom.sidecars.web.rooms import (
    ParentConnector,
    RefusedError,
    TCPConnector,
    UnreachableError,
)
from chatroom.system.channel import Channel
from chatroom.system.endpoint import Endpoint
from tests.sidecars.web.stage import in_loop

HERE = "127.0.0.1"


@pytest.fixture(name="ends")
def fixture_ends() -> Iterator[tuple[Channel, Channel]]:
    ends = Channel.pair()
    yield ends
    for end in ends:
        end.close()


def answer(connector: ParentConnector, channel: Channel) -> None:
    """Pass the waiting records to the connector."""
    for record, descriptors in channel.receive():
        connector.on_record(record, descriptors)


@in_loop
async def test_the_main_process_answers_in_any_order(ends: tuple[Channel, Channel]) -> None:
    main, gateway = ends
    connector = ParentConnector(Parent(gateway))
    opening = [asyncio.ensure_future(connector.open("192.0.2.7", port)) for port in (1, 2, 3)]
    await asyncio.sleep(0)
    asked = [record for record, _ in main.receive()]
    assert asked == [
        {"open": number, "address": "192.0.2.7", "port": number} for number in (1, 2, 3)
    ]
    main.send({"refused": 3, "reason": "The room is full"})
    main.send({"failed": 1})
    with socket.socket() as connection:
        main.send({"opened": 2}, [connection.fileno()])
        answer(connector, gateway)
        with pytest.raises(UnreachableError):
            await opening[0]
        (await opening[1]).close()
        with pytest.raises(RefusedError, match=r"^The room is full$"):
            await opening[2]


@in_loop
async def test_a_connection_that_arrives_too_late_is_closed(
    ends: tuple[Channel, Channel], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "OPEN_WITHIN", 0.01)
    main, gateway = ends
    connector = ParentConnector(Parent(gateway))
    with pytest.raises(UnreachableError, match="does not answer"):
        await connector.open("192.0.2.7", 1)
    before = len(os.listdir("/proc/self/fd"))
    with socket.socket() as connection:
        main.send({"opened": 1}, [connection.fileno()])
        answer(connector, gateway)
    main.send({"failed": 1})
    main.send({"refused": 1, "reason": ""})
    answer(connector, gateway)
    assert len(os.listdir("/proc/self/fd")) == before


@in_loop
async def test_a_main_process_that_has_ended_is_unreachable(
    ends: tuple[Channel, Channel],
) -> None:
    main, gateway = ends
    main.close()
    with pytest.raises(UnreachableError, match="the room has ended"):
        await ParentConnector(Parent(gateway)).open("192.0.2.7", 1)


@in_loop
async def test_requests_beyond_the_limit_wait(ends: tuple[Channel, Channel]) -> None:
    main, gateway = ends
    connector = ParentConnector(Parent(gateway))
    opening = [
        asyncio.ensure_future(connector.open("192.0.2.7", 0)) for _ in range(MAX_OPENING + 5)
    ]
    await asyncio.sleep(0)
    asked = [record["open"] for record, _ in main.receive()]
    assert len(asked) == MAX_OPENING
    for number in asked:
        main.send({"failed": number})
    answer(connector, gateway)
    await asyncio.wait(opening[: len(asked)])
    await asyncio.sleep(0)
    rest = [record["open"] for record, _ in main.receive()]
    assert len(rest) == 5
    for number in rest:
        main.send({"failed": number})
    answer(connector, gateway)
    for found in await asyncio.gather(*opening, return_exceptions=True):
        assert isinstance(found, UnreachableError)


@in_loop
async def test_the_room_that_answered_last_is_asked_first() -> None:
    with socket.create_server((HERE, 0)) as first, socket.create_server((HERE, 0)) as second:
        rooms = [Endpoint(*server.getsockname()) for server in (first, second)]
        connector = TCPConnector(Rooms(rooms, proxy_header=False))
        (await connector.open("192.0.2.7", 1)).close()
        first.accept()[0].close()
        first.close()
        (await connector.open("192.0.2.7", 1)).close()
        second.accept()[0].close()
        with socket.create_server((HERE, rooms[0].port)) as again:
            (await connector.open("192.0.2.7", 1)).close()
            second.accept()[0].close()
            second.close()
            (await connector.open("192.0.2.7", 1)).close()
            again.accept()[0].close()
    with pytest.raises(UnreachableError, match=r"127\.0\.0\.1:\d+: Connection refused; 127"):
        await connector.open("192.0.2.7", 1)


@in_loop
async def test_a_room_that_trusts_the_gateway_gets_a_proxy_header() -> None:
    with socket.create_server((HERE, 0)) as server:
        connector = TCPConnector(Rooms([Endpoint(*server.getsockname())], proxy_header=True))
        with await connector.open("2001:db8::7", 4711):
            end, _ = server.accept()
            with end:
                header = parse(end.recv(1000))
        assert header is not None
        assert header[1:] == ("2001:db8::7", 4711)


@in_loop
async def test_a_room_that_does_not_answer_in_time_is_unreachable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "CONNECT_WITHIN", 0.05)
    with socket.socket() as server:
        server.bind((HERE, 0))
        server.listen(0)
        port = server.getsockname()[1]
        connector = TCPConnector(Rooms([Endpoint(HERE, port)], proxy_header=False))
        with (
            socket.create_connection((HERE, port)),  # fills the queue of connections
            pytest.raises(UnreachableError, match="no answer within"),
        ):
            await connector.open("192.0.2.7", 1)


@in_loop
async def test_a_room_that_ends_before_it_gets_the_header_is_unreachable(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server((HERE, 0)) as server:
        address = server.getsockname()

        async def connect(_room: Endpoint) -> socket.socket:
            """Return a connection that the room has reset."""
            connection = socket.create_connection(address)
            accepted, _ = server.accept()
            accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            accepted.close()
            with pytest.raises(ConnectionResetError):
                connection.recv(1)
            connection.setblocking(False)
            return connection

        monkeypatch.setattr(module, "_connect", connect)
        connector = TCPConnector(Rooms([Endpoint(*address)], proxy_header=True))
        with pytest.raises(UnreachableError, match="the room has ended"):
            await connector.open("192.0.2.7", 1)
