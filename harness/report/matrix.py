"""The table of servers and clauses, with the verdict for each pair. Pure, except for `read`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

VERDICTS = ("pass", "fail", "unknown", "not-applicable")
"""Verdicts of a clause."""

_CLAUSE = {"id": str, "level": str, "verdict": str, "detail": str}


@dataclass(frozen=True)
class Row:
    """A clause, and its verdict for each server; None: the server's record lacks the clause."""

    id: str
    level: str
    cells: list[dict[str, Any] | None]


def read(path: Path) -> dict[str, Any]:
    """Return the record in a results.json of `conform`. Raise ValueError for anything else."""
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(error.strerror) from None
    except (ValueError, RecursionError):
        raise ValueError("the file is not JSON") from None
    if not _is_record(record):
        raise ValueError("the file is not a results.json of `conform`")
    found: dict[str, Any] = record
    return found


def _is_record(record: Any) -> bool:
    return (
        isinstance(record, dict)
        and record.get("verdict") in ("pass", "fail", "invalid")
        and isinstance(record.get("clauses"), list)
        and all(_is_clause(clause) for clause in record["clauses"])
    )


def _is_clause(clause: Any) -> bool:
    return (
        isinstance(clause, dict)
        and all(isinstance(clause.get(key), kind) for key, kind in _CLAUSE.items())
        and clause["verdict"] in VERDICTS
        and isinstance(clause.get("evidence"), str | None)
    )


def name_all(paths: Sequence[Path]) -> list[str]:
    """Return the servers' names: the names of the folders, or the paths if names are equal."""
    names = [path.resolve().parent.name for path in paths]
    return [
        name if names.count(name) == 1 else str(path)
        for name, path in zip(names, paths, strict=True)
    ]


def merge(records: Sequence[dict[str, Any]]) -> list[Row]:
    """Return the clauses of all records, in the order of their first occurrence."""
    tables = [{clause["id"]: clause for clause in record["clauses"]} for record in records]
    levels = {clause["id"]: clause["level"] for table in tables for clause in table.values()}
    return [
        Row(clause, level, [table.get(clause) for table in tables])
        for clause, level in levels.items()
    ]


def plain(names: Sequence[str], verdicts: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    """Yield the table in aligned columns."""
    table = list(_table(names, verdicts, rows))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()


def markdown(names: Sequence[str], verdicts: Sequence[str], rows: Sequence[Row]) -> Iterator[str]:
    """Yield the table in Markdown; failures are bold."""
    head, *body = _table(names, verdicts, rows)
    yield f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in head)} |"
    yield f"|{'---|' * len(head)}"
    for row in body:
        yield f"| {' | '.join('**fail**' if cell == 'fail' else cell for cell in row)} |"


def _table(
    names: Sequence[str], verdicts: Sequence[str], rows: Sequence[Row]
) -> Iterator[list[str]]:
    yield ["clause", "level", *map(_visible, names)]
    for row in rows:
        cells = [cell["verdict"] if cell else "-" for cell in row.cells]
        yield [_visible(row.id), _visible(row.level), *cells]
    yield ["all", "", *verdicts]


def _visible(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
