"""The run-dir: a private folder with the control socket of each running room."""

import contextlib
import os
import stat
from pathlib import Path

from chatroom.errors import RunDirError
from chatroom.system.endpoint import Endpoint
from chatroom.system.listening import is_stale

SUFFIX = ".sock"
BANS_SUFFIX = ".bans"

LONGEST_PATH = 103
"""Maximum length of a Unix socket's path on every system (bytes)."""
LONGEST_FOLDER = LONGEST_PATH - len("/:65535" + SUFFIX)
"""Maximum length of a run-dir's path (bytes): it leaves space for the port of a room."""


def default() -> Path:
    """Return this user's run-dir: in $XDG_RUNTIME_DIR, or else in $TMPDIR or /tmp.

    No folder is tested, so the result is always the same. `tempfile.gettempdir` would choose the
    first folder that is writable at the moment: on a full disk or a read-only system, the commands
    would search another folder, or fail.
    """
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "chatroom"
    return Path(os.environ.get("TMPDIR") or "/tmp", f"chatroom-{os.getuid()}")


def ensure(folder: Path) -> None:
    """Make the folder with mode 0700, or check that it is private. Raises RunDirError."""
    if len(os.fsencode(folder)) > LONGEST_FOLDER:
        raise RunDirError(
            f"the path of the run-dir {folder} is too long: {LONGEST_FOLDER} bytes at most"
        )
    try:
        with contextlib.suppress(FileExistsError):
            folder.mkdir(0o700)
        found = folder.lstat()
    except OSError as error:
        raise RunDirError(f"the run-dir {folder} can't be made: {error.strerror}") from None
    if not stat.S_ISDIR(found.st_mode):
        raise RunDirError(f"the run-dir {folder} is not a folder")
    if found.st_uid != os.getuid() or found.st_mode & 0o077:
        raise RunDirError(f"the run-dir {folder} must be private to this user (chmod 700)")


def socket_of(folder: Path, at: Endpoint) -> Path:
    """Return the path of the control socket of the room with this first address."""
    return folder / (_name(folder, str(at)) + SUFFIX)


def bans_of(folder: Path, at: Endpoint) -> Path:
    """Return the path of the file of bans of the room with this first address."""
    return folder / (_name(folder, str(at)) + BANS_SUFFIX)


def _name(folder: Path, room: str) -> str:
    """Return a room's name as a file name. If it is too long for a socket's path, return only its
    end."""
    name = room.replace("/", "%")
    while len(name) > 1 and len(os.fsencode(folder / (name + SUFFIX))) > LONGEST_PATH:
        name = name[1:]
    return name


def find(folder: Path, room: str | None) -> Path:
    """Return the control socket of the room at `room`, or of the only room if `room` is None.

    `room` is an address or the end of an address, such as a port or a file's name. Raises
    RunDirError, also if another user could have put a socket into the folder.
    """
    _check_trusted(folder)
    names = [name for name in _names(folder) if _is_running(folder / (name + SUFFIX))]
    found = names
    if room is not None:
        wanted = _name(folder, room)
        ends = tuple(mark + wanted.lstrip(":%") for mark in ":%")
        found = [name for name in names if name == wanted] or [
            name for name in names if name.endswith(ends)
        ]
    if not found:
        which = "no running room" if room is None else f"no running room at {room}"
        raise RunDirError(f"{which} found in {folder}")
    if len(found) > 1:
        rooms = ", ".join(name.replace("%", "/") for name in found)
        raise RunDirError(f"several rooms are running; choose one with --room: {rooms}")
    return folder / (found[0] + SUFFIX)


def _check_trusted(folder: Path) -> None:
    """Check that only a trusted user can write to the folder. Raises RunDirError.

    Root may name another user's folder, but root's default run-dir must belong to root.
    """
    its_own = folder == default()
    with contextlib.suppress(OSError):  # `_names` reports the error
        found = folder.lstat() if its_own else folder.stat()
        trusted = found.st_uid == os.getuid() or (os.getuid() == 0 and not its_own)
        if not trusted or found.st_mode & 0o022:
            raise RunDirError(f"{folder} is not private to this user, so no room there is trusted")


def _names(folder: Path) -> list[str]:
    """Return the names of all rooms in a folder, including killed rooms. Raises RunDirError."""
    try:
        files = os.listdir(folder)
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunDirError(f"{folder} can't be read: {error.strerror}") from None
    return sorted(file.removesuffix(SUFFIX) for file in files if file.endswith(SUFFIX))


def _is_running(path: Path) -> bool:
    """Return whether a room listens at a socket; a killed room leaves a stale file."""
    try:
        return not is_stale(str(path))
    except OSError:
        return False  # the room has just ended
