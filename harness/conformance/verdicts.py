"""The verdict of each clause, and of the run, from the tests' results. Pure.

A clause passes if a test of the clause passed, and none failed or was unknown; its evidence
is the weakest evidence of these tests. A clause without results is unknown. A run fails if
a clause that counts fails. MUST clauses count; SHOULD clauses count with --strict, or if
the profile claims them; known failures do not count. If no clause passed, any failure
fails the run. A run is invalid if the harness could not judge it, or if no clause passed
and none failed.

In a dialect, some clauses take another form (`Profile.forms`). If a MUST clause was judged in such
a form, a run that passes has an exit status of its own: it passed in the dialect.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from harness.clauses import Clause
from harness.conformance.evidence import weakest
from harness.conformance.plugin import CANNOT_JUDGE, FAIL, NOT_APPLICABLE, PASS, UNKNOWN, Result

INVALID = "invalid"

PASSED_IN_DIALECT = 4
"""Exit status of a pass in another dialect than that of PROTOCOL.md."""

NOT_RUN = "not run"

_CAUSES = {
    FAIL: (FAIL,),
    UNKNOWN: (UNKNOWN, CANNOT_JUDGE),
    PASS: (PASS,),
    NOT_APPLICABLE: (NOT_APPLICABLE,),
}
"""Verdicts of a clause, each with the verdicts of tests that lead to it. The clause gets the first
verdict to which a test leads."""

KEPT = 512
"""Maximum number of expected bytes, and of actual bytes, in a record."""


@dataclass(frozen=True)
class Rules:
    """The clauses that count, and the form that clauses take in the dialect.

    claims: SHOULD clauses that count without `strict`. known: ids of clauses that do not count,
    because they are known to fail. forms: see `Profile.forms`.
    """

    strict: bool = False
    claims: frozenset[str] = frozenset()
    known: tuple[str, ...] = ()
    forms: Mapping[str, str] = field(default_factory=dict)

    def counts(self, clause: Clause) -> bool:
        required = clause.level == "MUST" or self.strict or clause.id in self.claims
        return required and clause.id not in self.known


@dataclass(frozen=True)
class ClauseVerdict:
    """The verdict of a clause.

    decides: true if its failure fails the run. form: text that was judged in the dialect in place
    of the clause, empty if the clause has no meaning there; None: the clause as it is written.
    """

    clause: Clause
    verdict: str
    evidence: str | None
    detail: str
    decides: bool
    results: tuple[Result, ...] = ()
    form: str | None = None


@dataclass(frozen=True)
class Verdict:
    """The verdict of a run.

    why: reasons why the run is invalid. stale: messages about known failures that no longer fail.
    """

    verdict: str
    clauses: tuple[ClauseVerdict, ...]
    why: tuple[str, ...] = ()
    stale: tuple[str, ...] = ()

    @property
    def in_dialect(self) -> bool:
        """True if a MUST clause was judged in the form that it takes in the dialect."""
        return any(
            clause.form is not None and clause.clause.level == "MUST" and clause.results
            for clause in self.clauses
        )

    @property
    def exit_status(self) -> int:
        passed = PASSED_IN_DIALECT if self.in_dialect else 0
        return {PASS: passed, FAIL: 1, INVALID: 2}[self.verdict]

    def failed(self) -> list[ClauseVerdict]:
        """Return all broken clauses, including those that do not count."""
        return [clause for clause in self.clauses if clause.verdict == FAIL]


def parse_known_failures(text: str) -> tuple[str, ...]:
    """Return the clause ids in the text of a file: one id per line; `#` begins a comment."""
    lines = [line.partition("#")[0].strip() for line in text.splitlines()]
    return tuple(line for line in lines if line)


def judge(
    clauses: Mapping[str, Clause],
    results: Sequence[Result],
    rules: Rules,
    troubles: Sequence[str] = (),
) -> Verdict:
    """Return the verdict of a run. `troubles`: further reasons why the run can't be judged."""
    judged = tuple(
        _judge_clause(clause, [result for result in results if result.clause == clause.id], rules)
        for clause in clauses.values()
    )
    why = [
        *troubles,
        *(
            f"{result.test}: {result.detail}"
            for result in results
            if result.verdict == CANNOT_JUDGE
        ),
    ]
    if why:
        verdict = INVALID
    elif any(clause.verdict == FAIL and clause.decides for clause in judged):
        verdict = FAIL
    elif any(clause.verdict == PASS for clause in judged):
        verdict = PASS
    elif any(clause.verdict == FAIL for clause in judged):
        verdict = FAIL  # the failed clauses do not count, but no clause passed
    else:
        verdict, why = INVALID, ["no clause passed"]
    return Verdict(verdict, judged, tuple(why), tuple(_stale(judged, rules.known)))


def _judge_clause(clause: Clause, results: Sequence[Result], rules: Rules) -> ClauseVerdict:
    of_each = {
        verdict: [result for result in results if result.verdict in causes]
        for verdict, causes in _CAUSES.items()
    }
    verdict = next((verdict for verdict, found in of_each.items() if found), UNKNOWN)
    deciding = of_each[verdict]
    return ClauseVerdict(
        clause,
        verdict,
        weakest([clause.evidence for clause in deciding]) if verdict == PASS else None,
        next((clause.detail for clause in deciding if clause.detail), "") if results else NOT_RUN,
        rules.counts(clause),
        tuple(results),
        rules.forms.get(clause.id),
    )


def _stale(judged: Iterable[ClauseVerdict], known: Collection[str]) -> list[str]:
    """Return a message for each known failure whose clause does not fail, or does not exist."""
    by_id = {clause.clause.id: clause for clause in judged}
    messages = []
    for entry in known:
        if entry not in by_id:
            messages.append(f"known failure {entry}: there is no such clause")
        elif by_id[entry].verdict in (PASS, NOT_APPLICABLE):
            messages.append(f"known failure {entry}: the clause no longer fails")
    return messages


# --- the record of a run -------------------------------------------------------------------------


def record(verdict: Verdict, about: Mapping[str, Any]) -> dict[str, Any]:
    """Return the contents of `results.json`, without the wire logs. `about`: further keys, such as
    the target, the profile and the seed."""
    return {
        "verdict": verdict.verdict,
        **about,
        "why": list(verdict.why),
        "stale_known_failures": list(verdict.stale),
        "clauses": [
            {
                "id": clause.clause.id,
                "level": clause.clause.level,
                "verdict": clause.verdict,
                "evidence": clause.evidence,
                "detail": clause.detail,
                "decides": clause.decides,
                "form": clause.form,
                "tests": [_record_test(result) for result in clause.results],
            }
            for clause in verdict.clauses
        ],
    }


def _record_test(result: Result) -> dict[str, Any]:
    return {
        "test": result.test,
        "verdict": result.verdict,
        "evidence": result.evidence if result.verdict == PASS else None,
        "detail": result.detail,
        "cause": result.cause,
        "expected": _cut(result.expected),
        "actual": _cut(result.actual),
        "seconds": round(result.seconds, 3),
    }


def _cut(digits: str | None) -> str | None:
    return None if digits is None else digits[: 2 * KEPT]
