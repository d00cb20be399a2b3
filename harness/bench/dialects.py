"""The protocol of each kind of server. Pure: bytes, no socket.

A dialect is data. It describes what a client sends to join, what shows that it has joined,
how it sends a line, what surrounds a delivered line, and whether the sender receives it,
too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """A server's protocol, as far as the load generator needs it.

    A client joins by sending `hello`, and has joined when `joined` has arrived, or, if
    `joined` is empty, when anything has arrived. A line is sent as `before` + line + `after`,
    and received as a head that matches the regular expression `head`, the line, and
    `tail`.

    Some servers send a request some time after a join: `asked` is the request,
    `answer` the reply. Nothing is timed before every client has been asked.
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

# ncat numbers its users, so the length of a head depends on the speaker.
NCAT = Dialect("ncat", head=rb"<user\d+> ")

# CLIENT REPLY OFF turns off the replies to PUBLISH, but not the messages, which are
# "pushes". It comes last, because it would turn off the reply to SUBSCRIBE.
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

# The server sends its first PING two seconds after a join, whatever its interval.
# Otherwise it would arrive in the timed part, so the load generator waits for it.
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
