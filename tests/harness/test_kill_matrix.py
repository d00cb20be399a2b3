"""The kill matrix: each broken server fails the clauses that it breaks, and no others.

This shows that the tests of each clause find a server that breaks the clause. The reference server,
from which all broken servers derive, passes all tests.

A default run judges a server by the clauses that it breaks, and by a sample of the other clauses.
Of the servers in other dialects, a default run takes a sample. ``--all`` judges all servers by all
clauses. The tests call the same functions as `conform`; test_conform.py tests the command itself.
"""

import itertools
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness.clauses import clauses_of_kind
from harness.conformance import runner
from harness.conformance.verdicts import INVALID, Rules, Verdict
from harness.conformance.verdicts import judge as conclude
from harness.profile import load
from harness.reference.broken import REGISTRY, WIDE
from harness.reference.server import Server
from tests.harness.commands import in_time
from tests.harness.reference.right import RIGHT
from tests.harness.reference.targets import named
from tests.selection import Sample

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]

CLAUSES = clauses_of_kind(on_websockets=False)

#: Scale of the timeouts. It is small, because a broken server causes many timeouts.
SCALE = 0.8

#: Factor by which the timeouts grow for another attempt, if the machine was too busy.
MORE_PATIENCE = 2

#: Number of unbroken clauses by which a default run judges a broken server.
OTHERS = 1


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `python -m harness.reference` find the harness."""
    monkeypatch.chdir(ROOT)


def judge(
    clauses: Sequence[str],
    *options: str,
    module: str = "harness.reference",
    profile: str = "reference",
) -> Verdict:
    """Start a server with the options, and return its verdict for some clauses."""
    server = shlex.join([sys.executable, "-m", module, *options])
    scales = (SCALE * MORE_PATIENCE**number for number in itertools.count())

    def attempt() -> Verdict:
        wanted = runner.Options(
            command=f"{server} {{host}} {{port}}",
            profile=profile,
            clauses=tuple(clauses),
            timeout_scale=next(scales),
        )
        outcome = runner.run(wanted, lambda _: None)
        assert not outcome.interrupted
        rules = Rules(strict=True, forms=load(profile).forms())
        return conclude(CLAUSES, outcome.results, rules, outcome.troubles)

    return in_time(attempt, lambda verdict: verdict.verdict == INVALID)


def with_verdict(verdict: Verdict, *wanted: str) -> dict[str, str]:
    """Return the clauses with these verdicts, each with its detail."""
    return {
        clause.clause.id: clause.detail for clause in verdict.clauses if clause.verdict in wanted
    }


def test_the_reference_passes() -> None:
    verdict = judge([*CLAUSES])
    assert verdict.why == ()
    assert with_verdict(verdict, "fail", "unknown") == {}
    assert list(with_verdict(verdict, "not-applicable")) == ["LOAD-4"]
    assert verdict.verdict == "pass"


PLAIN = [name for name, (kind, _) in REGISTRY.items() if kind.profile == Server.profile]


@pytest.mark.parametrize("name", named(PLAIN))
def test_a_broken_server_fails_exactly_the_clauses_it_breaks(name: str, sample: Sample) -> None:
    assert_fails_exactly(name, sample)


@pytest.mark.sample(6)
@pytest.mark.parametrize("name", named(name for name in REGISTRY if name not in PLAIN))
def test_a_broken_server_in_another_dialect_fails_exactly_its_clauses(
    name: str, sample: Sample
) -> None:
    assert_fails_exactly(name, sample)


def assert_fails_exactly(name: str, sample: Sample) -> None:
    kind, broken = REGISTRY[name]
    others = sample([clause for clause in CLAUSES if clause not in broken], OTHERS)
    verdict = judge([*broken, *others], "--broken", name, profile=kind.profile)
    assert verdict.why == ()
    failed = with_verdict(verdict, "fail")
    if name in WIDE:
        assert set(failed) >= broken, failed
    else:
        assert set(failed) == broken, failed
        assert set(with_verdict(verdict, "pass", "not-applicable")) == {*others}, verdict.clauses
    assert verdict.verdict == "fail"


@pytest.mark.parametrize("name", RIGHT)
def test_a_correct_server_passes(name: str, sample: Sample) -> None:
    kind, doubtful = RIGHT[name]
    others = sample([clause for clause in CLAUSES if clause not in doubtful.split()], OTHERS)
    module = "tests.harness.reference.right"
    verdict = judge([*doubtful.split(), *others], name, module=module, profile=kind.profile)
    assert verdict.why == ()
    assert with_verdict(verdict, "fail") == {}
    assert {*with_verdict(verdict, "pass", "not-applicable")} == {*doubtful.split(), *others}
