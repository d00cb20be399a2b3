"""A WebSocket client that behaves like the page in a browser."""

import asyncio
import json
import socket
import ssl
import threading
from collections.abc import Callable, Coroutine
from functools import cache
from types import TracebackType
from typing import Any, Self, TypeVar

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from tests.integration.waiting import PATIENCE

T = TypeVar("T")


class WebSocket:
    """A WebSocket for tests without asyncio.

    It uses the library's client for asyncio in a thread of its own, not the library's client for
    threads: that client reads and writes a TLS connection in two threads at a time, which fails
    about once in 600 connections (python/cpython#143756).
    """

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    @property
    def close_code(self) -> int | None:
        return self._connection.close_code

    def send(self, text: str) -> None:
        _run(self._connection.send(text))

    def recv(self, timeout: float) -> str | bytes:
        """Return the next message. Raises TimeoutError or ConnectionClosed."""
        return _run(asyncio.wait_for(self._connection.recv(), timeout))

    def cut(self) -> None:
        """Lose the connection, and all bytes in transit."""
        self._connection.transport.get_extra_info("socket").shutdown(socket.SHUT_RDWR)
        _run(self._connection.wait_closed())

    def close(self) -> None:
        _run(self._connection.close())


@cache
def _loop() -> asyncio.AbstractEventLoop:
    loop = asyncio.new_event_loop()
    threading.Thread(target=loop.run_forever, name="websockets", daemon=True).start()
    return loop


def _run(work: Coroutine[Any, Any, T]) -> T:
    return asyncio.run_coroutine_threadsafe(work, _loop()).result()


def open_websocket(
    url: str, tls: ssl.SSLContext | None = None, source: str = "127.0.0.1", **headers: str
) -> WebSocket:
    """Return a WebSocket to the gateway whose page has this URL, from a local address."""

    async def opened() -> ClientConnection:
        return await connect(
            f"ws{url.removeprefix('http')}room",
            additional_headers={name.replace("_", "-"): value for name, value in headers.items()},
            ssl=tls,
            proxy=None,
            local_addr=(source, 0),
            compression=None,
            open_timeout=PATIENCE,
            close_timeout=1,
            max_size=1 << 26,
        )

    return WebSocket(_run(opened()))


class Browser:
    """A page. It keeps the lines that it has received. When it resumes its session, it sends the
    messages that the room has not received."""

    def __init__(
        self,
        url: str,
        tls: ssl.SSLContext | None = None,
        source: str = "127.0.0.1",
        **headers: str,
    ) -> None:
        self.url = url
        self.lines: dict[int, str] = {}
        """Finished lines, by their numbers."""
        self.unfinished: dict[int, str] = {}
        self.session: str | None = None
        self.missed = 0
        self.reached = 0
        """Number of the last message that has reached the room."""
        self.closed: str | None = None
        """The gateway's reason for closing the WebSocket."""
        self.said: list[str] = []
        self._tls = tls
        self._source = source
        self._headers = headers
        self._checked = 0
        """Number of lines that `expect` has checked."""
        self.connect()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.websocket.close()

    @property
    def seen(self) -> int:
        return max(self.lines, default=0)

    # --- the network ---------------------------------------------------------

    def connect(self) -> None:
        """Connect, and resume the session if there is one."""
        self.websocket = open_websocket(self.url, self._tls, self._source, **self._headers)
        self.send({"session": self.session, "seen": self.seen})
        answer = self._receive()
        if answer is None or "session" not in answer:
            return
        if answer["session"] != self.session:
            self.lines.clear()
            self.said.clear()
        self.session = answer["session"]
        self.reached = answer["said"]
        self.missed += answer["missed"]
        for number, text in enumerate(self.said[self.reached :], self.reached + 1):
            self.send({"n": number, "say": text})

    def cut(self) -> None:
        """Lose the connection, and all bytes in transit."""
        self.websocket.cut()

    def send(self, frame: object) -> None:
        self.websocket.send(json.dumps(frame))

    # --- the conversation ----------------------------------------------------

    def say(self, text: str) -> None:
        self.said.append(text)
        self.send({"n": len(self.said), "say": text})

    def expect(self, *lines: str) -> None:
        """Check that these lines follow the lines that were checked before."""
        first = self._checked + 1
        self.until(lambda: self.seen >= first + len(lines) - 1)
        found = [self.lines[number] for number in range(first, first + len(lines))]
        assert found == [*lines]
        self._checked += len(lines)

    def until(self, condition: Callable[[], bool]) -> None:
        """Receive frames until a condition holds."""
        while not condition():
            assert self._receive() is not None, (self.closed, self.websocket.close_code)

    def until_closed(self) -> str | None:
        """Receive frames until the gateway closes the WebSocket; return its reason."""
        while self._receive() is not None:
            pass
        return self.closed

    def receive_now(self) -> None:
        """Receive the frames that have arrived."""
        while True:
            try:
                self._take(self.websocket.recv(timeout=0.01))
            except TimeoutError:
                return

    def _receive(self) -> dict[str, Any] | None:
        """Receive a frame; return None if the WebSocket was closed."""
        try:
            return self._take(self.websocket.recv(timeout=PATIENCE))
        except ConnectionClosed:
            return None

    def _take(self, text: str | bytes) -> dict[str, Any]:
        frame: dict[str, Any] = json.loads(text)
        self.closed = frame.get("closed", self.closed)
        self.reached = frame.get("said", self.reached)
        for number, line, *unfinished in frame.get("lines", ()):
            if unfinished:
                self.unfinished[number] = line
            else:
                assert number not in self.lines, f"line {number} came twice"
                self.unfinished.pop(number, None)
                self.lines[number] = line
        return frame
