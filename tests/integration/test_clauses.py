"""Each clause of PROTOCOL.md is proved here, by a test that names it."""

import re
from pathlib import Path

#: Another issue brings these.
TO_COME = {"LOAD-3", "LOAD-4"}

HERE = Path(__file__).parent


def test_each_clause_has_a_test_that_names_it() -> None:
    protocol = (HERE.parent.parent / "PROTOCOL.md").read_text(encoding="utf-8")
    clauses = set(re.findall(r"^\| ([A-Z]+-\d+) \|", protocol, re.MULTILINE))
    named: set[str] = set()
    for path in HERE.glob("test_*.py"):
        for docstring in re.findall(
            r'\n    """(.*?)"""', path.read_text(encoding="utf-8"), re.DOTALL
        ):
            named.update(ranges(docstring))
    assert named >= clauses - TO_COME
    assert named <= clauses


def ranges(text: str) -> set[str]:
    """The clauses that a text names: `CAST-1`, and `CAST-1 to CAST-5`."""
    named = set(re.findall(r"\b[A-Z]+-\d+\b", text)) - {"UTF-8"}
    for section, first, last in re.findall(r"\b([A-Z]+)-(\d+) to \1-(\d+)", text):
        named.update(f"{section}-{number}" for number in range(int(first), int(last) + 1))
    return {name for name in named if name.split("-")[0] not in {"FD", "PR"}}
