"""The run-dir: a private folder in which each room that runs has its control socket."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from chatroom.errors import RunDirError
from chatroom.system.endpoint import Endpoint
from chatroom.system.listening import is_stale

SUFFIX = ".sock"
BANS_SUFFIX = ".bans"

LONGEST_PATH = 103
"""Bytes of a Unix socket's path that every system takes."""
LONGEST_FOLDER = LONGEST_PATH - len("/:65535" + SUFFIX)
"""Bytes of a run-dir's path: the end of a room's name, at least, has to fit in behind it."""


def default() -> Path:
    """Return this user's folder: in $XDG_RUNTIME_DIR, or else in that for temporary files."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "chatroom"
    return Path(tempfile.gettempdir()) / f"chatroom-{os.getuid()}"


def ensure(folder: Path) -> None:
    """Make the folder, 0700, or see that it is ours alone. Raises RunDirError."""
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        raise RunDirError(
            f"the run-dir {folder} has too long a path for a socket in it:"
            f" at most {LONGEST_FOLDER} bytes"
        )
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(0o700)
        found = folder.lstat()
    except OSError as error:
        raise RunDirError(f"the run-dir {folder} can't be made: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise RunDirError(f"the run-dir {folder} is no folder")
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise RunDirError(f"the run-dir {folder} has to be this user's alone (chmod 700)")


def socket_of(folder: Path, at: Endpoint) -> Path:
    """Return the socket of the room whose first address this is."""
    return folder / (_name(folder, str(at)) + SUFFIX)


def bans_of(folder: Path, at: Endpoint) -> Path:
    """Return the file of that room's bans."""
    return folder / (_name(folder, str(at)) + BANS_SUFFIX)


def _name(folder: Path, room: str) -> str:
    """Return a room's name as that of a file; if it is too long for a socket's path, its end."""
    name = room.replace("/", "%")
    while len(name) > 1 and len(os.fsencode(folder / (name + SUFFIX))) > LONGEST_PATH:
        name = name[1:]
    return name


def find(folder: Path, room: str | None) -> Path:
    """Return the socket of the only room there, or of the room that listens at `room`.

    `room` is an address, or the end of one, such as a port or a file's name. Raises
    RunDirError, also where another user could have put a room of his there.
    """
    _expect_ours(folder)
    names = [name for name in _names(folder) if _lives(folder / (name + SUFFIX))]
    found = names
    if room is not None:
        wanted = _name(folder, room)
        ends = tuple(mark + wanted.lstrip(":%") for mark in ":%")
        found = [name for name in names if name == wanted] or [
            name for name in names if name.endswith(ends)
        ]
    if not found:
        which = "no room runs" if room is None else f"no room at {room} runs"
        raise RunDirError(f"{which} here, by {folder}")
    if len(found) > 1:
        spelt = ", ".join(name.replace("%", "/") for name in found)
        raise RunDirError(f"several rooms run here: say which, of {spelt}")
    return folder / (found[0] + SUFFIX)


def _expect_ours(folder: Path) -> None:
    """Check the folder's owner. Root may look at other users' rooms, but not in its own run-dir."""
    its_own = folder == default()
    with contextlib.suppress(OSError):  # reading the folder reports it
        found = folder.lstat() if its_own else folder.stat()
        trusted = found.st_uid == os.getuid() or (os.getuid() == 0 and not its_own)
        if not trusted or found.st_mode & 0o022:
            raise RunDirError(f"{folder} is not this user's alone: no room there is trusted")


def _names(folder: Path) -> list[str]:
    """Return the names of rooms that run there, or were killed there. Raises RunDirError."""
    try:
        files = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunDirError(f"{folder} can't be read: {error.strerror}") from None
    return sorted(file.removesuffix(SUFFIX) for file in files if file.endswith(SUFFIX))


def _lives(path: Path) -> bool:
    """Tell whether a room listens there; one that was killed has left its file behind."""
    try:
        return not is_stale(str(path))
    except OSError:
        return False  # it has just ended
