"""Sessions that move between gateways. All gateways run in this process, and a hub connects them,
as the main process does."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from chatroom.sidecars.parent import Parent
from chatroom.sidecars.web import claims as module
from chatroom.sidecars.web import gateway as gateways
from chatroom.sidecars.web import visitor
from chatroom.sidecars.web.claims import Claims
from chatroom.sidecars.web.closing import TAKEN_OVER, TOO_SLOW
from chatroom.sidecars.web.gateway import Gateway
from chatroom.sidecars.web.process import Rules
from chatroom.sidecars.web.site import Site
from chatroom.supervisor.session_moves import SessionMoves
from chatroom.system.channel import Channel, Record
from tests.sidecars.web.stage import PATIENCE, Client, FakeRoom, connect, create_listener, in_loop


class Hub:
    """Several gateways, and the part of the main process between them."""

    def __init__(self, count: int) -> None:
        self.room = FakeRoom()
        self.seen: list[Record] = []
        """Records that the gateways have sent."""
        self._news = asyncio.Event()
        self.handling = asyncio.Event()
        """Set while records of the gateways are handled; clear it to hold them back."""
        self.handling.set()
        self._moves = SessionMoves(count, self._tell)
        self._ports: list[int] = []
        self._clients: list[Client] = []
        self._gateways: list[Gateway] = []
        self._ours: list[Channel] = []
        self._theirs: list[Channel] = []
        self._tasks: list[asyncio.Task[None]] = []
        self._errors: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(
            lambda _, error: self._errors.append(error)
        )

    async def add(self, keep: float) -> None:
        """Add a gateway. `keep`: see Rules."""
        number = len(self._gateways)
        ours, theirs = Channel.pair()
        claims = Claims(Parent(theirs))
        gateway = Gateway(Site(), self.room, Rules(keep=keep), 100, number, claims)
        asyncio.get_running_loop().add_reader(theirs.socket, _pass, theirs, claims, gateway)
        listener = create_listener()
        await gateway.listen(listener, None)
        self._ports.append(listener.getsockname()[1])
        self._gateways.append(gateway)
        self._ours.append(ours)
        self._theirs.append(theirs)
        self._tasks.append(asyncio.create_task(self._serve(number)))

    async def close(self) -> None:
        for client in self._clients:
            client.cut()
        for member in self.room.members:
            member.close()
        for gateway in self._gateways:
            await gateway.stop()
        for task in self._tasks:
            task.cancel()
        await asyncio.wait(self._tasks)
        await asyncio.sleep(0)
        for channel in (*self._ours, *self._theirs):
            asyncio.get_running_loop().remove_reader(channel.socket)
            channel.close()
        assert not self._errors

    async def connect(self, gateway: int) -> Client:
        client = await connect(self._ports[gateway])
        self._clients.append(client)
        return client

    async def join(self, gateway: int) -> tuple[Client, str]:
        """Join at a gateway, and receive the welcome; return the client and its session's id."""
        client = await self.connect(gateway)
        session: str = (await client.join())["session"]
        await client.receive()
        return client, session

    async def resume(self, gateway: int, session: str, seen: int) -> tuple[Client, dict[str, Any]]:
        client = await self.connect(gateway)
        return client, await client.join(session, seen)

    async def ask(self, gateway: int, session: str) -> Client:
        """Send the first frame, and do not wait for the answer."""
        client = await self.connect(gateway)
        await client.request()
        client.send({"session": session, "seen": 1})
        return client

    async def until_seen(self, kind: str, count: int = 1) -> None:
        """Wait until the gateways have sent `count` records of this kind."""
        async with asyncio.timeout(PATIENCE):
            while sum(kind in record for record in self.seen) < count:
                self._news.clear()
                await self._news.wait()

    async def _serve(self, number: int) -> None:
        loop, channel = asyncio.get_running_loop(), self._ours[number]
        while True:
            readable = loop.create_future()
            loop.add_reader(channel.socket, readable.set_result, None)
            await readable
            loop.remove_reader(channel.socket)
            for record, descriptors in channel.receive():
                self.seen.append(record)
                self._news.set()
                await self.handling.wait()
                self._handle(number, record, descriptors)

    def _handle(self, number: int, record: Record, descriptors: list[int]) -> None:
        match record:
            case {"claim": id}:
                self._moves.claim(number, id)
            case {"released": id}:
                self._moves.on_released(number, id, descriptors)
            case {"gone": id} | {"kept": id}:
                self._moves.on_refused(number, record, id)
            case {"forget": id}:
                self._moves.forget(number, id)

    def _tell(self, number: int, record: Record, descriptors: Sequence[int]) -> None:
        self._ours[number].send(record, descriptors, owned=True)


def _pass(channel: Channel, claims: Claims, gateway: Gateway) -> None:
    for record, descriptors in channel.receive():
        assert claims.on_record(record, descriptors, gateway)


