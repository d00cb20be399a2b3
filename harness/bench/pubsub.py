"""The node of the servers `plain-redis` and `plain-nats`.

    python -m harness.bench.pubsub redis|nats HOST PORT

It is the short script that a user would write to connect several servers by publish and subscribe:
one process, one epoll loop, one connection to the engine at HOST:PORT. The node publishes the lines
of its clients, and sends the messages that the engine delivers to its clients. It calls ``send``
once per client for all messages of one read from the engine, so a busy room is faster than with
`plain`. It has the limits of plain.py, except that it publishes whole lines. Its further limits:

- Redis and NATS deliver at most once: messages are lost when a node or its connection fails.
- NATS keeps the order of the messages of each node, but has no common order of all messages.
"""

import contextlib
import os
import re
import select
import socket
import sys
from collections.abc import Iterable

SUBSCRIBE = {
    "redis": b"HELLO 3\r\nSUBSCRIBE room\r\nCLIENT REPLY OFF\r\n",
    "nats": b'CONNECT {"verbose":false,"pedantic":false}\r\nSUB room 1\r\nPING\r\n',
}
SUBSCRIBED = {"redis": b"room\r\n:1\r\n", "nats": b"PONG\r\n"}
PUBLISH = {
    "redis": b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nroom\r\n$%d\r\n%s\r\n",
    "nats": b"PUB room %d\r\n%s\r\n",
}
DELIVERED = re.compile(
    rb"(?:>3\r\n\$7\r\nmessage\r\n\$4\r\nroom\r\n\$|MSG room 1 )(?P<size>\d+)\r\n"
)
"""Text that the engine puts before a message that it delivers."""


class Engine:
    """The connection to the engine."""

    def __init__(self, kind: str, host: str, port: int) -> None:
        self.socket = socket.create_connection((host, port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.sendall(SUBSCRIBE[kind])
        answer = b""
        while SUBSCRIBED[kind] not in answer:
            answer += self._receive()
        self._publish = PUBLISH[kind]
        self._received = b""

    def publish(self, messages: Iterable[bytes]) -> None:
        """Send messages to the engine, which delivers them to all nodes."""
        self.socket.sendall(b"".join(self._publish % (len(text), text) for text in messages))

    def read(self) -> list[bytes]:
        """Read from the engine; return the messages that have arrived completely."""
        data, messages, at = self._received + self._receive(), [], 0
        while at < len(data):
            if data.startswith(b"PING\r\n", at):  # a request of nats-server
                self.socket.sendall(b"PONG\r\n")
                at += len(b"PING\r\n")
                continue
            found = DELIVERED.match(data, at)
            end = found.end() + int(found["size"]) if found else len(data)
            if not found or end + len(b"\r\n") > len(data):
                break
            messages.append(data[found.end() : end])
            at = end + len(b"\r\n")
        self._received = data[at:]
        return messages

    def _receive(self) -> bytes:
        data = self.socket.recv(1 << 20)
        if not data:
            sys.exit("the engine has closed the connection")
        return data


class Client:
    """A client of this node."""

    def __init__(self, client: socket.socket, ip: str) -> None:
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        client.sendall(b"Welcome\n")
        self.socket = client
        self.id = b"%d/%d" % (os.getpid(), client.fileno())
        self._head = self.id + b" <%s>" % ip.encode()
        self._rest = b""
        """The part of the last line that has arrived."""

    def read(self) -> tuple[list[bytes], bool]:
        """Return the messages to publish, and whether the client is still connected."""
        data = b""  # if the connection was reset
        with contextlib.suppress(ConnectionError):
            data = self.socket.recv(65536)
        *lines, self._rest = (self._rest + data).split(b"\n")
        messages = [self._head + line + b"\n" for line in lines]
        if not data and self._rest:
            messages.append(self._head + self._rest)
        return messages, bool(data)


def main(kind: str, host: str, port: int) -> None:
    engine = Engine(kind, host, port)
    listener = socket.create_server((host, 0), backlog=4096)
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    poll.register(engine.socket, select.EPOLLIN)
    clients: dict[int, Client] = {}  # by descriptor
    print(f"listening on {host}:{listener.getsockname()[1]}", flush=True)
    while True:
        for descriptor, _ in poll.poll():
            if descriptor == listener.fileno():
                accepted, (ip, *_) = listener.accept()
                clients[accepted.fileno()] = Client(accepted, ip)
                poll.register(accepted, select.EPOLLIN)
            elif descriptor == engine.socket.fileno():
                deliver(engine.read(), clients.values())
            else:
                messages, stays = clients[descriptor].read()
                engine.publish(messages)
                if not stays:
                    clients.pop(descriptor).socket.close()


def deliver(messages: Iterable[bytes], clients: Iterable[Client]) -> None:
    """Send each client the messages of all other clients.

    A message consists of the sender's id, a blank and the text.
    """
    texts = [
        (sender, text) for sender, _, text in (message.partition(b" ") for message in messages)
    ]
    senders = {sender for sender, _ in texts}
    whole = b"".join(text for _, text in texts)
    for client in clients:
        data = whole
        if client.id in senders:
            data = b"".join(text for sender, text in texts if sender != client.id)
        with contextlib.suppress(ConnectionError):
            client.socket.sendall(data)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], int(sys.argv[3]))
