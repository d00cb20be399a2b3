"""Tests of commands whose output is not UTF-8: characters that the encoding lacks are escaped."""

import subprocess
import sys

import pytest

HARNESS = ["conform", "probe", "explain", "matrix", "simulate", "scenarios", "check", "limit"]
COMMANDS = [
    *(f"{module} --help" for module in ("chatroom", "chatroom.client", "chatroom.status")),
    "chatroom.admin --help",
    "chatroom.web --help",
    "harness --help",
    *(f"harness {command} --help" for command in [*HARNESS, "shrink", "bench"]),
    "harness conform --list",
    "harness explain TEXT-1",
    "harness scenarios",
    "harness.reference --help",
    "harness.reference --list",
]


@pytest.mark.sample(4)
@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
@pytest.mark.parametrize("command", COMMANDS)
def test_a_command_succeeds_in_any_encoding(command: str, encoding: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", *command.split()],
        env={"PYTHONIOENCODING": encoding},
        capture_output=True,
        timeout=30,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.decode(encoding)
