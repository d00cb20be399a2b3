"""The process that writes the transcript, run in the test's process with a fake clock."""

import errno
import os
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from chatroom.log.ring import Geometry, Log
from chatroom.sidecars.transcript import process as module
from chatroom.sidecars.transcript.file import TranscriptFile
from chatroom.sidecars.transcript.process import PAUSE, RETRY_AFTER, SYNC_EVERY, TranscriptWriter
from chatroom.system.channel import Channel, Record
from chatroom.system.doorbell import Doorbell
from tests.log.entries import Run, append, new_log, say
from tests.sidecars.transcript.lines import read

ROOMY = Geometry(text=1 << 16, entries=1 << 10, kept=1 << 15, kept_entries=1 << 9)


class Stage:
    """A transcript's writer, with the test as the main process."""

    def __init__(self, path: Path, log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 1000.0
        self.path = path
        self.log = log
        self.bell = Doorbell.new()
        self.sentinel, self.alive = os.pipe()
        self.channel, theirs = Channel.pair()
        monkeypatch.setattr(module, "monotonic", lambda: self.now)
        monkeypatch.setattr(module, "time", lambda: 0.0)
        self.writer = TranscriptWriter(
            path, "here", "run", theirs, log, self.bell, None, self.sentinel
        )
        self.theirs = theirs
        self.waits: float | None = None
        self.files: list[int] = []

        def wait(sources: list[int], timeout: float | None) -> list[int]:
            self.waits = timeout
            ready = real(sources, 0)
            return [source for source in ready if isinstance(source, int)]

        real = module.connection.wait  # type: ignore[attr-defined]
        monkeypatch.setattr(module.connection, "wait", wait)  # type: ignore[attr-defined]

    def turn(self) -> list[Record]:
        """Run the writer until it would wait; return its reports."""
        told: list[Record] = []
        while True:
            self.writer._wait()
            self.writer._turn()
            heard = [*self.channel.receive()]
            for record, descriptors in heard:
                self.files += descriptors
                told.append(record)
            if not heard and self.waits != 0.0:
                return told

    def later(self, seconds: float) -> list[Record]:
        self.now += seconds
        return self.turn()

    def say(self, text: str, sender: int = 1) -> list[Record]:
        say(self.log, f"<{sender}>{text}\n".encode(), sender)
        self.bell.ring()
        return self.later(PAUSE)

    @property
    def texts(self) -> list[Any]:
        return [line["text"] for line in read(self.path) if "text" in line]

    def close(self) -> None:
        if self.writer._file is not None:
            self.writer._file.close()
        for fd in (self.sentinel, self.alive, *self.files):
            os.close(fd)
        self.bell.close()
        self.channel.close()
        self.theirs.close()


@pytest.fixture(name="stage")
def fixture_stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Stage]:
    with new_log(ROOMY) as log, closing(Stage(tmp_path / "a" / "said", log, monkeypatch)) as stage:
        yield stage


def test_a_file_is_handed_over_before_the_first_line(stage: Stage) -> None:
    stage.path.parent.mkdir()
    assert stage.turn() == [{"opened": [0, 0]}, {"fine": True}]
    (fd,) = stage.files
    assert os.path.samestat(os.fstat(fd), stage.path.stat())
    assert read(stage.path) == [
        {"room": "here", "run": "run", "after": 0, "time": "1970-01-01T00:00:00.000Z"}
    ]


