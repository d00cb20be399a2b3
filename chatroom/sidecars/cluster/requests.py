"""Requests to the nodes of a cluster, over NATS.

`chatroom.status --cluster` and `chatroom.admin --cluster` send requests with `find_nodes` and
`ask`. In each bridge, a Responder answers them.

    subject                        request          reply
    chatroom.ROOM.nodes            empty            from each node: its number and names
    chatroom.ROOM.request.NUMBER   JSON, as on the  the answer of the node's room: JSON, compressed
                                   control socket   (zlib), in parts

Each part is a message to the inbox of the request. It consists of the number of parts that follow
(two bytes), and data. NATS limits the size of a message, to 1 MB by default; a list of 10,000
members may be larger. NATS keeps the order of the parts.
"""

import asyncio
import contextlib
import json
import socket
import struct
import zlib
from collections.abc import AsyncIterator, Sequence
from ipaddress import ip_address
from time import monotonic
from typing import Any, NamedTuple

from nats.aio.client import Client
from nats.aio.msg import Msg
from nats.aio.subscription import Subscription

from chatroom.control.control_socket import ANSWER_WITHIN as ROOM_ANSWERS_WITHIN
from chatroom.control.control_socket import ControlClient
from chatroom.sidecars.cluster.engine import nodes_subject, request_subject
from chatroom.sidecars.cluster.process import Node
from chatroom.system.endpoint import Endpoint

FOUND_WITHIN = 2.0
"""Timeout (s) for the names of all nodes."""
SILENCE = 0.5
"""Seconds without a further name after which no more names are expected."""
ANSWER_WITHIN = ROOM_ANSWERS_WITHIN + 2.0
"""Timeout (s) for a part of an answer. The node waits ROOM_ANSWERS_WITHIN for its room."""

SPARE = 1024
"""Number of bytes by which a part is smaller than the maximum size of a message in NATS."""

_FOLLOWING = struct.Struct("!H")
"""Beginning of a part: the number of parts that follow."""

Answer = dict[str, Any]


class RemoteNode(NamedTuple):
    """A node of the cluster that has replied to a command."""

    number: str
    """Number of the node, in hexadecimal."""
    name: str
    """Address of the node, for people; unique in the cluster."""


# --- a node --------------------------------------------------------------------------------------


class Responder:
    """Answers the requests to one node."""

    def __init__(self, client: Client, node: Node) -> None:
        self._client = client
        self._room = node.url.room
        self._number = f"{node.number:016x}"
        host = socket.gethostname()
        names = {"number": self._number, "name": node_name(node.name, host), "host": host}
        self._names = json.dumps(names).encode()
        self._control = node.control

    async def start(self) -> None:
        """Begin to answer requests. nats-py handles the requests of a subscription one by one."""
        await self._client.subscribe(nodes_subject(self._room), cb=self._on_search)
        await self._client.subscribe(request_subject(self._room, self._number), cb=self._on_request)

    async def _on_search(self, message: Msg) -> None:
        await message.respond(self._names)

    async def _on_request(self, message: Msg) -> None:
        size = self._client.max_payload - SPARE
        loop = asyncio.get_running_loop()
        for part in await loop.run_in_executor(None, self._answer, message.data, size):
            await message.respond(part)

    def _answer(self, data: bytes, size: int) -> list[bytes]:
        """Ask the room; return the parts of the answer. Runs in a thread."""
        return to_parts(self._ask_room(data), size)

    def _ask_room(self, data: bytes) -> bytes:
        if self._control is None:
            return _error("the room has no control socket; set another --run-dir")
        try:
            request = json.loads(data)
            with contextlib.closing(ControlClient(self._control)) as client:
                return client.ask_raw(request)
        except TimeoutError:
            return _error("the room does not answer")
        except (OSError, EOFError):
            return _error("the room has ended")
        except (ValueError, RecursionError):
            return _error("a request must be a JSON object")


