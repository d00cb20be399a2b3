"""The protocol of each kind of server. Pure: bytes, no socket.

A dialect is data. It contains the bytes that a client sends to join, the server's reply that
shows that the client has joined, and the bytes around a line that is sent or delivered. It also
says whether the server sends a line back to its sender.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """A server's protocol, as far as the load generator needs it.

    A client joins by sending `hello`. It has joined when it has received `joined`; if `joined` is
    empty, when it has received any byte. A line is sent as `before` + line + `after`. It is
    received as bytes that match the regular expression `head`, then the line, then `tail`.
    `echo`: the sender receives its own lines, too.

    Some servers send a request some time after a join: `asked` is the request, `answer` is the
    client's reply. The timed part begins after every client has received this request.
    """

    name: str
    head: bytes
    tail: bytes = b""
    hello: bytes = b""
    joined: bytes = b""
    asked: bytes = b""
    answer: bytes = b""
    before: bytes = b""
    after: bytes = b""
    echo: bool = False

    def say(self, line: bytes) -> bytes:
        return self.before + line + self.after


CHAT = Dialect("chat", head=rb"<127\.0\.0\.1>")

# ncat numbers its users, so the length of a head depends on the sender.
NCAT = Dialect("ncat", head=rb"<user\d+> ")

# CLIENT REPLY OFF turns off the replies to PUBLISH, but not the messages, which RESP3 sends as
# "pushes". It is the last command, because it would also turn off the reply to SUBSCRIBE.
REDIS = Dialect(
    "redis",
    hello=b"HELLO 3\r\nSUBSCRIBE room\r\nCLIENT REPLY OFF\r\n",
    joined=b"$9\r\nsubscribe\r\n$4\r\nroom\r\n:1\r\n",
    before=b"*3\r\n$7\r\nPUBLISH\r\n$4\r\nroom\r\n$64\r\n",
    after=b"\r\n",
    head=rb">3\r\n\$7\r\nmessage\r\n\$4\r\nroom\r\n\$64\r\n",
    tail=b"\r\n",
    echo=True,
)

# nats-server sends its first PING two seconds after a join, regardless of `ping_interval`. The load
# generator waits for this PING, because it must not arrive during the timed part.
NATS = Dialect(
    "nats",
    hello=b'CONNECT {"verbose":false,"pedantic":false,"echo":false}\r\nSUB room 1\r\nPING\r\n',
    joined=b"PONG\r\n",
    asked=b"PING\r\n",
    answer=b"PONG\r\n",
    before=b"PUB room 64\r\n",
    after=b"\r\n",
    head=rb"MSG room 1 64\r\n",
    tail=b"\r\n",
)

DIALECTS = {dialect.name: dialect for dialect in (CHAT, NCAT, REDIS, NATS)}
