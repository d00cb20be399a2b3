"""A room with two ports, which the harness starts by a command or reaches at two addresses."""

import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from harness.target.target import Command, at
from tests.harness.commands import Harness

SCRIPT = shlex.quote(str(Path(__file__).parent / "two_ports.py"))
TWO_PORTS = f"{shlex.quote(sys.executable)} {SCRIPT} {{host}} {{port}} {{port2}}"
APART = f"{TWO_PORTS} --apart"

SCENARIO = """
about = "people at two ports, half of them behind a slow network"
seconds = 1
[[population]]
name = "near"
clients = 4
rate = 10
[[population]]
name = "far"
clients = 4
rate = 10
[population.link]
fault = "delay"
held = [0, 0.01]
"""


@pytest.fixture
def two_addresses() -> Iterator[list[str]]:
    """Start a room with two ports, and yield the --target arguments for it."""
    server = Command(TWO_PORTS)
    server.start()
    yield [word for endpoint in server.endpoints for word in ("--target", at(*endpoint))]
    server.stop()


ONLY = ["--only", "JOIN-1", "CAST-1", "CAST-4", "CAST-5", "CAST-6", "LEAVE-1", "PREFIX-2"]


def test_one_room_at_two_ports_passes(harness: Harness) -> None:
    done = harness("conform", "--command", TWO_PORTS, "--profile", "reference", *ONLY)
    assert done.stdout.splitlines()[-1] == f"PASS: {len(ONLY) - 1} passed"


def test_one_room_at_two_addresses_passes(harness: Harness, two_addresses: list[str]) -> None:
    done = harness("conform", *two_addresses, "--profile", "reference", *ONLY, "--report", "out")
    assert done.stdout.splitlines()[-1] == f"PASS: {len(ONLY) - 1} passed"
    first, second = two_addresses[1::2]
    assert f"judging {first}, {second}, profile reference" in done.stderr
    record = json.loads(Path("out/results.json").read_text())
    assert record["target"] == {"address": f"{first}, {second}"}


def test_two_rooms_at_two_ports_fail(harness: Harness) -> None:
    only = ["--only", "JOIN-1", "CAST-1", "--report", "out"]
    done = harness("conform", "--command", APART, *only, code=1)
    assert "broken: JOIN-1 MUST " in done.stdout
    [detail] = {
        re.sub(r":\d+", ":PORT", test["detail"])
        for clause in json.loads(Path("out/results.json").read_text())["clauses"]
        for test in clause["tests"]
        if clause["id"] == "JOIN-1"
    }
    assert detail.endswith(
        "; nobody received anything. B is at 127.0.0.1:PORT, A at 127.0.0.1:PORT: perhaps these"
        " are not one room."
    )


def test_probe_writes_a_profile_of_a_room_with_two_ports(harness: Harness) -> None:
    done = harness("probe", "--command", TWO_PORTS)
    assert "Welcome to socket practice" in done.stdout


@pytest.mark.parametrize(("command", "code"), [(TWO_PORTS, 0), (APART, 1)])
def test_a_simulation_spreads_its_clients_over_two_ports(
    command: str, code: int, harness: Harness
) -> None:
    Path("mine.toml").write_text(SCENARIO)
    done = harness(
        *("simulate", "mine.toml", "--command", command, "--report", "out", "--seed", "1"),
        *("--profile", "reference"),
        code=code,
    )
    lost = json.loads(Path("out/results.json").read_text())["lost"]
    assert bool(lost) == bool(code), done.stdout


def test_shrink_refuses_a_room_with_two_ports(harness: Harness) -> None:
    Path("mine.toml").write_text(SCENARIO)
    harness("simulate", "mine.toml", "--command", APART, "--report", "out", code=1)
    done = harness("shrink", "out/history.jsonl", "--command", APART, code=2)
    assert "connects to one address only" in done.stderr
