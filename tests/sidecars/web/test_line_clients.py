"""Tests of line clients over TLS, in front of a fake room."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator

import pytest

from chatroom.sidecars.web.certificate import context
from chatroom.sidecars.web.connections import Connections
from chatroom.sidecars.web.line_clients import LineClients
from chatroom.sidecars.web.process import Certificate
from chatroom.sidecars.web.rooms import Connector
from tests.integration import certificates
from tests.sidecars.web.stage import PATIENCE, WELCOME, FakeRoom, in_loop


@pytest.fixture(name="tls", scope="module")
def fixture_tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the context of a server, and the context of a client that trusts it."""
    chain, key = certificates.make(tmp_path_factory.mktemp("tls"), "good")
    return context(Certificate(chain, key)), ssl.create_default_context(cafile=chain)


TLS = tuple[ssl.SSLContext, ssl.SSLContext]


@contextlib.asynccontextmanager
async def joined(room: Connector, tls: TLS) -> AsyncIterator[tuple[LineClients, ssl.SSLSocket]]:
    """Yield a server of line clients, and the blocking connection of a client."""
    server, trusting = tls
    clients = LineClients(room, Connections(100))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)  # the kernel's minimum
        await clients.listen(listener, server)
        at = listener.getsockname()

        def connect() -> ssl.SSLSocket:
            plain = socket.create_connection(at, PATIENCE)
            return trusting.wrap_socket(plain, server_hostname=at[0])

        with await asyncio.to_thread(connect) as client:
            try:
                yield clients, client
            finally:
                await clients.stop()


def receive(client: ssl.SSLSocket) -> bytes:
    """Return everything until the gateway closes the connection; then close it here, too."""
    data = b"".join(iter(lambda: client.recv(1 << 16), b""))
    client.close()
    return data


@in_loop
async def test_a_client_whose_room_connection_fails_is_disconnected(tls: TLS) -> None:
    class BrokenRoom:
        async def open(self, address: str, port: int) -> socket.socket:
            connection = socket.socket()
            connection.close()
            return connection

    async with joined(BrokenRoom(), tls) as (_, client):
        assert await asyncio.to_thread(receive, client) == b""


@in_loop
async def test_a_gateway_that_stops_waits_until_all_clients_have_the_last_lines(tls: TLS) -> None:
    """Otherwise, the end of the event loop would cut their connections. The client begins to
    read only after the stop has begun."""
    room, loop = FakeRoom(), asyncio.get_running_loop()
    async with joined(room, tls) as (clients, client):
        assert await asyncio.to_thread(client.recv, len(WELCOME)) == WELCOME
        [member] = room.members
        size = member.send(bytes(1 << 20))
        stopping = loop.create_task(clients.stop())
        async with asyncio.timeout(PATIENCE):
            assert await loop.sock_recv(member, 1) == b"", "the client has left the room"
        member.close()
        received = loop.run_in_executor(None, receive, client)
        await stopping
        assert not clients._clients
        assert await received == bytes(size)
