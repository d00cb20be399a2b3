"""Adopt orphans, so that a server that detaches remains a descendant of this process.

A daemon forks, and its parent ends. Linux makes the orphan a child of its nearest ancestor that is
a "child subreaper" (PR_SET_CHILD_SUBREAPER, prctl(2)). This process is a subreaper while it runs a
server; so all processes that the server starts are its descendants. Other systems have no
subreapers: there, an orphan is found only if it has kept its environment.
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
        """Number of servers that this process runs."""
        self.before = 0
        """Value of the subreaper attribute before the first server was started."""


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
    """Stop adopting orphans, unless another server runs."""
    _adoption.servers -= 1
    if not _adoption.servers:
        _prctl(_SET_CHILD_SUBREAPER, ctypes.c_ulong(_adoption.before))


def _prctl(option: int, argument: object) -> None:
    """Get or set an attribute of this process; do nothing where there is no prctl."""
    with contextlib.suppress(AttributeError, OSError):
        ctypes.CDLL(None).prctl(option, argument, *[ctypes.c_ulong(0)] * 3)


def reap(pids: Iterable[int]) -> None:
    """Reap each of the processes that has ended, if it is a child of this process."""
    for pid in pids:
        with contextlib.suppress(OSError):  # not adopted: its own parent reaps it
            os.waitpid(pid, os.WNOHANG)
