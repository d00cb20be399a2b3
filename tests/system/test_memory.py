"""Tests of anonymous shared memory."""

import mmap
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatroom.system.memory import anonymous_file

SIZE = 10_000


@pytest.fixture(params=["memfd", "temporary file"], name="fd")
def fixture_fd(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Iterator[int]:
    if request.param == "memfd":
        if not hasattr(os, "memfd_create"):
            pytest.skip("no memfd on this system")
    else:
        monkeypatch.delattr(os, "memfd_create", raising=False)
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    fd = anonymous_file("a test's memory", SIZE)
    yield fd
    os.close(fd)


def test_shared_memory_has_the_given_size_and_is_zero(fd: int) -> None:
    assert os.fstat(fd).st_size == SIZE
    assert os.pread(fd, SIZE + 1, 0) == bytes(SIZE)


def test_shared_memory_has_no_name(fd: int, tmp_path: Path) -> None:
    assert os.fstat(fd).st_nlink == 0
    assert not list(tmp_path.iterdir())


def test_shared_memory_is_not_inherited(fd: int) -> None:
    assert not os.get_inheritable(fd)


def test_holders_of_a_descriptor_share_the_memory(fd: int) -> None:
    other = os.dup(fd)
    with mmap.mmap(fd, SIZE) as ours, mmap.mmap(other, SIZE) as theirs:
        ours[SIZE - 5 :] = b"hello"
        assert theirs[SIZE - 5 :] == b"hello"
    os.close(other)
