"""Memory without a name: it travels as a descriptor, and nothing has to be cleaned up.

`multiprocessing.shared_memory` is not used: it has names in /dev/shm that
outlive a killed process, and before Python 3.13 the tracker of any process that
attaches may unlink a segment that is in use (cpython#82300).
"""

import os
import tempfile


def anonymous_file(name: str, size: int) -> int:
    """Return a descriptor of `size` zeroed bytes, which vanish with their last descriptor.

    `name` shows in /proc/PID/maps. Where there is no memfd (macOS), it is a
    temporary file that has been unlinked already.
    """
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create(name)
    else:
        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.truncate(fd, size)
    return fd
