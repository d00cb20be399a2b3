"""The main process's part of the transcript, without its process: a test plays that."""

import logging
import os
import selectors
import socket
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from multiprocessing import connection
from pathlib import Path
from typing import Any

import pytest

from chatroom.config.settings import Settings
from chatroom.log.ring import Geometry, Log
from chatroom.supervisor import transcript as module
from chatroom.supervisor.pool import FIRST_PAUSE, LONGEST_PAUSE, READY_WITHIN
from chatroom.supervisor.transcript import LEAST_WATCHED, TranscriptProcess
from chatroom.system import child
from chatroom.system.channel import Channel, Record
from chatroom.system.doorbell import Doorbell
from tests.log.entries import new_log, say

SMALL = Geometry(text=1024, entries=64, kept=512, kept_entries=32)


class Process:
    """Stands in for the transcript's process."""

    def __init__(self, target: object, args: Any) -> None:
        self.exitcode: int | None = None
        self.sentinel, self._alive = os.pipe()
        self._end: socket.socket = args[-1]
        self.descriptors: list[int] = []

    def start(self) -> None:
        self.channel = Channel(self._end.dup())

    def told(self) -> list[Record]:
        records = []
        for record, descriptors in self.channel.receive():
            records.append(record)
            self.descriptors += descriptors
        return records

    def die(self, exitcode: int = -9) -> None:
        self.exitcode = exitcode
        for fd in (self._alive, *self.descriptors):
            os.close(fd)
        self.channel.close()

    def kill(self) -> None:
        self.die()

    def join(self) -> None:
        assert self.exitcode is not None


