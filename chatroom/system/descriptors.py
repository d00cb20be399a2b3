"""The limit of open descriptors, which bounds the members of a room."""

import contextlib
import resource

from chatroom.errors import LimitError

ENOUGH = 1 << 20
"""Descriptors to assume as the limit where there is none."""


def raise_limit(reserved: int) -> int:
    """Raise the soft limit to the hard one; return how many descriptors it leaves, less `reserved`.

    Where the system does not grant that, the soft limit stays as it is. Call it
    before the other processes start: they inherit it. Raises LimitError where
    nothing is left.
    """
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.suppress(ValueError, OSError):  # macOS, where the hard limit is "no limit"
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    granted, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    if granted == resource.RLIM_INFINITY:
        granted = ENOUGH
    if granted <= reserved:
        raise LimitError(
            f"{granted} descriptors are too few, more than {reserved} are needed: raise ulimit -n"
        )
    return granted - reserved
