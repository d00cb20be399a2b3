"""How many descriptors this process may have, which bounds how many members a room has."""

import resource

from chatroom.errors import LimitError

RESERVED = 64
"""Descriptors that the main process, or a worker, needs besides one for each member."""


def raise_limit() -> int:
    """Raise the soft limit to the hard one and return how many members that leaves room for.

    Call it before the other processes start: they inherit it. Raises
    LimitError where it leaves room for none.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        soft = hard
    except (ValueError, OSError):
        pass  # macOS has a hard limit without end that it does not grant
    if soft == resource.RLIM_INFINITY:
        soft = 1 << 20
    if soft <= RESERVED:
        raise LimitError(f"too few descriptors: {soft} granted, more than {RESERVED} needed")
    return soft - RESERVED
