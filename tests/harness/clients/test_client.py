"""A scripted client, connected to a server in the same event loop."""

import asyncio
import contextlib
import re
import socket
import struct
import time
from collections.abc import Awaitable, Callable

import pytest

from harness.clients.client import CHUNK, KEPT, MAX_EVENTS, Client, Clock, Log, connect
from harness.clients.dialect import Echoes
from harness.errors import Violation

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
QUICK = Clock(0.02)


def play(serve: Serve, test: Callable[[Client], Awaitable[None]], clock: Clock = Clock()) -> Log:  # noqa: B008
    """Run a test with one client and a server; return the wire log."""
    log = Log()

    async def main() -> None:
        serving = set()

        async def handle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            serving.add(asyncio.current_task())
            try:
                with contextlib.suppress(ConnectionError):
                    await serve(reader, writer)
            except asyncio.CancelledError:
                writer.transport.abort()
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()

        server = await asyncio.start_server(handle, "127.0.0.1", 0)
        try:
            address = server.sockets[0].getsockname()
            client = await connect("A", address, "127.0.0.1", clock, log)
            try:
                await test(client)
            finally:
                client.close()
        finally:
            server.close()
            for task in serving:
                assert task
                task.cancel()
                await task

    async def bounded() -> None:
        await asyncio.wait_for(main(), 30)

    asyncio.run(bounded())
    return log


async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(1 << 16):
        writer.write(data)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


async def closing(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"full\n")


async def resetting(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    abort = struct.pack("ii", 1, 0)
    writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, abort)


