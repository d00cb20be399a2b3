"""The gateway: the page over HTTP, and a WebSocket for each browser.

    GET /, /page.js …   the page (site.py)
    GET /room           a WebSocket (visitor.py), for pages of the allowed origins

The browser's first frame either contains the id of a session, or requests a new session.
docs/web.md describes the frames.
"""

import asyncio
import contextlib
import logging
import secrets
import socket
import ssl
from collections.abc import Awaitable, Callable
from email.utils import formatdate
from functools import partial
from http import HTTPStatus
from typing import Any, cast

from websockets.asyncio.server import Server, ServerConnection, serve
from websockets.datastructures import Headers
from websockets.exceptions import ConnectionClosed
from websockets.frames import CloseCode
from websockets.http11 import Request, Response

from chatroom.protocol.address import canonical
from chatroom.sidecars.web import session
from chatroom.sidecars.web.claims import Claims, State, make_id
from chatroom.sidecars.web.closing import GATEWAY_FULL
from chatroom.sidecars.web.connections import Connections
from chatroom.sidecars.web.process import ACCEPTED_PER_TURN, Rules
from chatroom.sidecars.web.request import (
    ForwardedError,
    client,
    host_of,
    is_local,
    is_same_origin,
)
from chatroom.sidecars.web.rooms import Connector, RefusedError, UnreachableError
from chatroom.sidecars.web.session import ProtocolError
from chatroom.sidecars.web.site import SECURITY, Answer, Site, text
from chatroom.sidecars.web.visitor import Visitor
from chatroom.sidecars.web.websocket import (
    CLOSE_WITHIN,
    WRITE_LIMIT,
    FrameRate,
    WebSocket,
)
from chatroom.system.listening import BACKLOG
from chatroom.system.networks import within

ROOM = "/room"
"""Path of the WebSocket."""

HANDSHAKE_WITHIN = 10.0
"""Timeout (s) for a browser's TLS handshake, for its request, and for its first frame."""
PING_EVERY = 25.0
"""Seconds between two pings. Many proxies close a connection that is silent for 60 s."""
MAX_FRAME = 64 * 1024
"""Maximum size of a browser's message (bytes)."""
MAX_QUEUE = 4
"""Maximum number of a browser's frames that wait while the room accepts no more input from it."""
MAX_AWAY = 64
"""Maximum number of sessions without a WebSocket from one address. If there is one more, the oldest
one ends. Without this limit, one machine could fill the room with such sessions at little cost."""
UNKNOWN_HOST = (
    "The gateway does not know this host name; allow it with --web-origin http://NAME:PORT"
    " (python3 -m chatroom.web: --origin)."
)
"""Answer to a request with a host name that could be an attacker's (421)."""
STOP_WITHIN = 0.8
"""Timeout (s) for all browsers to close their WebSockets when the gateway stops."""

_library_log = logging.getLogger("chatroom.web")
# Warnings are about single browsers, such as a browser that left while the gateway wrote to it.
_library_log.setLevel(logging.ERROR)
logging.getLogger("asyncio").setLevel(logging.ERROR)


