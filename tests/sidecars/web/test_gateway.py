"""The gateway, with a fake room and with raw clients that break the protocol."""

import asyncio
from typing import Any

import pytest

from chatroom.sidecars.web import connections, websocket
from chatroom.sidecars.web import gateway as module
from chatroom.sidecars.web.closing import TAKEN_OVER, TOO_SLOW
from chatroom.sidecars.web.process import Rules
from chatroom.sidecars.web.rooms import RefusedError
from chatroom.system.networks import parse_network
from tests.sidecars.web.stage import BINARY, CLOSE, PATIENCE, PING, PONG, TEXT, in_loop, serving


@in_loop
async def test_a_client_joins_sends_and_receives() -> None:
    async with serving() as stage:
        client = await stage.connect()
        answer = await client.join()
        assert answer == {"session": answer["session"], "said": 0, "missed": 0}
        assert await client.receive() == {"lines": [[1, "Welcome"]]}
        client.send({"n": 1, "say": "a\nb", "another": "key is ignored"})
        assert await stage.room.read(4) == b"a\nb\n"
        assert await client.receive() == {"said": 1}
        stage.room.members[0].send(b"<x>1\n<y>2\n")
        assert await client.receive() == {"lines": [[2, "<x>1"], [3, "<y>2"]]}
        assert stage.room.addresses == [client.writer.get_extra_info("sockname")]


@in_loop
async def test_fragments_are_one_message_and_pings_are_answered() -> None:
    async with serving() as stage:
        client = await stage.connect()
        await client.join()
        await client.receive()
        text = '{"n": 1, "say": "ü"}'.encode()
        cut = text.index("ü".encode()) + 1
        client.send_frame(0x01, text[:cut])
        client.send_frame(PING, b"inside")
        client.send_frame(0x80, text[cut:])
        assert await client.receive_frame() == (PONG, b"inside")
        assert await stage.room.read(3) == "ü\n".encode()


BROKEN = {
    "not masked": (TEXT, b"{}", None, 1002),
    "a reserved bit": (TEXT | 0x40, b"{}", b"\0\0\0\0", 1002),
    "a reserved opcode": (0x83, b"", b"\0\0\0\0", 1002),
    "a reserved control opcode": (0x8B, b"", b"\0\0\0\0", 1002),
    "a continuation without a beginning": (0x80, b"{}", b"\0\0\0\0", 1002),
    "a fragmented ping": (0x09, b"", b"\0\0\0\0", 1002),
    "a long ping": (PING, b"x" * 126, b"\0\0\0\0", 1002),
    "a close of one byte": (CLOSE, b"\3", b"\0\0\0\0", 1002),
    "a close with a wrong code": (CLOSE, b"\3\xed", b"\0\0\0\0", 1002),
    "not UTF-8": (TEXT, b'{"n": 1, "say": "\xff"}', b"\0\0\0\0", 1007),
    "a surrogate": (TEXT, b"\xed\xa0\x80", b"\0\0\0\0", 1007),
    "too long": (TEXT, b" " * (module.MAX_FRAME + 1), b"\0\0\0\0", 1009),
    "binary": (BINARY, b"{}", b"\0\0\0\0", 1008),
    "no object": (TEXT, b"[]", b"\0\0\0\0", 1008),
    "no JSON": (TEXT, b"{", b"\0\0\0\0", 1008),
    "a wrong number": (TEXT, b'{"n": 3, "say": ""}', b"\0\0\0\0", 1008),
    "no text": (TEXT, b'{"n": 1, "say": 1}', b"\0\0\0\0", 1008),
    "a line that was not sent": (TEXT, b'{"seen": 9}', b"\0\0\0\0", 1008),
}


@pytest.mark.parametrize("name", BROKEN)
@in_loop
async def test_a_broken_frame_closes_only_its_websocket(name: str) -> None:
    """The frames break RFC 6455, 5.1 to 5.6, 7.4, 8.1 and 10.4, or the protocol of the page. The
    session continues."""
    first, payload, mask, code = BROKEN[name]
    async with serving() as stage:
        client, other = await stage.connect(), await stage.connect()
        session = (await client.join())["session"]
        await client.receive()
        await other.join()
        await other.receive()
        client.send_frame(first, payload, mask)
        found, reason = await client.closed()
        assert (found, reason is not None) == (code, code == 1008)
        again = await stage.connect()
        assert (await again.join(session, 1))["session"] == session
        other.send({"n": 1, "say": "undisturbed"})
        assert await stage.room.read(12) == b"undisturbed\n"


