"""Anonymous shared memory, which is passed as a descriptor and needs no cleanup.

`multiprocessing.shared_memory` is not used. Its segments have names in /dev/shm, which remain after
a process is killed. And before Python 3.13, the resource tracker of any process that attaches may
unlink a segment that is in use (cpython#82300).
"""

import os


def anonymous_file(name: str, size: int) -> int:
    """Return a descriptor of `size` zeroed bytes. The memory is freed when the last descriptor and
    the last mapping of it are closed.

    `name` appears in /proc/PID/maps. Without memfd (macOS), the memory is an unlinked temporary
    file.
    """
    if hasattr(os, "memfd_create"):
        fd = os.memfd_create(name)
    else:
        import tempfile  # here, because it is not needed on Linux

        with tempfile.TemporaryFile() as file:
            fd = os.dup(file.fileno())
    os.truncate(fd, size)
    return fd