@asynccontextmanager
async def connected(count: int, keep: float = 60.0) -> AsyncIterator[Hub]:
    """Run gateways, and yield the hub that connects them."""
    hub = Hub(count)
    for _ in range(count):
        await hub.add(keep)
    try:
        yield hub
    finally:
        await hub.close()


@in_loop
async def test_a_session_moves_as_a_whole() -> None:
    """Kept lines, unfinished text, the room's connection, and input that the room has not read."""
    async with connected(3) as hub:
        client = await hub.connect(0)
        session = (await client.join())["session"]
        assert session.startswith("0-")
        await client.receive()
        count, text = 150, "x" * 20_000  # more than all buffers take
        for number in range(1, 21):
            client.send({"n": number, "say": text})
        hub.room.members[0].send("<x>1\n<y>2\n<z>unfin ü".encode())
        while [row[0] for row in (await client.receive()).get("lines", ())][-1:] != [4]:
            pass
        for gateway in (1, 2, 0, 1):
            client.cut()
            client, answer = await hub.resume(gateway, session, 1)
            assert (answer["session"], answer["missed"]) == (session, 0)
            assert await client.receive() == {
                "lines": [[2, "<x>1"], [3, "<y>2"], [4, "<z>unfin ü", 1]]
            }
        said = answer["said"]
        assert said < 20
        for number in range(said + 1, count + 1):
            client.send({"n": number, "say": text})
        expected = (text.encode() + b"\n") * count
        assert await hub.room.read(len(expected)) == expected
        while said < count:
            said = (await client.receive())["said"]
        hub.room.members[0].send(b"ished\n")
        assert await client.receive() == {"lines": [[4, "<z>unfin üished"]]}
        assert len(hub.room.members) == 1


@in_loop
async def test_input_that_has_moved_reaches_the_room_by_itself() -> None:
    async with connected(2) as hub:
        client, session = await hub.join(0)
        for number in range(1, 51):  # more than all buffers take
            client.send({"n": number, "say": f"{number:060000}"})
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.writer.drain()
        client, answer = await hub.resume(1, session, 1)
        said = answer["said"] + 1
        expected = "".join(f"{number:060000}\n" for number in range(1, said + 1))
        assert await hub.room.read(len(expected)) == expected.encode()
        assert (await client.receive())["said"] >= said


@in_loop
async def test_unfinished_text_that_was_not_shown_yet_is_shown_after_the_move() -> None:
    async with connected(2) as hub:
        client, session = await hub.join(0)
        hub.room.members[0].send(b"<x>1\n<y>unfin")
        assert await client.receive() == {"lines": [[2, "<x>1"]]}
        client, _ = await hub.resume(1, session, 2)
        assert await client.receive() == {"lines": [[3, "<y>unfin", 1]]}


@in_loop
async def test_the_older_websocket_is_closed() -> None:
    """The session moves even if it does not survive without a WebSocket (--web-keep 0)."""
    async with connected(2, keep=0.0) as hub:
        older, session = await hub.join(0)
        newer, answer = await hub.resume(1, session, 1)
        assert answer["session"] == session
        assert await older.closed() == (1000, TAKEN_OVER)
        newer.send({"n": 1, "say": "here"})
        assert await hub.room.read(5) == b"here\n"


@in_loop
async def test_gateways_that_claim_a_session_at_once_get_it_one_after_the_other() -> None:
    """Two WebSockets at one gateway count as one claim. One WebSocket has the session in the
    end."""
    async with connected(4) as hub:
        first, session = await hub.join(0)
        first.cut()
        hub.handling.clear()
        clients = [await hub.ask(gateway, session) for gateway in (1, 1, 2, 3)]
        await hub.until_seen("claim", 3)
        hub.handling.set()
        answers = [(await client.receive_frame())[1] for client in clients]
        hub.room.members[0].send(b"<x>2\n")
        heard = 0
        for client, answer in zip(clients, answers, strict=True):
            if b"session" in answer:
                frame = await client.receive()
                assert frame in ({"lines": [[2, "<x>2"]]}, {"closed": TAKEN_OVER})
                heard += "lines" in frame
        assert heard == 1
        assert len(hub.room.members) == 1


@in_loop
async def test_a_browser_that_leaves_while_it_waits_can_still_resume() -> None:
    async with connected(2) as hub:
        client, session = await hub.join(0)
        client.cut()
        hub.handling.clear()
        client = await hub.ask(1, session)
        await hub.until_seen("claim")
        client.cut()
        await (await hub.connect(1)).request("/")  # the gateway notices the cut before this
        hub.handling.set()
        await hub.until_seen("released")
        for gateway in (1, 0):
            client, answer = await hub.resume(gateway, session, 1)
            assert answer == {"session": session, "said": 0, "missed": 0}
            client.cut()


