"""Tests of the process that writes the transcript. The writer runs in the test's own process, with
a fake clock."""

import errno
import os

import pytest

from chatroom.sidecars.transcript.file import TranscriptFile
from chatroom.sidecars.transcript.process import PAUSE, RETRY_AFTER, SYNC_EVERY
from tests.log.entries import Run, append, append_message
from tests.sidecars.transcript.lines import read
from tests.sidecars.transcript.stage import Stage


def test_a_file_is_passed_on_before_its_first_line(stage: Stage) -> None:
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
    append_message(stage.log, b"<1>x\n")
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
        assert stage.append(str(number)) == []
        assert stage.later(RETRY_AFTER) == []
    stage.path.parent.touch()
    assert stage.later(RETRY_AFTER) == [{"trouble": "Not a directory"}]
    stage.path.parent.unlink()
    stage.path.parent.mkdir()
    assert stage.later(RETRY_AFTER / 2) == []
    assert stage.later(RETRY_AFTER) == [{"opened": [0, 0]}, {"fine": True}]
    assert stage.texts == ["0", "1", "2", "3", "4"]


def test_the_writer_reads_after_the_doorbell_and_then_pauses(stage: Stage) -> None:
    stage.path.parent.mkdir()
    stage.turn()
    stage.later(PAUSE)
    assert stage.waits is None or stage.waits > PAUSE
    append_message(stage.log, b"<1>a\n")
    assert stage.turn() == []
    assert stage.texts == [], "nobody has rung the doorbell"
    stage.bell.ring()
    stage.turn()
    assert stage.texts == ["a"]
    append_message(stage.log, b"<1>b\n")
    stage.bell.ring()
    stage.turn()
    assert stage.texts == ["a"], "the writer pauses after a read"
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
    assert stage.append("x") == []
    stage.append("y")
    assert len(synced) == 1
    assert stage.later(SYNC_EVERY) == [{"at": 3}]
    assert len(synced) == 2


def test_a_writer_with_nothing_to_write_reports_its_position(stage: Stage) -> None:
    """For example, this writer replaces one that died after it had written everything."""
    append_message(stage.log, b"<1>x\n")
    stage.path.parent.mkdir()
    stage.turn()
    assert stage.later(SYNC_EVERY) == [{"at": stage.log.head}]
    (fd,) = stage.files
    stage.files = []
    stage.begin(TranscriptFile(fd, 0, 0))
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
    stage.append("y", 7)
    stage.append("z", 8)
    found = [line for line in read(stage.path) if "text" in line]
    assert [line["id"] for line in found] == [*range(1, 121), 7, 8]
    assert all(line["address"] == f"at{line['id']}" for line in found)
    assert {line["text"] for line in found} == {"x", "y", "z"}


def test_a_new_file_that_cannot_be_opened_leaves_the_old_one(stage: Stage) -> None:
    stage.path.parent.mkdir()
    stage.turn()
    stage.append("a")
    moved = stage.path.parent.rename(stage.path.parent.with_name("b")) / stage.path.name
    stage.channel.send({"reopen": 3})
    assert stage.turn()[-1:] == [{"trouble": "No such file or directory"}]
    stage.append("b")
    stage.later(RETRY_AFTER)
    assert [line["text"] for line in read(moved)[1:]] == ["a", "b"]
    stage.path.parent.mkdir()
    told = [record for record in stage.later(RETRY_AFTER) if "at" not in record]
    assert told == [{"opened": [0, 2]}, {"reopened": 3}, {"fine": True}]
    stage.append("c")
    assert stage.texts == ["c"]


def test_the_writer_stops_after_everything_is_written(stage: Stage) -> None:
    stage.path.parent.mkdir()
    stage.turn()
    append_message(stage.log, b"<1>x\n")
    stage.channel.send({"stop": 1.0})
    stage.writer.run()
    assert stage.texts == ["x"]
    assert [*stage.channel.receive()] == []


def test_the_writer_ends_when_the_main_process_has_ended(stage: Stage) -> None:
    stage.path.parent.mkdir()
    stage.turn()
    append_message(stage.log, b"<1>x\n")
    stage.channel.close()
    stage.writer.run()
    assert [(line["address"], line["text"]) for line in read(stage.path)[1:]] == [("at1", "x")]
