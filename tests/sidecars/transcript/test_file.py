"""Tests of the transcript's file, which contains only whole lines."""

import fcntl
import os
import resource
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from chatroom.sidecars.transcript import file as module
from chatroom.sidecars.transcript.file import TranscriptFile
from chatroom.sidecars.transcript.lines import header, missed

TIME = "2026-01-31T12:00:00.000Z"
HEAD = header("here", "run", 0, TIME)


def line(number: int, text: str = "x") -> bytes:
    return b'{"n": %d, "text": "%s"}\n' % (number, text.encode())


@pytest.fixture(name="path")
def fixture_path(tmp_path: Path) -> Path:
    return tmp_path / "said.jsonl"


@pytest.fixture(autouse=True, params=[16, module.BLOCK])
def fixture_block(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run each test twice: with blocks shorter than a line, and with longer blocks."""
    monkeypatch.setattr(module, "BLOCK", request.param)


@pytest.mark.parametrize(
    ("there", "stays"),
    [
        (b"", b""),
        (line(1) + line(2), line(1) + line(2)),
        (line(1) + line(2)[:-1], line(1)),
        (line(1) + line(2)[:9], line(1)),
        (line(2)[:9], b""),
        (b"something else", b"something else\n"),
        (line(1) + b"something else", line(1) + b"something else\n"),
    ],
)
def test_a_file_is_opened_after_its_last_complete_line(
    path: Path, there: bytes, stays: bytes
) -> None:
    path.write_bytes(there)
    with closing(TranscriptFile.open(path, 3)) as file:
        assert path.read_bytes() == stays
        assert (file.begin, file.after, file.fresh, file.repair()) == (len(stays), 3, True, 3)
        file.append(HEAD)
        assert path.read_bytes() == stays + HEAD
        assert not file.fresh


def test_a_new_file_is_private(path: Path) -> None:
    TranscriptFile.open(path, 0).close()
    assert path.stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("left", "stays", "number"),
    [
        (b"", b"", 0),
        (HEAD, HEAD, 0),
        (HEAD[:9], b"", 0),
        (HEAD + line(1), HEAD + line(1), 1),
        (HEAD + line(1) + line(2)[:-1], HEAD + line(1), 1),
        (HEAD + line(1) + missed(range(2, 9), TIME), HEAD + line(1) + missed(range(2, 9), TIME), 8),
        (HEAD + line(1) + b"strange\n", HEAD + line(1) + b"strange\n", 1),
        (HEAD + line(1, "y" * 200_000), HEAD + line(1, "y" * 200_000), 1),
    ],
)
def test_the_last_message_of_a_dead_process_is_found(
    path: Path, left: bytes, stays: bytes, number: int
) -> None:
    """Only the messages of this run count, not those of an earlier room in the same file."""
    path.write_bytes(line(77))
    first = TranscriptFile.open(path, 0)
    os.write(first.fd, left)
    second = TranscriptFile(os.dup(first.fd), first.begin, first.after)
    assert second.repair() == number
    assert path.read_bytes() == line(77) + stays
    first.close()
    second.close()


def test_a_truncated_file_is_continued(path: Path) -> None:
    path.write_bytes(line(77) * 10)
    with closing(TranscriptFile.open(path, 0)) as file:
        os.truncate(path, 0)
        file.append(line(5))
        assert file.repair() == 5
        assert path.read_bytes() == line(5)


@contextmanager
def limit(size: int) -> Iterator[None]:
    """Limit the size of each file to `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def test_a_partial_write_is_removed(path: Path) -> None:
    with closing(TranscriptFile.open(path, 0)) as file:
        file.append(HEAD)
        with limit(len(HEAD) + 50), pytest.raises(OSError, match="too large"):
            file.append(line(1) + line(2) + line(3))
        assert path.read_bytes() == HEAD
        file.append(line(1))
        assert path.read_bytes() == HEAD + line(1)


def test_a_partial_write_that_could_not_be_removed_is_removed_later(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, size: int) -> None:
        raise OSError("no")

    with closing(TranscriptFile.open(path, 0)) as file:
        with monkeypatch.context() as patch:
            patch.setattr(os, "ftruncate", refuse)
            with limit(9), pytest.raises(OSError, match="too large"):
                file.append(HEAD)
            with pytest.raises(OSError, match="no"):
                file.append(HEAD)
        assert path.read_bytes() == HEAD[:9]
        file.append(HEAD)
        assert path.read_bytes() == HEAD


def test_a_partial_write_is_removed_before_the_file_is_renamed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, size: int) -> None:
        raise OSError("no")

    with closing(TranscriptFile.open(path, 0)) as file:
        file.append(HEAD)
        with monkeypatch.context() as patch:
            patch.setattr(os, "ftruncate", refuse)
            with limit(len(HEAD) + 9), pytest.raises(OSError, match="too large"):
                file.append(line(1))
        assert file.rotate(path) == path.with_name("said.jsonl.1")
    assert path.with_name("said.jsonl.1").read_bytes() == HEAD


def test_only_new_data_is_synced(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[int] = []
    monkeypatch.setattr(os, "fsync", synced.append)
    with closing(TranscriptFile.open(path, 0)) as file:
        file.sync()
        assert synced == []
        file.append(HEAD)
        file.sync()
        file.sync()
        assert synced == [file.fd]
        file.append(line(1))
    assert len(synced) == 2, "closing the file syncs it"


def test_a_file_belongs_to_one_room_at_a_time(path: Path) -> None:
    with (
        closing(TranscriptFile.open(path, 0)),
        pytest.raises(OSError, match="another room is writing to it"),
    ):
        TranscriptFile.open(path, 0)
    TranscriptFile.open(path, 0).close()


def test_a_file_system_without_locks_is_accepted(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int, how: int) -> None:
        raise OSError("no locks available")

    monkeypatch.setattr(fcntl, "flock", refuse)
    file = TranscriptFile.open(path, 0)
    assert file.is_at(path)
    file.close()


def test_a_path_that_is_not_a_regular_file_is_not_opened(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/full"), tmp_path, tmp_path / "missing" / "x"):
        with pytest.raises(OSError):  # noqa: PT011
            TranscriptFile.open(path, 0)
    assert len(os.listdir("/proc/self/fd")) == len(before)


def test_a_moved_or_removed_file_is_noticed(path: Path, tmp_path: Path) -> None:
    with closing(TranscriptFile.open(path, 0)) as file:
        assert file.is_at(path)
        assert not file.gone
        path.rename(tmp_path / "moved")
        assert not file.is_at(path)
        assert not file.gone
        TranscriptFile.open(path, 0).close()
        assert not file.is_at(path)
        (tmp_path / "moved").unlink()
        assert file.gone


# --- rotation ------------------------------------------------------------------------------------


@pytest.fixture(name="aside")
def fixture_aside(path: Path) -> Path:
    return path.with_name("said.jsonl.1")


def test_a_rotated_file_replaces_an_older_one(path: Path, aside: Path) -> None:
    aside.write_bytes(line(77))
    with closing(TranscriptFile.open(path, 0)) as file:
        file.append(HEAD)
        assert file.rotate(path) == aside
        assert file.is_at(aside)
        assert not path.exists()
        TranscriptFile.open(path, 0).close()
        assert file.rotate(path) == aside, "a file with this name is not renamed"
        assert path.exists()
    assert aside.read_bytes() == HEAD


def test_a_file_is_on_the_disk_before_it_is_renamed(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(fd: int) -> None:
        raise OSError("no")

    with closing(TranscriptFile.open(path, 0)) as file:
        file.append(HEAD)
        monkeypatch.setattr(os, "fsync", refuse)
        with pytest.raises(OSError, match="no"):
            file.rotate(path)
        assert file.is_at(path)


def test_a_file_that_another_program_has_moved_is_not_renamed(path: Path, aside: Path) -> None:
    """logrotate has moved the file, but has not sent SIGUSR1 yet."""
    aside.write_bytes(line(77))
    with closing(TranscriptFile.open(path, 0)) as file:
        path.rename(path.with_name("said.jsonl-20260131"))
        path.write_bytes(line(78))
        assert file.rotate(path) is None
    assert (path.read_bytes(), aside.read_bytes()) == (line(78), line(77))


def test_the_file_behind_a_link_is_rotated(path: Path, tmp_path: Path) -> None:
    """The link stays, and the next file is created where the first file was."""
    (tmp_path / "disk").mkdir()
    path.symlink_to("disk/transcript")
    with closing(TranscriptFile.open(path, 0)) as file:
        file.append(HEAD)
        assert file.rotate(path) == tmp_path / "disk" / "transcript.1"
    TranscriptFile.open(path, 0).close()
    assert path.is_symlink()
    assert path.read_bytes() == b""
    assert (tmp_path / "disk" / "transcript.1").read_bytes() == HEAD


def test_a_file_with_both_names_is_rotated(path: Path, aside: Path) -> None:
    """If both names belong to one file, the system's `rename` does nothing."""
    with closing(TranscriptFile.open(path, 0)) as file:
        aside.hardlink_to(path)
        assert file.rotate(path) == aside
        assert not path.exists()


def test_a_file_that_cannot_be_renamed_stays(path: Path, aside: Path) -> None:
    aside.mkdir()
    with closing(TranscriptFile.open(path, 0)) as file:
        with pytest.raises(IsADirectoryError, match=r"can't be renamed to said\.jsonl\.1: Is a"):
            file.rotate(path)
        assert file.is_at(path)
