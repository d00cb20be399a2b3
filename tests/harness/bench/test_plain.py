"""The server `plain`, with traffic that no benchmark has: several lines at once, and resets."""

import socket
import struct
from contextlib import ExitStack
from pathlib import Path

from harness.bench.servers import PLAIN
from harness.target.processes import Server, free_port


def test_plain_is_a_chat_server(tmp_path: Path) -> None:
    port = free_port()
    server = Server(PLAIN.fill(tmp_path, port, 2, 9, 9), PLAIN.ready, PLAIN.environment())
    with ExitStack() as stack:
        stack.callback(server.stop)
        server.wait_ready(20)
        clients = []
        for _ in range(4):
            clients.append(
                stack.enter_context(socket.create_connection(("127.0.0.1", port), timeout=20))
            )
            assert receive(clients[-1], 8) == b"Welcome\n"
        speaker, listener, leaver, lost = clients
        leaver.close()
        lost.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        lost.close()  # resets the connection
        speaker.sendall("one\n\ntwo ü\n".encode())
        expected = "<127.0.0.1>one\n<127.0.0.1>\n<127.0.0.1>two ü\n".encode()
        assert receive(listener, len(expected)) == expected
        listener.sendall(b"end")
        assert receive(speaker, 14) == b"<127.0.0.1>end"
        assert server.death(0) == ""


def receive(client: socket.socket, count: int) -> bytes:
    received = b""
    while len(received) < count and (data := client.recv(count - len(received))):
        received += data
    return received
