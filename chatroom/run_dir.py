"""Where a room is found by its owner while it runs: a private folder, with a socket for each."""

import contextlib
import os
import stat
import tempfile
from pathlib import Path

from chatroom.endpoint import Endpoint
from chatroom.errors import RunDirError

SUFFIX = ".sock"


def default() -> Path:
    """A folder of this user's: in $XDG_RUNTIME_DIR, or else in that for temporary files."""
    runtime = os.environ.get("XDG_RUNTIME_DIR")
    if runtime:
        return Path(runtime) / "chatroom"
    return Path(tempfile.gettempdir()) / f"chatroom-{os.getuid()}"


def ensure(folder: Path) -> None:
    """Make the folder, 0700, or see that it is ours alone. Raises RunDirError."""
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
    """That of the room which listens there first."""
    return folder / (str(at).replace("/", "%") + SUFFIX)


def find(folder: Path, room: str | None) -> Path:
    """The socket of the one room there, or of the one that listens at `room`: an address, or the
    end of one, such as a port. Raises RunDirError."""
    try:
        names = sorted(path.name.removesuffix(SUFFIX) for path in folder.glob(f"*{SUFFIX}"))
    except OSError as error:
        raise RunDirError(f"{folder} can't be read: {error.strerror}") from None
    wanted = "" if room is None else room.replace("/", "%")
    exact = [name for name in names if name == wanted]
    found = exact or [name for name in names if name.endswith(wanted)]
    if not found:
        which = "no room runs" if room is None else f"no room at {room} runs"
        raise RunDirError(f"{which} here, by {folder}")
    if len(found) > 1:
        spelt = ", ".join(name.replace("%", "/") for name in found)
        raise RunDirError(f"several rooms run here: say which, of {spelt}")
    return folder / (found[0] + SUFFIX)
