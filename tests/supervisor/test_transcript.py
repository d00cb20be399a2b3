"""The main process's part of the transcript, with a fake process, which the test plays."""

import logging
import os
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path

import pytest

from chatroom.config.settings import Settings
from chatroom.log.ring import Geometry, Log
from chatroom.supervisor import child
from chatroom.supervisor.child import READY_WITHIN
from chatroom.supervisor.transcript import MAX_CLOSING_STARTS, MIN_WATCHDOG, TranscriptProcess
from chatroom.system.channel import Record
from chatroom.system.doorbell import Doorbell
from tests.log.entries import append_message, new_log
from tests.supervisor.children import Children

SMALL = Geometry(text=1024, entries=64, kept=512, kept_entries=32)


class Stage(Children):
    """The main process's event loop and transcript."""

    def __init__(self, log: Log, bell: Doorbell, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch)
        self.log = log
        self.settings = Settings(transcript=Path("said.jsonl"), watchdog=0)
        self.transcript = TranscriptProcess(self.loop, self.settings, "here", log, bell)
        self.transcript.start()

    def says(self, record: Record, *descriptors: int) -> None:
        """Send a record as the process."""
        self.last.channel.send(record, descriptors)
        self.loop.turn()

    def dies(self, exitcode: int = -9) -> None:
        """End the process; another one is started, at once or after the backoff."""
        process = self.last
        process.die(exitcode)
        while self.last is process:
            self.loop.turn()
            self.loop.time += self.loop.idle() or 0


@pytest.fixture(name="stage")
def fixture_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with new_log(SMALL) as log, closing(Doorbell.new()) as bell:
        stage = Stage(log, bell, monkeypatch)
        yield stage
        if stage.last.exitcode is None:
            stage.last.die(0)
            stage.transcript.close()
        stage.close()


def test_a_process_receives_its_descriptors_at_the_start(stage: Stage) -> None:
    assert stage.last.told() == [{"bell": 1, "file": None}]
    assert len(stage.last.descriptors) == 2


def test_the_next_process_gets_the_open_file(stage: Stage, tmp_path: Path) -> None:
    stage.last.told()
    for number in range(2):
        with (tmp_path / f"{number}").open("w") as file:
            stage.says({"opened": [17, number]}, file.fileno())
    stage.dies()
    assert stage.last.told() == [{"bell": 1, "file": [17, 1]}]
    found = os.fstat(stage.last.descriptors[-1])
    assert os.path.samestat(found, (tmp_path / "1").stat())


def test_a_rotation_is_logged(
    stage: Stage, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (tmp_path / "said.jsonl").open("w") as file:
        stage.says({"opened": [0, 7], "rotated": ["/x/said.jsonl.1", 4194303]}, file.fileno())
    assert caplog.text.count("event=transcript-") == 1
    event = "event=transcript-rotated file=said.jsonl to=/x/said.jsonl.1 size=4194303 says="
    assert event in caplog.text
    stage.dies()
    assert stage.last.told() == [{"bell": 1, "file": [0, 7]}]


def test_a_request_to_reopen_outlives_the_process(stage: Stage) -> None:
    stage.transcript.reopen()
    stage.transcript.reopen()
    stage.says({"reopened": 1})
    stage.dies()
    assert stage.last.told()[1:] == [{"reopen": 2}]
    stage.says({"reopened": 2})
    stage.dies()
    assert stage.last.told()[1:] == []


def test_trouble_is_logged_when_it_begins_and_ends(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    for record in ({"fine": True}, {"trouble": "disk full"}, {"fine": True}, {"fine": True}):
        stage.says(record)
    stuck, resumed = [
        record.message for record in caplog.records if record.levelno >= logging.WARNING
    ]
    assert stuck.startswith('event=transcript-trouble file=said.jsonl error="disk full" says=')
    assert resumed.startswith("event=transcript-resumed file=said.jsonl says=")


def test_a_process_that_does_not_end_is_killed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wait(sources: object, timeout: float) -> list[object]:
        stage.loop.time += timeout
        return []

    monkeypatch.setattr(child, "wait", wait)
    stage.transcript.close()
    assert stage.last.exitcode == -9
    assert "the last messages may be missing" in caplog.text


def test_a_process_that_dies_at_the_end_is_replaced_a_few_times(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wait(sources: object, timeout: float) -> list[object]:
        assert stage.last.told()[-1].keys() == {"stop"}
        stage.last.die(-9)
        return [stage.last.sentinel]

    monkeypatch.setattr(child, "wait", wait)
    stage.transcript.close()
    assert len(stage.started) == 1 + MAX_CLOSING_STARTS
    assert "the last messages may be missing" in caplog.text


# --- the watchdog --------------------------------------------------------------------------------


def test_a_process_that_makes_no_progress_is_replaced(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """A process that has nothing to write, has reported trouble or goes on is not stuck."""
    stage.transcript.renew(replace(stage.settings, watchdog=8))

    def waits(signs: Record | None = None) -> None:
        for _ in range(10):
            if signs is not None:
                stage.says(signs)
            stage.loop.turn()
            wait = stage.loop.idle()
            assert wait is not None
            stage.loop.time += wait

    waits()
    assert len(stage.started) == 1
    append_message(stage.log, b"<a>hello\n")
    waits({"at": 0})
    stage.says({"trouble": "disk full"})
    waits()
    stage.says({"fine": True})
    assert len(stage.started) == 1
    hung = stage.last
    waits()
    assert hung.exitcode == -9
    assert len(stage.started) == 2, "the next one has time to start"
    stage.says({"at": stage.log.head})
    waits()
    waits()
    assert len(stage.started) == 2
    assert caplog.text.count("event=transcript-stuck file=said.jsonl says=") == 1


def test_a_process_has_at_least_five_seconds_and_thirty_to_start(stage: Stage) -> None:
    """It reports its position once a second; a start under load takes longer than a second."""
    stage.transcript.renew(replace(stage.settings, watchdog=0.5))
    append_message(stage.log, b"<a>hello\n")
    begun = stage.loop.time
    while len(stage.started) == 1:
        stage.loop.turn()
        stage.loop.time += stage.loop.idle() or 0.01
    assert stage.loop.time - begun >= READY_WITHIN
    stage.says({"fine": True})
    begun = stage.loop.time
    while len(stage.started) == 2:
        stage.loop.turn()
        stage.loop.time += stage.loop.idle() or 0.01
    assert MIN_WATCHDOG <= stage.loop.time - begun <= 2 * MIN_WATCHDOG


def test_the_number_of_missed_messages_is_logged(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.says({"missed": 17})
    assert "event=transcript-missed file=said.jsonl messages=17 says=" in caplog.text
