"""The clauses of PROTOCOL.md, judged by the harness across two nodes of one room."""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness.clauses import clauses_of_kind
from tests.harness.commands import in_time
from tests.programs import program

ROOT = Path(__file__).parents[2]

CLUSTER = (
    f"{shlex.quote(sys.executable)} scripts/cluster --listen [{{host}}]:{{port}}"
    " --listen [{host}]:{port2} -- --workers 2 --pack 1"
)

#: Exit status if the harness could not judge, because the machine was too busy.
CANNOT_JUDGE = 2

#: The clauses that the harness tests, by topic.
TOPICS: dict[str, list[str]] = {}
for clause in clauses_of_kind(on_websockets=False):
    TOPICS.setdefault(clause.partition("-")[0], []).append(clause)


@pytest.mark.timeout(600)
@pytest.mark.sample(1)
@pytest.mark.parametrize("topic", TOPICS)
def test_the_clauses_hold_across_two_nodes(topic: str) -> None:
    """All clauses of a topic; --all judges every topic."""
    program("nats-server")

    def judged() -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [
                *(sys.executable, "-m", "harness", "conform", "--strict", "--jobs", "1"),
                *("--timeout-scale", "2", "--command", CLUSTER, "--only", *TOPICS[topic]),
            ],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )

    done = in_time(judged, lambda done: done.returncode == CANNOT_JUDGE)
    assert done.returncode == 0, done.stdout
