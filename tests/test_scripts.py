"""Tests of scripts/test, and of the environments of tox.ini that it runs."""

import configparser
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent

#: Replacement for the Python 3.11 in .venv. It prints the arguments of tox, in quotation marks. The
#: environment `tests` fails if there is a file `tests-fail`. A file `missing` contains the reason
#: why nothing can be compiled.
PYTHON = """#!/bin/sh
case $1$2 in
    -mtox) shift 2; [ "$1" = list ] || printf "'%s' " "$@"; echo
        [ "$4" != tests ] || [ ! -e tests-fail ] ;;
    *version_info*) echo 'py311-.*' ;;
    *hatch_compile*) [ ! -e missing ] || cat missing ;;
esac
"""


@pytest.fixture(name="checkout")
def fixture_checkout(tmp_path: Path) -> Path:
    """Return a checkout in which scripts/test prints the calls of tox instead of running tox."""
    (tmp_path / "scripts").mkdir()
    shutil.copy(ROOT / "scripts/test", tmp_path / "scripts")
    interpreter = tmp_path / ".venv/bin/python"
    interpreter.parent.mkdir(parents=True)
    interpreter.write_text(PYTHON)
    interpreter.chmod(0o755)
    (tmp_path / "tests/system").mkdir(parents=True)
    (tmp_path / "tests/system/test_tcp_counters.py").touch()
    return tmp_path


#: Call of tox that runs environments two at a time.
TOGETHER = "'run-parallel' '--parallel' '2' '--parallel-no-spinner'"


def run(checkout: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [checkout / "scripts/test", *arguments], capture_output=True, text=True, check=False
    )


def calls(done: subprocess.CompletedProcess[str]) -> list[str]:
    """Return the arguments of each call of tox."""
    return [line.rstrip() for line in done.stdout.splitlines() if line.startswith("'")]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ([], [f"{TOGETHER} '--skip-env' 'py311-.*'"]),
        (["--all"], [f"{TOGETHER} '--skip-env' 'py311-.*' '-m' 'all'"]),
        (["--all", "-v"], [f"{TOGETHER} '--skip-env' 'py311-.*' '-m' 'all' '-v'"]),
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
def test_the_test_script_finds_the_named_tests(
    checkout: Path, arguments: list[str], expected: list[str]
) -> None:
    done = run(checkout, *arguments)
    assert calls(done) == expected
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize(("ci", "expected"), [("", "py311-.*|compiled.*"), ("true", "py311-.*")])
def test_the_compiled_wheel_is_omitted_without_a_compiler_but_not_in_ci(
    checkout: Path, ci: str, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CI", ci)
    (checkout / "missing").write_text("there is no C compiler (gcc)")
    done = run(checkout)
    assert calls(done) == [f"{TOGETHER} '--skip-env' '{expected}'"]
    says = "scripts/test leaves out the compiled wheel: there is no C compiler (gcc)\n"
    assert (says in done.stdout) == (not ci)


def test_conformance_runs_even_if_a_test_of_the_clause_fails(checkout: Path) -> None:
    (checkout / "tests-fail").touch()
    done = run(checkout, "LOAD-4")
    assert len(calls(done)) == 2
    assert done.returncode == 1


def test_help_prints_the_comment_at_the_head_of_the_script(checkout: Path) -> None:
    done = run(checkout, "--help")
    assert done.stdout.startswith("Run the tests. ")
    assert "\n  scripts/test --all " in done.stdout
    assert "set -eu" not in done.stdout
    assert done.returncode == 0


def test_an_error_names_a_missing_file(checkout: Path) -> None:
    done = run(checkout, "tests/system/test_tcp.py")
    assert calls(done) == []
    assert done.returncode == 1
    assert done.stderr == f"scripts/test: there is no tests/system/test_tcp.py in {checkout}\n"


def test_a_file_of_conformance_tests_needs_a_server(checkout: Path) -> None:
    done = run(checkout, "harness/conformance/tests/test_load.py")
    assert calls(done) == []
    assert done.returncode == 1
    assert "scripts/test LOAD-3" in done.stderr


def environments() -> configparser.ConfigParser:
    tox = configparser.ConfigParser(interpolation=None)
    tox.read(ROOT / "tox.ini")
    return tox


@pytest.mark.parametrize(
    ("arguments", "functions"),
    [
        (["tests/stress/test_stress.py::test_each_shipped_scenario_is_run"], 1),
        (["-k", "killed"], 1),
        ([], 4),
    ],
)
def test_a_named_stress_run_is_run_alone(arguments: list[str], functions: int) -> None:
    commands = environments()["testenv:stress{,-all}"]["commands"].splitlines()
    [command] = [line.removeprefix("!all: ") for line in commands if line.startswith("!all: ")]
    words = shlex.split(command.replace(" {posargs}", ""))
    done = subprocess.run(
        [sys.executable, "-m", *words, "-n", "0", "--collect-only", "-q", *arguments],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    found = re.findall(r"^tests/stress/test_stress\.py::(\w+)", done.stdout, re.MULTILINE)
    assert len(set(found)) == functions
    assert done.stdout.count("::") == len(found)


def test_all_runs_each_file_that_marks_exclude_from_coverage() -> None:
    marked = {
        path.relative_to(ROOT).as_posix()
        for path in (ROOT / "tests").glob("**/test_*.py")
        if re.search(
            r"^(pytestmark = \[?|@)pytest\.mark\.(docs|package|matrix)\b",
            path.read_text(),
            re.MULTILINE,
        )
    }
    assert {"tests/test_docs.py", "tests/test_package.py"} < marked
    named = environments()["testenv:tests-all"]["commands"].split()
    assert {path for path in marked if not path.startswith("tests/harness/")} <= set(named)
    assert "tests/harness" in named
