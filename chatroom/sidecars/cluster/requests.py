"""Requests to all nodes: each bridge passes a request to its room's control socket, and replies.

`chatroom.status --cluster` and `chatroom.admin --cluster` send these requests. A request and a
reply are the same JSON as on the control socket. A reply is compressed (zlib), and contains the
name of its node.
"""

import asyncio
import json
import zlib
from pathlib import Path
from typing import Any

from nats.aio.client import Client
from nats.aio.msg import Msg

from chatroom.control.control_socket import ControlClient
from chatroom.sidecars.cluster.engine import request_subject

REPLIES_WITHIN = 2.0
"""Timeout (s) for the replies of all nodes."""
SILENCE = 0.5
"""Seconds without a reply after which no more replies are awaited."""


class Responder:
    """Answers the requests to a room's nodes, for one node."""

    def __init__(self, client: Client, room: str, node: str, control: Path | None) -> None:
        """`node`: name of this node; `control`: control socket of its room."""
        self._client = client
        self._room = room
        self._node = node
        self._control = control

    async def start(self) -> None:
        await self._client.subscribe(request_subject(self._room), cb=self._on_request)

    async def _on_request(self, message: Msg) -> None:
        loop = asyncio.get_running_loop()
        answer = await loop.run_in_executor(None, self._answer, message.data)
        answer["node"] = self._node
        await message.respond(zlib.compress(json.dumps(answer).encode()))

    def _answer(self, data: bytes) -> dict[str, Any]:
        """Ask the room. This runs in a thread, because it blocks."""
        if self._control is None:
            return {"error": "the room has no control socket; set another --run-dir"}
        try:
            request = json.loads(data)
            client = ControlClient(self._control)
            try:
                return client.ask(request)
            finally:
                client.close()
        except (OSError, EOFError, ValueError, RecursionError) as error:
            return {"error": f"the room does not answer: {error}"}


async def ask_all(client: Client, room: str, request: dict[str, Any]) -> list[dict[str, Any]]:
    """Send a request to all nodes; return the answers, sorted by the nodes' names."""
    inbox = client.new_inbox()
    replies = await client.subscribe(inbox)
    await client.publish(request_subject(room), json.dumps(request).encode(), reply=inbox)
    found: list[dict[str, Any]] = []
    try:
        async with asyncio.timeout(REPLIES_WITHIN):
            while True:
                message = await replies.next_msg(SILENCE if found else REPLIES_WITHIN)
                if message.data:  # NATS sends an empty message if there is no node
                    found.append(json.loads(zlib.decompress(message.data)))
                else:
                    break
    except TimeoutError:
        pass
    return sorted(found, key=lambda answer: str(answer["node"]))
