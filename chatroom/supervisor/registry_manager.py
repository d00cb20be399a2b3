"""The manager of the registry: `multiprocessing.managers`, over a pair of sockets.

Importing `multiprocessing.managers` takes about 30 ms of processor time (measured), a third of the
time for all imports of the main process. So the main process imports this module late, while the
registry's process and the workers start.
"""

import socket
import threading
from collections.abc import Callable
from multiprocessing import connection, managers
from typing import Any

from chatroom.system.channel import PARENT
from chatroom.system.poller import wait


class _Listener:
    """Listener of the manager: it has one connection, and accepts it again for each client.

    A manager's own listener has an address, to which every user of the machine can connect. The
    main process is the only client here, with one request at a time, so one pair of sockets is
    enough.
    """

    def __init__(self, address: socket.socket, backlog: int) -> None:  # noqa: ARG002
        self.address = address

    def accept(self) -> connection.Connection:
        return _connection(self.address)


def _client(address: socket.socket, authkey: bytes) -> connection.Connection:
    """Connect to the manager as multiprocessing.connection.Client does."""
    made = _connection(address)
    connection.answer_challenge(made, authkey)
    connection.deliver_challenge(made, authkey)
    return made


def _connection(end: socket.socket) -> connection.Connection:
    return connection.Connection(end.dup().detach())  # the caller closes it


managers.listener_client["pair"] = _Listener, _client  # type: ignore[attr-defined]


class _Manager(managers.BaseManager):
    def __init__(self, end: socket.socket) -> None:
        """`end`: one end of the pair. No other process has the pair, so the key may be empty."""
        super().__init__(end, b"", "pair")  # type: ignore[arg-type]


def connect(end: socket.socket) -> Any:
    """Return the manager, once it serves at the other end. Its `Registry(…)` returns a proxy.

    Raises EOFError or OSError.
    """
    _Manager.register("Registry")
    manager = _Manager(end)
    manager.connect()
    return manager


def serve(end: socket.socket, registry: Callable[..., object]) -> None:
    """Serve objects that `registry(…)` makes, until the main process has ended."""
    _Manager.register("Registry", registry)
    server: Any = _Manager(end).get_server()
    # Handle requests in one thread: `serve_forever` would start a thread for each connection.
    server.stop_event = threading.Event()
    while not wait([PARENT], 0.0):
        server.handle_request(server.listener.accept())