class Stage:
    def __init__(self, log: Log, bell: Doorbell, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.log = log
        self.processes: list[Process] = []
        self.refuses = False
        self.selector = selectors.DefaultSelector()
        stage = self

        class Context:
            def Process(self, target: object, args: Any) -> Process:  # noqa: N802
                if stage.refuses:
                    raise OSError(12, "Cannot allocate memory")
                stage.processes.append(Process(target, args))
                return stage.processes[-1]

        monkeypatch.setattr(child, "get_context", lambda kind: Context())
        monkeypatch.setattr(module, "monotonic", lambda: stage.now)
        self.settings = Settings(transcript=Path("said.jsonl"), watchdog=0)
        self.keeper = TranscriptProcess(self.settings, "here", log, bell, self.selector)

    @property
    def process(self) -> Process:
        return self.processes[-1]

    def turn(self) -> float | None:
        for key, _ in self.selector.select(0):
            key.data()
        return self.keeper.tick()


@pytest.fixture(name="stage")
def fixture_stage(monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with new_log(SMALL) as log, closing(Doorbell.new()) as bell:
        stage = Stage(log, bell, monkeypatch)
        assert stage.turn() is None
        yield stage
        for process in stage.processes:
            if process.exitcode is None:
                process.die(0)
            os.close(process.sentinel)
        if stage.keeper._child is not None:
            stage.keeper._child.channel.close()
        stage.keeper._keep(None)
        stage.selector.close()


def test_a_process_is_told_what_it_shares(stage: Stage) -> None:
    assert stage.process.told() == [{"bell": 1, "file": None}]
    assert len(stage.process.descriptors) == 2


def test_the_next_one_gets_the_file_that_was_open(stage: Stage, tmp_path: Path) -> None:
    stage.process.told()
    for number in range(2):
        with (tmp_path / f"{number}").open("w") as file:
            stage.process.channel.send({"opened": [17, number]}, [file.fileno()])
    stage.process.die()
    stage.turn()
    stage.turn()
    assert stage.process.told() == [{"bell": 1, "file": [17, 1]}]
    found = os.fstat(stage.process.descriptors[-1])
    assert os.path.samestat(found, (tmp_path / "1").stat())


def test_an_order_to_reopen_outlives_the_process(stage: Stage) -> None:
    stage.keeper.reopen()
    stage.keeper.reopen()
    stage.process.channel.send({"reopened": 1})
    stage.turn()
    stage.process.die()
    stage.turn()
    stage.turn()
    assert stage.process.told()[1:] == [{"reopen": 2}]
    stage.process.channel.send({"reopened": 2})
    stage.process.channel.send({"fine": True})
    stage.turn()
    stage.process.die()
    stage.turn()
    stage.turn()
    assert stage.process.told()[1:] == []


def test_one_that_dies_again_and_again_is_started_ever_more_seldom(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    pauses = []
    for _ in range(9):
        stage.process.die()
        if wait := stage.turn():
            pauses.append(wait)
            stage.now += wait
            assert stage.turn() is None
    assert pauses[:2] == [pytest.approx(FIRST_PAUSE), pytest.approx(2 * FIRST_PAUSE)]
    assert pauses[-1] == pytest.approx(LONGEST_PAUSE)
    stage.process.channel.send({"fine": True})
    stage.process.die()
    before = len(stage.processes)
    assert stage.turn() is None
    assert len(stage.processes) == before + 1, "one that had written is replaced at once"
    assert "event=transcript-died file=said.jsonl exit=-9 says=" in caplog.text


def test_one_that_can_not_start_is_tried_again(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    stage.refuses = True
    stage.process.die()
    wait = stage.turn()
    assert wait
    died = 'event=transcript-failed file=said.jsonl error="Cannot allocate memory" says='
    assert died in caplog.text
    stage.refuses = False
    stage.now += wait
    assert stage.turn() is None
    assert len(stage.processes) == 2


def test_trouble_is_told_when_it_begins_and_ends(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    for record in ({"fine": True}, {"trouble": "disk full"}, {"fine": True}, {"fine": True}):
        stage.process.channel.send(record)
    stage.turn()
    stuck, resumed = [
        record.message for record in caplog.records if record.levelno >= logging.WARNING
    ]
    assert stuck.startswith('event=transcript-trouble file=said.jsonl error="disk full" says=')
    assert resumed.startswith("event=transcript-resumed file=said.jsonl says=")


def test_what_its_channel_does_not_take_is_told_later(stage: Stage) -> None:
    """Nobody waits for a process that is stopped."""
    count = 0
    while stage.turn() is None:
        stage.keeper.reopen()
        count += 1
    told = [record["reopen"] for record in stage.process.told() if "reopen" in record]
    assert stage.turn() is None
    told += [record["reopen"] for record in stage.process.told() if "reopen" in record]
    assert told == [*range(1, count + 1)]


def test_one_that_never_ends_is_killed(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wait(sources: object, timeout: float) -> list[object]:
        stage.now += timeout
        return []

    monkeypatch.setattr(connection, "wait", wait)
    stage.keeper.close()
    assert stage.process.exitcode == -9
    assert "may lack what was said last" in caplog.text


def test_one_that_dies_at_the_end_is_replaced_a_few_times(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def wait(sources: object, timeout: float) -> list[object]:
        assert stage.process.told()[-1].keys() == {"stop"}
        stage.process.die()
        return [stage.process.sentinel]

    monkeypatch.setattr(connection, "wait", wait)
    stage.keeper.close()
    assert len(stage.processes) == 4
    assert "may lack what was said last" in caplog.text


# --- one that hangs ------------------------------------------------------------------------------


def test_one_that_makes_no_progress_is_replaced(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    """Not one that has nothing to write, or has told that it can't, or goes on."""
    stage.keeper.renew(replace(stage.settings, watchdog=8))

    def waits(signs: Record | None = None) -> None:
        for _ in range(10):
            if signs is not None:
                stage.process.channel.send(signs)
            wait = stage.turn()
            assert wait is not None
            stage.now += wait

    waits()
    assert len(stage.processes) == 1
    say(stage.log, b"<a>hello\n")
    waits({"at": 0})
    stage.process.channel.send({"trouble": "disk full"})
    waits()
    stage.process.channel.send({"fine": True})
    assert len(stage.processes) == 1
    hung = stage.process
    waits()
    assert hung.exitcode == -9
    assert len(stage.processes) == 2, "the next one has time to start"
    stage.process.channel.send({"at": stage.log.head})
    waits()
    waits()
    assert len(stage.processes) == 2
    assert caplog.text.count("event=transcript-stuck file=said.jsonl says=") == 1


def test_it_has_five_seconds_at_least_and_thirty_to_start(stage: Stage) -> None:
    """It tells where it is once a second; and who has much to do does not start in one."""
    stage.keeper.renew(replace(stage.settings, watchdog=0.5))
    say(stage.log, b"<a>hello\n")
    begun = stage.now
    while len(stage.processes) == 1:
        wait = stage.turn()
        assert wait is not None
        stage.now += wait or 0.01
    assert stage.now - begun >= READY_WITHIN
    stage.process.channel.send({"fine": True})
    stage.turn()
    begun = stage.now
    while len(stage.processes) == 2:
        wait = stage.turn()
        assert wait is not None
        stage.now += wait or 0.01
    assert LEAST_WATCHED <= stage.now - begun <= 2 * LEAST_WATCHED


def test_that_some_were_missed_is_told(stage: Stage, caplog: pytest.LogCaptureFixture) -> None:
    stage.process.channel.send({"missed": 17})
    stage.turn()
    assert "event=transcript-missed file=said.jsonl messages=17 says=" in caplog.text
