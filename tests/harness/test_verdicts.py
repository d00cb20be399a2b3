"""Verdicts of clauses and of runs, from results that the tests make up."""

import json

import pytest

from harness.clauses import Clause
from harness.conformance.evidence import ABSENT, OBSERVED, PROVED
from harness.conformance.plugin import CANNOT_JUDGE, FAIL, NOT_APPLICABLE, PASS, UNKNOWN, Result
from harness.conformance.verdicts import (
    INVALID,
    ClauseVerdict,
    Rules,
    Verdict,
    judge,
    parse_known_failures,
    record,
)

CLAUSES = {
    "CAST-1": Clause("CAST-1", "MUST", "Broadcast", "It arrives."),
    "CAST-5": Clause("CAST-5", "SHOULD", "Broadcast", "In one order."),
}


def result(
    verdict: str, clause: str = "CAST-1", evidence: str = PROVED, detail: str = ""
) -> Result:
    return Result(f"test_{verdict}", clause, evidence, verdict, detail)


def run(*results: Result, rules: Rules = Rules(), troubles: tuple[str, ...] = ()) -> Verdict:  # noqa: B008
    return judge(CLAUSES, results, rules, troubles)


def first(*results: Result) -> ClauseVerdict:
    return run(*results).clauses[0]


@pytest.mark.parametrize(
    ("found", "verdict"),
    [
        ([PASS], PASS),
        ([PASS, FAIL, UNKNOWN], FAIL),
        ([CANNOT_JUDGE, FAIL], FAIL),
        ([PASS, UNKNOWN], UNKNOWN),
        ([PASS, CANNOT_JUDGE], UNKNOWN),
        ([NOT_APPLICABLE, PASS], PASS),
        ([NOT_APPLICABLE, UNKNOWN], UNKNOWN),
        ([NOT_APPLICABLE, NOT_APPLICABLE], NOT_APPLICABLE),
    ],
)
def test_a_clause_is_judged_by_the_worst_of_its_tests(found: list[str], verdict: str) -> None:
    assert first(*map(result, found)).verdict == verdict


def test_a_clause_that_no_test_ran_for_is_unknown() -> None:
    nothing = run(result(PASS)).clauses[1]
    assert (nothing.verdict, nothing.detail, nothing.evidence) == (UNKNOWN, "not run", None)


def test_a_pass_has_the_weakest_evidence_of_its_tests() -> None:
    judged = first(
        result(PASS, evidence=PROVED),
        result(PASS, evidence=ABSENT),
        result(NOT_APPLICABLE, evidence=OBSERVED),
    )
    assert judged.evidence == ABSENT
    assert first(result(PASS), result(NOT_APPLICABLE, evidence=ABSENT)).evidence == PROVED


def test_a_verdict_other_than_pass_has_no_evidence() -> None:
    assert first(result(PASS), result(FAIL)).evidence is None


def test_the_detail_of_a_clause_is_that_of_the_first_test_with_its_verdict() -> None:
    judged = first(
        result(NOT_APPLICABLE, detail="n"),
        result(FAIL, detail="it was lost"),
        result(FAIL, detail="later"),
    )
    assert judged.detail == "it was lost"
    assert first(result(NOT_APPLICABLE, detail="n"), result(PASS)).detail == ""


@pytest.mark.parametrize(
    ("rules", "verdict", "status"),
    [
        (Rules(), PASS, 0),
        (Rules(strict=True), FAIL, 1),
        (Rules(claims=frozenset({"CAST-5"})), FAIL, 1),
        (Rules(strict=True, known=("CAST-5",)), PASS, 0),
    ],
)
def test_a_should_clause_decides_if_strict_or_claimed(
    rules: Rules, verdict: str, status: int
) -> None:
    judged = run(result(PASS), result(FAIL, "CAST-5"), rules=rules)
    assert (judged.verdict, judged.exit_status) == (verdict, status)
    assert [broken.clause.id for broken in judged.failed()] == ["CAST-5"]


