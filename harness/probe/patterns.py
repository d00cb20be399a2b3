"""Make patterns that match given texts and similar texts, in characters that TOML allows. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence

_V4 = rb"(?P<v4>\d+\.\d+\.\d+\.\d+)"
_NUMBER = rb"(?P<number>\d+)"

TIME = re.compile(rb"(?<![\d.])\d{1,2}:\d\d(?::\d\d)?(?:\.\d+)?(?: ?[AP]M)?(?!\d)")
"""A time of day."""


def pattern(texts: Sequence[bytes], names: Collection[bytes] = ()) -> str:
    """Return a pattern that matches all the texts and similar texts; '' if all texts are empty.

    Addresses, numbers and the given names may vary. Further differences are handled line by line:
    from the first difference in a line, the pattern matches any text; a line that only some texts
    have is optional.
    """
    found = [[generalised(line, names) for line in text.split(b"\n")] for text in texts if text]
    if not found:
        return ""
    every = min(map(len, found))
    columns = [
        common({line for line in column if line is not None})
        for column in itertools.zip_longest(*found)
    ]
    return r"\n".join(columns[:every]) + "".join(rf"(?:\n{line})?" for line in columns[every:])


def generalised(text: bytes, names: Collection[bytes] = ()) -> str:
    """Return the pattern of a text in which addresses, numbers and these names may vary."""
    alternatives = [_V4, _NUMBER]
    if names:
        longest_first = sorted(names, key=len, reverse=True)
        alternatives.insert(0, rb"(?P<name>%b)" % b"|".join(map(re.escape, longest_first)))
    made, end = "", 0
    for varying in re.finditer(b"|".join(alternatives), text):
        made += escaped(text[end : varying.start()])
        kind = varying.lastgroup
        made += {"v4": r"\d+\.\d+\.\d+\.\d+", "number": r"\d+", "name": r"\w+"}[kind or ""]
        end = varying.end()
    return made + escaped(text[end:])


def escaped(text: bytes) -> str:
    """Return a pattern that matches exactly this text, in characters that TOML allows."""
    return "".join(map(_escaped_character, text.decode("utf-8", "surrogateescape")))


def _escaped_character(char: str) -> str:
    if char == "\n":
        return r"\n"
    if char.isprintable():
        return char if char == " " else re.escape(char)
    return "".join(rf"\x{byte:02x}" for byte in char.encode("utf-8", "surrogateescape"))


def common(lines: set[str]) -> str:
    """Return a pattern that matches all lines that the given patterns match: their common
    beginning, and then any text."""
    begin = min(lines, key=len)
    if len(lines) == 1:
        return begin
    while not all(line.startswith(begin) for line in lines):
        begin = begin[:-1]
    while True:  # the end of `begin` may be the first half of an escape
        try:
            re.compile(begin)
            break
        except re.error:
            begin = begin[:-1]
    return begin + ".*"


def common_begin(texts: Sequence[bytes]) -> bytes:
    """Return the longest text with which all texts begin."""
    first, last = min(texts), max(texts)  # all other texts are between these two in sorted order
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return first[: len(list(same))]


def gathered(lines: set[str]) -> list[str]:
    """Return the patterns, sorted; patterns that are equal up to their first number are merged."""
    groups: dict[str, set[str]] = {}
    for line in lines:
        groups.setdefault(line.partition(r"\d")[0], set()).add(line.removesuffix(r"\n"))
    return sorted(common(group) + r"\n" for group in groups.values())
