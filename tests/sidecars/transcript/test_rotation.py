"""Tests of the rotation of a full transcript, even if the writer is killed. The test acts as the
main process."""

import os
from collections.abc import Callable
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from chatroom.sidecars.transcript import file as file_module
from chatroom.sidecars.transcript.file import TranscriptFile
from chatroom.sidecars.transcript.process import PAUSE, RETRY_AFTER, SYNC_EVERY
from chatroom.system.channel import Record
from tests.log.entries import Run, append, append_message, new_log
from tests.sidecars.transcript.lines import read
from tests.sidecars.transcript.stage import ROOMY, Stage

LIMIT = 600
"""Maximum size (bytes) of a file. A header and six short messages fit."""


@pytest.fixture(name="aside")
def fixture_aside(stage: Stage) -> Path:
    """Start a writer with a small limit; return the path that a full file is renamed to."""
    stage.path.parent.mkdir()
    stage.begin(limit=LIMIT)
    return stage.path.with_name("said.1")


def test_a_full_file_is_renamed_and_a_new_one_started(stage: Stage, aside: Path) -> None:
    stage.turn()
    told: list[Record] = []
    while not told:
        told = [record for record in stage.append("x") if "at" not in record]
    size = aside.stat().st_size
    assert told == [{"opened": [0, 6], "rotated": [str(aside), size]}]
    assert LIMIT - 100 < size <= LIMIT
    assert [line.get("n", line.get("after")) for line in read(aside)] == [0, 1, 2, 3, 4, 5, 6]
    assert [line.get("n", line.get("after")) for line in read(stage.path)] == [6, 7]
    assert os.path.samestat(os.fstat(stage.files[-1]), stage.path.stat())


def test_messages_that_were_read_at_once_fill_several_files(stage: Stage, aside: Path) -> None:
    """Even messages of one entry may go to several files. Each file is filled, and each message is
    in one file only."""
    stage.turn()
    append(stage.log, Run(1, b"<1>x\n" * 20, messages=20))
    told = stage.append("y")
    assert [record["rotated"][1] <= LIMIT for record in told if "rotated" in record] == [True] * 3
    found = read(aside, stage.path)
    numbers = [line["n"] for line in found if "n" in line]
    assert numbers == [*range(numbers[0], 22)]
    assert stage.texts[-1] == "y"
    assert stage.later(SYNC_EVERY) == [{"at": stage.log.head}]


def test_a_file_that_an_earlier_room_has_filled_is_renamed(stage: Stage, aside: Path) -> None:
    there = b"x" * (LIMIT + 19) + b"\n"
    stage.path.write_bytes(there)
    append_message(stage.log, b"<1>x\n")
    assert {"opened": [0, 0], "rotated": [str(aside), LIMIT + 20]} in stage.turn()
    assert aside.read_bytes() == there
    assert [line.get("n", line.get("after")) for line in read(stage.path)] == [0, 1]


def test_a_full_file_that_was_moved_is_left_alone(stage: Stage, aside: Path) -> None:
    """logrotate has moved the file, but has not sent SIGUSR1 yet. The path FILE.1 may be a file of
    logrotate."""
    aside.write_text("older")
    stage.turn()
    moved = stage.path.rename(stage.path.with_name("moved"))
    told: list[Record] = []
    while not told:
        told = [record for record in stage.append("x") if "at" not in record]
    assert told == [{"opened": [0, 6]}]
    assert aside.read_text() == "older"
    assert [line["n"] for line in read(moved, stage.path) if "n" in line] == [*range(1, 8)]
    stage.channel.send({"reopen": 1})
    assert stage.turn() == [{"reopened": 1}]


def test_a_full_file_that_cannot_be_renamed_is_trouble(stage: Stage, aside: Path) -> None:
    """The file does not grow. When the file can be renamed again, the messages that are still in
    the log are written."""
    (aside / "x").mkdir(parents=True)
    stage.turn()
    told = [record for number in range(20) for record in stage.append(str(number))]
    (trouble,) = [record["trouble"] for record in told if "trouble" in record]
    assert trouble == "it can't be renamed to said.1: Is a directory"
    stage.later(RETRY_AFTER)
    assert stage.later(RETRY_AFTER) == []
    assert stage.waits == pytest.approx(RETRY_AFTER), "the writer tries again after a pause"
    assert stage.path.stat().st_size <= LIMIT
    texts = stage.texts
    (aside / "x").rmdir()
    aside.rmdir()
    stage.writer._limit = 10 * LIMIT
    told = stage.later(RETRY_AFTER)
    assert [record for record in told if "at" not in record] == [
        {"opened": [0, 6], "rotated": [str(aside), aside.stat().st_size]},
        {"fine": True},
    ]
    assert texts + stage.texts == [str(number) for number in range(20)]


@pytest.mark.parametrize("fails", [False, True])
def test_a_writer_that_stops_fills_several_files(stage: Stage, aside: Path, fails: bool) -> None:
    """If the file can't be renamed, the writer ends at once, and reports the number of unwritten
    messages."""
    if fails:
        aside.mkdir()
    stage.turn()
    append(stage.log, Run(1, b"<1>x\n" * 20, messages=20))
    stage.channel.send({"stop": 1.0})
    stage.writer.run()
    told = [*stage.channel.receive()]
    stage.files += [fd for _, descriptors in told for fd in descriptors]
    if fails:
        assert told[-1][0] == {"unwritten": 14}
    else:
        assert read(stage.path)[-1]["n"] == 20


