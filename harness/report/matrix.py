"""Make the table of servers and clauses, with a verdict for each pair. Pure, except for `read`."""

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
    """A clause, and its entry in the record of each server; None: the record lacks the clause."""

    id: str
    level: str
    cells: list[dict[str, Any] | None]


def read(path: Path) -> dict[str, Any]:
    """Return the record in a results.json of `conform`. Raise ValueError for any other file."""
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
        and _is_list_of_texts(record.get("dialect", []))
    )


def _is_clause(clause: Any) -> bool:
    return (
        isinstance(clause, dict)
        and all(isinstance(clause.get(key), kind) for key, kind in _CLAUSE.items())
        and clause["verdict"] in VERDICTS
        and isinstance(clause.get("evidence"), str | None)
        and isinstance(clause.get("form"), str | None)
    )


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(text, str) for text in value)


def dialects(records: Sequence[dict[str, Any]]) -> list[str]:
    """Return the dialect in which each server was judged; empty for that of PROTOCOL.md."""
    return ["; ".join(record.get("dialect", [])) for record in records]


def name_all(paths: Sequence[Path]) -> list[str]:
    """Return a name for each server: the name of the file's folder, or the whole path if several
    folders have the same name."""
    names = [path.resolve().parent.name for path in paths]
    return [
        name if names.count(name) == 1 else str(path)
        for name, path in zip(names, paths, strict=True)
    ]


def merge(records: Sequence[dict[str, Any]]) -> list[Row]:
    """Return a row for each clause in the records, in the order of its first occurrence."""
    tables = [{clause["id"]: clause for clause in record["clauses"]} for record in records]
    levels = {clause["id"]: clause["level"] for table in tables for clause in table.values()}
    return [
        Row(clause, level, [table.get(clause) for table in tables])
        for clause, level in levels.items()
    ]


def plain(
    names: Sequence[str], verdicts: Sequence[str], rows: Sequence[Row], dialects: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the table, line by line, in aligned columns; then yield the notes on dialects."""
    table = list(_table(names, verdicts, rows))
    widths = [max(map(len, column)) for column in zip(*table, strict=True)]
    for row in table:
        yield "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
    yield from notes(names, dialects)


def markdown(
    names: Sequence[str], verdicts: Sequence[str], rows: Sequence[Row], dialects: Sequence[str] = ()
) -> Iterator[str]:
    """Yield the table, line by line, in Markdown, with failures in bold; then yield the notes on
    dialects."""
    head, *body = _table(names, verdicts, rows)
    yield f"| {' | '.join(map(_escaped, head))} |"
    yield f"|{'---|' * len(head)}"
    for row in body:
        bold = [f"**{cell}**" if cell in ("fail", "fail*") else cell for cell in row]
        yield f"| {' | '.join(bold)} |"
    yield from map(_escaped, notes(names, dialects))


def notes(names: Sequence[str], dialects: Sequence[str]) -> Iterator[str]:
    """Yield an empty line and a note for each server that was judged in a dialect."""
    for name, dialect in zip(names, dialects, strict=False):
        if dialect:
            yield ""
            yield f"{_visible(name)}, judged in its dialect (*): {_visible(dialect)}"


def _escaped(text: str) -> str:
    """Return a text in which `|`, the border of a table in Markdown, is escaped."""
    return text.replace("|", chr(92) + "|")


def _table(
    names: Sequence[str], verdicts: Sequence[str], rows: Sequence[Row]
) -> Iterator[list[str]]:
    yield ["clause", "level", *map(_visible, names)]
    for row in rows:
        cells = [
            cell["verdict"] + "*" * bool(cell.get("form")) if cell else "-" for cell in row.cells
        ]
        yield [_visible(row.id), _visible(row.level), *cells]
    yield ["all", "", *verdicts]


def _visible(text: str) -> str:
    return "".join(char if char.isprintable() else "?" for char in text)
