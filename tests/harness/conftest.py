"""Fixtures for all tests of the harness."""

import shutil
import tempfile
from pathlib import Path

import pytest

from harness.cli.main import main
from harness.target.processes import ROOT
from tests.harness.commands import Done, Harness, in_time


@pytest.fixture
def harness(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> Harness:
    """Return a function that runs a command of the harness in this process, in `tmp_path`."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))  # for the processes that the harness starts

    def attempt(arguments: tuple[str, ...]) -> Done:
        capfd.readouterr()
        try:
            status: object = main([*arguments])
        except SystemExit as ended:
            status = ended.code
        return Done(status, *capfd.readouterr())

    def is_late(done: Done) -> bool:
        return done.stdout.startswith("invalid") or "\nINVALID: " in done.stdout

    def run(*arguments: str, code: int | None = 0) -> Done:
        def was_late(done: Done) -> bool:
            if late := done.status != code and is_late(done):
                for kept in tmp_path.glob("simulation-*"):
                    shutil.rmtree(kept)
            return late

        done = in_time(lambda: attempt(arguments), was_late)
        assert code is None or done.status == code, done.stdout + done.stderr
        return done

    return run