def test_nothing_is_written_before_the_main_process_has_the_file(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage.path.parent.mkdir()
    for _ in range(100_000):
        if stage.theirs.backlog:
            break
        stage.theirs.send({"at": 0})
    say(stage.log, b"<1>x\n")
    for _ in range(3):
        stage.writer._wait()
        stage.writer._turn()
    assert not stage.path.exists()
    stage.turn()
    stage.turn()
    assert stage.texts == ["x"]


def test_trouble_is_reported_once_and_the_file_is_tried_again(stage: Stage) -> None:
    assert stage.turn() == [{"trouble": "No such file or directory"}]
    assert stage.waits == pytest.approx(RETRY_AFTER)
    for number in range(5):
        assert stage.say(str(number)) == []
        assert stage.later(RETRY_AFTER) == []
    stage.path.parent.touch()
    assert stage.later(RETRY_AFTER) == [{"trouble": "Not a directory"}]
    stage.path.parent.unlink()
    stage.path.parent.mkdir()
    assert stage.later(RETRY_AFTER / 2) == []
    assert stage.later(RETRY_AFTER) == [{"opened": [0, 0]}, {"fine": True}]
    assert stage.texts == ["0", "1", "2", "3", "4"]


def test_the_writer_reads_when_rung_and_then_pauses(stage: Stage) -> None:
    stage.path.parent.mkdir()
    stage.turn()
    stage.later(PAUSE)
    assert stage.waits is None or stage.waits > PAUSE
    say(stage.log, b"<1>a\n")
    assert stage.turn() == []
    assert stage.texts == [], "nobody has rung"
    stage.bell.ring()
    stage.turn()
    assert stage.texts == ["a"]
    say(stage.log, b"<1>b\n")
    stage.bell.ring()
    stage.turn()
    assert stage.texts == ["a"], "it pauses"
    stage.later(PAUSE)
    assert stage.texts == ["a", "b"]


def test_the_file_is_synced_after_a_while(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    stage.path.parent.mkdir()
    stage.turn()
    stage.later(SYNC_EVERY)
    assert len(synced) == 1
    assert stage.later(10 * SYNC_EVERY) == []
    assert stage.waits is None, "nothing is due"
    assert stage.say("x") == []
    stage.say("y")
    assert len(synced) == 1
    assert stage.later(SYNC_EVERY) == [{"at": 3}]
    assert len(synced) == 2


def test_a_writer_with_nothing_to_write_reports_its_position(stage: Stage) -> None:
    """For example, it replaces a process that died after writing everything."""
    say(stage.log, b"<1>x\n")
    stage.path.parent.mkdir()
    stage.turn()
    assert stage.later(SYNC_EVERY) == [{"at": stage.log.head}]
    (fd,) = stage.files
    stage.files = []
    file = TranscriptFile(fd, 0, 0)
    stage.writer = TranscriptWriter(
        stage.path, "here", "run", stage.theirs, stage.log, stage.bell, file, stage.sentinel
    )
    stage.turn()
    assert stage.later(SYNC_EVERY) == [{"at": stage.log.head}]
    assert stage.later(SYNC_EVERY) == []
    assert stage.texts == ["x"]


@pytest.mark.parametrize("number", [errno.EIO, errno.ENOSPC])
def test_a_failed_sync_is_reported_as_trouble(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    def refuse(fd: int) -> None:
        raise OSError(number, "refused")

    synced: list[int] = []
    stage.path.parent.mkdir()
    stage.turn()
    monkeypatch.setattr(os, "fsync", refuse)
    assert stage.later(SYNC_EVERY) == [{"trouble": "refused"}]
    monkeypatch.setattr(os, "fsync", synced.append)
    assert stage.later(RETRY_AFTER) == [{"fine": True}]
    assert stage.later(SYNC_EVERY) == [{"at": 1}]
    assert len(synced) == 1


def test_each_message_has_its_sender_s_address(stage: Stage) -> None:
    stage.path.parent.mkdir()
    stage.turn()
    append(stage.log, *(Run(id, b"<%d>x\n" % id) for id in range(1, 121)))
    stage.say("y", 7)
    stage.say("z", 8)
    found = [line for line in read(stage.path) if "text" in line]
    assert [line["id"] for line in found] == [*range(1, 121), 7, 8]
    assert all(line["address"] == f"at{line['id']}" for line in found)
    assert {line["text"] for line in found} == {"x", "y", "z"}


def test_a_new_file_that_cannot_be_opened_leaves_the_old_one(stage: Stage) -> None:
    stage.path.parent.mkdir()
    stage.turn()
    stage.say("a")
    moved = stage.path.parent.rename(stage.path.parent.with_name("b")) / stage.path.name
    stage.channel.send({"reopen": 3})
    assert stage.turn()[-1:] == [{"trouble": "No such file or directory"}]
    stage.say("b")
    stage.later(RETRY_AFTER)
    assert [line["text"] for line in read(moved)[1:]] == ["a", "b"]
    stage.path.parent.mkdir()
    told = [record for record in stage.later(RETRY_AFTER) if "at" not in record]
    assert told == [{"opened": [0, 2]}, {"reopened": 3}, {"fine": True}]
    stage.say("c")
    assert stage.texts == ["c"]


def test_the_writer_stops_after_everything_is_written(stage: Stage) -> None:
    stage.path.parent.mkdir()
    stage.turn()
    say(stage.log, b"<1>x\n")
    stage.channel.send({"stop": 1.0})
    stage.writer.run()
    assert stage.texts == ["x"]
    assert [*stage.channel.receive()] == []


def test_the_writer_ends_when_the_main_process_has_ended(stage: Stage) -> None:
    stage.path.parent.mkdir()
    stage.turn()
    say(stage.log, b"<1>x\n")
    stage.channel.close()
    stage.writer.run()
    assert [(line["address"], line["text"]) for line in read(stage.path)[1:]] == [("at1", "x")]