def test_a_must_clause_always_decides() -> None:
    assert run(result(FAIL), result(PASS, "CAST-5")).verdict == FAIL


def test_a_run_with_only_a_violation_fails() -> None:
    assert run(result(FAIL)).verdict == FAIL


def test_a_run_without_a_pass_fails_if_no_failure_counts() -> None:
    judged = run(result(FAIL, "CAST-5"))
    assert (judged.verdict, judged.exit_status, judged.why) == (FAIL, 1, ())
    known = run(result(FAIL, "CAST-5"), rules=Rules(strict=True, known=("CAST-5",)))
    assert known.verdict == FAIL


@pytest.mark.parametrize("results", [[], [result(UNKNOWN)], [result(NOT_APPLICABLE)]])
def test_without_a_pass_a_run_is_invalid(results: list[Result]) -> None:
    judged = run(*results)
    assert (judged.verdict, judged.exit_status) == (INVALID, 2)
    assert "no clause passed" in judged.why[0]


def test_a_harness_that_cannot_judge_makes_a_run_invalid() -> None:
    judged = run(result(FAIL), result(CANNOT_JUDGE, "CAST-5", detail="too late"))
    assert judged.verdict == INVALID
    assert judged.why == ("test_could-not-judge: too late",)


def test_troubles_beside_the_tests_make_a_run_invalid() -> None:
    judged = run(result(PASS), troubles=("a worker died",))
    assert (judged.verdict, judged.why) == (INVALID, ("a worker died",))


def test_known_failures_are_read() -> None:
    text = "# ours\nCAST-1\n\n  CAST-5  # see issue 3\n"
    assert parse_known_failures(text) == ("CAST-1", "CAST-5")


def test_known_failures_that_pass_or_do_not_exist_are_reported() -> None:
    rules = Rules(known=("CAST-1", "CAST-9", "CAST-5"))
    judged = run(result(PASS), result(FAIL, "CAST-5"), rules=rules)
    assert judged.stale == (
        "known failure CAST-1: the clause no longer fails",
        "known failure CAST-9: there is no such clause",
    )


def test_an_undecided_known_failure_is_not_reported() -> None:
    rules = Rules(known=("CAST-1", "CAST-5"))
    assert run(result(UNKNOWN), rules=rules).stale == ()


def test_the_record_has_every_clause_and_no_wire_log() -> None:
    failed = Result(
        "test_it",
        "CAST-1",
        PROVED,
        FAIL,
        "it was lost",
        expected="00" * 9999,
        seconds=1.23456,
        output="secret",
        wire=[(0.1, "A", "sends", "00", 1)],
    )
    made = record(run(failed), {"target": {"command": "x"}, "profile": "p", "seed": 7})
    assert made["verdict"] == "fail"
    assert made["target"] == {"command": "x"}
    assert [clause["id"] for clause in made["clauses"]] == ["CAST-1", "CAST-5"]
    assert made["clauses"][0]["level"] == "MUST"
    assert made["clauses"][0]["tests"] == [
        {
            "test": "test_it",
            "verdict": "fail",
            "evidence": None,
            "detail": "it was lost",
            "cause": "",
            "expected": "00" * 512,
            "actual": None,
            "seconds": 1.235,
        }
    ]
    assert "secret" not in json.dumps(made)


@pytest.mark.parametrize(
    ("forms", "status"),
    [({}, 0), ({"CAST-5": "In some order."}, 0), ({"CAST-1": ""}, 4), ({"CAST-1": "It comes."}, 4)],
)
def test_a_pass_in_a_dialect_has_a_status_of_its_own(forms: dict[str, str], status: int) -> None:
    rules = Rules(forms=forms)
    assert run(result(PASS), result(PASS, "CAST-5"), rules=rules).exit_status == status
    assert run(result(FAIL), rules=rules).exit_status == 1
    made = record(run(result(PASS), rules=rules), {})
    assert [clause["form"] for clause in made["clauses"]] == [
        forms.get("CAST-1"),
        forms.get("CAST-5"),
    ]
