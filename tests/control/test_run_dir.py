"""Tests of the run-dir, and of how commands find a room in it."""

import contextlib
import os
import socket
import stat
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatroom.control.run_dir import LONGEST_PATH, default, ensure, find, socket_of
from chatroom.errors import RunDirError
from chatroom.system.endpoint import Endpoint


@pytest.fixture(name="folder")
def fixture_folder() -> Iterator[Path]:
    """Yield a folder with a short path, because the path of a socket has a maximum length."""
    with tempfile.TemporaryDirectory(prefix="run-") as folder:
        yield Path(folder)


@contextlib.contextmanager
def rooms(folder: Path, *names: str) -> Iterator[None]:
    """Listen on one socket for each name; each socket stands for a room."""
    with contextlib.ExitStack() as leaving:
        for name in names:
            end = leaving.enter_context(socket.socket(socket.AF_UNIX))
            end.bind(str(folder / f"{name}.sock"))
            end.listen()
        yield


# --- the folder ----------------------------------------------------------------------------------


def test_the_default_run_dir_is_the_user_s_own(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path))
    assert default() == tmp_path / "chatroom"
    for unset in ("", None):
        if unset is None:
            monkeypatch.delenv("XDG_RUNTIME_DIR")
        else:
            monkeypatch.setenv("XDG_RUNTIME_DIR", unset)
        monkeypatch.setenv("TMPDIR", str(tmp_path))
        assert default() == tmp_path / f"chatroom-{os.getuid()}"
        for also_unset in ("", None):
            if also_unset is None:
                monkeypatch.delenv("TMPDIR")
            else:
                monkeypatch.setenv("TMPDIR", also_unset)
            assert default() == Path(f"/tmp/chatroom-{os.getuid()}")


def test_a_new_run_dir_is_private_and_an_existing_one_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "new"
    ensure(folder)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    (folder / "file").touch()
    ensure(folder)
    assert (folder / "file").exists()


@pytest.mark.parametrize("mode", [0o701, 0o710, 0o740, 0o755, 0o777])
def test_a_folder_that_others_may_enter_is_refused(mode: int, tmp_path: Path) -> None:
    tmp_path.chmod(mode)
    with pytest.raises(RunDirError, match=r"must be private to this user \(chmod 700\)$"):
        ensure(tmp_path)


def test_a_folder_of_another_user_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tmp_path.chmod(0o700)
    monkeypatch.setattr(os, "getuid", lambda: 12345)
    with pytest.raises(RunDirError, match="private to this user"):
        ensure(tmp_path)


def test_a_folder_with_too_long_a_path_is_refused_and_not_made(tmp_path: Path) -> None:
    folder = tmp_path / ("x" * 100)
    with pytest.raises(RunDirError, match=r"is too long: \d+ bytes at most"):
        ensure(folder)
    assert not folder.exists()


def test_a_file_or_a_symbolic_link_is_refused(tmp_path: Path) -> None:
    file, link = tmp_path / "file", tmp_path / "link"
    file.touch()
    link.symlink_to(tmp_path)  # The owner of a symbolic link could change its target later.
    for path in (file, link):
        with pytest.raises(RunDirError, match=f"the run-dir {path} is not a folder$"):
            ensure(path)


def test_a_folder_that_cannot_be_made_is_an_error_with_the_reason(tmp_path: Path) -> None:
    with pytest.raises(RunDirError, match=r"can't be made: No such file or directory$"):
        ensure(tmp_path / "no" / "parent")


# --- a room in it --------------------------------------------------------------------------------


def test_a_socket_is_named_after_the_room_s_address(folder: Path) -> None:
    assert socket_of(folder, Endpoint("::", 4000)) == folder / "[::]:4000.sock"
    assert socket_of(folder, Endpoint(path="/run/room")) == folder / "unix:%run%room.sock"


