"""``python -m harness.reference HOST PORT``: a correct server, or one that is broken on purpose."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import NoReturn

from harness.encoding import escape_output
from harness.reference.broken import REGISTRY
from harness.reference.dialects import DIALECTS
from harness.reference.hopeless import HOPELESS
from harness.reference.server import Options, Server

UNITS = {"": 1, "K": 1 << 10, "M": 1 << 20, "G": 1 << 30}


def size(text: str) -> int:
    """Parse a size of 1 byte or more, such as `65536`, `64K`, `4M` or `1G`."""
    digits = text.rstrip("KMG")
    if not digits.isascii() or not digits.isdigit() or text[len(digits) :] not in UNITS:
        raise argparse.ArgumentTypeError(
            f"must be a number, which K, M or G may follow, not {text!r}"
        )
    if not int(digits):
        raise argparse.ArgumentTypeError("must be 1 or more")
    return int(digits) * UNITS[text[len(digits) :]]


def build_parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m harness.reference", description=__doc__, allow_abbrev=False
    )
    parser.add_argument("host", metavar="HOST", nargs="?", help="name or address to listen at")
    parser.add_argument(
        "port", metavar="PORT", nargs="?", type=int, help="port to listen at; 0: any free port"
    )
    parser.add_argument(
        "--announce", action="store_true", help="print 'listening on HOST:PORT' when ready"
    )
    for name, what in (
        ("max_clients", "maximum number of members"),
        ("max_lag", "maximum lag of a slow reader, in bytes"),
        ("rate", "maximum number of bytes per second read from a member"),
        ("burst", "maximum number of bytes read at once from a member that was silent"),
    ):
        option = "--" + name.replace("_", "-")
        default = getattr(Options, name)
        metavar = "N" if name == "max_clients" else "SIZE"
        parser.add_argument(
            option, metavar=metavar, type=size, default=default, help=f"{what} ({default})"
        )
    parser.add_argument(
        "--flush-after",
        metavar="SECONDS",
        type=float,
        default=Options.flush_after,
        help=f"seconds of silence until text without LF is delivered ({Options.flush_after})",
    )
    wrong = parser.add_mutually_exclusive_group()
    wrong.add_argument(
        "--dialect",
        metavar="NAME",
        choices=DIALECTS,
        help=f"speak another dialect: {', '.join(DIALECTS)} (profiles reference-NAME)",
    )
    wrong.add_argument("--broken", metavar="NAME", choices=REGISTRY, help="run this broken server")
    wrong.add_argument(
        "--hopeless",
        metavar="NAME",
        choices=HOPELESS,
        help="run this target, which does not work as a server",
    )
    wrong.add_argument(
        "--list", action="store_true", help="list the broken servers and the hopeless targets"
    )
    return parser


def catalogue() -> str:
    """Return a list of the broken servers, with their clauses, and of the hopeless targets."""
    rows = [
        (name, f"{summary(kind)} [{', '.join(sorted(clauses))}]")
        for name, (kind, clauses) in REGISTRY.items()
    ]
    rows += [(name, summary(target)) for name, target in HOPELESS.items()]
    width = max(len(name) for name, _ in rows)
    return "\n".join(f"{name:{width}}  {text}" for name, text in rows)


def summary(documented: object) -> str:
    return (documented.__doc__ or "").strip().split("\n", 1)[0]


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    escape_output()
    parser = build_parser()
    given = parser.parse_args(arguments)
    if given.list:
        print(catalogue())
        sys.exit()
    if given.host is None or given.port is None:
        parser.error("HOST and PORT are required")
    options = Options(
        given.host,
        given.port,
        given.max_clients,
        given.max_lag,
        given.rate,
        given.burst,
        given.flush_after,
        given.announce,
    )
    try:
        if given.hopeless:
            HOPELESS[given.hopeless](options)
        kind = REGISTRY[given.broken][0] if given.broken else Server
        kind = DIALECTS[given.dialect] if given.dialect else kind
        kind(options).run()
    except OSError as error:
        sys.exit(f"{parser.prog}: {error}")


if __name__ == "__main__":
    main()
