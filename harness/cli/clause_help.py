"""Explain a clause: its text, its tests, and the broken servers that the tests catch.

Exit status: 0; 2 if there is no such clause.
"""

from __future__ import annotations

import argparse
import inspect
import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING

from harness.clauses import Clause, all_clauses
from harness.cli.arguments import clause_id
from harness.cli.optional_deps import needs_extra
from harness.conformance.evidence import EXPLANATIONS, weakest

if TYPE_CHECKING:
    from harness.conformance.runner import Check

WIDTH = 88


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "clause", metavar="CLAUSE", type=clause_id, help="id of the clause, such as CAST-2"
    )


def run(options: argparse.Namespace, parser: argparse.ArgumentParser) -> int:
    needs_extra(parser)
    from harness.conformance.runner import CollectError, collect

    try:
        checks = collect()
    except CollectError as error:
        parser.error(str(error))
    clause = all_clauses()[options.clause]
    for line in explain(clause, checks, broken(clause.id)):
        print(line)
    return 0


def broken(clause: str) -> dict[str, str]:
    """Return the broken servers that break a clause, by name, with their descriptions."""
    from harness.reference import broken as servers
    from harness.reference.gateway import broken as gateways

    return {
        name: " ".join((inspect.getdoc(kind) or "").split())
        for name, (kind, clauses) in (*servers.REGISTRY.items(), *gateways.REGISTRY.items())
        if clause in clauses
    }


def explain(clause: Clause, checks: Sequence[Check], caught: Mapping[str, str]) -> Iterator[str]:
    """Yield the explanation, line by line."""
    of_it = [check for check in checks if check.clause == clause.id]
    yield f"{clause.id} ({clause.level}, {clause.section})"
    yield from _indented(clause.text, "  ")
    yield ""
    yield from _section("Tests", _docs(of_it))
    yield ""
    yield "Evidence for a pass"
    evidence = weakest([check.evidence for check in of_it])
    why = EXPLANATIONS[evidence] if evidence else "none: the clause is never judged"
    yield from _indented(why, "  ")
    yield ""
    yield from _section("Broken servers that the tests catch", caught)


def _section(title: str, docs: Mapping[str, str]) -> Iterator[str]:
    yield title
    for name, about in docs.items():
        yield f"  {name}"
        yield from _indented(about, "    ")
    if not docs:
        yield "  none"


def _docs(checks: Sequence[Check]) -> dict[str, str]:
    """Return the description of each test by the test's name, without its parameters."""
    return {check.name.partition("[")[0]: check.about for check in checks}


def _indented(text: str, indent: str) -> list[str]:
    return textwrap.wrap(text, WIDTH, initial_indent=indent, subsequent_indent=indent)
