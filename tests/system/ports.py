"""Free ports, for servers that can't use port 0 or that start again at the same port."""

import errno
import os
import random
import socket
from itertools import cycle

#: Each test process has this many ports of its own. These ports are below the kernel's ephemeral
#: ports and below the ports that the harness uses. So no other program takes one between our check
#: and the bind.
EACH, FIRST, END = 1_000, 11_000, 20_000


def _own() -> list[int]:
    """Return this process's ports in random order, because another user may run the tests too."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = FIRST + worker * EACH % (END - FIRST)
    return random.sample(range(first, first + EACH), EACH)


_ports = cycle(_own())


def free_port(host: str = "127.0.0.1") -> int:
    """Return a free port. It is not returned again soon."""
    return next(port for port in _ports if _is_free(host, port))


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True