@in_loop
async def test_a_fragmented_message_is_limited_as_a_whole() -> None:
    async with serving() as stage:
        client = await stage.connect()
        await client.join()
        client.send_frame(0x01, b" " * module.MAX_FRAME)
        client.send_frame(0x80, b" ")
        assert await client.closed() == (1009, None)


@in_loop
async def test_compression_is_refused() -> None:
    """So no client can send a compression bomb."""
    async with serving() as stage:
        client = await stage.connect()
        head = await client.request(Sec_WebSocket_Extensions="permessage-deflate")
        assert head.startswith(b"HTTP/1.1 101 ")
        assert b"extensions" not in head.lower()


REQUESTS: dict[str, tuple[dict[str, Any], bytes]] = {
    "another version": ({"Sec_WebSocket_Version": "12"}, b"400"),
    "no upgrade": ({"Upgrade": "h2c"}, b"426"),
    "a short key": ({"Sec_WebSocket_Key": "AAAA"}, b"400"),
    "another method": ({"method": "POST"}, b"405"),
    "a long header": ({"X": "x" * 9000}, b"431"),
    "many headers": ({f"X{number}": "" for number in range(130)}, b"431"),
    "a long path": ({"path": "/" + "x" * 9000}, b"414"),
    "headers of two proxies": (
        {"Forwarded": "for=192.0.2.1", "X_Forwarded_For": "192.0.2.1"},
        b"400",
    ),
    "another site": ({"Origin": "https://evil.example"}, b"403"),
}


@pytest.mark.parametrize("name", REQUESTS)
@in_loop
async def test_a_bad_request_is_refused(name: str) -> None:
    headers, status = REQUESTS[name]
    trusted = Rules(proxies=(parse_network("127.0.0.0/8"),))
    async with serving(trusted) as stage:
        client = await stage.connect()
        head = await client.request(**headers)
        assert head.startswith(b"HTTP/1.1 " + status), head
        assert b"nosniff" in head or status in (b"431", b"414", b"400")
        await client.ended()


@in_loop
async def test_with_dns_rebinding_no_page_can_join() -> None:
    """The Host is then a name of the attacker. A trusted proxy may pass on any name."""
    async with serving(Rules(origins=("https://chat.example",))) as stage:
        for path in ("/", "/room"):
            client = await stage.connect()
            head = await client.request(path, Host="evil.example", Origin="http://evil.example")
            assert head.startswith(b"HTTP/1.1 421 ")
            assert b"nosniff" in head
            assert b"--web-origin http://NAME:PORT" in await client.ended()
        client = await stage.connect()
        await client.join(Host="chat.example", Origin="http://chat.example")
    async with serving(Rules(proxies=(parse_network("127.0.0.0/8"),))) as stage:
        client = await stage.connect()
        await client.join(Host="room.example", Origin="http://room.example")


@pytest.mark.parametrize("next_", [b"GET / HTTP/1.1\r\n\r\n", b"\x88\x80\0\0\0\0"])
@in_loop
async def test_bytes_after_a_request_end_the_connection_and_log_nothing(
    next_: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    """The bytes are a second request, or a frame that closes a WebSocket before it is open."""
    async with serving() as stage:
        client = await stage.connect()
        client.writer.write(b"GET / HTTP/1.1\r\n\r\n" + next_)
        assert await client.ended() == b""
    assert not caplog.records


@pytest.mark.parametrize(
    "request_",
    [
        b"GET / HTTP/3.0\r\n\r\n",
        b"GET /\r\n\r\n",
        b"GET / HTTP/1.1\r\nno header\r\n\r\n",
        b"POST / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabcde",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\n",
        b"\r\n",
    ],
)
@in_loop
async def test_data_that_is_no_valid_request_closes_the_connection(request_: bytes) -> None:
    async with serving() as stage:
        client = await stage.connect()
        client.writer.write(request_)
        assert await client.ended() == b""


@in_loop
async def test_a_request_that_never_ends_is_cut_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "HANDSHAKE_WITHIN", 0.1)
    async with serving() as stage:
        client = await stage.connect()
        client.writer.write(b"GET /room HTTP/1.1\r\nHost: ")
        assert await client.ended() == b""


