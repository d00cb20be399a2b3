"""The protocols of a service manager such as systemd: sd_listen_fds(3), sd_notify(3).

The manager may pass listening sockets to the room. The room notifies the manager when it is ready,
reloads or stops, and regularly that it is alive. Without a service manager, the functions of this
module do nothing.
"""

import contextlib
import os
import socket
from collections.abc import Mapping
from time import monotonic_ns

from chatroom.errors import ListenError
from chatroom.wording import shown

FIRST_FD = 3
"""First of the descriptors that the manager passes."""
FAMILIES = (socket.AF_INET, socket.AF_INET6, socket.AF_UNIX)


def inherited(environment: Mapping[str, str] = os.environ) -> list[socket.socket]:
    """Return the listening sockets that the manager has passed to this process.

    Call this once, before a child is spawned: it makes the sockets non-inheritable. Raises
    ListenError if a descriptor is not a listening stream socket.
    """
    sockets: list[socket.socket] = []
    if environment.get("LISTEN_PID") != str(os.getpid()):
        return sockets
    for fd in range(FIRST_FD, FIRST_FD + _count(environment)):
        try:
            os.set_inheritable(fd, False)
            listener = socket.socket(fileno=fd)
        except OSError as error:
            raise ListenError(f"descriptor {fd} of LISTEN_FDS: {error.strerror}") from None
        sockets.append(listener)
        listens = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if listener.family not in FAMILIES or listener.type != socket.SOCK_STREAM or not listens:
            demand = "must be a listening stream socket (IP or Unix)"
            raise ListenError(f"descriptor {fd} of LISTEN_FDS {demand}")
    return sockets


def passed_to_another(environment: Mapping[str, str] = os.environ) -> str:
    """Return an error if the manager has passed sockets to another process; otherwise return "".

    This process must not use those sockets: it may have inherited the variables from its parent
    without the descriptors.
    """
    pid = environment.get("LISTEN_PID", "")
    if not pid or pid == str(os.getpid()) or not _count(environment):
        return ""
    return (
        f"LISTEN_PID is {shown(pid)}, but this is process {os.getpid()}: the service manager's"
        " sockets were passed to another process. A shell must start the room with exec, as in"
        " sh -c '…; exec python -m chatroom'"
    )


def _count(environment: Mapping[str, str]) -> int:
    count = environment.get("LISTEN_FDS", "")
    return int(count) if count.isascii() and count.isdigit() else 0


class SystemdNotifier:
    """Notifies the service manager. No method waits."""

    def __init__(self, environment: Mapping[str, str] = os.environ) -> None:
        where = environment.get("NOTIFY_SOCKET", "")
        self._address = "\0" + where[1:] if where.startswith("@") else where
        self.every: float | None = None
        """Seconds between two calls of `alive`; None if the manager does not ask for them."""
        period = environment.get("WATCHDOG_USEC", "")
        if (
            period.isascii()
            and period.isdigit()
            and environment.get("WATCHDOG_PID", "") in ("", str(os.getpid()))
        ):
            self.every = int(period) / 1e6 / 2 or None

    def ready(self, status: str) -> None:
        self._notify("READY=1", f"STATUS={status}")

    def reloading(self) -> None:
        """Notify that a reload has begun; `ready` notifies of its end."""
        self._notify("RELOADING=1", f"MONOTONIC_USEC={monotonic_ns() // 1000}")

    def stopping(self) -> None:
        self._notify("STOPPING=1", "STATUS=stopping")

    def alive(self, status: str) -> None:
        self._notify("WATCHDOG=1", f"STATUS={status}")

    def _notify(self, *lines: str) -> None:
        if not self._address:
            return
        with contextlib.suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as out:
            out.setblocking(False)
            out.sendto("\n".join(lines).encode(), self._address)
