"""Print the kernel's memory for each socket of idle connections.

    python -m harness.scale.sockets [COUNT]

The program opens COUNT connections to itself (default: 4000), and divides the growth of the
kernel's slabs by the number of sockets, two for each connection. Other programs that open or close
connections at the same time distort the figure.
"""

from __future__ import annotations

import re
import socket
import sys
from pathlib import Path

from harness.descriptors import raise_descriptor_limit


def slabs() -> int:
    """Return the size of the kernel's slabs in bytes."""
    found = re.search(r"^Slab: +(\d+) kB$", Path("/proc/meminfo").read_text(), re.MULTILINE)
    assert found is not None
    return 1024 * int(found[1])


def main(count: str = "4000") -> None:
    raise_descriptor_limit()
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as listener:
        before, sockets = slabs(), []
        for _ in range(int(count)):
            sockets.append(socket.create_connection(listener.getsockname()))
            sockets.append(listener.accept()[0])
        print(f"{(slabs() - before) / len(sockets):.0f} bytes for each socket")
        for sock in sockets:
            sock.close()


if __name__ == "__main__":
    main(*sys.argv[1:])
