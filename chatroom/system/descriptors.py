"""The limit of open descriptors, which bounds the members of a room."""

import contextlib
import resource

from chatroom.errors import LimitError

ENOUGH = 1 << 20
"""Limit to assume if the system has no limit."""


def raise_limit(reserved: int) -> int:
    """Raise the soft limit to the hard limit; return the resulting limit minus `reserved`.

    If the system refuses to raise the limit, the old limit remains. Call this before the other
    processes are started, because they inherit the limit. Raises LimitError if nothing is left.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS, where the hard limit is "no limit"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    granted, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if granted == resource.RLIM_INFINITY:
        granted = ENOUGH
    if granted <= reserved:
        raise LimitError(
            f"too few descriptors: {granted}, but more than {reserved} are needed; raise ulimit -n"
        )
    return granted - reserved
