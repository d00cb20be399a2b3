"""A message as it is delivered: its sender's prefix, then its text (PREFIX-1, PREFIX-4)."""


def render(prefix: bytes, block: bytes) -> bytes:
    """`block` with `prefix` before each of its messages, ready for the log.

    `block` holds one or more messages as `framing` gives them: each ends with
    LF, but for the last one, which may be unfinished. LINE-3: every message of
    a block bears its own prefix.
    """
    return prefix + block[:-1].replace(b"\n", b"\n" + prefix) + block[-1:]


def count(block: bytes) -> int:
    """How many messages a non-empty `block` holds, an unfinished one included."""
    return block.count(b"\n") + (not block.endswith(b"\n"))
