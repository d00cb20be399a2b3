"""The servers of tests/harness/dialects, judged with the profiles that a person would write.

Without a defect, a server keeps all clauses except those that `lacks` names in the table. Each
defect breaks the clauses that the table names, and no others.

A default run takes a sample of the servers and of the defects. A server without a defect is judged
by a sample of the clauses. A server with a defect is judged by the clauses that the defect breaks,
and by a sample of the other clauses. ``--all`` judges all servers and all defects by all clauses.
"""

import argparse
import itertools
from collections.abc import Sequence
from pathlib import Path

import pytest

from harness import profile
from harness.clauses import clauses_of_kind
from harness.cli import probe
from harness.conformance import runner
from harness.conformance.verdicts import INVALID, Rules, Verdict
from harness.conformance.verdicts import judge as conclude
from tests.harness.commands import in_time
from tests.harness.dialects.table import DIALECTS, Dialect
from tests.selection import Sample

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(900)]

#: Scale of the timeouts. It is small, because a broken server causes many timeouts.
SCALE = 0.8

#: Factor by which the timeouts grow for another attempt, if the machine was too busy.
MORE_PATIENCE = 2

CLAUSES = clauses_of_kind(on_websockets=False)

#: Numbers of clauses in a default run: clauses for a server without a defect, and clauses that a
#: defect must not break.
SOME, OTHERS = 5, 1

JUDGED = [name for name, dialect in DIALECTS.items() if dialect.profile]
DEFECTS = [(name, defect) for name in JUDGED for defect in DIALECTS[name].defects]


def judge(dialect: Dialect, clauses: Sequence[str], folder: Path, defect: str = "") -> Verdict:
    """Return the verdict of a server for some clauses."""
    file = folder / "profile.toml"
    file.write_text(dialect.profile)
    scales = (SCALE * MORE_PATIENCE**number for number in itertools.count())
    forms = profile.load(str(file)).forms()

    def attempt() -> Verdict:
        wanted = runner.Options(
            command=dialect.command(defect),
            profile=str(file),
            clauses=tuple(clauses),
            timeout_scale=next(scales),
        )
        outcome = runner.run(wanted, lambda _: None)
        assert not outcome.interrupted
        rules = Rules(strict=True, forms=forms)
        return conclude(CLAUSES, outcome.results, rules, outcome.troubles)

    verdict = in_time(attempt, lambda verdict: verdict.verdict == INVALID)
    assert verdict.why == ()
    return verdict


def with_verdict(verdict: Verdict, wanted: str) -> dict[str, str]:
    """Return the clauses with this verdict, each with its detail."""
    return {
        clause.clause.id: clause.detail for clause in verdict.clauses if clause.verdict == wanted
    }


@pytest.mark.sample(3)
@pytest.mark.parametrize("name", DIALECTS)
def test_probe_recognises_the_dialect(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    dialect = DIALECTS[name]
    parser = argparse.ArgumentParser("probe")
    probe.add_arguments(parser)
    arguments = parser.parse_args(["--command", dialect.command()])
    if dialect.complaint:
        with pytest.raises(SystemExit, match="3"):
            probe.run(arguments, parser)
        assert dialect.complaint in capsys.readouterr().err
        return
    assert probe.run(arguments, parser) == 0
    found = profile.parse(capsys.readouterr().out, "found")
    written = profile.parse(dialect.profile, "written")
    assert (found.dialect(), found.forms()) == (written.dialect(), written.forms())
    assert [step.sends for step in found.login] == [step.sends for step in written.login]
    assert bool(found.welcome) == bool(written.welcome)
    assert found.claims & {"LINE-2", "LINE-3"} == {"LINE-2", "LINE-3"} - dialect.lacks


@pytest.mark.sample(4)
@pytest.mark.parametrize("name", JUDGED)
def test_a_server_without_a_defect_keeps_all_clauses_in_its_dialect(
    name: str, sample: Sample, tmp_path: Path
) -> None:
    dialect = DIALECTS[name]
    clauses = sample(CLAUSES, SOME)
    verdict = judge(dialect, clauses, tmp_path)
    failed = with_verdict(verdict, "fail")
    assert set(failed) == dialect.lacks & {*clauses}, failed
    unknown = {id for id in with_verdict(verdict, "unknown") if id in clauses}
    assert unknown <= {"LOAD-3"}, verdict.clauses  # unknown, because the profile has no rate
    assert {clause for clause in failed if CLAUSES[clause].level == "MUST"} == set()


@pytest.mark.sample(5)
@pytest.mark.parametrize(("name", "defect"), DEFECTS)
def test_a_defect_breaks_its_clauses_and_no_others(
    name: str, defect: str, sample: Sample, tmp_path: Path
) -> None:
    dialect, broken = DIALECTS[name], DIALECTS[name].defects[defect]
    others = sample([clause for clause in CLAUSES if clause not in broken.breaks], OTHERS)
    failed = with_verdict(judge(dialect, [*broken.breaks, *others], tmp_path, defect), "fail")
    assert set(failed) >= broken.breaks, failed
    assert set(failed) <= broken.breaks | broken.may_break | dialect.lacks, failed
