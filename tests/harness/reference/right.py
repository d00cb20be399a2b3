"""Correct servers that differ from the reference server.

Usage: python -m tests.harness.reference.right NAME HOST PORT [OPTION …]

Each server does something that the clauses permit, but that a careless test would report.
"""

import sys

from harness.reference.__main__ import build_parser
from harness.reference.dialects import DIALECTS
from harness.reference.server import KIB, Member, Options, Server


class ReadsMuch(Server):
    """Reads up to 256 KiB at once, as asyncio does, even if the allowance is smaller."""

    def receive(self, member: Member, size: int) -> bytes | None:
        return super().receive(member, 256 * KIB)


RIGHT: dict[str, tuple[type[Server], str]] = {
    "reads-much": (ReadsMuch, "LOAD-3"),
    "names": (DIALECTS["names"], "JOIN-2 JOIN-5 WELCOME-1 PREFIX-1 PREFIX-2 PREFIX-4"),
    "crlf": (DIALECTS["crlf"], "WELCOME-4 LINE-1 LINE-2 LINE-4 TEXT-3"),
    "echo": (DIALECTS["echo"], "CAST-2 LINE-3 LEAVE-2"),
}
"""Correct servers by name, each with the clauses that it might seem to break."""


if __name__ == "__main__":
    given = build_parser().parse_args(sys.argv[2:])
    settings = {
        name: value for name, value in vars(given).items() if name in Options.__dataclass_fields__
    }
    RIGHT[sys.argv[1]][0](Options(**settings)).run()
