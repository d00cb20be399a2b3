"""Tests of the room's own lines."""

import os
from collections.abc import Iterator

import pytest

from chatroom.config.settings import Settings
from chatroom.log.ring import Geometry, Log
from chatroom.supervisor import room_voice
from chatroom.supervisor.room_voice import RETRY_AFTER, RoomVoice
from chatroom.system.memory import anonymous_file
from tests.log.entries import runs
from tests.system.loops import ManualLoop


class Stage:
    def __init__(self) -> None:
        geometry = Geometry.of(Settings().limits)
        self.log = Log(anonymous_file("a test's log", geometry.file_size), geometry)
        self.log.format()
        self.log.prepare_seat(0)
        self.loop = ManualLoop()
        self.woken = 0
        self.voice = RoomVoice(self.loop, self.log, self.wake)

    def wake(self) -> None:
        self.woken += 1

    def lines(self) -> bytes:
        return b"".join(run.text for run in runs(self.log))


@pytest.fixture(name="stage")
def fixture_stage() -> Iterator[Stage]:
    stage = Stage()
    yield stage
    stage.loop.close()
    os.close(stage.log.fd)


def test_an_announcement_is_a_message_of_the_room(stage: Stage) -> None:
    stage.voice.announce("192.0.2.1 joined")
    assert stage.lines() == b"<room>192.0.2.1 joined\n"
    assert stage.woken == 1
    assert stage.loop.idle() is None


def test_announcements_wait_while_the_log_is_busy(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are appended together, in order, at the first attempt that succeeds."""
    with monkeypatch.context() as busy:
        busy.setattr(stage.log, "append_within", lambda within, batch: False)
        for number in range(3):
            stage.voice.announce(f"{number} joined")
            stage.loop.step()
    assert (stage.lines(), stage.woken) == (b"", 0)
    assert stage.loop.idle() == pytest.approx(RETRY_AFTER)
    stage.loop.time += RETRY_AFTER
    stage.loop.step()
    assert stage.lines() == b"<room>0 joined\n<room>1 joined\n<room>2 joined\n"
    assert stage.loop.idle() is None


def test_the_number_of_waiting_announcements_is_limited(
    stage: Stage, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The log says when the first is dropped, and later how many were dropped."""
    with monkeypatch.context() as busy:
        busy.setattr(stage.log, "append_within", lambda within, batch: False)
        for number in range(room_voice.MAX_WAITING):
            stage.voice.announce(f"{number} joined")
        assert caplog.messages == []
        for number in range(room_voice.MAX_WAITING, room_voice.MAX_WAITING + 10):
            stage.voice.announce(f"{number} joined")
    assert [message.split(" says=")[0] for message in caplog.messages] == [
        "event=announcements-wait waiting=1000"
    ]
    stage.loop.time += RETRY_AFTER
    stage.loop.step()
    assert stage.lines().startswith(b"<room>10 joined\n")
    assert stage.lines().count(b"\n") == room_voice.MAX_WAITING
    assert [message.split(" says=")[0] for message in caplog.messages[1:]] == [
        "event=announcements-dropped announcements=10"
    ]
    stage.voice.announce("one more joined")
    assert len(caplog.messages) == 2
