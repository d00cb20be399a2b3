"""Messages as they are delivered: the sender's prefix, then the text (PREFIX-1, PREFIX-4)."""

from typing import Final

ROOM_ID = 0
"""Sender id of the room's own messages; no member has this id."""
ROOM_PREFIX = "<room>"
"""Prefix of the room's own lines, as in PROTOCOL.md."""

_LF: Final = 0x0A


def render(prefix: bytes, block: bytes) -> bytes:
    """Return `block` with `prefix` before each of its messages (LINE-3), ready for the log.

    `block` is not empty and comes from `framing`: each message ends with LF, except that the last
    message may be unfinished.
    """
    if _LF not in block[:-1]:
        return prefix + block
    return prefix + block[:-1].replace(b"\n", b"\n" + prefix) + block[-1:]


def count(block: bytes) -> int:
    """Return the number of messages in a non-empty `block`; an unfinished message counts."""
    if _LF not in block[:-1]:
        return 1
    return block.count(b"\n") + (not block.endswith(b"\n"))