def test_a_name_that_is_too_long_for_a_socket_is_cut(folder: Path) -> None:
    where = "/long/" * 15 + "é" * 9 + "/room"
    path = socket_of(folder, Endpoint(path=where))
    assert LONGEST_PATH - 2 < len(os.fsencode(path)) <= LONGEST_PATH
    assert path.name.endswith("%room.sock")
    with rooms(folder, path.stem):
        assert find(folder, f"unix:{where}") == find(folder, "room") == path


def test_a_socket_name_keeps_one_character_in_a_too_long_folder() -> None:
    folder = Path("/" + "x" * LONGEST_PATH)
    assert socket_of(folder, Endpoint("h", 1)) == folder / "1.sock"


def test_the_only_room_need_not_be_named(folder: Path) -> None:
    with rooms(folder, "127.0.0.1:4000"):
        (folder / "127.0.0.1:4001.bans").touch()
        assert find(folder, None) == folder / "127.0.0.1:4000.sock"


NAMES = ("127.0.0.1:4000", "127.0.0.1:14000", "[::1]:5000", "unix:%run%chat", "unix:%run%bigchat")


@pytest.mark.parametrize(
    ("room", "name"),
    [
        ("127.0.0.1:4000", NAMES[0]),
        ("4000", NAMES[0]),
        (":4000", NAMES[0]),
        ("14000", NAMES[1]),
        ("[::1]:5000", NAMES[2]),
        ("unix:/run/chat", NAMES[3]),
        ("/run/chat", NAMES[3]),
        ("chat", NAMES[3]),
        ("bigchat", NAMES[4]),
    ],
)
def test_a_room_is_found_by_its_address_or_the_end_of_it(
    room: str, name: str, folder: Path
) -> None:
    with rooms(folder, *NAMES):
        assert find(folder, room) == folder / f"{name}.sock"


@pytest.mark.parametrize("room", ["000", "", ":", "0.1:4000", "hat", "127.0.0.1"])
def test_a_part_of_an_address_finds_no_room(room: str, folder: Path) -> None:
    with (
        rooms(folder, *NAMES),
        pytest.raises(RunDirError, match=r"^no running room at .* found in "),
    ):
        find(folder, room)


def test_several_matching_rooms_are_listed_in_the_error(folder: Path) -> None:
    with rooms(folder, "a:1", "b:1", "unix:%c"):
        with pytest.raises(RunDirError, match=r"choose one with --room: a:1, b:1, unix:/c$"):
            find(folder, None)
        with pytest.raises(RunDirError, match=r"choose one with --room: a:1, b:1$"):
            find(folder, "1")


def test_a_room_with_a_full_backlog_is_found(folder: Path) -> None:
    with rooms(folder, "a:1"), contextlib.ExitStack() as leaving:
        while True:
            end = leaving.enter_context(socket.socket(socket.AF_UNIX))
            end.setblocking(False)
            if end.connect_ex(str(folder / "a:1.sock")):
                break  # The backlog is full.
        assert find(folder, None) == folder / "a:1.sock"


def test_a_killed_room_is_not_found(folder: Path) -> None:
    with rooms(folder, "a:1"):
        pass
    assert (folder / "a:1.sock").exists()
    with pytest.raises(RunDirError, match=f"^no running room found in {folder}$"):
        find(folder, None)
    with rooms(folder, "b:1"):
        assert find(folder, "1") == folder / "b:1.sock"


def test_a_room_that_ends_during_the_search_is_not_found(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "listdir", lambda _: ["a:1.sock"])
    with pytest.raises(RunDirError, match=r"^no running room found"):
        find(folder, None)


def test_a_missing_folder_has_no_room(folder: Path) -> None:
    with pytest.raises(RunDirError, match=r"^no running room found"):
        find(folder / "none", None)
    (folder / "file").touch()
    with pytest.raises(RunDirError, match=r"file can't be read: Not a directory$"):
        find(folder / "file", None)
