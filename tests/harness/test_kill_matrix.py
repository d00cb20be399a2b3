"""The kill matrix: each broken server fails the clauses that it breaks, and no others.

So each clause is seen to fail, for the reason that it names; and the reference, which all of them
are made from, passes.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from harness.clauses import all_clauses
from harness.reference.broken import REGISTRY, WIDE

pytestmark = [pytest.mark.matrix, pytest.mark.timeout(900)]

ROOT = Path(__file__).parent.parent.parent

#: Times the patience. What these servers leave out is waited for again and again.
SCALE = "0.4"

#: Runs, of which the first counts for which the harness was fit: who was too late judges again.
ATTEMPTS = 3


def judge(folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
    """The exit status, and the results, of a run against the reference with some options."""
    for attempt in range(ATTEMPTS):
        status, results = judge_once(folder / str(attempt), *options)
        if results["verdict"] != "invalid":
            break
    return status, results


def judge_once(folder: Path, *options: str) -> tuple[int, dict[str, Any]]:
    server = [sys.executable, "-m", "harness.reference", *options, "{host}", "{port}"]
    done = subprocess.run(  # noqa: PLW1510  (its status is what is asked for)
        [
            *(sys.executable, "-m", "harness", "conform", "--strict", "--profile", "reference"),
            *("--timeout-scale", SCALE, "--jobs", "1", "--report", str(folder)),
            *("--command", " ".join(server)),
        ],
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    results = folder / "results.json"
    assert results.exists(), f"exit {done.returncode}: {done.stdout[-2000:]}{done.stderr[-2000:]}"
    return done.returncode, json.loads(results.read_text())


def with_verdict(results: dict[str, Any], verdict: str) -> dict[str, str]:
    """The clauses of that verdict, and why."""
    return {one["id"]: one["detail"] for one in results["clauses"] if one["verdict"] == verdict}


def test_the_reference_passes(tmp_path: Path) -> None:
    status, results = judge(tmp_path)
    assert results["why"] == []
    assert with_verdict(results, "fail") == {}
    assert with_verdict(results, "unknown") == {}
    assert list(with_verdict(results, "not-applicable")) == ["LOAD-4"]
    assert (status, results["verdict"]) == (0, "pass")


@pytest.mark.parametrize("name", REGISTRY)
def test_a_broken_server_fails_what_it_breaks(name: str, tmp_path: Path) -> None:
    _, broken = REGISTRY[name]
    status, results = judge(tmp_path, "--broken", name)
    assert results["why"] == []
    failed = with_verdict(results, "fail")
    if name in WIDE:
        assert set(failed) >= broken, failed
    else:
        assert set(failed) == broken, failed
        assert with_verdict(results, "unknown") == {}
    assert (status, results["verdict"]) == (1, "fail")


def test_every_clause_is_broken_by_one_of_them() -> None:
    assert {clause for _, broken in REGISTRY.values() for clause in broken} == set(all_clauses())