async def deaf(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.transport.pause_reading()  # type: ignore[attr-defined]
    await asyncio.sleep(30)


async def flooding(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"garbage " * 8192)
        await writer.drain()


def test_hears_returns_the_bytes_up_to_the_token() -> None:
    async def test(client: Client) -> None:
        await client.say(b"one two three\n")
        assert await client.hears(b"two") == b"one two"
        assert await client.comes(b"three")
        assert await client.hears(b"ree\n") == b" three\n"
        assert client.heard == b""

    log = play(echo, test)
    said, heard = [(event.what, event.data) for event in log.events() if "s" in event.what][1:3]
    assert (said, heard) == (("sends", b"one two three\n"), ("receives", b"one two three\n"))
    assert [event.what for event in log.events()][::3] == ["connects", "closes"]


def test_a_token_is_found_after_the_echo_before_it_was_removed() -> None:
    """The token then begins where the unfinished echo was."""

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        line = await reader.readline()
        writer.write(line[:50])
        await reader.readline()
        writer.write(line[50:] + b"token\n")
        await reader.read()

    async def test(client: Client) -> None:
        client.echoes = Echoes(re.compile(b""))
        await client.say(b"x" * 100 + b"\n")
        found = asyncio.ensure_future(client.comes(b"token"))
        assert await client.waits(lambda: len(client.heard) == 50)
        await client.say(b"go on\n")
        assert await found

    play(serve, test)


@pytest.mark.parametrize("end", [b"\n", b"\r\n"])
def test_the_line_end_after_a_token_is_dropped(end: bytes) -> None:
    async def test(client: Client) -> None:
        await client.say(b"one")
        await client.hears_line(b"one")
        for byte in end:
            heard = len(log_of(client).events())
            await client.say(bytes([byte]))
            await client.waits(lambda h=heard: len(log_of(client).events()) > h + 1)  # type: ignore[misc]
        await client.say(b"two\n\n")
        await client.waits(lambda: client.heard.endswith(b"\n\n"))
        assert await client.hears_line(b"two") == b"two"
        assert client.heard == b"\n"

    play(echo, test)


def log_of(client: Client) -> Log:
    return client._log


def test_pieces_are_sent_separately() -> None:
    async def test(client: Client) -> None:
        longest = await client.say_in_pieces([b"a", b"b", b"c"], 0.01)
        assert 0.01 <= longest < 5
        assert await client.hears(b"abc") == b"abc"

    log = play(echo, test)
    assert [event.data for event in log.events() if event.what == "sends"] == [b"a", b"b", b"c"]


def test_a_missing_token_is_a_violation_after_the_clock_s_patience() -> None:
    async def test(client: Client) -> None:
        began = time.monotonic()
        with pytest.raises(Violation, match=r"A did not receive the expected text$") as caught:
            await client.hears(b"token")
        assert QUICK.patience <= time.monotonic() - began < 20 * QUICK.patience
        assert (caught.value.expected, caught.value.actual) == (b"token", b"")
        assert not await client.comes(b"token", 0)
        with pytest.raises(Violation, match="did not close the connection of A"):
            await client.hears_end()

    play(silent, test, QUICK)


def test_a_clock_scales_its_times() -> None:
    assert Clock(3).patience == 3 * Clock().patience
    assert Clock(3).window == pytest.approx(3 * Clock().window)


def test_a_client_notices_that_the_server_closes() -> None:
    async def test(client: Client) -> None:
        assert await client.hears_end() == b"full\n"
        assert client.ended == "closed"
        with pytest.raises(
            Violation, match="A did not receive the expected text, and its connection was closed"
        ):
            await client.hears(b"token")
        client.resume()

    assert "is closed by the server" in [event.what for event in play(closing, test).events()]


def test_a_client_notices_that_the_server_resets() -> None:
    async def test(client: Client) -> None:
        await client.waits(lambda: False)
        assert client.ended == "reset"
        with pytest.raises(Violation, match="connection of A failed while it sent: "):
            await client.say(b"hello")

    play(resetting, test)


def test_a_server_that_stops_reading_is_a_violation() -> None:
    async def test(client: Client) -> None:
        with pytest.raises(Violation, match="the server stopped reading from A"):
            await client.say(bytes(32 << 20))

    log = play(deaf, test, Clock(0.1))
    assert [(len(event.data), event.size) for event in log.events() if event.what == "sends"] == [
        (KEPT, 32 << 20)
    ]


def test_a_client_keeps_a_flood_only_up_to_a_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("harness.clients.client.MOST", 2 << 20)

    async def test(client: Client) -> None:
        began = time.monotonic()
        with pytest.raises(Violation, match="A received 2 MiB without the expected text"):
            await client.hears(b"token")
        assert time.monotonic() - began < Clock().patience
        assert 2 << 20 <= len(client.heard) < (2 << 20) + CHUNK
        assert await client.comes(b"garbage")  # in the data that was kept
        before = client.reading
        client.take(1 << 20)  # makes room, so that the client reads again
        assert (before, client.reading) == (False, True)
        assert await client.waits(lambda: len(client.heard) >= 2 << 20)

    log = play(flooding, test)
    assert len(log.events()) < MAX_EVENTS


def test_finish_ends_the_output_and_reset_the_connection() -> None:
    async def finishing(client: Client) -> None:
        await client.say(b"bye")
        client.finish()
        assert await client.hears_end() == b"bye"

    play(echo, finishing)

    got: asyncio.Queue[object] = asyncio.Queue()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            got.put_nowait(await reader.read())
        except ConnectionResetError as error:
            got.put_nowait(error)

    async def reset(client: Client) -> None:
        client.reset()
        client.reset()
        client.close()
        assert isinstance(await got.get(), ConnectionResetError)

    play(serve, reset)


def test_a_paused_client_receives_nothing_until_it_resumes() -> None:
    async def test(client: Client) -> None:
        client.pause()
        await client.say(b"hello")
        assert not await client.comes(b"hello", 0.1)
        client.resume()
        assert await client.comes(b"hello")

    play(echo, test)


def test_a_refused_connection_is_a_violation() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        with pytest.raises(Violation, match="A could not connect: Connection refused"):
            asyncio.run(connect("A", taken.getsockname(), None, QUICK, Log()))


def test_a_connection_that_is_not_accepted_is_a_violation() -> None:
    with socket.create_server(("127.0.0.1", 0), backlog=0) as full, contextlib.ExitStack() as stack:
        for _ in range(4):
            waiting = stack.enter_context(socket.socket())
            waiting.setblocking(False)
            waiting.connect_ex(full.getsockname())
        with pytest.raises(Violation, match="A could not connect: no answer"):
            asyncio.run(connect("A", full.getsockname(), None, QUICK, Log()))


def test_an_address_of_another_machine_is_an_error() -> None:
    with pytest.raises(OSError, match="assign requested address"):
        asyncio.run(connect("A", ("127.0.0.1", 9), "192.0.2.1", QUICK, Log()))


def test_a_log_keeps_the_first_and_the_last_events() -> None:
    log = Log()
    for number in range(3 * MAX_EVENTS):
        log.add("A", "sends", b"%d" % number + bytes(KEPT))
        assert len(log.events()) <= MAX_EVENTS
    kept = [int(event.data.rstrip(b"\0")) for event in log.events()]
    assert kept == [*range(MAX_EVENTS // 2), *range(5 * MAX_EVENTS // 2, 3 * MAX_EVENTS)]
    assert log.dropped == 2 * MAX_EVENTS
    assert {len(event.data) for event in log.events()} == {KEPT}
    assert log.events()[0].size == KEPT + 1
