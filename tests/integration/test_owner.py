"""Only a room's owner controls it: no other user on its machine does."""

import os
import re
import secrets
from multiprocessing.connection import Client
from multiprocessing.context import AuthenticationError
from pathlib import Path

import pytest

from tests.integration.rooms import command, room, started

NOBODY = 65534

as_root = pytest.mark.skipif(os.getuid() != 0, reason="only root can be somebody else")


@pytest.fixture(name="folder")
def fixture_folder(tmp_path: Path) -> Path:
    """A run-dir whose parents are open to all users."""
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
    with started(command("--run-dir", folder), tells="the run-dir") as here:
        here.ends(1)
        assert str(folder) in here.errors


@as_root
def test_a_folder_of_another_user_is_refused(folder: Path) -> None:
    os.chown(folder, NOBODY, NOBODY)
    with started(command("--run-dir", folder), tells="must be private to this user") as here:
        here.ends(1)


def test_the_registry_refuses_connections_without_its_key() -> None:
    with room("--workers", 1) as here:
        listing = Path("/proc/net/unix").read_text()
        inodes = {
            re.sub(r"\D", "", descriptor)
            for process in here.processes()
            for descriptor in process.descriptors
            if descriptor.startswith("socket:")
        }
        found = {
            fields[7].replace("@", "\0", 1)
            for fields in map(str.split, listing.splitlines())
            if len(fields) == 8 and fields[6] in inodes and fields[7].startswith("@chatroom-")
        }
        [address] = found
        with pytest.raises(AuthenticationError):
            Client(address, "AF_UNIX", authkey=secrets.token_bytes(32))
        client, other = here.join_all(["127.0.0.2", "127.0.0.3"])
        client.say("it goes on\n")
        other.hear("<127.0.0.2>it goes on\n")
