"""``python -m harness.reference.gateway HOST PORT``: a correct or a broken WebSocket server."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from harness.encoding import escape_output
from harness.reference.gateway.broken import REGISTRY
from harness.reference.gateway.server import Connection, listen


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness.reference.gateway", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("host", metavar="HOST", nargs="?", help="name or address to listen at")
    parser.add_argument(
        "port", metavar="PORT", nargs="?", type=int, help="port to listen at; 0: any free port"
    )
    parser.add_argument(
        "--announce", action="store_true", help="print 'listening on HOST:PORT' when ready"
    )
    wrong = parser.add_mutually_exclusive_group()
    wrong.add_argument("--broken", metavar="NAME", choices=REGISTRY, help="run this broken server")
    wrong.add_argument("--list", action="store_true", help="list the broken servers")
    return parser


def catalogue() -> str:
    """Return a list of the broken servers, with their clauses."""
    width = max(map(len, REGISTRY))
    return "\n".join(
        f"{name:{width}}  {(kind.__doc__ or '').strip()} [{', '.join(sorted(clauses))}]"
        for name, (kind, clauses) in REGISTRY.items()
    )


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    escape_output()
    parser = build_parser()
    given = parser.parse_args(arguments)
    if given.list:
        print(catalogue())
        sys.exit()
    if given.host is None or given.port is None:
        parser.error("HOST and PORT are required")
    kind = REGISTRY[given.broken][0] if given.broken else Connection
    try:
        listen(given.host, given.port, kind, given.announce)
    except OSError as error:
        sys.exit(f"{parser.prog}: {error}")
    sys.exit()


if __name__ == "__main__":
    main()
