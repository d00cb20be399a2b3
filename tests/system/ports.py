"""Ports for servers that a test starts by a command that has to name one, or again at the same."""

import errno
import os
import random
import socket
from itertools import cycle

#: Each process that runs tests has so many for itself, below those that the kernel gives to whoever
#: names none, and below those that the harness draws from: nobody takes one between our look at it
#: and the server's bind.
EACH, FIRST, END = 1_000, 11_000, 20_000


def _own() -> list[int]:
    """This process's, in any order: somebody else may run the tests beside us."""
    worker = int(os.environ.get("PYTEST_XDIST_WORKER", "gw0").removeprefix("gw"))
    first = FIRST + worker * EACH % (END - FIRST)
    return random.sample(range(first, first + EACH), EACH)


_ports = cycle(_own())


def free_port(host: str = "127.0.0.1") -> int:
    """One that nobody has just now, and that is not soon given again."""
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
