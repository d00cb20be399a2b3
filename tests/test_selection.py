"""Tests of the selection of tests: those of a default run and of --all, and the output of a
failure."""

import random
import re
from collections.abc import Callable

import pytest

from tests.selection import clauses_in, draw

Run = Callable[..., str]

TESTS = '''
import pytest

@pytest.mark.sample(3)
@pytest.mark.parametrize("number", range(20))
def test_family(number): pass

@pytest.mark.parametrize("number", range(2))
def test_small(number): pass

@pytest.mark.thorough
def test_long(): pass

@pytest.mark.parametrize("number", [pytest.param(0, marks=pytest.mark.clauses("LEAVE-2"))])
def test_of_parameters(number): pass

def test_load_4_in_its_name(): pass

def test_load_1_and_2_in_its_name(): pass

def test_in_its_docstring():
    """CAST-1 to CAST-3, and UTF-8."""

def test_in_a_loop(sample):
    print("took", *sample(range(100), 4))

@pytest.mark.parametrize("word", ["it's"])
def test_that_fails(word):
    assert False
'''


@pytest.fixture(name="run")
def fixture_run(pytester: pytest.Pytester) -> Run:
    """Return a function that runs pytest on TESTS in this process, and returns the output."""
    pytester.makeconftest('pytest_plugins = ["tests.selection"]')
    pytester.makepyfile(test_it=TESTS)

    def run(*options: str) -> str:
        result = pytester.runpytest_inprocess("-v", "-s", "-p", "no:hypothesispytest", *options)
        assert result.ret in (pytest.ExitCode.OK, pytest.ExitCode.TESTS_FAILED)
        return "\n".join(result.outlines)

    return run


def names(printed: str) -> list[str]:
    """Return the names of the tests that were run."""
    return re.findall(r"^test_it.py::(\S+?)(?: took.*| )", printed, re.MULTILINE)


def test_a_default_run_takes_a_sample_without_thorough_tests(run: Run) -> None:
    chosen = names(run("--seed", "1"))
    assert sum(name.startswith("test_family[") for name in chosen) == 3
    assert sum(name.startswith("test_small[") for name in chosen) == 2
    assert "test_long" not in chosen


def test_the_sample_comes_from_the_seed(run: Run) -> None:
    first, again, other = (names(run("--seed", seed)) for seed in ("1", "1", "2"))
    assert first == again
    assert first != other


def test_a_seed_is_drawn_and_printed(run: Run) -> None:
    printed = run()
    [seed] = re.findall(r"^a sample of the tests, seed (\d+)$", printed, re.MULTILINE)
    assert names(run("--seed", seed)) == names(printed)


def test_all_takes_everything(run: Run) -> None:
    printed = run("--all")
    assert sum(name.startswith("test_family[") for name in names(printed)) == 20
    assert "test_long" in names(printed)
    assert " ".join(map(str, range(100))) in printed


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (["test_it.py::test_long"], ["test_long"]),
        (["-k", "test_long"], ["test_long"]),
        (["test_it.py::test_family"], [f"test_family[{number}]" for number in range(20)]),
    ],
)
def test_a_named_test_is_always_run(run: Run, arguments: list[str], expected: list[str]) -> None:
    assert names(run(*arguments)) == expected


@pytest.mark.parametrize(
    ("clause", "expected"),
    [
        ("LOAD-4", ["test_load_4_in_its_name"]),
        ("LOAD-1", ["test_load_1_and_2_in_its_name"]),
        ("LOAD-2", ["test_load_1_and_2_in_its_name"]),
        ("CAST-2", ["test_in_its_docstring"]),
        ("LEAVE-2", ["test_of_parameters[0]"]),
    ],
)
def test_a_clause_is_named_in_three_ways(run: Run, clause: str, expected: list[str]) -> None:
    assert names(run("--clause", clause)) == expected


@pytest.mark.parametrize("more", [[], ["--all"]], ids=str)
@pytest.mark.parametrize(
    ("environment", "where"),
    [("tests", ""), ("coverage", ""), ("py312-unit", "-e py312-unit -- -n 0 ")],
)
def test_a_failure_prints_the_command_that_repeats_it(
    run: Run, environment: str, where: str, more: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The command uses the same Python version. It has --all if the run had --all."""
    monkeypatch.setenv("TOX_ENV_NAME", environment)
    printed = run("--seed", "7", *more)
    command = f"""scripts/test {where}'test_it.py::test_that_fails[it'"'"'s]' --seed 7"""
    assert " ".join([command, *more]) in printed.splitlines()
    assert printed.count("scripts/test ") == 1


def test_a_loop_also_takes_a_sample(run: Run) -> None:
    [numbers] = re.findall(r"took ([\d ]+)$", run("--seed", "1"), re.MULTILINE)
    assert len(numbers.split()) == 4


def test_a_sample_is_in_order_and_never_larger_than_the_population() -> None:
    chance = random.Random(1)
    drawn = draw(range(100), 10, chance)
    assert drawn == sorted(set(drawn))
    assert len(drawn) == 10
    assert draw("abc", 5, chance) == ["a", "b", "c"]
    assert draw("abc", None, chance) == ["a", "b", "c"]


def test_clauses_in_a_text() -> None:
    assert clauses_in("LOAD-3, CAST-1 to CAST-3 (UTF-8)") == {
        "LOAD-3",
        "CAST-1",
        "CAST-2",
        "CAST-3",
    }
