"""The scripts of the project: what each of them runs."""

import configparser
import re
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Stands in for the interpreter in .venv: it prints the arguments of tox, in quotation marks.
PYTHON = """#!/bin/sh
case $1$2 in
    -mtox) shift 2; [ "$1" = list ] || printf "'%s' " "$@"; echo ;;
esac
"""


@pytest.fixture(name="checkout")
def fixture_checkout(tmp_path: Path) -> Path:
    """A checkout in which scripts/test says what it would have tox run."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/test", tmp_path / "scripts")
    interpreter = tmp_path / ".venv/bin/python"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text(PYTHON)
    interpreter.chmod(0o755)
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], ["'run'"]),
        (["--all"], ["'run' '-m' 'all'"]),
        (["--all", "-v"], ["'run' '-m' 'all' '-v'"]),
        (["-e", "lint"], ["'-e' 'lint'"]),
        (
            ["tests/system/test_tcp_counters.py", "-x"],
            ["'run' '-q' '-e' 'tests' '--' '-n' '2' 'tests/system/test_tcp_counters.py' '-x'"],
        ),
        (
            ["tests/a.py::test_b[it's c]", "--seed", "3"],
            ["'run' '-q' '-e' 'tests' '--' '-n' '0' 'tests/a.py::test_b[it's c]' '--seed' '3'"],
        ),
        (
            ["tests/stress/test_stress.py::test_b", "--seed", "3"],
            [
                "'run' '-q' '-e' 'stress' '--' '-n' '0' "
                "'tests/stress/test_stress.py::test_b' '--seed' '3'"
            ],
        ),
        (["framing", "-x"], ["'run' '-q' '-e' 'tests' '--' '-n' '0' '-k' 'framing' '-x'"]),
        (["test_framing.py"], ["'run' '-q' '-e' 'tests' '--' '-n' '0' '-k' 'test_framing'"]),
        (
            ["LOAD-4", "-x"],
            [
                "'run' '-q' '-e' 'tests' '--' '-n' '2' '--clause' 'LOAD-4' '-x'",
                "'run' '-q' '-e' 'conformance' '--' '--only' 'LOAD-4'",
            ],
        ),
    ],
)
def test_the_test_script_finds_what_is_named(
    checkout: Path, arguments: list[str], expected: list[str]
) -> None:
    done = subprocess.run(
        [checkout / "scripts/test", *arguments], capture_output=True, text=True, check=True
    )
    lines = [line.rstrip() for line in done.stdout.splitlines() if line.startswith("'")]
    assert lines == expected
    assert done.stderr == ""


def test_all_runs_each_file_that_coverage_leaves_out_by_its_marks() -> None:
    marked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").glob("**/test_*.py")
        if re.search(
            r"^(pytestmark = |@)pytest\.mark\.(docs|package|matrix)\b",
            path.read_text(),
            re.MULTILINE,
        )
    }
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    named = tox["testenv:tests-all"]["commands"].split()
    assert {path for path in marked if not path.startswith("tests/harness/")} <= set(named)
    assert "tests/harness" in named
