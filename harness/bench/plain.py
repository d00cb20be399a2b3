"""The server `plain`: one process, one epoll loop, a send per recipient.

    python3 harness/bench/plain.py HOST PORT

It is the short script that a user would write, and shows what a message costs in Python if nothing
but the delivery is done. Its limits:

- It sends without a limit and waits: a client that does not read stops the room.
- It reads pieces, not lines: a line that arrives in two pieces has two prefixes.
- It changes no text: control characters reach the terminals of the others.
- It has no limit on clients, rates, or the length of a line.
"""

import contextlib
import select
import socket
import sys


def main(host: str, port: int) -> None:
    listener = socket.create_server((host, port))
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    clients: dict[int, tuple[socket.socket, bytes]] = {}  # socket and prefix, by descriptor
    print(f"listening on {host}:{port}", flush=True)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                client, (ip, *_) = listener.accept()
                # Without it, a line waits up to 40 ms for the acknowledgement of the one before.
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[client.fileno()] = client, b"<%s>" % ip.encode()
                poll.register(client, select.EPOLLIN)
                client.sendall(b"Welcome\n")
                continue
            sender, prefix = clients[descriptor]
            data = b""  # of a client that has left
            with contextlib.suppress(ConnectionError):
                data = sender.recv(65536)
            if not data:
                del clients[descriptor]
                sender.close()
            for line in data.splitlines(keepends=True):
                for other, _ in clients.values():
                    if other is not sender:
                        with contextlib.suppress(ConnectionError):
                            other.sendall(prefix + line)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]))
