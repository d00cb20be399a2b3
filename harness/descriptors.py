"""The limit of this process's descriptors: raise it, and tell when it is reached."""

from __future__ import annotations

import errno
import resource

from harness.errors import CannotJudge

ENOUGH = 1 << 20
"""Descriptors that are asked for where the system sets no limit."""


def raise_descriptor_limit() -> int:
    """Allow this process, and those it starts, as many descriptors as it may have; return it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit: int = ENOUGH if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def check_descriptors(error: OSError) -> None:
    """Raise CannotJudge where an error says that the harness itself can open nothing more."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise CannotJudge(f"the harness itself has no more descriptors: {error.strerror}") from None
