"""Requests to the nodes of a cluster, without and with a NATS server."""

import asyncio
import json
import random
import socket
import tempfile
import threading
import zlib
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from nats.aio.client import Client
from nats.aio.msg import Msg

from chatroom.config.cluster_url import ClusterURL
from chatroom.sidecars.cluster import requests
from chatroom.sidecars.cluster.engine import connect, nodes_subject, request_subject
from chatroom.sidecars.cluster.process import Credentials, Node
from chatroom.sidecars.cluster.requests import (
    RemoteNode,
    Responder,
    ask,
    find_nodes,
    from_parts,
    named,
    node_name,
    to_parts,
)
from tests.integration.engines import Engine, engine
from tests.integration.waiting import PATIENCE

LOST = RemoteNode("0123456789abcdef", "lost")


# --- names ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("addresses", "name"),
    [
        ("192.0.2.1:4000", "192.0.2.1:4000"),
        ("192.0.2.1:4000, unix:/run/room", "192.0.2.1:4000"),
        ("127.0.0.1:4000", "127.0.0.1:4000"),
        ("[2001:db8::1]:4000", "[2001:db8::1]:4000"),
        ("[fe80::1%eth0]:4000", "[fe80::1%eth0]:4000"),
        ("0.0.0.0:4000", "kitchen:4000"),
        ("[::]:4000, 192.0.2.1:4001", "kitchen:4000"),
        ("unix:/run/room", "kitchen:unix:/run/room"),
    ],
)
def test_a_node_is_named_after_an_address_that_no_other_machine_has(
    addresses: str, name: str
) -> None:
    assert node_name(addresses, "kitchen") == name


def reply(name: str, number: str = "0123456789abcdef", host: str = "kitchen") -> dict[str, str]:
    return {"name": name, "number": number, "host": host}


def test_nodes_with_equal_names_are_told_apart() -> None:
    found = [reply("b"), reply("x", "1" * 16), reply("a"), reply("x", "2" * 16, "hall")]
    assert [node.name for node in named(found)] == [
        "a",
        "b",
        "x#hall-22222222",
        "x#kitchen-11111111",
    ]
    assert [node.number for node in named(found)][2:] == ["2" * 16, "1" * 16]


# --- parts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("length", [0, 1, 1000, 100_000])
def test_an_answer_is_divided_into_parts_of_the_given_size(length: int) -> None:
    text = random.Random(1).randbytes(length).hex()
    answer = {"text": text}
    parts = to_parts(json.dumps(answer).encode(), 1000)
    assert all(len(part) <= 1000 for part in parts)
    assert [len(part) for part in parts[:-1]] == [1000] * (len(parts) - 1), "parts are full"
    assert (len(parts) > 1) == (length >= 1000)
    assert from_parts(parts) == answer


@pytest.mark.parametrize(
    "data", [b"", b"\0\0x", b"\0\0" + zlib.compress(b"[]"), b"\0\0" + zlib.compress(b"{")]
)
def test_an_answer_that_can_not_be_read_is_an_error(data: bytes) -> None:
    with pytest.raises((ValueError, zlib.error)):
        from_parts([data])


# --- with a server -------------------------------------------------------------------------------