def on_loop_error(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    """Report an error that asyncio has caught, unless it is an OSError.

    An OSError comes from the network, or from a lack of resources: if no descriptor is left,
    asyncio reports this, and accepts no connection for a second.
    """
    if not isinstance(context.get("exception"), OSError):
        loop.default_exception_handler(context)


class Gateway:
    """The sessions of all browsers, and the WebSocket servers to which the browsers connect."""

    def __init__(
        self,
        site: Site,
        connector: Connector,
        rules: Rules,
        capacity: int,
        number: int = 0,
        claims: Claims | None = None,
    ) -> None:
        """`capacity`: maximum number of members, as `connections` counts them. `number`: number of
        this gateway. `claims`: takes over sessions of other gateways; None if there are no
        others."""
        self._site = site
        self._number = number
        self._claims = claims
        self._connector = connector
        self._rules = rules
        self._hosts = {rules.host.lower(), *map(host_of, rules.origins)}
        """Hosts that browsers may use over plain HTTP, in addition to local ones."""
        self.connections = Connections(capacity)
        self._visitors: dict[str, Visitor] = {}
        """Visitors, by the id of their session. Only the session's browser knows the id."""
        self._away: dict[str, dict[str, Visitor]] = {}
        """Visitors without a WebSocket, by address and id of the session, the oldest first."""
        self._frame_rate = FrameRate()
        self._servers: list[Server] = []

    async def listen(self, listener: socket.socket, tls: ssl.SSLContext | None) -> None:
        """Serve browsers that connect to this listener."""
        make: Callable[..., Any] = partial(WebSocket, self.connections, self._frame_rate)
        if tls is not None:
            make = self.connections.count_handshakes(make)
        self._servers.append(
            await serve(
                self._serve,
                sock=listener,
                ssl=tls,
                backlog=ACCEPTED_PER_TURN,
                create_connection=cast(Any, make),
                process_request=self._on_request,
                process_response=_secure,
                compression=None,
                server_header=None,
                open_timeout=HANDSHAKE_WITHIN,
                ping_interval=PING_EVERY,
                ping_timeout=PING_EVERY,
                close_timeout=CLOSE_WITHIN,
                max_size=MAX_FRAME,
                max_queue=MAX_QUEUE,
                write_limit=WRITE_LIMIT,
                logger=_library_log,
            )
        )
        # For asyncio, `backlog` is also the number of connections to accept in one turn.
        listener.listen(BACKLOG)

    async def stop(self) -> None:
        """Close all WebSockets; the browsers may connect again."""
        for server in self._servers:
            server.close(code=CloseCode.GOING_AWAY)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(STOP_WITHIN):
                await asyncio.gather(*(server.wait_closed() for server in self._servers))

    # --- HTTP ----------------------------------------------------------------

    def _on_request(
        self, websocket: ServerConnection, request: Request
    ) -> Response | Awaitable[None] | None:
        """Return the answer to a request for a file; None lets a WebSocket begin."""
        assert isinstance(websocket, WebSocket)
        if websocket.protocol.eof_sent:  # the bytes after the request were not a frame
            return websocket.cut()
        headers = request.headers
        refusal = self._identify(websocket, headers)
        if refusal is not None:
            return _response(refusal)
        if not self._is_known_host(websocket, headers.get_all("Host")):
            empty = request.method == "HEAD"
            return _response(text(HTTPStatus.MISDIRECTED_REQUEST, UNKNOWN_HOST, empty))
        if request.path.partition("?")[0] != ROOM:
            known = headers.get_all("If-None-Match")
            return _response(self._site.answer(request.method, request.path, known))
        if not self._is_allowed(headers.get_all("Origin"), headers.get_all("Host")):
            return _response(text(HTTPStatus.FORBIDDEN, "Pages of other sites may not connect."))
        return None

    def _identify(self, websocket: WebSocket, headers: Headers) -> Answer | None:
        """Find and note the browser's address; if that fails, return an answer with the error."""
        try:
            host, port = websocket.remote_address[:2]
            websocket.client = client(
                (canonical(host), port),
                self._rules.proxies,
                headers.get_all("X-Forwarded-For"),
                headers.get_all("Forwarded"),
            )
        except ForwardedError as error:
            return text(HTTPStatus.BAD_REQUEST, f"{error}.")
        except (TypeError, ValueError):  # the connection was reset before it was accepted
            return text(HTTPStatus.BAD_REQUEST, "The connection has no address.")
        return None

    def _is_known_host(self, websocket: WebSocket, hosts: list[str]) -> bool:
        """Return whether a request's hosts can't be names of an attacker (DNS rebinding).

        Over TLS, the browser has checked the name. A trusted proxy has names of its own.
        """
        return (
            websocket.transport.get_extra_info("sslcontext") is not None
            or within(canonical(websocket.remote_address[0]), self._rules.proxies)
            or all(is_local(host, self._hosts) for host in hosts)
        )

    def _is_allowed(self, origins: list[str], hosts: list[str]) -> bool:
        """Return whether a page of this origin may connect. A program that is not a browser sends
        no Origin header; it may connect."""
        if len(origins) > 1 or len(hosts) != 1:
            return False
        return (
            not origins or origins[0] in self._rules.origins or is_same_origin(origins[0], hosts[0])
        )

    # --- WebSockets ----------------------------------------------------------

    async def _serve(self, websocket: ServerConnection) -> None:
        """Serve a WebSocket until it is closed."""
        assert isinstance(websocket, WebSocket)
        try:
            visitor = await self._welcome(websocket)
            if visitor is not None:
                await _listen(visitor, websocket)
        except ProtocolError as error:
            websocket.end(CloseCode.POLICY_VIOLATION, str(error))
        except ConnectionClosed:
            pass
        await websocket.wait_closed()

    async def _welcome(self, websocket: WebSocket) -> Visitor | None:
        """Read the first frame. Return the visitor of its session, or of a new session; None if the
        browser can't join."""
        try:
            async with asyncio.timeout(HANDSHAKE_WITHIN):
                hello = _parse(await websocket.recv())
        except TimeoutError:
            raise ProtocolError(f"no frame came within {HANDSHAKE_WITHIN:g} s") from None
        id, seen = hello.get("session"), session.number(hello, "seen")
        if not (id is None or isinstance(id, str)):
            raise ProtocolError("session must be text or null")
        if websocket.is_lost:  # lost while its first frame waited in the queue
            return None
        try:
            visitor = await self._find(id, websocket) if id else None
        except UnreachableError:
            websocket.end(CloseCode.TRY_AGAIN_LATER)
            return None
        if id is None or visitor is None:
            room = await self._admit(websocket)
            if room is None:
                return None
            id, seen = make_id(self._number, secrets.token_urlsafe(16)), 0
            visitor = self._begin(id, websocket.client[0], room, None)
        visitor.attach(websocket, id, seen)
        self.connections.discard(websocket)
        return visitor

    async def _find(self, id: str, websocket: WebSocket) -> Visitor | None:
        """Return the visitor of a session, which may be in another gateway; None if the session has
        ended.

        Raises UnreachableError if this can't be found out, or if the WebSocket is lost meanwhile.
        """
        visitor = self._visitors.get(id)
        if visitor is None and self._claims is not None:
            if self.connections.full:
                raise UnreachableError("this gateway is full")
            with self.connections.reserve():
                moved = await self._claims.claim(id)
            if moved:
                visitor = self._visitors.get(id)
                if visitor is None:  # a third gateway has claimed it meanwhile
                    raise UnreachableError("the session is in another gateway")
            if websocket.is_lost:
                raise UnreachableError("the browser has left")
        return visitor if visitor is not None and visitor.is_staying else None

    def _begin(self, id: str, address: str, room: socket.socket, state: State | None) -> Visitor:
        visitor = self._visitors[id] = Visitor(
            room,
            address,
            self._rules.keep,
            partial(self._on_away, id),
            partial(self._on_end, id, state is not None),
            state,
        )
        self.connections.add_member()
        return visitor

    # --- other gateways ------------------------------------------------------

    def state(self, id: str) -> State | None:
        """Return the state of a session, or None if it can't be resumed here."""
        visitor = self._visitors.get(id)
        return visitor.state() if visitor is not None and visitor.is_staying else None

    def move_out(self, id: str) -> socket.socket:
        """Forget a session; return its connection to the room."""
        return self._visitors[id].move_out()

    def move_in(self, id: str, room: socket.socket, state: State) -> None:
        """Continue a session that was in another gateway before."""
        room.setblocking(False)
        self._begin(id, state["address"], room, state).await_websocket()

    # --- visitors ------------------------------------------------------------

    def _on_away(self, id: str, away: bool) -> None:
        """Note that a visitor has no WebSocket (`away`), or that it has another one or has
        ended."""
        address = self._visitors[id].address
        if away:
            waiting = self._away.setdefault(address, {})
            waiting[id] = self._visitors[id]
            if len(waiting) > MAX_AWAY:
                oldest = next(iter(waiting))
                waiting.pop(oldest).leave(None)
        elif waiting := self._away.get(address, {}):
            waiting.pop(id, None)
            if not waiting:
                del self._away[address]

    def _on_end(self, id: str, moved_in: bool) -> None:
        self._on_away(id, False)
        del self._visitors[id]
        self.connections.remove_member()
        if moved_in and self._claims is not None:
            self._claims.forget(id)

    async def _admit(self, websocket: WebSocket) -> socket.socket | None:
        """Return the connection of a new member; None if it was refused, or has left meanwhile."""
        if self.connections.full:
            websocket.end(CloseCode.NORMAL_CLOSURE, GATEWAY_FULL)
            return None
        with self.connections.reserve():
            return await self._open(websocket)

    async def _open(self, websocket: WebSocket) -> socket.socket | None:
        try:
            room = await self._connector.open(*websocket.client)
        except RefusedError as error:
            websocket.end(CloseCode.NORMAL_CLOSURE, str(error))
        except UnreachableError:
            websocket.end(CloseCode.TRY_AGAIN_LATER)
        else:
            if not websocket.is_lost:
                return room
            room.close()
        return None


async def _listen(visitor: Visitor, websocket: WebSocket) -> None:
    """Handle a browser's frames until its WebSocket is closed. Raises ProtocolError."""
    async for frame in websocket:
        found = _parse(frame)
        if "seen" in found:
            visitor.seen(session.number(found, "seen"))
        if "say" in found:
            if not isinstance(found["say"], str):
                raise ProtocolError("say must be text")
            await visitor.say(session.number(found, "n"), found["say"])
    closed = websocket.protocol.close_rcvd
    if closed is not None and closed.code == CloseCode.NORMAL_CLOSURE:
        visitor.leave(websocket)


def _parse(frame: str | bytes) -> dict[str, Any]:
    if isinstance(frame, bytes):
        raise ProtocolError("a frame must be text")
    return session.parse(frame)


def _secure(_: ServerConnection, __: Request, response: Response) -> None:
    """Add the security headers to the library's own answers."""
    if response.status_code != HTTPStatus.SWITCHING_PROTOCOLS:
        for name, value in SECURITY.items():
            if name not in response.headers:
                response.headers[name] = value


def _response(answer: Answer) -> Response:
    headers = Headers(answer.headers)
    headers["Date"] = formatdate(usegmt=True)
    headers["Connection"] = "close"
    return Response(answer.status, answer.status.phrase, headers, answer.body)
