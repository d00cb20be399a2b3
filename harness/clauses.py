"""The clauses of the protocol, read from PROTOCOL.md as it ships with the harness.

That page is the one place where they are written down. A clause is a row of one
of its tables; the heading above the table names its section.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_HEADING = re.compile(r"^## +(?P<section>.+?) *$")
_ROW = re.compile(r"^\| *(?P<id>[A-Z]+-[0-9]+) *\| *(?P<level>MUST|SHOULD) *\| *(?P<text>.+?) *\|$")

# Installed, it lies in the package; in a checkout, beside it.
_HERE = Path(__file__).parent
_PLACES = (_HERE / "PROTOCOL.md", _HERE.parent / "PROTOCOL.md")


@dataclass(frozen=True)
class Clause:
    """One promise. `level`: MUST, or SHOULD."""

    id: str
    level: str
    section: str
    text: str


def parse(page: str) -> dict[str, Clause]:
    """The clauses of a page, by id, in its order. Raises ValueError for an id that comes twice."""
    clauses: dict[str, Clause] = {}
    section = ""
    for line in page.splitlines():
        if heading := _HEADING.match(line):
            section = heading["section"]
        elif row := _ROW.match(line):
            if row["id"] in clauses:
                raise ValueError(f"{row['id']} is there twice")
            clauses[row["id"]] = Clause(row["id"], row["level"], section, row["text"])
    return clauses


@cache
def all_clauses() -> dict[str, Clause]:
    """The protocol's clauses, by id, in its order."""
    page = next(place for place in _PLACES if place.exists())
    return parse(page.read_text(encoding="utf-8"))
