"""The clauses of the protocol, read from the PROTOCOL.md that ships with the harness.

A clause is a row of a table; the heading above the table names its section.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

WEBSOCKET = "WebSocket"
"""Section with the clauses for a gateway. `conform --ws` judges only these clauses."""

_HEADING = re.compile(r"^## +(?P<section>.+?) *$")
_ROW = re.compile(r"^\| *(?P<id>[A-Z]+-[0-9]+) *\| *(?P<level>MUST|SHOULD) *\| *(?P<text>.+?) *\|$")

# An installed package contains the file; in a checkout, the file is beside the package.
_HERE = Path(__file__).parent
_PLACES = (_HERE / "PROTOCOL.md", _HERE.parent / "PROTOCOL.md")


@dataclass(frozen=True)
class Clause:
    """A clause of the protocol. `level` is MUST or SHOULD."""

    id: str
    level: str
    section: str
    text: str

    @property
    def on_websockets(self) -> bool:
        """True if the clause concerns WebSockets, and not a room of lines."""
        return self.section == WEBSOCKET


def parse(page: str) -> dict[str, Clause]:
    """Return a page's clauses by id, in the page's order. Raise ValueError for a duplicate id."""
    clauses: dict[str, Clause] = {}
    section = ""
    for line in page.splitlines():
        if heading := _HEADING.match(line):
            section = heading["section"]
        elif row := _ROW.match(line):
            if row["id"] in clauses:
                raise ValueError(f"{row['id']} occurs twice")
            clauses[row["id"]] = Clause(row["id"], row["level"], section, row["text"])
    return clauses


@cache
def all_clauses() -> dict[str, Clause]:
    """Return the protocol's clauses by id, in the order of PROTOCOL.md."""
    page = next(place for place in _PLACES if place.exists())
    return parse(page.read_text(encoding="utf-8"))


def clauses_of_kind(on_websockets: bool) -> dict[str, Clause]:
    """Return the clauses for one kind of target: a room of lines, or a server for WebSockets."""
    return {
        name: clause
        for name, clause in all_clauses().items()
        if clause.on_websockets == on_websockets
    }
