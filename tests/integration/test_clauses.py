"""Each clause of PROTOCOL.md is named here, by a test that is to prove it."""

import ast
import re
from pathlib import Path

from tests.selection import clauses_in

HERE = Path(__file__).parent


def test_each_clause_has_a_test_that_names_it() -> None:
    protocol = (HERE.parent.parent / "PROTOCOL.md").read_text(encoding="utf-8")
    clauses = set(re.findall(r"^\| ([A-Z]+-\d+) \|", protocol, re.MULTILINE))
    named: set[str] = set()
    for path in HERE.glob("test_*.py"):
        for part in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(part, ast.FunctionDef) and part.name.startswith("test_"):
                named.update(clauses_in(ast.get_docstring(part) or ""))
    assert named == clauses
