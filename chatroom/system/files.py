"""Read files that a room's owner names."""

import errno
import os
import stat
from pathlib import Path


def read(path: Path) -> bytes:
    """Return the content of a regular file. Raises OSError, also for any other kind of file.

    Never blocks. A pipe is refused, because reading a pipe could block, and because a reload could
    not read the same content again.
    """
    fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise OSError(errno.EINVAL, "not a regular file")
        with open(fd, "rb", closefd=False) as file:
            return file.read()
    finally:
        os.close(fd)
