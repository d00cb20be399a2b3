"""Selection of tests: a default run takes a sample, and ``--all`` takes everything.

Goals:

- A default run takes minutes, but includes some tests of every family. A family that is too large
  for each run is marked ``@pytest.mark.sample(n)``: each run takes n of its parameter sets at
  random. A loop inside a test uses the fixture `sample` for the same purpose.
- A test that takes too long for each run is marked ``@pytest.mark.thorough``.
- ``--all`` omits nothing. A test that is named on the command line (``FILE::TEST`` or ``-k``)
  always runs, whatever its marks.
- A failure is easy to repeat: a run prints its seed, and a command that repeats each failed test.
"""

import inspect
import os
import random
import re
import shlex
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Protocol, TypeVar

import pytest

T = TypeVar("T")

#: A random seed is below this number, so that it is short to type.
SEEDS = 1_000_000


class Sample(Protocol):
    """Type of the fixture `sample`."""

    def __call__(self, population: Iterable[T], size: int) -> list[T]:
        """Return `size` elements in their order, or all elements with ``--all`` or if there are
        fewer."""


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("selection")
    group.addoption("--all", action="store_true", help="run every test completely")
    group.addoption(
        "--seed",
        type=int,
        metavar="N",
        help="seed of the sample; random by default, and printed",
    )
    group.addoption("--clause", metavar="ID", help="only run the tests that name this clause")


def pytest_configure(config: pytest.Config) -> None:
    if config.option.seed is None:
        # Each process of xdist parses the command line itself, but must use the main process's
        # seed.
        told: dict[str, int] = getattr(config, "workerinput", {})
        config.option.seed = told.get("seed", random.SystemRandom().randrange(SEEDS))


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: Any) -> None:
    """Pass the seed to a process of xdist."""
    node.workerinput["seed"] = node.config.option.seed


def pytest_report_header(config: pytest.Config) -> str:
    chosen = "all tests" if config.option.all else "a sample of the tests"
    return f"{chosen}, seed {config.option.seed}"


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return two processes per core, because tests often wait for a process or a timeout."""
    return 2 * (os.cpu_count() or 1)


@pytest.fixture
def sample(request: pytest.FixtureRequest) -> Sample:
    """Return a function that takes a sample of the cases in a loop, or all cases with ``--all``."""
    config = request.config
    chance = random.Random(f"{config.option.seed} {request.node.nodeid}")

    def take(population: Iterable[T], size: int) -> list[T]:
        return draw(list(population), None if config.option.all else size, chance)

    return take


def draw(population: Sequence[T], size: int | None, chance: random.Random) -> list[T]:
    """Return `size` elements in their order, or all elements if there are fewer or size is None."""
    if size is None or size >= len(population):
        return list(population)
    return [population[index] for index in sorted(chance.sample(range(len(population)), size))]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    left_out: set[pytest.Item] = set()
    if clause := config.option.clause:
        left_out.update(item for item in items if clause not in clauses_named(item))
    elif not (config.option.all or _names_tests(config)):
        left_out.update(item for item in items if item.get_closest_marker("thorough"))
        rest = [item for item in items if item not in left_out]
        left_out.update(_outside_the_sample(rest, config.option.seed))
    if left_out:
        config.hook.pytest_deselected(items=[item for item in items if item in left_out])
        items[:] = [item for item in items if item not in left_out]


def _names_tests(config: pytest.Config) -> bool:
    return bool(config.option.keyword) or any("::" in argument for argument in config.args)


def _outside_the_sample(items: Iterable[pytest.Item], seed: int) -> set[pytest.Item]:
    families: dict[str, list[pytest.Item]] = defaultdict(list)
    sizes: dict[str, int] = {}
    for item in items:
        if marker := item.get_closest_marker("sample"):
            family = item.nodeid.partition("[")[0]
            families[family].append(item)
            [sizes[family]] = marker.args
    outside: set[pytest.Item] = set()
    for family, members in families.items():
        chance = random.Random(f"{seed} {family}")
        outside.update(set(members).difference(draw(members, sizes[family], chance)))
    return outside


def clauses_named(item: pytest.Item) -> set[str]:
    """Return the clauses that a test names in its docstring, its marks or its name."""
    function: Callable[..., Any] | None = getattr(item, "function", None)
    return {
        *clauses_in(inspect.getdoc(function) or ""),
        *clauses_in(" ".join(marker.args[0] for marker in item.iter_markers("clauses"))),
        *clauses_in_name(item.name.partition("[")[0]),
    }


def clauses_in(text: str) -> set[str]:
    """Return the clauses that a text names, such as ``CAST-1`` or ``CAST-1 to CAST-5``."""
    named = set(re.findall(r"\b[A-Z]+-\d+\b", text)) - {"UTF-8"}
    for section, first, last in re.findall(r"\b([A-Z]+)-(\d+) to \1-(\d+)", text):
        named.update(f"{section}-{number}" for number in range(int(first), int(last) + 1))
    return named


def clauses_in_name(name: str) -> set[str]:
    """Return the clauses in the name of a test, such as ``test_cast_1_and_2_a_line_…``."""
    text = name.upper().replace("_", "-")
    return clauses_in(re.sub(r"([A-Z]+)-(\d+)-AND-(?=\d)", r"\1-\2 \1-", text))


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    failed = dict.fromkeys(
        report.nodeid
        for outcome in ("failed", "error")
        for report in terminalreporter.getreports(outcome)
    )
    if failed:
        terminalreporter.section("to repeat")
    # A failure may occur only with the Python version of this environment.
    environment = os.environ.get("TOX_ENV_NAME", "")
    where = f"-e {environment} -- -n 0 " if re.match(r"py\d", environment) else ""
    whole = " --all" if config.option.all else ""
    for nodeid in failed:
        terminalreporter.write_line(
            f"scripts/test {where}{shlex.quote(nodeid)} --seed {config.option.seed}{whole}"
        )