@in_loop
async def test_the_session_of_a_browser_that_leaves_while_it_waits_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(visitor, "ATTACH_WITHIN", 0.01)
    async with connected(2, keep=0.01) as hub:
        _, session = await hub.join(0)
        hub.handling.clear()
        other = await hub.ask(1, session)
        await hub.until_seen("claim")
        other.cut()
        await (await hub.connect(1)).request("/")
        hub.handling.set()
        async with asyncio.timeout(PATIENCE):
            assert await asyncio.get_running_loop().sock_recv(hub.room.members[0], 1) == b""


@in_loop
async def test_a_late_answer_keeps_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    """The gateway that has the session hangs for a while. The browser is told to connect again."""
    monkeypatch.setattr(module, "CLAIM_WITHIN", 0.05)
    async with connected(2) as hub:
        client, session = await hub.join(0)
        client.cut()
        hub.handling.clear()
        client = await hub.ask(1, session)
        assert await client.closed() == (1013, None)
        hub.handling.set()
        monkeypatch.setattr(module, "CLAIM_WITHIN", PATIENCE)
        client, answer = await hub.resume(1, session, 1)
        assert answer["session"] == session
        assert sum("claim" in record for record in hub.seen) == 1, "one claim, one answer"


@in_loop
async def test_a_gateway_without_memory_keeps_the_session(monkeypatch: pytest.MonkeyPatch) -> None:
    def exhausted(name: str, size: int) -> int:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    async with connected(2) as hub:
        client, session = await hub.join(0)
        with monkeypatch.context() as patch:
            patch.setattr(module, "anonymous_file", exhausted)
            other = await hub.ask(1, session)
            assert await other.closed() == (1013, None)
        client.send({"n": 1, "say": "still here"})
        assert await hub.room.read(11) == b"still here\n"
        _, answer = await hub.resume(1, session, 1)
        assert answer["session"] == session


@in_loop
async def test_a_client_whose_session_no_gateway_has_gets_a_new_one() -> None:
    async with connected(2) as hub:
        for session in ("0-" + "x" * 22, "1-" + "x" * 22, "63-" + "x" * 22):
            _, answer = await hub.resume(1, session, 7)
            assert answer["session"] != session
            assert answer["session"].startswith("1-")
            assert (answer["said"], answer["missed"]) == (0, 0)
        asked = len(hub.seen)
        for session in ("guessed", "0-short", "0-" + "x" * 60_000, "-1-" + "x" * 22):
            _, answer = await hub.resume(1, session, 7)
            assert answer["session"] != session
        assert len(hub.seen) == asked, "the main process is not asked about an invalid id"


@in_loop
async def test_a_session_that_has_moved_still_ends(monkeypatch: pytest.MonkeyPatch) -> None:
    """It ends when its time is over, or its browser leaves. Then the main process forgets it."""
    monkeypatch.setattr(visitor, "ATTACH_WITHIN", PATIENCE)
    async with connected(2, keep=0.05) as hub:
        for leaves in (False, True):
            hub.seen.clear()
            client, session = await hub.join(0)
            client, answer = await hub.resume(1, session, 1)
            assert answer["session"] == session
            if leaves:
                client.send_frame(0x88, (1000).to_bytes(2))
                assert (await client.closed())[0] == 1000
                client.writer.close()  # otherwise, the gateway would wait for it
            else:
                client.cut()
            member = hub.room.members[-1]
            async with asyncio.timeout(PATIENCE):
                assert await asyncio.get_running_loop().sock_recv(member, 1) == b""
            member.close()  # as the room does
            await hub.until_seen("forget")


@in_loop
async def test_a_browser_that_lags_is_told_so_after_it_has_moved() -> None:
    async with connected(2) as hub:
        client, session = await hub.join(0)
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        member, pauses = hub.room.members[0], 0
        while pauses < 20:
            try:
                member.send(b"<x>" + b"x" * 8000 + b"\n")
                pauses = 0
            except BlockingIOError:
                pauses += 1
                await asyncio.sleep(0.01)
        newer, _ = await hub.resume(1, session, 1)
        member.close()  # as the room disconnects a member that lags
        assert await newer.closed() == (1000, TOO_SLOW)


@in_loop
async def test_the_limit_of_sessions_without_a_websocket_applies_to_sessions_that_have_moved(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(gateways, "MAX_AWAY", 2)
    async with connected(2) as hub:
        for _ in range(3):
            client, session = await hub.join(0)
            client.cut()
            client, _ = await hub.resume(1, session, 1)
            client.cut()
        async with asyncio.timeout(PATIENCE):
            oldest = hub.room.members[0]
            assert await asyncio.get_running_loop().sock_recv(oldest, 1) == b""


@in_loop
async def test_a_full_gateway_takes_no_session_over(monkeypatch: pytest.MonkeyPatch) -> None:
    async with connected(2) as hub:
        client, session = await hub.join(0)
        monkeypatch.setattr(module.Claims, "claim", None)  # it is not even asked
        for _ in range(100):
            await (await hub.connect(1)).join()
        other = await hub.ask(1, session)
        assert await other.closed() == (1013, None)
        client.send({"n": 1, "say": "still here"})
        assert await hub.room.read(11, 0) == b"still here\n"
