"""Sizes in bytes: their units and their notation."""

import re

from chatroom.wording import shown

KIB = 1024
MIB = 1024 * KIB
PAGE = 4 * KIB


def size(text: str) -> int:
    """Convert text such as `65536`, `64K`, `4M` or `1G` to bytes. Raises ValueError."""
    number, unit = (text[:-1], text[-1:].upper()) if text[-1:].isalpha() else (text, "")
    # 30 digits are enough for a size; `int` raises an error for thousands of digits.
    if not re.fullmatch("[0-9]{1,30}", number) or unit not in ("", "K", "M", "G"):
        raise ValueError(f"a size such as 65536, 64K or 4M, not {shown(text)}")
    return int(number) << 10 * " KMG".index(unit or " ")


def format_size(number: int) -> str:
    """Write a number of bytes in the shortest form that `size` converts back."""
    for shift, unit in ((30, "G"), (20, "M"), (10, "K")):
        if number and number % (1 << shift) == 0:
            return f"{number >> shift}{unit}"
    return str(number)


def whole_pages(number: int) -> int:
    """Round a number of bytes up to whole pages of memory."""
    return -(-number // PAGE) * PAGE
