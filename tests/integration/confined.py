"""Run a command under a unit file's restrictions: confined.py UNIT FOLDER COMMAND…

The program applies the restrictions that the kernel can enforce without systemd:

- namespaces for network, users and mounts: only FOLDER is writable, and /proc is empty, which is
  stricter than ProcSubset=;
- no capabilities, no new privileges, and the limit of descriptors;
- filters of system calls, for SystemCallFilter=, RestrictAddressFamilies=, RestrictNamespaces=
  and MemoryDenyWriteExecute=. `systemd-analyze` lists the calls of systemd's named sets.

The command receives descriptor 3, as the only socket of the unit.
"""

import ctypes
import errno
import os
import resource
import socket
import subprocess
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path

CLONE_NEWNS, CLONE_NEWIPC, CLONE_NEWUSER, CLONE_NEWNET = 0x20000, 0x8000000, 0x10000000, 0x40000000
CLONE_NEW_ANY = 0x7E020080
MS_BIND = 4096
AT_FDCWD, AT_RECURSIVE = -100, 0x8000
MOUNT_ATTR_RDONLY = 1
SYS_MOUNT_SETATTR = 442
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
LAST_CAPABILITY = 40
PROT_WRITE, PROT_EXEC = 2, 4
ALLOW, ERRNO = 0x7FFF0000, 0x00050000
NOT_EQUAL, MASKED_EQUAL = 1, 7

libc = ctypes.CDLL(None, use_errno=True)


class Comparison(ctypes.Structure):
    """struct scmp_arg_cmp of libseccomp."""

    _fields_ = (
        ("argument", ctypes.c_uint),
        ("operator", ctypes.c_int),
        ("one", ctypes.c_uint64),
        ("other", ctypes.c_uint64),
    )


class Filter:
    """A filter of system calls. `default` is the action for calls that match no rule."""

    def __init__(self, default: int) -> None:
        self._library = ctypes.CDLL("libseccomp.so.2")
        self._library.seccomp_init.restype = ctypes.c_void_p
        self._context = ctypes.c_void_p(self._library.seccomp_init(ctypes.c_uint32(default)))

    def rule(self, action: int, call: str, *comparisons: Comparison) -> None:
        number = self._library.seccomp_syscall_resolve_name(call.encode())
        if number < 0:
            return  # This system call does not exist on this machine.
        array = (Comparison * len(comparisons))(*comparisons)
        code = self._library.seccomp_rule_add_array(
            self._context, ctypes.c_uint32(action), number, len(comparisons), array
        )
        # EACCES: the rule is the same as the default action.
        assert code in (0, -errno.EACCES), (call, code)

    def load(self) -> None:
        assert self._library.seccomp_load(self._context) == 0


def unit(path: Path) -> dict[str, list[str]]:
    """Return all values of each key in a unit file, in all sections."""
    found: dict[str, list[str]] = {}
    for line in path.read_text().splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            found.setdefault(name, []).append(value)
    return found


def allowed(filters: Iterable[str]) -> set[str]:
    """Return the system calls that the lines of SystemCallFilter= allow. The first line must be a
    list of allowed calls."""
    sets = _sets()
    calls = _expanded("@default", sets)
    for line in filters:
        names = set().union(*(_expanded(name, sets) for name in line.lstrip("~").split()))
        calls = calls - names if line.startswith("~") else calls | names
    return calls


def _sets() -> dict[str, list[str]]:
    """Return systemd's named sets of calls; a set may contain other sets."""
    command = ["systemd-analyze", "--no-pager", "syscall-filter"]
    told = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    sets: dict[str, list[str]] = {}
    name = ""
    for line in told.splitlines():
        if line.startswith("@"):
            name = line.strip()
            sets[name] = []
        elif line.startswith("#"):
            break  # The remaining calls belong to no set.
        elif word := line.strip().partition("#")[0]:
            sets[name].append(word)
    return sets


