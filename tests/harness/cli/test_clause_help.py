"""The command `explain`."""

import pytest

from harness.clauses import Clause
from harness.cli.clause_help import explain
from harness.cli.main import main
from harness.conformance.evidence import ABSENT, PROVED
from harness.conformance.runner import Check

CLAUSE = Clause("CAST-2", "MUST", "Broadcast", "A message never reaches its sender.")


def test_explain_prints_the_clause_its_tests_and_broken_servers() -> None:
    checks = [
        Check("test_it[a]", "CAST-2", PROVED, "Sends a line."),
        Check("test_it[b]", "CAST-2", PROVED, "Sends a line."),
        Check("test_more", "CAST-2", ABSENT, "Watches a client."),
        Check("test_other", "CAST-3", PROVED, "Sends two lines."),
    ]
    assert "\n".join(explain(CLAUSE, checks, {"echoes": "Sends each line back."})) == (
        """\
CAST-2 (MUST, Broadcast)
  A message never reaches its sender.

Tests
  test_it
    Sends a line.
  test_more
    Watches a client.

Evidence for a pass
  nothing came: the harness watched for at least 0.3 s, times --timeout-scale, and the
  event that the clause forbids did not occur; it may still occur later

Broken servers that the tests catch
  echoes
    Sends each line back."""
    )


def test_explain_prints_none_for_missing_parts() -> None:
    told = "\n".join(explain(CLAUSE, [], {}))
    assert "Tests\n  none" in told
    assert "none: the clause is never judged" in told
    assert told.endswith("tests catch\n  none")


def test_explain_accepts_lower_case_and_reads_the_protocol(
    capsys: pytest.CaptureFixture[str],
) -> None:
    assert main(["explain", "cast-2"]) == 0
    told = capsys.readouterr().out
    assert told.startswith("CAST-2 (MUST, Broadcast)\n  A message never reaches its sender.\n")
    assert "test_a_sender_does_not_hear_itself" in told
    assert "none" not in told


def test_an_unknown_clause_is_an_error_of_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["explain", "CAST-99"])
    assert caught.value.code == 2
    assert capsys.readouterr().err.count("\n") == 1
