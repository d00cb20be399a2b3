"""Fixtures for the tests of the transcript."""

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from tests.log.entries import new_log
from tests.sidecars.transcript.stage import ROOMY, Stage


@pytest.fixture(name="stage")
def fixture_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with new_log(ROOMY) as log, closing(Stage(tmp_path / "a" / "said", log, monkeypatch)) as stage:
        yield stage
