"""Processes and connections, as read from /proc and from the kernel."""

import os
import re
import signal
import socket
import struct
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from ipaddress import ip_address
from pathlib import Path

TICKS = os.sysconf("SC_CLK_TCK")

#: Name of the log's memory in /proc/PID/maps.
LOG = "memfd:chatroom log"

#: Name of a cluster's uplink in /proc/PID/maps.
UPLINK = "memfd:chatroom uplink"

#: Name of the slots' memory in /proc/PID/maps.
SLOTS = "memfd:chatroom slots"


@dataclass(frozen=True)
class Process:
    """A process at one moment. The process may have ended since then."""

    pid: int
    state: str
    session: int
    started: int
    """Start time in ticks since boot. The pid and the start time together identify a process."""
    used: float
    """Processor time so far (s)."""

    @property
    def alive(self) -> bool:
        """True unless the process is a zombie."""
        return self.state not in ("Z", "X")

    def read(self, name: str) -> str:
        """Return a file of the process in /proc; empty if the process has ended."""
        try:
            return Path(f"/proc/{self.pid}/{name}").read_text(errors="replace")
        except OSError:
            return ""

    @property
    def command(self) -> str:
        return self.read("cmdline").replace("\0", " ")

    @property
    def maps_log(self) -> bool:
        """True if the process maps the room's log."""
        return LOG in self.read("maps")

    @property
    def maps_uplink(self) -> bool:
        """True if the process maps the uplink of a room in a cluster."""
        return UPLINK in self.read("maps")

    @property
    def maps_slots(self) -> bool:
        """True if the process maps the slots, so it is a worker or the main process."""
        return SLOTS in self.read("maps")

    @property
    def descriptors(self) -> list[str]:
        """Return the target of each descriptor of the process."""
        folder = f"/proc/{self.pid}/fd"
        found = []
        with suppress(OSError):
            for number in os.listdir(folder):
                with suppress(FileNotFoundError):
                    found.append(os.readlink(f"{folder}/{number}"))
        return found

    def kill(self) -> None:
        os.kill(self.pid, signal.SIGKILL)

    def blocks(self, number: int) -> bool:
        """Return True if the process blocks the signal."""
        [mask] = re.findall(r"^SigBlk:\t(.+)$", self.read("status"), re.MULTILINE)
        return bool(int(mask, 16) >> number - 1 & 1)

    @property
    def memory(self) -> int:
        """Private memory (bytes), without mapped files and shared memory."""
        for line in self.read("status").splitlines():
            if line.startswith("RssAnon:"):
                return int(line.split()[1]) * 1024
        return 0


def look(pid: int) -> Process | None:
    """Return the process with this pid, or None if there is none."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(errors="replace")
    except OSError:
        return None
    fields = text.rpartition(")")[2].split()
    used = (int(fields[11]) + int(fields[12])) / TICKS
    return Process(pid, fields[0], int(fields[3]), int(fields[19]), used)


def session(leader: int) -> list[Process]:
    """Return the living processes of a session, the oldest first, even if its leader has ended.

    Each room of a test is started in its own session. The processes never leave this session, even
    after their parent has ended.
    """
    found = [process for process in _all() if process.session == leader and process.alive]
    return sorted(found, key=lambda process: (process.started, process.pid))


def _all() -> Iterator[Process]:
    for name in os.listdir("/proc"):
        if name.isdecimal() and (process := look(int(name))) is not None:
            yield process


#: State of a listening socket.
LISTENS = "0A"

#: State of a connection that both sides have closed (TIME_WAIT). Such a connection has no socket in
#: any process.
TIME_WAIT = "06"


#: An address and a port.
End = tuple[str, int]


@dataclass(frozen=True)
class Connection:
    """One end of a TCP connection, as the kernel lists it."""

    local: End
    remote: End
    state: str
    unsent: int
    unread: int
    inode: str


# Constants for `connection`, from linux/netlink.h, linux/sock_diag.h and linux/inet_diag.h.
NETLINK_SOCK_DIAG, SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST = 4, 20, 1
HEAD = struct.Struct("=IHHII")
"""struct nlmsghdr: length, type, flags, and two unused numbers."""
ANY_STATE, NO_COOKIE = 0xFFFFFFFF, (0xFFFFFFFF, 0xFFFFFFFF)


def connection(local: End, remote: End) -> Connection | None:
    """Return one end of a connection, or None if there is no such connection.

    This function asks the kernel for one connection only. `connections` reads the whole table,
    which takes a tenth of a second after thousands of connections were closed.
    """
    family = socket.AF_INET6 if ":" in local[0] else socket.AF_INET
    sides = [socket.inet_pton(family, host).ljust(16, b"\0") for host, _ in (local, remote)]
    ports = struct.pack("!HH", local[1], remote[1])
    request = (
        struct.pack("=BBBBI", family, socket.IPPROTO_TCP, 0, 0, ANY_STATE)
        + ports
        + b"".join(sides)
        + struct.pack("=3I", 0, *NO_COOKIE)
    )
    head = HEAD.pack(HEAD.size + len(request), SOCK_DIAG_BY_FAMILY, NLM_F_REQUEST, 0, 0)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, NETLINK_SOCK_DIAG) as kernel:
        kernel.sendto(head + request, (0, 0))
        answer = kernel.recv(1 << 13)
    # The answer to an error has another type. If the connection does not exist, the answer may
    # describe the listening socket, whose ports are different.
    if HEAD.unpack_from(answer)[1] != SOCK_DIAG_BY_FAMILY or answer[20:24] != ports:
        return None
    _, unread, unsent, _, inode = struct.unpack_from("=5I", answer, 68)
    return Connection(local, remote, f"{answer[17]:02X}", unsent, unread, str(inode))


def connections() -> Iterator[Connection]:
    """Yield both ends of each IPv4 and IPv6 connection on this machine, except in TIME_WAIT."""
    for table in ("tcp", "tcp6"):
        try:
            lines = Path(f"/proc/net/{table}").read_text().splitlines()[1:]
        except OSError:
            continue  # This machine has no IPv6.
        for line in lines:
            _, local, remote, state, queues, _, _, _, _, inode, *_ = line.split()
            if state == TIME_WAIT:
                continue
            unsent, unread = (int(size, 16) for size in queues.split(":"))
            yield Connection(_end(local), _end(remote), state, unsent, unread, inode)


@lru_cache(maxsize=4096)
def _end(text: str) -> End:
    """Parse an address in the format of /proc/net/tcp: hexadecimal words in native byte order."""
    address, _, port = text.partition(":")
    words = struct.pack(
        f"={len(address) // 8}I",
        *(int(address[at : at + 8], 16) for at in range(0, len(address), 8)),
    )
    return str(ip_address(words)), int(port, 16)
