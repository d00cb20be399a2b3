"""Stress runs of this project's server: simulated people and networks, and killed workers.

Each run is one command, which can also be typed by hand. Its exit status is 0 if every client has
received exactly the bytes that it had to receive.
"""

import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from harness.simulation.scenario.scenario import names
from tests.harness.commands import in_time
from tests.programs import program

pytestmark = pytest.mark.timeout(600)

ROOT = Path(__file__).parents[2]

SERVER = f"{shlex.quote(sys.executable)} -m chatroom --quiet --workers 2 --pack 1 {{host}} {{port}}"

#: Two nodes and an engine. The script starts the engine again if it is killed.
CLUSTER = (
    f"{shlex.quote(sys.executable)} scripts/cluster --listen {{host}}:{{port}}"
    " --listen {host}:{port2} -- --workers 2 --pack 1"
)

#: All scenarios, each with the duration (s) of its run; None: the scenario's own duration. Most
#: scenarios need less than their own duration to test the same behaviour.
SCENARIOS = [
    ("classroom", 5),
    ("lunch-rush", None),
    ("megaphone", 5),
    ("crowd", 5),
    ("churn", 6),
    ("slow-readers", 15),
    ("flood", 6),
    ("chaos", 10),
    pytest.param("chaos", 30, marks=pytest.mark.thorough),
    ("cluster", 20),
    pytest.param("cluster", 60, marks=pytest.mark.thorough),
]

#: Exit status of a simulation that can't judge the server: the harness itself was late, because the
#: machine was busy, or the faults missed a moment that the scenario must reach.
CANNOT_JUDGE = 2


@pytest.fixture
def seed(pytestconfig: pytest.Config) -> str:
    """Return the seed of the run. With the same seed, a failure can be repeated."""
    return str(pytestconfig.option.seed)


@pytest.mark.sample(3)
@pytest.mark.parametrize(("scenario", "seconds"), SCENARIOS)
def test_simulated_people_receive_every_message(
    scenario: str, seconds: int | None, seed: str
) -> None:
    """LOAD-1 to LOAD-4, and all other clauses that a simulation judges."""
    server = SERVER
    if scenario == "cluster":
        program("nats-server")
        server = CLUSTER
    duration = [] if seconds is None else ["--duration", str(seconds)]
    command = (
        *("harness", "simulate", scenario, *duration, "--seed", seed),
        *("--worker-faults", "--command", server),
    )
    done = in_time(lambda: run(*command), lambda done: done.returncode == CANNOT_JUDGE)
    assert done.returncode == 0, done.stdout


FLOODS = ["empty lines", "lines of 80 bytes", "control characters", "empty lines, reconnecting"]


@pytest.mark.sample(1)
@pytest.mark.parametrize("payload", FLOODS)
def test_a_flood_neither_disconnects_a_reader_nor_loses_a_message(payload: str) -> None:
    done = run("tests.integration.floods", "--seconds", "4", "--only", "40", "--payload", payload)
    assert done.returncode == 0, done.stdout


def test_each_shipped_scenario_is_run() -> None:
    parameters = (getattr(entry, "values", entry) for entry in SCENARIOS)
    assert {scenario for scenario, _ in parameters} == set(names())


@pytest.mark.parametrize("deaths", [20, pytest.param(100, marks=pytest.mark.thorough)])
def test_workers_are_killed_at_random(deaths: int, seed: str) -> None:
    """LOAD-4: killed workers neither disconnect members nor lose messages."""
    done = run(
        *("tests.integration.deaths", "--deaths", str(deaths)),
        *("--workers", "4", "--clients", "30", "--seed", seed),
    )
    assert done.returncode == 0, done.stdout


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", *command],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )
