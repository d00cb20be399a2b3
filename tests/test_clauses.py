"""Tests that each clause of PROTOCOL.md is named by a test in tests/ and by a conformance test."""

import ast
import re
from collections.abc import Iterator
from pathlib import Path

from tests.selection import clauses_in, clauses_in_name

ROOT = Path(__file__).parent.parent
PROTOCOL = (ROOT / "PROTOCOL.md").read_text(encoding="utf-8")
Function = ast.FunctionDef | ast.AsyncFunctionDef
CLAUSES = set(re.findall(r"^\| ([A-Z]+-\d+) \|", PROTOCOL, re.MULTILINE))
OURS = set(re.findall(r"^\| ([A-Z]+-\d+) \| ours \|", PROTOCOL, re.MULTILINE))


def functions_of(folder: Path) -> Iterator[Function]:
    """Yield the tests in a folder and its subfolders, except the tests of the harness."""
    for path in folder.rglob("test_*.py"):
        if ROOT / "tests" / "harness" not in path.parents:
            for part in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(part, Function) and part.name.startswith("test_"):
                    yield part


def test_each_clause_is_named_by_a_test() -> None:
    """A docstring or a name (`test_load_4_…`) names the clause. No docstring names an unknown
    clause."""
    by_docstring: set[str] = set()
    by_name: set[str] = set()
    for test in functions_of(ROOT / "tests"):
        by_docstring |= clauses_in(ast.get_docstring(test) or "")
        by_name |= clauses_in_name(test.name)
    assert CLAUSES - by_docstring - by_name == set()
    assert by_docstring - CLAUSES == set()


def test_each_clause_is_judged_by_conformance() -> None:
    """Each conformance test is marked with the clause that it judges.

    The clauses on several nodes name processes of our own server, so its own tests prove them.
    """
    judged = {
        decorator.args[0].value
        for test in functions_of(ROOT / "harness" / "conformance")
        for decorator in test.decorator_list
        if isinstance(decorator, ast.Call)
        and ast.unparse(decorator.func) == "pytest.mark.clause"
        and isinstance(decorator.args[0], ast.Constant)
    }
    assert judged == {clause for clause in CLAUSES if clause not in OURS}