@in_loop
async def test_a_client_that_sends_no_first_frame_is_closed(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "HANDSHAKE_WITHIN", 0.1)
    async with serving() as stage:
        client = await stage.connect()
        await client.request()
        assert await client.closed() == (1008, "no frame came within 0.1 s")
        assert not stage.room.members


@pytest.mark.parametrize(
    "first", [{"session": 1}, {"seen": -1}, [], {"session": None, "seen": "x"}]
)
@in_loop
async def test_a_wrong_first_frame_makes_no_member(first: object) -> None:
    async with serving() as stage:
        client = await stage.connect()
        await client.request()
        client.send(first)
        assert (await client.closed())[0] == 1008
        assert not stage.room.members


@in_loop
async def test_a_client_with_an_unknown_session_gets_a_new_one() -> None:
    async with serving() as stage:
        client = await stage.connect()
        answer = await client.join("guessed", 7)
        assert answer["session"] != "guessed"
        assert (answer["said"], answer["missed"]) == (0, 0)
        assert await client.receive() == {"lines": [[1, "Welcome"]]}


@in_loop
async def test_a_client_is_told_that_the_room_refuses_it_or_can_not_be_reached() -> None:
    async with serving() as stage:
        stage.room.refuses = "The room is full"
        client = await stage.connect()
        await client.request()
        client.send({"session": None})
        assert await client.closed() == (1000, "The room is full")
        stage.room.refuses, stage.room.stopping = "", True
        client = await stage.connect()
        await client.request()
        client.send({"session": None})
        assert await client.closed() == (1013, None)


@in_loop
async def test_more_sessions_than_descriptors_are_refused() -> None:
    async with serving(capacity=1) as stage:
        first, second = await stage.connect(), await stage.connect()
        await first.join()
        await second.request()
        second.send({"session": None})
        assert await second.closed() == (1000, "The room is full")


@in_loop
async def test_one_address_can_not_fill_the_room_with_sessions_without_a_websocket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond the limit, the oldest of these sessions ends. A resumed session does not count."""
    monkeypatch.setattr(module, "MAX_AWAY", 2)
    async with serving() as stage:
        sessions = []
        for _ in range(4):
            client = await stage.connect()
            sessions.append((await client.join())["session"])
            client.cut()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            for left in stage.room.members[:2]:
                assert await loop.sock_recv(left, 1) == b""
                left.close()  # as a real room does
        for session in sessions[2:]:
            client = await stage.connect()
            assert (await client.join(session))["session"] == session
        for session in sessions[:2]:
            client = await stage.connect()
            assert (await client.join(session))["session"] != session
        assert len(stage.room.members) == 6


@in_loop
async def test_the_end_of_a_websocket_that_was_taken_over_does_not_end_the_session() -> None:
    """The client confirms the close, as RFC 6455 demands (5.5.1), while it has no other WebSocket:
    the newer one was cut."""
    async with serving() as stage:
        older, newer = await stage.connect(), await stage.connect()
        session = (await older.join())["session"]
        await newer.join(session)
        assert await older.closed() == (1000, TAKEN_OVER)
        newer.cut()
        await (await stage.connect()).request("/")  # the gateway notices the cut before this
        older.send_frame(CLOSE, (1000).to_bytes(2))
        await older.ended()
        older.cut()
        await (await stage.connect()).request("/")
        assert (await (await stage.connect()).join(session))["session"] == session


@in_loop
async def test_a_room_that_ends_without_a_reason_may_be_joined_again() -> None:
    async with serving() as stage:
        client = await stage.connect()
        session = (await client.join())["session"]
        await client.receive()
        stage.room.members[0].send(b"<x>last\n<y>unfinished")
        stage.room.members[0].close()
        numbers: list[int] = []
        while len(numbers) < 2:
            numbers += [row[0] for row in (await client.receive())["lines"]]
        assert numbers == [2, 3]
        assert await client.closed() == (1012, None)
        client = await stage.connect()
        assert (await client.join(session, 2))["session"] != session


@in_loop
async def test_a_flooding_client_is_read_no_faster_than_the_room_reads() -> None:
    """The client is throttled, and its messages are not lost."""
    async with serving() as stage:
        client = await stage.connect()
        await client.join()
        count, text = 150, "x" * 20_000
        for number in range(1, count + 1):
            client.send({"n": number, "say": text})
        size = len(text) + 1
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.5):
                await client.writer.drain()
        first = await stage.room.read(size * count)
        assert first == (text.encode() + b"\n") * count


@in_loop
async def test_the_memory_for_a_client_that_does_not_read_is_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The gateway stops reading from the room, so the room's limit for the lag applies. The client
    receives the reason."""
    async with serving() as stage:
        client, other = await stage.connect(), await stage.connect()
        await client.join()
        await other.join()
        await other.receive()
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        slow, sent = stage.room.members[0], 0
        line = b"<x>" + b"x" * 8000 + b"\n"
        pauses = 0
        while pauses < 20:
            try:
                sent += slow.send(line)
                pauses = 0
            except BlockingIOError:
                pauses += 1
                await asyncio.sleep(0.01)
        assert sent < 16 << 20, "the gateway reads on from the room"
        stage.room.members[1].send(b"<x>undisturbed\n")
        assert await other.receive() == {"lines": [[2, "<x>undisturbed"]]}
        slow.close()  # as a real room disconnects a member that lags too much
        client.writer.transport.resume_reading()  # type: ignore[attr-defined]
        assert await client.closed() == (1000, TOO_SLOW)


