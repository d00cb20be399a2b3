"""How each kind of server is spoken to. Pure: bytes, no socket.

A dialect is data. The differences that matter to a load are few: what a client
says to get in, what shows that it is in, how it says a line, what is put around
a line when it is delivered, and whether its sender hears it too.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """What a load has to know of a server's protocol.

    A client joins by sending `hello`, and has joined when `joined` has arrived
    (where that is empty: when anything has). A line is said as `before` + line
    + `after`, and is heard as a head that matches the regular expression
    `head`, the line, and `tail`.

    Some servers ask a question of their own some time after a join: `asked` is
    it, `answer` the reply, and nothing is timed before every client has been
    asked.
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

# ncat numbers its users, so the length of a head depends on who speaks.
NCAT = Dialect("ncat", head=rb"<user\d+> ")

# CLIENT REPLY OFF silences the answers to PUBLISH, not the messages (they are
# "pushes"). It comes last, because it would silence the answer to SUBSCRIBE.
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

# The server sends its first PING two seconds after a join, whatever its
# interval: it would fall into the timed part, so it is waited for.
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
