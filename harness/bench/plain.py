"""The server `plain`: one process, one epoll loop, one ``send`` call per recipient.

    python3 harness/bench/plain.py HOST PORT

It is the short script that a user would write. It shows the cost of a message in Python if the
server only delivers it. Its limits:

- A send blocks until the client's socket accepts all bytes: a client that does not read stops the
  room.
- It delivers the data of each read: a line that arrives in two pieces gets two prefixes.
- It changes no text: control characters reach the terminals of the other clients.
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
                # With Nagle's algorithm, a line would wait up to 40 ms for the acknowledgement of
                # the line before it.
                client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                clients[client.fileno()] = client, b"<%s>" % ip.encode()
                poll.register(client, select.EPOLLIN)
                client.sendall(b"Welcome\n")
                continue
            sender, prefix = clients[descriptor]
            data = b""  # if the connection was reset
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