@in_loop
async def test_a_client_that_never_reads_loses_its_websocket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The gateway does not rely on pings, because it can send none while the buffer is full. The
    session continues."""
    monkeypatch.setattr(websocket, "STALLED_AFTER", 0.1)
    async with serving() as stage:
        client = await stage.connect()
        session = (await client.join())["session"]
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]
        data = b"<x>" + b"x" * 8000 + b"\n"
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            for _ in range(4000):  # more than the kernel's buffers take, so the gateway must read
                await loop.sock_sendall(stage.room.members[0], data)
        again = await stage.connect()
        answer = await again.join(session)
        assert answer["session"] == session
        assert answer["missed"] > 3000


@in_loop
async def test_a_client_that_does_not_answer_pings_loses_its_websocket(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The session continues, because the client's network may come back."""
    monkeypatch.setattr(module, "PING_EVERY", 0.1)
    async with serving() as stage:
        client = await stage.connect()
        session = (await client.join())["session"]
        await client.receive()
        assert (await client.receive_frame())[0] == PING
        assert await client.closed() == (1011, None)
        again = await stage.connect()
        assert (await again.join(session, 1))["session"] == session


@pytest.mark.parametrize("resumes", [True, False])
@in_loop
async def test_a_client_that_vanishes_after_its_first_frame_does_not_stay_a_member(
    resumes: bool,
) -> None:
    async with serving(Rules(keep=0.1)) as stage:
        client = await stage.connect()
        session = (await client.join())["session"] if resumes else None
        client.cut()
        for number in range(30):
            client = await stage.connect()
            await client.request()
            client.send({"session": session})
            for _ in range(number % 6):
                await asyncio.sleep(0)
            client.cut()
        loop = asyncio.get_running_loop()
        for member in stage.room.members:
            async with asyncio.timeout(PATIENCE):
                assert await loop.sock_recv(member, 1) == b""


@in_loop
async def test_a_client_that_pings_and_does_not_read_is_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Otherwise the answers to its pings would fill the memory. The session continues."""
    monkeypatch.setattr(websocket, "MAX_BUFFER", 100_000)
    for rate in ("FRAMES_PER_SECOND", "ALL_FRAMES_PER_SECOND"):
        monkeypatch.setattr(websocket, rate, 1e9)
    async with serving() as stage:
        client = await stage.connect()
        session = (await client.join())["session"]
        client.writer.transport.pause_reading()  # type: ignore[attr-defined]

        async def flood() -> None:
            while True:
                for _ in range(100):
                    client.send_frame(PING, bytes(125))
                await client.writer.drain()
                await asyncio.sleep(0)

        with pytest.raises(ConnectionError):
            await asyncio.wait_for(flood(), PATIENCE)
        again = await stage.connect()
        assert (await again.join(session))["session"] == session


@in_loop
async def test_a_flood_of_pings_is_throttled_and_loses_nothing(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Pings cost the room nothing, so the room does not throttle them."""
    monkeypatch.setattr(websocket, "FRAMES_PER_SECOND", 8_000)
    count = 1_500
    least = count * websocket.CONTROL_COST / 8_000 - websocket.HOLD_AFTER
    async with serving() as stage:
        client = await stage.connect()
        await client.join()
        await client.receive()
        begin = asyncio.get_running_loop().time()
        for number in range(count):
            client.send_frame(PING, b"%d" % number)
        client.send({"n": 1, "say": "after them"})
        for number in range(count):
            assert await client.receive_frame() == (PONG, b"%d" % number)
        assert asyncio.get_running_loop().time() - begin >= least
        assert await stage.room.read(11) == b"after them\n"