@contextmanager
def room(answer: Callable[[Any], bytes | None]) -> Iterator[Path]:
    """Run a fake room. `answer` returns the line for a request, or None to close the connection."""
    with (
        tempfile.TemporaryDirectory(prefix="run-") as folder,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        path = Path(folder, "room")
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            while True:
                end, _ = listener.accept()
                with end, end.makefile("rb") as file:
                    request = json.loads(file.readline())
                    if request == "the end":
                        return
                    line = answer(request)
                    if line is not None:
                        end.sendall(line)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield path
        finally:
            with socket.socket(socket.AF_UNIX) as last:
                last.connect(str(path))
                last.sendall(b'"the end"\n')
                thread.join(PATIENCE)


def run(nats: Engine, use: Callable[[Client], Awaitable[None]]) -> None:
    """Connect, and run `use`."""

    async def connected() -> None:
        client = await connect(ClusterURL.parse(nats.url()), Credentials(), "test", attempts=1)
        try:
            await use(client)
        finally:
            await client.close()

    asyncio.run(connected())


def node(nats: Engine, number: int, control: Path | None) -> Node:
    url = ClusterURL.parse(nats.url())
    return Node(number, f"127.0.0.1:{number}", url, Credentials(), 0, control)


@pytest.fixture(name="nats")
def fixture_nats(tmp_path: Path) -> Iterator[Engine]:
    with engine(tmp_path, jetstream=False) as nats:
        yield nats


def test_each_node_is_found_and_passes_requests_to_its_room(nats: Engine) -> None:
    asked = []

    def answer(request: Any) -> bytes:
        asked.append(request)
        return b'{"kicked": [7]}\n'

    async def use(client: Client) -> None:
        await Responder(client, node(nats, 1, path)).start()
        await Responder(client, node(nats, 2, None)).start()
        first, second = await find_nodes(client, "room")
        assert [first.name, second.name] == ["127.0.0.1:1", "127.0.0.1:2"]
        assert await ask(client, "room", first, {"do": "kick", "who": "7"}) == {"kicked": [7]}
        assert await ask(client, "room", second, {"do": "kick", "who": "7"}) == {
            "error": "the room has no control socket; set another --run-dir"
        }
        assert await find_nodes(client, "other") == []

    with room(answer) as path:
        run(nats, use)
    assert asked == [{"do": "kick", "who": "7"}]


def test_an_answer_may_be_larger_than_a_message_of_nats(nats: Engine) -> None:
    """The text can't be compressed to less than half of its size."""
    text = random.Random(1).randbytes(3_000_000).hex()

    async def use(client: Client) -> None:
        await Responder(client, node(nats, 1, path)).start()
        (found,) = await find_nodes(client, "room")
        assert await ask(client, "room", found, {"ask": "status"}) == {"text": text}

    with room(lambda _: json.dumps({"text": text}).encode() + b"\n") as path:
        run(nats, use)


def test_the_reason_is_given_if_there_is_no_answer(
    nats: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "ANSWER_WITHIN", 0.5)
    silent, strange = RemoteNode("1" * 16, "silent"), RemoteNode("2" * 16, "strange")

    async def use(client: Client) -> None:
        async def error(found: RemoteNode) -> str:
            answer = await ask(client, "room", found, {"ask": "status"})
            return str(answer["error"])

        await Responder(client, node(nats, 1, path)).start()
        await Responder(client, node(nats, 2, path / "missing")).start()
        await client.subscribe(request_subject("room", silent.number))
        replies = await client.subscribe(request_subject("room", strange.number))
        one, two = await find_nodes(client, "room")
        assert await error(one) == "the room has ended"
        assert await error(two) == "the room has ended"
        assert await error(LOST) == "the node has left"
        assert await error(silent) == "the node does not answer"
        for answer in (b"\0\0{}", b"\0\0" + zlib.compress(b"[" * 100_000)):
            asked = asyncio.create_task(error(strange))
            await (await replies.next_msg()).respond(answer)
            assert await asked == "the node's answer can't be read; it may be of another version"

    with room(lambda _: None) as path:
        run(nats, use)


def test_a_reply_from_another_client_is_ignored(nats: Engine) -> None:
    strange = [b"x", b"\xff", b"[]", b"{}", b"[" * 100_000]
    strange += [
        json.dumps(wrong).encode()
        for wrong in (
            reply("a") | {"name": 2},
            reply("a\x1b[2J"),
            reply("a", host="b\n"),
            reply("a", number="a b"),
            {"name": "a", "number": "0" * 16},
        )
    ]

    async def use(client: Client) -> None:
        async def answer(message: Msg) -> None:
            for data in strange:
                await message.respond(data)

        await client.subscribe(nodes_subject("room"), cb=answer)
        await Responder(client, node(nats, 1, None)).start()
        assert [found.name for found in await find_nodes(client, "room")] == ["127.0.0.1:1"]

    run(nats, use)


def test_a_node_that_replies_late_is_not_waited_for(
    nats: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(requests, "FOUND_WITHIN", 0.2)

    async def use(client: Client) -> None:
        await client.subscribe(nodes_subject("room"))
        assert await find_nodes(client, "room") == []

    run(nats, use)
