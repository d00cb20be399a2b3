"""The address at which a room listens: `HOST:PORT`, `[IPV6]:PORT` or `unix:PATH`."""

from typing import NamedTuple

from chatroom.arguments import port_number

SCHEME = "unix:"

LONGEST_PATH = 107
"""Maximum length of a Unix socket's path on Linux (bytes); on macOS it is 103."""


class Endpoint(NamedTuple):
    """A host (name or address) and a port (0: any free port), or the path of a Unix socket."""

    host: str = ""
    port: int = 0
    path: str = ""

    def __str__(self) -> str:
        if self.path:
            return SCHEME + self.path
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"

    @classmethod
    def parse(cls, text: str) -> "Endpoint":
        """Parse what `str` returns. Raises ValueError with a message that says what the text must
        be."""
        if text.startswith(SCHEME):
            path = text.removeprefix(SCHEME)
            size = len(path.encode(errors="replace"))
            if "\0" in path or not path.isprintable() or not 1 <= size <= LONGEST_PATH:
                demand = f"unix:PATH, with a printable path of 1 to {LONGEST_PATH} bytes"
                raise ValueError(demand)
            return cls(path=path)
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        elif ":" in host:
            raise ValueError(f"[ADDRESS]:PORT for an IPv6 address, not {text!r}")
        if not (host and colon):
            raise ValueError(f"HOST:PORT or unix:PATH, not {text!r}")
        return cls(host, port_number(port, 0))
