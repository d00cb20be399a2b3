"""Show the results of a run as lines of text, on a terminal or in a file. Pure.

A line is a list of parts, each with the name of a style; a file contains only the text.
A server's bytes are escaped, so no control character reaches the terminal.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import replace

from harness.clauses import Clause
from harness.conformance.evidence import EXPLANATIONS, label
from harness.conformance.plugin import FAIL, NOT_APPLICABLE, PASS, UNKNOWN, Result
from harness.conformance.verdicts import INVALID, NOT_RUN, ClauseVerdict, Verdict
from harness.report.difference import columns, difference
from harness.report.wire import around
from harness.target.crash import find
from harness.wording import as_text, visible

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

REASONS = 5
"""Maximum number of reasons shown for an invalid run."""
LAST_OUTPUT = 8
"""Maximum number of lines of the target's output shown for a failure."""
BYTES = 96
"""Maximum number of expected bytes, and of actual bytes, shown for a failure."""
LONGEST_LINE = 160
"""Maximum number of characters shown of a line of the target's output."""
BYTES_IN_HEX = 16
"""Bytes per line of hex."""

LEGEND = (
    "Clients are named A, B, C and so on, in the order in which they connected. Each line of a wire"
    " log shows the time in seconds and both ends: A → server means that A sent the text. The"
    " marked lines belong to the failure."
)
"""Explanation of the wire logs in a report."""


def as_hex(data: bytes) -> list[str]:
    """Return bytes in hexadecimal, in short lines."""
    return [
        data[begin : begin + BYTES_IN_HEX].hex(" ") for begin in range(0, len(data), BYTES_IN_HEX)
    ]


def clip(data: bytes, limit: int = BYTES) -> tuple[bytes, str]:
    """Return the first `limit` bytes, and a note with the number of all bytes if there are more."""
    return data[:limit], "" if len(data) <= limit else f" … of {len(data):,} bytes"


def last_lines(output: str, limit: int = LAST_OUTPUT) -> list[str]:
    """Return the lines of a crash in a target's output; the last lines if there is no crash.

    Empty lines are left out, and long lines are cut.
    """
    crash = find(output)
    lines = crash.lines if crash else [*filter(str.strip, output.splitlines())][-limit:]
    return [
        visible(line[:LONGEST_LINE]) + ("…" if len(line) > LONGEST_LINE else "") for line in lines
    ]


def plain(lines: Iterable[Line]) -> str:
    """Return lines as text for a file, without styles. Each line ends with LF."""
    return "".join("".join(part for part, _ in line).rstrip() + "\n" for line in lines)


# --- a run ---------------------------------------------------------------------------------------


def summary(
    verdict: Verdict, asked: Collection[str] | None = None, dialect: Sequence[str] = ()
) -> Iterator[Line]:
    """Yield the lines that end the report of a run.

    asked: the clauses to show; None: all. dialect: deviations of the profile's dialect from
    PROTOCOL.md.
    """
    if asked is not None:
        shown = tuple(clause for clause in verdict.clauses if clause.clause.id in asked)
        verdict = replace(verdict, clauses=shown)
    yield from table(verdict.clauses)
    kinds = {clause.evidence for clause in verdict.clauses}
    for kind, sentence in EXPLANATIONS.items():
        if kind in kinds:
            yield [(sentence, "faint")]
    if verdict.failed():
        yield []
        yield [(LEGEND, "faint")]
    for broken in ranked(verdict):
        yield []
        yield from failure(broken)
    yield from _remarks(verdict)
    yield []
    if dialect:
        yield [("dialect: ", "faint"), (visible("; ".join(dialect)), "plain")]
    yield from broken_clauses(verdict)
    yield conclusion(verdict)


def _remarks(verdict: Verdict) -> Iterator[Line]:
    """Yield lines about known failures that no longer fail, and about an invalid run."""
    if verdict.stale or verdict.why:
        yield []
    for said in verdict.stale:
        yield [(visible(said), UNKNOWN)]
    for reason in verdict.why[:REASONS]:
        yield [(f"invalid: {visible(reason)}", INVALID)]
    if len(verdict.why) > REASONS:
        yield [(f"invalid: {len(verdict.why) - REASONS} more reasons", INVALID)]


def ranked(verdict: Verdict) -> list[ClauseVerdict]:
    """Return the broken clauses in order of importance: the clauses that count before those that do
    not, and MUST clauses before SHOULD clauses."""
    return sorted(
        verdict.failed(), key=lambda broken: (not broken.decides, broken.clause.level != "MUST")
    )


