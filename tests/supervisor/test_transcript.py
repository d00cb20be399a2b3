"""Tests of the transcript in the main process, with a fake process that the test controls."""

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


class TranscriptDriver(Children):
    """The event loop and the transcript of a main process."""

    def __init__(self, log: Log, bell: Doorbell, monkeypatch: pytest.MonkeyPatch) -> None:
        super().__init__(monkeypatch)
        self.log = log
        self.settings = Settings(transcript=Path("said.jsonl"), watchdog=0)
        self.transcript = TranscriptProcess(self.loop, self.settings, "here", log, bell)
        self.transcript.start()

    def report(self, record: Record, *descriptors: int) -> None:
        """Send a record from the transcript's process."""
        self.last.channel.send(record, descriptors)
        self.loop.turn()

    def die(self, exitcode: int = -9) -> None:
        """End the process; run the loop until a new process is started, perhaps after the
        backoff."""
        process = self.last
        process.die(exitcode)
        while self.last is process:
            self.loop.turn()
            self.loop.time += self.loop.idle() or 0


@pytest.fixture(name="driver")
def fixture_driver(monkeypatch: pytest.MonkeyPatch) -> Iterator[TranscriptDriver]:
    with new_log(SMALL) as log, closing(Doorbell.new()) as bell:
        driver = TranscriptDriver(log, bell, monkeypatch)
        yield driver
        if driver.last.exitcode is None:
            driver.last.die(0)
            driver.transcript.close()
        driver.close()


def test_a_process_receives_its_descriptors_at_the_start(driver: TranscriptDriver) -> None:
    assert driver.last.records() == [{"bell": 1, "file": None}]
    assert len(driver.last.descriptors) == 2


def test_the_next_process_gets_the_open_file(driver: TranscriptDriver, tmp_path: Path) -> None:
    driver.last.records()
    for number in range(2):
        with (tmp_path / f"{number}").open("w") as file:
            driver.report({"opened": [17, number]}, file.fileno())
    driver.die()
    assert driver.last.records() == [{"bell": 1, "file": [17, 1]}]
    found = os.fstat(driver.last.descriptors[-1])
    assert os.path.samestat(found, (tmp_path / "1").stat())


def test_a_rotation_is_logged(
    driver: TranscriptDriver, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with (tmp_path / "said.jsonl").open("w") as file:
        driver.report({"opened": [0, 7], "rotated": ["/x/said.jsonl.1", 4194303]}, file.fileno())
    assert caplog.text.count("event=transcript-") == 1
    event = "event=transcript-rotated file=said.jsonl to=/x/said.jsonl.1 size=4194303 says="
    assert event in caplog.text
    driver.die()
    assert driver.last.records() == [{"bell": 1, "file": [0, 7]}]


def test_a_request_to_reopen_is_repeated_to_the_next_process(driver: TranscriptDriver) -> None:
    driver.transcript.reopen()
    driver.transcript.reopen()
    driver.report({"reopened": 1})
    driver.die()
    assert driver.last.records()[1:] == [{"reopen": 2}]
    driver.report({"reopened": 2})
    driver.die()
    assert driver.last.records()[1:] == []


def test_trouble_is_logged_when_it_begins_and_ends(
    driver: TranscriptDriver, caplog: pytest.LogCaptureFixture
) -> None:
    for record in ({"fine": True}, {"trouble": "disk full"}, {"fine": True}, {"fine": True}):
        driver.report(record)
    stuck, resumed = [
        record.message for record in caplog.records if record.levelno >= logging.WARNING
    ]
    assert stuck.startswith('event=transcript-trouble file=said.jsonl error="disk full" says=')
    assert resumed.startswith("event=transcript-resumed file=said.jsonl says=")


def test_a_process_that_does_not_end_is_killed(
    driver: TranscriptDriver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wait(sources: object, timeout: float) -> list[object]:
        driver.loop.time += timeout
        return []

    monkeypatch.setattr(child, "wait", wait)
    driver.transcript.close()
    assert driver.last.exitcode == -9
    assert "the last messages may be missing" in caplog.text


def test_a_process_that_dies_at_the_end_is_replaced_a_few_times(
    driver: TranscriptDriver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wait(sources: object, timeout: float) -> list[object]:
        assert driver.last.records()[-1].keys() == {"stop"}
        driver.last.die(-9)
        return [driver.last.sentinel]

    monkeypatch.setattr(child, "wait", wait)
    driver.transcript.close()
    assert len(driver.started) == 1 + MAX_CLOSING_STARTS
    assert "the last messages may be missing" in caplog.text


# --- the watchdog --------------------------------------------------------------------------------


def test_a_process_that_makes_no_progress_is_replaced(
    driver: TranscriptDriver, caplog: pytest.LogCaptureFixture
) -> None:
    """A process is not stuck if it has nothing to write, has reported trouble, or makes
    progress."""
    driver.transcript.renew(replace(driver.settings, watchdog=8))

    def wait_turn(signs: Record | None = None) -> None:
        for _ in range(10):
            if signs is not None:
                driver.report(signs)
            driver.loop.turn()
            wait = driver.loop.idle()
            assert wait is not None
            driver.loop.time += wait

    wait_turn()
    assert len(driver.started) == 1
    append_message(driver.log, b"<a>hello\n")
    wait_turn({"at": 0})
    driver.report({"trouble": "disk full"})
    wait_turn()
    driver.report({"fine": True})
    assert len(driver.started) == 1
    hung = driver.last
    wait_turn()
    assert hung.exitcode == -9
    assert len(driver.started) == 2, "the next process has time to start"
    driver.report({"at": driver.log.head})
    wait_turn()
    wait_turn()
    assert len(driver.started) == 2
    assert caplog.text.count("event=transcript-stuck file=said.jsonl says=") == 1


def test_a_process_has_five_seconds_or_more_and_thirty_to_start(driver: TranscriptDriver) -> None:
    """The process reports its position once per second. A start under load takes longer than a
    second."""
    driver.transcript.renew(replace(driver.settings, watchdog=0.5))
    append_message(driver.log, b"<a>hello\n")
    begun = driver.loop.time
    while len(driver.started) == 1:
        driver.loop.turn()
        driver.loop.time += driver.loop.idle() or 0.01
    assert driver.loop.time - begun >= READY_WITHIN
    driver.report({"fine": True})
    begun = driver.loop.time
    while len(driver.started) == 2:
        driver.loop.turn()
        driver.loop.time += driver.loop.idle() or 0.01
    assert MIN_WATCHDOG <= driver.loop.time - begun <= 2 * MIN_WATCHDOG


def test_the_number_of_missed_messages_is_logged(
    driver: TranscriptDriver, caplog: pytest.LogCaptureFixture
) -> None:
    driver.report({"missed": 17})
    assert "event=transcript-missed file=said.jsonl messages=17 says=" in caplog.text
