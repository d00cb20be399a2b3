"""The kill matrix of the gateways: each broken gateway fails the clauses that it breaks, no others.

See test_kill_matrix.py. A default run judges a sample of the broken gateways, each by its broken
clauses and a sample of the other clauses. ``--all`` judges all gateways by all clauses.
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
from harness.reference.gateway.broken import REGISTRY
from tests.harness.commands import in_time
from tests.selection import Sample

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(900)]

ROOT = Path(__file__).parents[2]
CLAUSES = clauses_of_kind(on_websockets=True)

#: Scale of the timeouts, and the factor by which it grows at each further attempt.
SCALE = 0.8
MORE_PATIENCE = 2

#: Number of clauses that a default run tests on a correct gateway, and number of clauses that it
#: tests on a broken gateway in addition to the broken ones.
SOME = 8
OTHERS = 2

#: Clauses that a server with the library `websockets` breaks: the library checks the encoding of a
#: text message only when the message is complete.
OF_THE_LIBRARY = {"WS-21"}

LIBRARY = """
import asyncio, sys
from websockets.asyncio.server import serve
async def handler(websocket):
    async for _ in websocket:
        pass
async def main():
    async with serve(handler, sys.argv[1], int(sys.argv[2])) as server:
        await server.serve_forever()
asyncio.run(main())
"""


@pytest.fixture(autouse=True)
def _in_the_checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let `python -m harness.reference.gateway` find the harness."""
    monkeypatch.chdir(ROOT)


def judge(clauses: Sequence[str], *program: str) -> Verdict:
    """Test a gateway by some clauses and return the verdict."""
    server = shlex.join([sys.executable, *program])
    scales = (SCALE * MORE_PATIENCE**number for number in itertools.count())

    def attempt() -> Verdict:
        wanted = runner.Options(
            command=server,
            ws="ws://{host}:{port}/room",
            clauses=tuple(clauses),
            timeout_scale=next(scales),
        )
        outcome = runner.run(wanted, lambda _: None)
        assert not outcome.interrupted
        return conclude(CLAUSES, outcome.results, Rules(strict=True), outcome.troubles)

    return in_time(attempt, lambda verdict: verdict.verdict == INVALID)


def ids(verdict: Verdict, *wanted: str) -> set[str]:
    """Return the ids of the clauses with these verdicts."""
    return {clause.clause.id for clause in verdict.clauses if clause.verdict in wanted}


def test_the_reference_passes(sample: Sample) -> None:
    clauses = sample(CLAUSES, SOME)
    verdict = judge(clauses, "-m", "harness.reference.gateway", "{host}", "{port}")
    assert verdict.why == ()
    assert ids(verdict, "pass") == {*clauses}, verdict.clauses


def test_a_server_with_the_library_passes(sample: Sample) -> None:
    pytest.importorskip("websockets")
    clauses = sample([clause for clause in CLAUSES if clause not in OF_THE_LIBRARY], SOME)
    verdict = judge([*clauses, *OF_THE_LIBRARY], "-c", LIBRARY, "{host}", "{port}")
    assert verdict.why == ()
    assert ids(verdict, "pass") == {*clauses}, verdict.clauses
    assert ids(verdict, "fail") == OF_THE_LIBRARY


@pytest.mark.sample(6)
@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.clauses(" ".join(sorted(broken))))
        for name, (_, broken) in REGISTRY.items()
    ],
)
def test_a_broken_gateway_fails_exactly_the_clauses_it_breaks(name: str, sample: Sample) -> None:
    _, broken = REGISTRY[name]
    others = sample([clause for clause in CLAUSES if clause not in broken], OTHERS)
    program = ("-m", "harness.reference.gateway", "{host}", "{port}", "--broken", name)
    verdict = judge([*broken, *others], *program)
    assert verdict.why == ()
    assert ids(verdict, "fail") == broken, verdict.clauses
    assert ids(verdict, "pass", "not-applicable") == {*others}, verdict.clauses


def test_each_clause_has_a_broken_gateway() -> None:
    assert {clause for _, broken in REGISTRY.values() for clause in broken} == {*CLAUSES}
    assert [name for name, (kind, _) in REGISTRY.items() if not kind.__doc__] == []