def table(judged: Sequence[ClauseVerdict]) -> Iterator[Line]:
    """Yield a line for each clause: id, level, verdict, evidence, and notes.

    The notes contain the reason of a verdict other than `pass` and `fail`. The reasons of failures
    come after the table.
    """
    rows = [("clause", "level", "verdict", "evidence", "")]
    for clause in judged:
        notes = [
            "not counted" if clause.verdict == FAIL and not clause.decides else "",
            "" if clause.verdict == FAIL else clause.detail,
            "in the dialect's form" if clause.form and clause.results else "",
        ]
        rows.append(
            (
                clause.clause.id,
                clause.clause.level,
                clause.verdict,
                label(clause.evidence) or "-",
                visible("; ".join(filter(None, notes))),
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
    if broken.form:
        yield [("  in the dialect: ", "faint"), (broken.form, "plain")]
    if not broken.decides:
        yield [("  not counted", "faint")]
    for result in broken.results:
        if result.verdict == FAIL:
            yield from _failed_test(result)


def quote(clause: Clause, style: str = "strong") -> Iterator[Line]:
    """Yield a clause's text."""
    yield [(f"{clause.id} {clause.level}", style), (f"  {clause.text}", "plain")]


def _failed_test(result: Result) -> Iterator[Line]:
    yield [("  ", "plain"), (visible(result.detail), "strong")]
    if result.cause:
        yield [("  Usual cause: ", "faint"), (visible(result.cause), "plain")]
    yield from _labelled("test", [visible(result.test)])
    yield from _bytes(result)
    yield from _labelled("wire", [str(each) for each in around(result)])
    yield from _labelled("crash" if find(result.output) else "output", last_lines(result.output))


def _labelled(name: str, lines: Sequence[str]) -> Iterator[Line]:
    """Yield indented lines, with a label before the first of them."""
    for number, text in enumerate(lines):
        yield [(f"    {'' if number else name:<9}", "faint"), (text, "plain")]


def shows_expected(result: Result) -> bool:
    """Return whether the report already shows the expected bytes: in the detail, or as a sent text
    in the wire log."""
    digits = result.expected or ""
    return bool(digits) and (
        as_text(bytes.fromhex(digits)) in result.detail
        or any(what == "sends" and digits in data for _, _, what, data, _ in result.wire)
    )


def _bytes(result: Result) -> Iterator[Line]:
    """Yield the expected and the received bytes, with marks under their first difference."""
    expected, actual = (
        None if digits is None else bytes.fromhex(digits)
        for digits in (result.expected, result.actual)
    )
    found = difference(expected or b"", actual or b"")
    if found is None and shows_expected(result):
        return
    if found is None:
        for name, data in (("expected", expected), ("received", actual)):
            if data is not None:
                shown, rest = clip(data)
                yield from _labelled(name, [f'"{as_text(shown)}"{rest}'])
        return
    for side in (found.expected, found.actual):
        yield from _labelled(side.name, [side.text])
        blanks = " " * (columns(side.before) + 1)
        yield from _labelled("", [f"{blanks}{'^' * max(1, columns(side.differs))} {side.hex}"])
    yield from _labelled("differ", [found.place])


def broken_clauses(verdict: Verdict) -> Iterator[Line]:
    """Yield a line for each broken clause that counts, and one line with the ids of those that do
    not count."""
    broken = ranked(verdict)
    for clause in (clause for clause in broken if clause.decides):
        head = f"broken: {clause.clause.id} {clause.clause.level}"
        detail = visible(clause.detail)
        short = detail if len(detail) <= LONGEST_LINE else detail[:LONGEST_LINE].rstrip() + "…"
        yield [(f"{head:<24} ", FAIL), (short, "plain")]
    ids = [clause.clause.id for clause in broken if not clause.decides]
    if ids:
        yield [("broken, but not counted: ", "faint"), (", ".join(ids), "plain")]


def conclusion(verdict: Verdict) -> Line:
    """Return the line with the verdict of a run, and the number of clauses with each verdict."""
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
    name = verdict.verdict.upper()
    if verdict.verdict == PASS and verdict.in_dialect:
        name += " in the dialect"
    return [(name, verdict.verdict), (f": {', '.join(parts)}", "plain")]
