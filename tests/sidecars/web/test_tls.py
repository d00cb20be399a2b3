"""Tests of connections over TLS: their limits and their certificate."""

import asyncio
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path

import pytest

from chatroom.errors import WebError
from chatroom.sidecars.web import connections, gateway, line_clients
from chatroom.sidecars.web.certificate import check, context, load
from chatroom.sidecars.web.connections import Connections
from chatroom.sidecars.web.line_clients import LineClients
from chatroom.sidecars.web.process import MAX_OTHERS, RESERVED, Certificate
from tests.integration import certificates
from tests.sidecars.web.stage import (
    PATIENCE,
    WELCOME,
    Client,
    FakeRoom,
    Stage,
    create_listener,
    in_loop,
    serving,
)


@pytest.fixture(name="tls", scope="module")
def fixture_tls(tmp_path_factory: pytest.TempPathFactory) -> tuple[ssl.SSLContext, ssl.SSLContext]:
    """Return the context of a server, and the context of a client that trusts it."""
    chain, key = certificates.make(tmp_path_factory.mktemp("tls"), "good")
    trusting = ssl.create_default_context(cafile=chain)
    return context(Certificate(chain, key)), trusting


TLS = tuple[ssl.SSLContext, ssl.SSLContext]


@asynccontextmanager
async def serving_lines(
    tls: ssl.SSLContext, used: Connections | None = None
) -> AsyncIterator[Stage]:
    """Run a server of line clients, and yield it with its room and clients."""
    listener = create_listener()
    stage = Stage(FakeRoom(), listener.getsockname()[1])
    server = LineClients(stage.room, used or Connections(100))
    await server.listen(listener, tls)
    try:
        yield stage
    finally:
        await stage.end()
        await server.stop()


async def line(client: Client) -> bytes:
    async with asyncio.timeout(PATIENCE):
        return await client.reader.readline()