def test_many_flooding_clients_share_one_rate() -> None:
    rate = websocket.FrameRate()
    alone = rate.seconds(1_000)
    assert alone == 1_000 / websocket.FRAMES_PER_SECOND
    rate.held = 1_000
    assert rate.seconds(1_000) == 1_000 * 1_000 / websocket.ALL_FRAMES_PER_SECOND > alone


@in_loop
async def test_a_throttled_client_counts_until_it_is_read_again(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket, "FRAMES_PER_SECOND", 10)
    rate = websocket.FrameRate()
    monkeypatch.setattr(module, "FrameRate", lambda: rate)
    async with serving() as stage:
        client = await stage.connect()
        await client.join()
        client.send_frame(PING, b"")
        async with asyncio.timeout(PATIENCE):
            while rate.held != 1:
                await asyncio.sleep(0)
            while rate.held != 0:
                await asyncio.sleep(0.01)


@in_loop
async def test_connections_without_a_member_are_limited(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Beyond the limit, the oldest of them is closed. Connections of members do not count."""
    monkeypatch.setattr(connections, "MAX_OTHERS", 2)
    async with serving() as stage:
        member = await stage.connect()
        await member.join()
        await member.receive()
        slow = [await stage.connect() for _ in range(3)]
        assert await slow[0].ended() == b""
        head = await slow[2].request("/")
        assert head.startswith(b"HTTP/1.1 200 ")
        member.send({"n": 1, "say": "still here"})
        assert await stage.room.read(11) == b"still here\n"


@in_loop
async def test_a_client_that_leaves_before_the_room_refuses_it_is_forgotten(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    used = connections.Connections(100)
    monkeypatch.setattr(module, "Connections", lambda _: used)
    asked, gone = asyncio.Event(), asyncio.Event()

    async def refuse(*_: object) -> None:
        asked.set()
        await gone.wait()
        raise RefusedError("too late")

    async with serving() as stage:
        monkeypatch.setattr(stage.room, "open", refuse)
        client = await stage.connect()
        await client.request()
        client.send({"session": None})
        async with asyncio.timeout(PATIENCE):
            await asked.wait()
            client.cut()
            while used._others:
                await asyncio.sleep(0)
        assert used._members == 1
        gone.set()
        async with asyncio.timeout(PATIENCE):
            while used._members:
                await asyncio.sleep(0)
        assert not used._others


@in_loop
async def test_all_members_receive_the_last_lines_when_their_room_ends(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Their connections are closed together. They are not limited like those of strangers."""
    monkeypatch.setattr(connections, "MAX_OTHERS", 1)
    async with serving(capacity=3) as stage:
        clients = []
        for _ in range(3):
            clients.append(await stage.connect())
            await clients[-1].join()
            await clients[-1].receive()
        for member in stage.room.members:
            member.send(b"The room ends\n")
            member.close()
        for client in clients:
            assert (await client.receive())["lines"][-1][1] == "The room ends"
            assert (await client.closed())[0] == 1012


@in_loop
async def test_all_messages_reach_the_room_before_their_sender_leaves() -> None:
    """LEAVE-2: the client closes its WebSocket with code 1000 while the room throttles it."""
    async with serving() as stage:
        client = await stage.connect()
        await client.join()
        count = 30
        for number in range(1, count + 1):
            client.send({"n": number, "say": "x" * 20_000})
        client.send_frame(CLOSE, b"\x03\xe8")
        assert await stage.room.read(count * 20_001) == (b"x" * 20_000 + b"\n") * count
        assert (await client.closed())[0] == 1000
        client.writer.close()
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            assert await loop.sock_recv(stage.room.members[0], 1) == b""


@in_loop
async def test_a_client_that_does_not_end_its_connection_is_disconnected(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(websocket, "CLOSE_WITHIN", 0.1)
    async with serving() as stage:
        client = await stage.connect()
        await client.join()
        client.send_frame(CLOSE, b"\x03\xe8")
        assert (await client.closed())[0] == 1000
        loop = asyncio.get_running_loop()
        async with asyncio.timeout(PATIENCE):
            assert await loop.sock_recv(stage.room.members[0], 1) == b""
