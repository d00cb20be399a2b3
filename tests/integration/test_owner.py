"""Only a room's owner can control it; other users of its machine can't."""

import os
from pathlib import Path

import pytest

from tests.integration.processes import LISTENS, connections
from tests.integration.rooms import command, room, started

NOBODY = 65534
SO_ACCEPTCON = 1 << 16
"""Flag of a listening socket in /proc/net/unix."""

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can become another user")


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path) -> Path:
    """Yield a run-dir whose parent folders are open to all users."""
    for above in (tmp_path, *tmp_path.parents[:2]):
        above.chmod(above.stat().st_mode | 0o011)
    folder = tmp_path / "run"
    folder.mkdir(0o700)
    return folder


@pytest.mark.sample(1)
@pytest.mark.parametrize("wrong", ["mode", "link", "file"])
def test_a_run_dir_that_is_not_a_private_folder_is_refused(wrong: str, tmp_path: Path) -> None:
    folder = tmp_path / "run"
    if wrong == "mode":
        folder.mkdir()
        folder.chmod(0o750)
    elif wrong == "link":
        folder.symlink_to(tmp_path)
    else:
        folder.touch()
    with started(command("--run-dir", folder), logs="the run-dir") as here:
        here.expect_exit(1)
        assert str(folder) in here.errors


@as_root
def test_a_folder_of_another_user_is_refused(folder: Path) -> None:
    os.chown(folder, NOBODY, NOBODY)
    with started(command("--run-dir", folder), logs="must be private to this user") as here:
        here.expect_exit(1)


def test_a_room_listens_at_nothing_but_its_own_addresses(folder: Path) -> None:
    """The room also has no abstract Unix socket. Every user of the machine could connect to such a
    socket."""
    options = ("--listen", f"unix:{folder}/room", "--run-dir", folder)
    with room("--workers", 2, "--transcript", folder / "said", *options) as here:
        held = {descriptor for process in here.processes() for descriptor in process.descriptors}
        unix = [line.split() for line in Path("/proc/net/unix").read_text().splitlines()[1:]]
        ours = [fields for fields in unix if f"socket:[{fields[6]}]" in held]
        listening = [fields[7:] for fields in ours if int(fields[3], 16) & SO_ACCEPTCON]
        control = f"{folder}/127.0.0.1:{here.port}.sock"
        assert sorted(listening) == sorted([[control], [f"{folder}/room"]])
        assert all(fields[7:] in listening for fields in ours if fields[7:]), "another named socket"
        tcp = [found for found in connections() if f"socket:[{found.inode}]" in held]
        assert [found.state for found in tcp] == [LISTENS]
        assert tcp[0].local == ("127.0.0.1", here.port)
