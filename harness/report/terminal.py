"""The results of a run as lines of text, the same on a terminal and in a file. Pure.

A line is a list of parts, each with the name of a style; a file gets only the text.
A server's bytes are escaped, so no control character reaches the terminal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from harness.clauses import Clause
from harness.conformance.evidence import label
from harness.conformance.plugin import FAIL, NOT_APPLICABLE, PASS, UNKNOWN, Result
from harness.conformance.verdicts import INVALID, NOT_RUN, ClauseVerdict, Verdict

Line = list[tuple[str, str]]
"""Parts of a line: text, and name of a style in STYLES."""

STYLES = {
    "plain": "",
    "faint": "dim",
    "strong": "bold",
    PASS: "green",
    FAIL: "bold red",
    UNKNOWN: "yellow",
    NOT_APPLICABLE: "dim",
    INVALID: "bold yellow",
}
"""Styles for rich, by name."""

LAST_EVENTS = 12
"""Maximum number of wire events shown for a failure."""
REASONS = 5
"""Maximum number of reasons shown for an invalid run."""
LAST_OUTPUT = 8
"""Maximum number of lines of the target's output shown for a failure."""
BYTES = 96
"""Maximum number of expected bytes, and of actual bytes, shown for a failure."""
BYTES_OF_AN_EVENT = 64
"""Maximum number of bytes shown of a wire event: it then fits on one line of most terminals."""
BYTES_IN_HEX = 16
"""Bytes per line of hex."""


def visible(text: str) -> str:
    """Return the text on one line, with escapes for unprintable characters."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def as_text(data: bytes) -> str:
    """Return bytes as text, with escapes for invalid UTF-8 and unprintable characters."""
    return visible(data.decode(errors="backslashreplace"))


def as_hex(data: bytes) -> list[str]:
    """Return bytes in hexadecimal, in short lines."""
    return [
        data[begin : begin + BYTES_IN_HEX].hex(" ") for begin in range(0, len(data), BYTES_IN_HEX)
    ]


def clip(data: bytes, limit: int = BYTES) -> tuple[bytes, str]:
    """Return the beginning of the bytes, and a note on the rest."""
    return data[:limit], "" if len(data) <= limit else f" … of {len(data):,} bytes"


def last_words(output: str, limit: int = LAST_OUTPUT) -> list[str]:
    """Return the last lines of a target's output, without empty ones."""
    return [visible(line) for line in output.splitlines() if line.strip()][-limit:]


def plain(lines: Iterable[Line]) -> str:
    """Return lines as text for a file, without styles, each with a LF."""
    return "".join("".join(part for part, _ in line).rstrip() + "\n" for line in lines)


# --- a run ---------------------------------------------------------------------------------------


def summary(verdict: Verdict, asked: Collection[str] | None = None) -> Iterator[Line]:
    """Yield the lines for the end of a run. `asked`: the only clauses to show; None: all."""
    if asked is not None:
        shown = tuple(clause for clause in verdict.clauses if clause.clause.id in asked)
        verdict = replace(verdict, clauses=shown)
    yield from table(verdict.clauses)
    for broken in verdict.failed():
        yield []
        yield from failure(broken)
    if verdict.stale or verdict.why:
        yield []
    for said in verdict.stale:
        yield [(visible(said), UNKNOWN)]
    for reason in verdict.why[:REASONS]:
        yield [(f"invalid: {visible(reason)}", INVALID)]
    if len(verdict.why) > REASONS:
        yield [(f"invalid: {len(verdict.why) - REASONS} more reasons", INVALID)]
    yield []
    yield from broken_clauses(verdict)
    yield conclusion(verdict)


