"""The clauses on WebSockets, judged by the harness on the gateway (--web)."""

import itertools
import shlex
import sys

import pytest

from harness.clauses import clauses_of_kind
from harness.conformance import runner
from harness.conformance.verdicts import INVALID, Rules, Verdict, judge
from tests.harness.commands import in_time
from tests.integration.rooms import ROOT
from tests.selection import Sample

pytestmark = pytest.mark.timeout(300)

CLAUSES = clauses_of_kind(on_websockets=True)
SERVER = [
    sys.executable,
    "-m",
    "chatroom",
    "--quiet",
    "--web",
    "{host}:{port}",
    "{host}",
    "{port2}",
]

#: Number of clauses in a default run.
SOME = 8

#: SHOULD clauses that the gateway breaks: its library checks the encoding of a text message only
#: when the message is complete.
NOT_KEPT = {"WS-21"}


def test_the_gateway_keeps_the_clauses_on_websockets(
    sample: Sample, monkeypatch: pytest.MonkeyPatch
) -> None:
    """WS-1 to WS-31, except WS-21: the harness judges a room with a gateway."""
    monkeypatch.chdir(ROOT)
    clauses = sample([clause for clause in CLAUSES if clause not in NOT_KEPT], SOME)
    scales = (2**number for number in itertools.count())

    def attempt() -> Verdict:
        wanted = runner.Options(
            command=shlex.join(SERVER),
            ws="ws://{host}:{port}/room",
            clauses=tuple(clauses),
            timeout_scale=next(scales),
        )
        outcome = runner.run(wanted, lambda _: None)
        return judge(CLAUSES, outcome.results, Rules(strict=True), outcome.troubles)

    verdict = in_time(attempt, lambda verdict: verdict.verdict == INVALID)
    assert verdict.why == ()
    failed = [clause for clause in verdict.clauses if clause.verdict != "pass" and clause.results]
    assert failed == []
    assert {clause.clause.id for clause in verdict.clauses if clause.results} == {*clauses}
