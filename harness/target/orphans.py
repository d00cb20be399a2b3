"""Adoption of orphans: a server that detaches remains a descendant of this process.

A daemon forks, and its parent ends. Linux gives the orphan to its nearest ancestor that is a
"child subreaper" (PR_SET_CHILD_SUBREAPER, prctl(2)). This process is one while it runs a server,
so all that the server starts can be told from the processes of others. Other systems have no
such ancestor: there, only an orphan that kept its environment is found.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
from collections.abc import Iterable

# linux/prctl.h
_SET_CHILD_SUBREAPER = 36
_GET_CHILD_SUBREAPER = 37


class _Adoption:
    """State of this process; there is one instance."""

    def __init__(self) -> None:
        self.servers = 0
        self.before = 0
        """Attribute of this process before the first server."""


_adoption = _Adoption()


def adopt() -> None:
    """Adopt orphans from now on. Call `release` once for each call."""
    if not _adoption.servers:
        before = ctypes.c_int()
        _prctl(_GET_CHILD_SUBREAPER, ctypes.byref(before))
        _adoption.before = before.value
        _prctl(_SET_CHILD_SUBREAPER, ctypes.c_ulong(1))
    _adoption.servers += 1


def release() -> None:
    """Adopt no more orphans, if no other server runs."""
    _adoption.servers -= 1
    if not _adoption.servers:
        _prctl(_SET_CHILD_SUBREAPER, ctypes.c_ulong(_adoption.before))


def _prctl(option: int, argument: object) -> None:
    """Get or set an attribute of this process; do nothing where there is no prctl."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(option, argument, *[ctypes.c_ulong(0)] * 3)


def reap(pids: Iterable[int]) -> None:
    """Release those of the processes that were adopted and have ended."""
    for pid in pids:
        with contextlib.suppress(OSError):  # not adopted: its parent does it
            os.waitpid(pid, os.WNOHANG)
