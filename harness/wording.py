"""Write numbers, names and bytes as text, for messages. Pure."""

import codecs
from collections.abc import Sequence


def counted(number: int, noun: str, plural: str = "") -> str:
    """Return a number with its noun, such as `1 line` or `1,200 lines`.

    `plural`: plural of the noun; empty: the noun with an added s.
    """
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def listed(names: Sequence[str], most: int = 4) -> str:
    """Return names as a list in words: `A`, `A and B`, `A, B and C`.

    If there are more than `most` names, the last ones are counted: `A, B, C and 9 more`.
    """
    shown = [*names]
    if len(shown) > most:
        shown[most - 1 :] = [f"{len(shown) - most + 1:,} more"]
    return " and ".join(filter(None, (", ".join(shown[:-1]), *shown[-1:])))


def visible(text: str) -> str:
    """Return the text on one line, with escapes for unprintable characters."""
    return "".join(
        char if char.isprintable() else char.encode("unicode_escape").decode() for char in text
    )


def as_text(data: bytes) -> str:
    """Return bytes as text, with escapes for invalid UTF-8 and unprintable characters."""
    return visible(data.decode(errors="backslashreplace"))


def quoted(data: bytes, size: int | None = None, most: int = 64) -> str:
    """Return bytes as text in quotes. If there are more than `most` bytes, return only the first of
    them, and the number of all bytes.

    `size`: total number of bytes, if `data` contains only the first of them.
    """
    size = len(data) if size is None else size
    if size <= most:
        return f'"{as_text(data)}"'
    # The incremental decoder drops an incomplete character at the end.
    shown = codecs.getincrementaldecoder("utf-8")("backslashreplace").decode(data[:most])
    return f'"{visible(shown)}…" ({size:,} bytes)'
