"""Show the progress of a run: as a bar on a terminal, else as a line for each finished section of
PROTOCOL.md."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import Protocol, TextIO

from harness.clauses import all_clauses
from harness.conformance.plugin import CANNOT_JUDGE, FAIL, NOT_APPLICABLE, PASS, UNKNOWN, Result
from harness.conformance.runner import Check

_ORDER = (PASS, FAIL, UNKNOWN, CANNOT_JUDGE, NOT_APPLICABLE)


class OnResult(Protocol):
    def __call__(self, result: Result) -> None: ...


@contextmanager
def progress(checks: Sequence[Check], stream: TextIO) -> Iterator[OnResult]:
    """Show the progress of these tests on the stream. Yield the function to call with the result of
    each test."""
    if stream.isatty():
        with _bar(len(checks), stream) as on_result:
            yield on_result
    else:
        yield _Sections(checks, stream).on_result


@contextmanager
def _bar(total: int, stream: TextIO) -> Iterator[OnResult]:
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.description}", markup=False),
    )
    # Only pytest prints during a run, and its output is discarded. So nothing needs redirection.
    with Progress(
        *columns,
        console=Console(file=stream),
        transient=True,
        redirect_stdout=False,
        redirect_stderr=False,
    ) as shown:
        task = shown.add_task("", total=total)
        found = Counter[str]()

        def on_result(result: Result) -> None:
            found[result.verdict] += 1
            latest = f"{result.clause} {result.verdict}"
            shown.update(task, advance=1, description=f"{_counts(found)}; {latest}")

        yield on_result


class _Sections:
    """Prints a line for each section when the last test of the section has ended."""

    def __init__(self, checks: Sequence[Check], stream: TextIO) -> None:
        self._stream = stream
        self._left = Counter(_section(check.clause) for check in checks)
        self._found: dict[str, Counter[str]] = {name: Counter() for name in self._left}

    def on_result(self, result: Result) -> None:
        section = _section(result.clause)
        self._left[section] -= 1
        self._found[section][result.verdict] += 1
        if not self._left[section]:
            print(f"{section}: {_counts(self._found[section])}", file=self._stream, flush=True)


def _counts(found: Counter[str]) -> str:
    return ", ".join(f"{found[name]} {name}" for name in _ORDER if found[name])


def _section(clause: str) -> str:
    return all_clauses()[clause].section