# --- death ---------------------------------------------------------------------------------------


class Killed(BaseException):
    """Raised in the writer, which is then dead."""


class Mortal:
    """Kills the writer before chosen calls that change the file system or send a report.

    An instance replaces the module `os` in file.py, and writes only half of the data in each write.
    It also keeps the files that the main process would keep, and starts a writer after each death.
    """

    CALLS = ("open", "write", "ftruncate", "fsync", "rename", "unlink", "close")

    def __init__(self, stage: Stage, kill_at: set[int], monkeypatch: pytest.MonkeyPatch) -> None:
        """`kill_at` has the numbers of the calls at which the writer dies. The first call is number
        1."""
        self._stage = stage
        self._kill_at = kill_at
        self._alive = True
        self._fds: set[int] = set()
        """Open descriptors of the writer."""
        self._kept: tuple[int, list[int]] | None = None
        """Descriptor that the main process keeps for the next writer, and the state of its file."""
        self.calls: list[str] = []
        self.replaced: list[Path] = []
        """Copies of the files that a rename has replaced."""
        self.renamed = 0
        self.rotated: list[tuple[str, int]] = []
        """Rotations that the writer has reported: name and size of each renamed file."""
        self._calls = {
            "open": self._open,
            "write": self._write,
            "rename": self._rename,
            "close": self._close,
        }
        monkeypatch.setattr(file_module, "os", self)
        monkeypatch.setattr(stage.theirs, "send", self._mortal("send", stage.theirs.send))

    def __getattr__(self, name: str) -> Any:
        call = self._calls.get(name, getattr(os, name))
        return self._mortal(name, call) if name in self.CALLS else call

    def _mortal(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        def mortal(*arguments: Any) -> Any:
            if self._alive:
                self.calls.append(name)
                self._alive = len(self.calls) not in self._kill_at
            if not self._alive:
                raise Killed
            return call(*arguments)

        return mortal

    def _open(self, path: Path, flags: int, mode: int) -> int:
        fd = os.open(path, flags, mode)
        self._fds.add(fd)
        return fd

    def _close(self, fd: int) -> None:
        self._fds.remove(fd)
        os.close(fd)

    def _write(self, fd: int, data: memoryview) -> int:
        return os.write(fd, data[: len(data) // 2] if len(data) > 8 else data)

    def _rename(self, name: str, to: Path) -> None:
        if to.exists():
            self.replaced.append(to.with_name(f"replaced-{len(self.replaced)}"))
            os.link(to, self.replaced[-1])
        self.renamed += 1
        os.rename(name, to)

    def turn(self) -> None:
        """Run the writer until it would wait. If the writer is killed, start a new one."""
        stage = self._stage
        for _ in range(1000):
            try:
                stage.writer._wait()
                stage.writer._turn()
            except Killed:
                self._note_reports(stage.reports())
                self._replace()
            else:
                told = stage.reports()
                self._note_reports(told)
                if not told and stage.is_idle:
                    return
        raise AssertionError("the writer never waits")

    def _note_reports(self, told: list[Record]) -> None:
        for record in told:
            if "opened" in record:
                self._kept = self._stage.files[-1], record["opened"]
            self.rotated += [record["rotated"]] if "rotated" in record else []

    def _replace(self) -> None:
        for fd in self._fds:
            os.close(fd)
        self._fds.clear()
        self._alive = True
        file = None
        if self._kept is not None:
            fd, begun = self._kept
            self._fds.add(own := os.dup(fd))
            file = TranscriptFile(own, *begun)
        self._stage.begin(file, LIMIT)


def rotate_several_times(folder: Path, kill_at: set[int]) -> int:
    """Rotate several times, and kill the writer at the calls `kill_at`; return the number of calls.

    Check that each message is in exactly one file, in order, and that each rotation was reported
    once.
    """
    folder.mkdir()
    with (
        pytest.MonkeyPatch.context() as patch,
        new_log(ROOMY) as log,
        closing(Stage(folder / "said", log, patch)) as stage,
    ):
        stage.begin(limit=LIMIT)
        mortal = Mortal(stage, kill_at, patch)
        mortal.turn()
        for number in range(4):
            append(log, Run(1, b"<1>x\n"), Run(2, b"<2>y\n" * 5, messages=5))
            stage.bell.ring()
            stage.now += PAUSE if number % 2 else SYNC_EVERY
            mortal.turn()
        calls = len(mortal.calls)
        kill_at.clear()
    assert len(mortal.replaced) > 1
    files = [*mortal.replaced, folder / "said.1", folder / "said"]
    lines = read(*files)
    assert [line["n"] for line in lines if "n" in line] == [*range(1, 25)]
    assert [line["room"] for line in lines if "room" in line] == ["here"] * len(files)
    assert [size for _, size in mortal.rotated] == [file.stat().st_size for file in files[:-1]]
    assert all(file.stat().st_size <= LIMIT for file in files)
    return calls


@pytest.mark.sample(2)
@pytest.mark.parametrize("again", range(6))
def test_a_killed_writer_neither_loses_nor_repeats_a_message(tmp_path: Path, again: int) -> None:
    """The writer is killed at each system call and each report, in turn. The next writer is killed
    `again` calls later."""
    for call in count(1):
        if rotate_several_times(tmp_path / f"{call}", {call, call + again}) < call:
            break
    assert call > 50