def table(judged: Sequence[ClauseVerdict]) -> Iterator[Line]:
    """Yield a line for each clause: id, level, verdict, evidence, and detail if it did not pass."""
    rows = [("clause", "level", "verdict", "evidence", "")]
    for clause in judged:
        mark = "" if clause.decides or clause.verdict != FAIL else "not counted: "
        detail = visible(mark + clause.detail)
        rows.append(
            (
                clause.clause.id,
                clause.clause.level,
                clause.verdict,
                label(clause.evidence) or "-",
                detail,
            )
        )
    widths = [max(len(row[column]) for row in rows) for column in range(4)]
    for number, row in enumerate(rows):
        style = "faint" if number == 0 else row[2]
        cells = [cell.ljust(width) for cell, width in zip(row, [*widths, 0], strict=True)]
        plain_style = "faint" if number == 0 else "plain"
        yield [
            (f"{cells[0]}  {cells[1]}  ", plain_style),
            (f"{cells[2]}  ", style),
            (f"{cells[3]}  {cells[4]}", "faint"),
        ]


def failure(broken: ClauseVerdict) -> Iterator[Line]:
    """Yield a clause's text, and the failures of its tests."""
    yield from quote(broken.clause, FAIL)
    if not broken.decides:
        yield [("  not counted", "faint")]
    for result in broken.results:
        if result.verdict == FAIL:
            yield from _failed_test(result)


def quote(clause: Clause, style: str = "strong") -> Iterator[Line]:
    """Yield a clause's text."""
    yield [(f"{clause.id} {clause.level}", style), (f"  {clause.text}", "plain")]


def _failed_test(result: Result) -> Iterator[Line]:
    yield [(f"  {result.test}: {visible(result.detail)}", "plain")]
    for name, digits in (("expected", result.expected), ("actual", result.actual)):
        if digits is not None:
            data, rest = clip(bytes.fromhex(digits))
            yield [(f"    {name:<9}", "faint"), (f'"{as_text(data)}"{rest}', "plain")]
            yield from ([(f"    {'':<9}{digits}", "faint")] for digits in as_hex(data))
    for number, event in enumerate(result.wire[-LAST_EVENTS:]):
        yield [(f"    {'' if number else 'wire':<9}", "faint"), (describe(event), "plain")]
    for number, text in enumerate(last_words(result.output)):
        yield [(f"    {'' if number else 'output':<9}", "faint"), (text, "plain")]


def describe(event: Sequence[float | str | int]) -> str:
    """Return one line that describes an event of `Result.wire`."""
    time, client, what, digits, size = event
    said = bytes.fromhex(str(digits))
    data, _ = clip(said, BYTES_OF_AN_EVENT)
    rest = f" … of {size:,} bytes" if int(size) > len(data) else ""
    words = f' "{as_text(data)}"{rest}' if said else ""
    return f"{float(time):8.4f}  {visible(f'{client} {what}')}{words}"


def broken_clauses(verdict: Verdict) -> Iterator[Line]:
    """Yield a line of ids for the broken clauses that count, and one for those that do not."""
    for said, decides in (("broken", True), ("broken, but not counted", False)):
        ids = [broken.clause.id for broken in verdict.failed() if broken.decides == decides]
        if ids:
            yield [(f"{said}: ", "faint"), (", ".join(ids), FAIL if decides else "plain")]


def conclusion(verdict: Verdict) -> Line:
    """Return the verdict of a run, and the number of clauses for each verdict."""
    counts = Counter(clause.verdict if clause.results else NOT_RUN for clause in verdict.clauses)
    parts = [
        f"{counts[each]} {name}"
        for each, name in (
            (PASS, "passed"),
            (FAIL, "failed"),
            (UNKNOWN, "not decided"),
            (NOT_APPLICABLE, "not applicable"),
            (NOT_RUN, NOT_RUN),
        )
        if counts[each]
    ]
    aside = [broken for broken in verdict.failed() if not broken.decides]
    if aside:
        parts.append(f"failures not counted: {len(aside)}")
        if verdict.verdict == FAIL and len(aside) == len(verdict.failed()):
            parts.append("and no clause passed")
    return [(verdict.verdict.upper(), verdict.verdict), (f": {', '.join(parts)}", "plain")]
