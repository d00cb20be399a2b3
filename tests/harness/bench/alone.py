"""One client of the bench, and its connection's other end: the server is the test itself."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from harness.bench.clients import Clients
from harness.bench.dialects import Dialect


@contextmanager
def alone(dialect: Dialect, patience: float) -> Iterator[tuple[Clients, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        room = Clients(listener.getsockname(), dialect, patience)
        room._connect(0)  # `join` would wait for the welcome that this server does not say.
        accepted, _ = listener.accept()
        with accepted:
            yield room, accepted
        room.close()
