"""``python -m harness shrink``, whole; and the file that it writes, played by a bare Python."""

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from harness.simulation import replay
from harness.simulation.history import HISTORY
from harness.target import Command
from tests.harness.simulation.recording import REFERENCE, record
from tests.harness.simulation.test_simulate import harness

WELCOME = b"Welcome to socket practice"

#: Four people, one of whom comes later and one of whom goes.
SCRIPT: list[list[object]] = [
    ["join", 0, "127.0.0.2"],
    ["join", 1, "127.0.0.3"],
    ["join", 2, "127.0.0.4"],
    ["say", 0, [b"0.0:One Line"]],
    ["say", 1, [b"1.0:cut ", b"in two"]],
    ["leave", 2, "half-close"],
    ["join", 3, "127.0.0.5"],
    ["say", 3, [b"3.0:I am late"]],
    ["say", 0, [b"0.1:bye"]],
]


@contextmanager
def running(command: str) -> Iterator[Command]:
    target = Command(command)
    target.start()
    try:
        yield target
    finally:
        target.stop()


@pytest.mark.parametrize(
    ("broken", "kinds"),
    [
        ("", set()),
        ("--broken echoes", {"echoed"}),
        ("--broken lowercases", {"torn"}),
        ("--broken always-localhost", {"misprefixed"}),
        ("--broken no-welcome", {"unwelcomed"}),
    ],
)
def test_a_script_shows_what_is_wrong(broken: str, kinds: set[str]) -> None:
    with running(f"{REFERENCE} {broken}") as target:
        found = replay.play(target.host, target.port, SCRIPT, WELCOME)
    assert {one.partition(":")[0] for one in found} == kinds


TALK = """
seconds = 1
[[population]]
name = "people"
clients = 8
rate = 8
"""


def test_a_violation_is_shrunk_to_a_file_that_needs_only_python(tmp_path: Path) -> None:
    broken = f"{REFERENCE} --broken lowercases"
    record(tmp_path, TALK, broken)
    done = harness("shrink", str(tmp_path / HISTORY), "--command", broken, cwd=tmp_path)
    assert done.stdout.startswith("people: 2, lines that they say: 1; to see it: python3 ")
    script = tmp_path / "shrunk.py"
    assert "torn (CAST-3): session" in script.read_text()
    for command, status in ((broken, 1), (REFERENCE, 0)):
        with running(command) as target:
            played = subprocess.run(
                [sys.executable, "-I", str(script), target.host, str(target.port)],
                cwd=tmp_path,
                capture_output=True,
                text=True,
                timeout=30,
                check=False,
            )
        assert played.returncode == status, played.stdout + played.stderr
        assert played.stdout.startswith("torn: " if status else "nothing wrong")
    done = harness("shrink", str(tmp_path / HISTORY), "--command", broken, cwd=tmp_path, code=2)
    assert "is there already; name another with --out" in done.stderr


def test_what_does_not_show_again_is_said(tmp_path: Path) -> None:
    record(tmp_path, TALK, f"{REFERENCE} --broken echoes")
    done = harness(
        *("shrink", str(tmp_path / HISTORY), "--command", REFERENCE, "--tries", "1"),
        cwd=tmp_path,
        code=2,
    )
    assert "'echoed' does not show again" in done.stderr
    assert not (tmp_path / "shrunk.py").exists()


def test_there_has_to_be_a_violation(tmp_path: Path) -> None:
    record(tmp_path, TALK)
    done = harness("shrink", str(tmp_path / HISTORY), "--command", REFERENCE, cwd=tmp_path, code=2)
    assert "shows no violation" in done.stderr
    assert done.stderr.count("\n") == 1
