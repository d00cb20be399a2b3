"""The URL of a cluster: the NATS servers, and the name of the room.

nats://HOST:4222[,HOST2:4222…]/ROOM
tls://USER:PASSWORD@HOST/ROOM
"""

import re
from typing import NamedTuple
from urllib.parse import unquote

from chatroom.wording import shown

SCHEMES = ("nats", "tls")
DEFAULT_PORT = 4222

_FORM = re.compile(
    r"(?P<scheme>[a-z]+)://(?:(?P<user>[^/@:]*)(?::(?P<password>[^/@]*))?@)?(?P<hosts>[^/@]+)/"
    r"(?P<room>.*)",
    re.DOTALL,
)
_HOST = re.compile(r"(?P<host>\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9_.-]+)(?::(?P<port>[0-9]{1,5}))?")
_ROOM = re.compile(r"[A-Za-z0-9_-]{1,64}")


class ClusterURL(NamedTuple):
    """A parsed URL."""

    scheme: str
    servers: tuple[str, ...]
    """HOST:PORT of each server."""
    room: str
    user: str = ""
    """Name of a user; if `password` is empty, a token."""
    password: str = ""

    @classmethod
    def parse(cls, text: str) -> "ClusterURL":
        """Parse a URL. Raises ValueError with a message that says what `text` must be.

        The message does not contain the password.
        """
        found = _FORM.fullmatch(text)
        if not found or found["scheme"] not in SCHEMES:
            raise ValueError("nats://HOST:PORT/ROOM, or tls://HOST:PORT/ROOM")
        if "@" in found["room"]:  # parts of the password are in `hosts` and `room`
            raise ValueError("a URL in whose password / is written as %2F, and @ as %40")
        servers = []
        for host in found["hosts"].split(","):
            server = _HOST.fullmatch(host)
            if not server or not 0 < int(server["port"] or DEFAULT_PORT) < 65536:
                raise ValueError(f"a URL with servers such as 192.0.2.1:4222, not {shown(host)}")
            servers.append(f"{server['host']}:{server['port'] or DEFAULT_PORT}")
        if not _ROOM.fullmatch(found["room"]):
            demand = "a URL that ends with the room's name: 1 to 64 letters, digits, _ or -"
            raise ValueError(f"{demand}, not {shown(found['room'])}")
        return cls(
            found["scheme"],
            tuple(servers),
            found["room"],
            unquote(found["user"] or ""),
            unquote(found["password"] or ""),
        )

    def __str__(self) -> str:
        """Return the URL without user and password."""
        return f"{self.scheme}://{','.join(self.servers)}/{self.room}"
