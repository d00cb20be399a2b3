"""Free ports, for servers that can't use port 0 or that start again at the same port."""

import errno
import random
import socket
from collections.abc import Iterator
from functools import cache
from itertools import cycle

#: Ranges of ports. These ports are below the kernel's ephemeral ports and below the ports that the
#: harness uses. So no other program takes one between our check and the bind.
EACH, FIRST, END = 300, 11_000, 20_000


@cache
def _own() -> Iterator[int]:
    """Return ports that no other process uses, in random order, without end.

    Several runs of the tests may take place at the same time. A process takes a range of ports by
    binding a socket to the first port of the range, until the process ends.
    """
    for first in range(FIRST, END, EACH):
        claim = socket.socket()
        try:
            claim.bind(("127.0.0.1", first))
        except OSError as error:
            claim.close()
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            claim.detach()  # the descriptor stays open
            return cycle(random.sample(range(first + 1, first + EACH), EACH - 1))
    raise RuntimeError("all ranges of ports are in use")


def free_port(host: str = "127.0.0.1") -> int:
    """Return a free port. It is not returned again soon."""
    return next(port for port in _own() if _is_free(host, port))


def _is_free(host: str, port: int) -> bool:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        socket.create_server((host, port), family=family).close()
    except OSError as error:
        if error.errno != errno.EADDRINUSE:
            raise
        return False
    return True
