"""Raise this process's limit on open file descriptors, and detect that the limit is reached."""

from __future__ import annotations

import errno
import resource

from harness.errors import CannotJudge

ENOUGH = 1 << 20
"""Limit to set if the system allows any number of descriptors."""


def raise_descriptor_limit() -> int:
    """Raise this process's limit to the highest allowed value, and return this value.

    Child processes inherit the limit.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit: int = ENOUGH if hard == resource.RLIM_INFINITY else hard
    resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))
    return limit


def check_descriptors(error: OSError) -> None:
    """Raise CannotJudge if `error` says that the harness itself has run out of descriptors."""
    if error.errno in (errno.EMFILE, errno.ENFILE):
        raise CannotJudge(
            f"the harness itself has run out of descriptors: {error.strerror}"
        ) from None
