"""Each clause of PROTOCOL.md has a conformance test, and each test has a description."""

import pytest

from harness.clauses import all_clauses
from harness.conformance.runner import Check, collect


@pytest.fixture(scope="module")
def checks() -> list[Check]:
    return collect()  # fails if a test has no clause, or an unknown clause


def test_each_clause_is_judged(checks: list[Check]) -> None:
    assert {check.clause for check in checks} == set(all_clauses())


def test_each_test_has_a_description(checks: list[Check]) -> None:
    assert [check.name for check in checks if not check.about] == []