def _expanded(name: str, sets: Mapping[str, list[str]]) -> set[str]:
    if not name.startswith("@"):
        return {name}
    return set().union(*(_expanded(part, sets) for part in sets[name]))


def _checked(result: int) -> None:
    if result == -1:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))


def _alone(folder: Path) -> None:
    """Enter new namespaces, in which only the folder is writable."""
    uid, gid = os.getuid(), os.getgid()
    _checked(libc.unshare(CLONE_NEWUSER | CLONE_NEWNS | CLONE_NEWNET | CLONE_NEWIPC))
    Path("/proc/self/setgroups").write_text("deny")
    Path("/proc/self/uid_map").write_text(f"{uid} {uid} 1")
    Path("/proc/self/gid_map").write_text(f"{gid} {gid} 1")
    _checked(libc.mount(b"none", b"/proc", b"tmpfs", 0, None))
    read_only("/", True, AT_RECURSIVE)
    where = str(folder).encode()
    _checked(libc.mount(where, where, None, MS_BIND, None))
    read_only(str(folder), False)


def read_only(path: str, yes: bool, flags: int = 0) -> None:
    """Call mount_setattr. Its struct has the flags to set, the flags to clear, and two unused
    fields."""
    attributes = (ctypes.c_uint64 * 4)(*((MOUNT_ATTR_RDONLY, 0) if yes else (0, MOUNT_ATTR_RDONLY)))
    _checked(
        libc.syscall(
            SYS_MOUNT_SETATTR, AT_FDCWD, path.encode(), flags, attributes, ctypes.sizeof(attributes)
        )
    )


def _without_privilege() -> None:
    for capability in range(LAST_CAPABILITY + 1):
        _checked(libc.prctl(PR_CAPBSET_DROP, capability, 0, 0, 0))
    _checked(libc.prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))


def _filtered(said: Mapping[str, list[str]], calls: set[str]) -> None:
    other = Filter(ALLOW)
    if said["MemoryDenyWriteExecute"] == ["yes"]:
        both = PROT_WRITE | PROT_EXEC
        other.rule(ERRNO | errno.EPERM, "mmap", Comparison(2, MASKED_EQUAL, both, both))
        for call in ("mprotect", "pkey_mprotect"):
            executable = Comparison(2, MASKED_EQUAL, PROT_EXEC, PROT_EXEC)
            other.rule(ERRNO | errno.EPERM, call, executable)
    if said["RestrictAddressFamilies"] == ["AF_UNIX"]:
        elsewhere = Comparison(0, NOT_EQUAL, socket.AF_UNIX, 0)
        other.rule(ERRNO | errno.EAFNOSUPPORT, "socket", elsewhere)
    if said["RestrictNamespaces"] == ["yes"]:
        for call in ("unshare", "setns"):
            other.rule(ERRNO | errno.EPERM, call)
        other.rule(ERRNO | errno.ENOSYS, "clone3")
        for bit in (1 << number for number in range(32) if CLONE_NEW_ANY >> number & 1):
            other.rule(ERRNO | errno.EPERM, "clone", Comparison(0, MASKED_EQUAL, bit, bit))
    only = Filter(ERRNO | getattr(errno, said["SystemCallErrorNumber"][0]))
    for call in calls | {"execve"}:
        only.rule(ALLOW, call)
    # Loading a filter needs system calls that `only` forbids. So `only` is loaded last.
    other.load()
    only.load()


def main() -> None:
    path, folder, *command = sys.argv[1:]
    said = unit(Path(path))
    calls = allowed(said["SystemCallFilter"])
    os.umask(int(said["UMask"][0], 8))
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    descriptors = min(int(said["LimitNOFILE"][0]), most)
    resource.setrlimit(resource.RLIMIT_NOFILE, (descriptors, descriptors))
    _alone(Path(folder))
    _without_privilege()
    os.environ |= {"LISTEN_FDS": "1", "LISTEN_PID": str(os.getpid())}
    _filtered(said, calls)
    os.execv(command[0], command)


if __name__ == "__main__":
    main()