@in_loop
async def test_tls_handshakes_are_limited(tls: TLS, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the limit, the oldest is closed, for browsers and for line clients."""
    monkeypatch.setattr(connections, "MAX_OTHERS", 2)
    monkeypatch.setattr(gateway, "HANDSHAKE_WITHIN", 2 * PATIENCE)
    monkeypatch.setattr(line_clients, "HANDSHAKE_WITHIN", 2 * PATIENCE)
    async with serving(tls=tls[0]) as browsers, serving_lines(tls[0]) as lines:
        for stage in (browsers, lines):
            silent = [await stage.connect() for _ in range(3)]
            assert await silent[0].ended() == b""
            for client in silent:
                client.cut()
        browser = await browsers.connect(tls[1])
        await browser.join()
        assert await line(await lines.connect(tls[1])) == WELCOME


@in_loop
async def test_many_connections_at_once_take_few_descriptors(
    tls: TLS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If they took all, the gateway could not receive a member's connection to the room."""
    monkeypatch.setattr(connections, "MAX_OTHERS", 2)
    count = 100
    async with serving() as plain, serving(tls=tls[0]) as browsers, serving_lines(tls[0]) as lines:
        for stage in (plain, browsers, lines):
            clients = [socket.create_connection(("127.0.0.1", stage.port)) for _ in range(count)]
            with watching_descriptors() as numbers:
                for client in clients[:-2]:
                    client.setblocking(False)
                    async with asyncio.timeout(PATIENCE):
                        assert await asyncio.get_running_loop().sock_recv(client, 1) == b""
            # A gateway has two listeners, which share the spare descriptors.
            assert max(numbers) - numbers[0] < (RESERVED - MAX_OTHERS) // 2
            for client in clients:
                client.close()


@contextmanager
def watching_descriptors() -> Iterator[list[int]]:
    """Yield a list that gets the number of open descriptors in each turn of the event loop."""
    numbers: list[int] = []
    stopped = asyncio.Event()

    def watch() -> None:
        if not stopped.is_set():
            numbers.append(len(os.listdir("/dev/fd")))
            asyncio.get_running_loop().call_soon(watch)

    watch()
    try:
        yield numbers
    finally:
        stopped.set()


@in_loop
async def test_what_was_sent_before_the_end_of_tls_reaches_the_room(tls: TLS) -> None:
    """LEAVE-2: the end may arrive together with frames that are not parsed yet."""
    async with serving(tls=tls[0]) as stage:
        client = await stage.connect(tls[1])
        await client.join()
        count = 100
        for number in range(1, count + 1):
            client.send({"n": number, "say": f"{number:020}"})
        client.writer.close()
        expected = b"".join(b"%020d\n" % number for number in range(1, count + 1))
        assert await stage.room.read(len(expected)) == expected


@in_loop
async def test_line_clients_are_limited_like_browsers(tls: TLS) -> None:
    """Each has two descriptors. When one leaves, there is a place for another."""
    server, trusting = tls
    async with serving_lines(server, Connections(1)) as stage:
        first = await stage.connect(trusting)
        assert await line(first) == WELCOME
        second = await stage.connect(trusting)
        assert await line(second) == b"The room is full\n"
        assert await second.ended() == b""
        first.writer.close()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            assert await loop.sock_recv(stage.room.members[0], 1) == b""
        stage.room.members[0].close()
        third = await stage.connect(trusting)
        assert await line(third) == WELCOME


@in_loop
async def test_all_line_clients_receive_the_last_lines_when_their_room_ends(
    tls: TLS, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Their connections are closed together. They are not limited like those of strangers."""
    monkeypatch.setattr(connections, "MAX_OTHERS", 1)
    monkeypatch.setattr(line_clients, "WRITE_LIMIT", 1 << 20)  # more than the kernel's buffers
    used = Connections(3)
    async with serving_lines(tls[0], used) as stage:
        clients = []
        for _ in range(3):
            clients.append(await stage.connect(tls[1]))
            assert await line(clients[-1]) == WELCOME
            clients[-1].writer.transport.pause_reading()  # type: ignore[attr-defined]
        for member in stage.room.members:
            async with asyncio.timeout(PATIENCE):
                await asyncio.get_running_loop().sock_sendall(member, bytes(1 << 19))
            member.close()
        async with asyncio.timeout(PATIENCE):
            while used._members:
                await asyncio.sleep(0)
        for client in clients:
            client.writer.transport.resume_reading()  # type: ignore[attr-defined]
            assert len(await client.ended()) == 1 << 19


@in_loop
async def test_over_tls_the_browser_has_checked_the_host(tls: TLS) -> None:
    async with serving(tls=tls[0]) as stage:
        client = await stage.connect(tls[1])
        await client.join(Host="room.example", Origin="https://room.example")


@in_loop
async def test_a_certificate_that_does_not_fit_changes_nothing(tmp_path: Path) -> None:
    """The file may be replaced after the main process has checked it."""
    chain, key = certificates.make(tmp_path, "good")
    trusting = ssl.create_default_context(cafile=chain)
    certificate = Certificate(chain, key)
    used = context(certificate)
    certificates.make(tmp_path, "other")[0].replace(chain)
    with pytest.raises(WebError, match="does not fit"):
        load(used, certificate)
    async with serving_lines(used) as stage:
        assert await line(await stage.connect(trusting)) == WELCOME


def test_a_file_with_a_damaged_part_after_the_certificate_is_an_error_in_one_line(
    tmp_path: Path,
) -> None:
    """Servers ignore the part, but the client of the check reads the whole file."""
    chain, key = certificates.make(tmp_path, "good")
    certificate = Certificate(chain, key)
    check(certificate)
    used = certificate.checked
    with chain.open("a") as file:
        file.write("-----BEGIN X509 CRL-----\nAAAA\n-----END X509 CRL-----\n")
    with pytest.raises(WebError, match=r"good\.pem can't be used"):
        check(certificate)
    assert certificate.checked is used
