"""One client of the load generator, connected to a socket of the test, which acts as the server."""

import socket
from collections.abc import Iterator
from contextlib import contextmanager

from harness.bench.clients import Clients
from harness.bench.dialects import Dialect


@contextmanager
def alone(dialect: Dialect, patience: float) -> Iterator[tuple[Clients, socket.socket]]:
    """Yield the client, and the server's end of its connection."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        room = Clients([listener.getsockname()], dialect, patience)
        room._connect(0)  # `join` would wait for a welcome, which the test does not send
        accepted, _ = listener.accept()
        with accepted:
            yield room, accepted
        room.close()
