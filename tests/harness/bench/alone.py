"""One client of the bench, and the other end of its connection: the test itself is the server."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from harness.bench.clients import Clients
from harness.bench.dialects import Dialect


@contextmanager
def alone(dialect: Dialect, patience: float) -> Iterator[tuple[Clients, socket.socket]]:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        room = Clients([listener.getsockname()], dialect, patience)
        room._connect(0)  # `join` would wait for a welcome, which this server does not send.
        accepted, _ = listener.accept()
        with accepted:
            yield room, accepted
        room.close()