def _error(reason: str) -> bytes:
    return json.dumps({"error": reason}).encode()


def node_name(addresses: str, host: str) -> str:
    """Return the name of a node: the first of the addresses at which its room listens.

    `host`: name of the node's machine. In an address that is valid on every machine, such as
    0.0.0.0, this name replaces the host.
    """
    first = addresses.partition(", ")[0]
    try:
        found = Endpoint.parse(first)
        if not found.path and not ip_address(found.host).is_unspecified:
            return first
    except ValueError:
        return first
    return f"{host}:{first}" if found.path else str(Endpoint(host, found.port))


def to_parts(answer: bytes, size: int) -> list[bytes]:
    """Return the parts of an answer. `size`: maximum size of a part (bytes)."""
    data = zlib.compress(answer, 1)
    each = size - _FOLLOWING.size
    pieces = [data[start : start + each] for start in range(0, len(data), each)]
    last = len(pieces) - 1
    return [_FOLLOWING.pack(last - number) + piece for number, piece in enumerate(pieces)]


# --- a command -----------------------------------------------------------------------------------


async def find_nodes(client: Client, room: str) -> list[RemoteNode]:
    """Return the nodes that reply, sorted by their names."""
    found: list[Answer] = []
    deadline = monotonic() + FOUND_WITHIN
    async with _replies(client, nodes_subject(room), b"") as replies:
        with contextlib.suppress(TimeoutError):
            while (left := deadline - monotonic()) > 0:
                message = await replies.next_msg(min(left, SILENCE) if found else left)
                if not message.data:  # NATS replies that nobody has subscribed
                    break
                found.append(json.loads(message.data))
    return named(found)


def named(found: Sequence[Answer]) -> list[RemoteNode]:
    """Return the nodes of these replies, sorted by their names.

    Nodes on different machines may have the same name, such as 127.0.0.1:4000 behind a proxy. Then
    the machine's name and the beginning of the node's number are added.
    """
    names = [reply["name"] for reply in found]
    nodes = []
    for reply in found:
        name, number = reply["name"], reply["number"]
        if names.count(name) > 1:
            name = f"{name}#{reply['host']}-{number[:8]}"
        nodes.append(RemoteNode(number, name))
    return sorted(nodes, key=lambda node: node.name)


async def ask(client: Client, room: str, node: RemoteNode, request: Answer) -> Answer:
    """Return a node's answer to a request; {"error": reason} if there is none."""
    data = json.dumps(request).encode()
    parts: list[bytes] = []
    try:
        async with _replies(client, request_subject(room, node.number), data) as replies:
            while not parts or _FOLLOWING.unpack_from(parts[-1])[0]:
                parts.append((await replies.next_msg(ANSWER_WITHIN)).data)
                if not parts[-1]:  # NATS replies that nobody has subscribed
                    return {"error": "the node has left"}
        return from_parts(parts)
    except TimeoutError:
        return {"error": "the node does not answer"}
    except (ValueError, RecursionError, struct.error, zlib.error):
        return {"error": "the node's answer can't be read; it may be of another version"}


def from_parts(parts: Sequence[bytes]) -> Answer:
    """Return the answer in these parts. Raises ValueError, RecursionError, zlib.error."""
    answer = json.loads(zlib.decompress(b"".join(part[_FOLLOWING.size :] for part in parts)))
    if not isinstance(answer, dict):
        raise ValueError
    return answer


@contextlib.asynccontextmanager
async def _replies(client: Client, subject: str, data: bytes) -> AsyncIterator[Subscription]:
    """Send a request, and yield the subscription to its replies."""
    inbox = client.new_inbox()
    replies = await client.subscribe(inbox, pending_msgs_limit=-1, pending_bytes_limit=-1)
    try:
        await client.publish(subject, data, reply=inbox)
        yield replies
    finally:
        if not client.is_closed:
            await replies.unsubscribe()
