"""Patterns that match given texts and similar ones, in characters that TOML allows. Pure."""

from __future__ import annotations

import itertools
import re
from collections.abc import Collection, Sequence

_V4 = rb"(?P<v4>\d+\.\d+\.\d+\.\d+)"
_NUMBER = rb"(?P<number>\d+)"

TIME = re.compile(rb"(?<![\d.])\d{1,2}:\d\d(?::\d\d)?(?:\.\d+)?(?: ?[AP]M)?(?!\d)")
"""A time of day."""


def pattern(texts: Sequence[bytes], names: Collection[bytes] = ()) -> str:
    """Return a pattern that matches all the texts and similar ones; '' if there is no text.

    Addresses, numbers and the given names may vary. Texts may differ in more than these. They are
    then compared line by line: a line that differs is kept up to the first difference; a line that
    some texts lack is optional.
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
    """Return one pattern for the patterns of lines with a common beginning."""
    begin = min(lines, key=len)
    if len(lines) == 1:
        return begin
    while not all(line.startswith(begin) for line in lines):
        begin = begin[:-1]
    while True:  # do not cut in the middle of an escape
        try:
            re.compile(begin)
            break
        except re.error:
            begin = begin[:-1]
    return begin + ".*"


def common_begin(texts: Sequence[bytes]) -> bytes:
    """Return the longest text with which all of them begin."""
    first, last = min(texts), max(texts)  # those between them begin in the same way
    same = itertools.takewhile(lambda pair: pair[0] == pair[1], zip(first, last, strict=False))
    return first[: len(list(same))]


def gathered(lines: set[str]) -> list[str]:
    """Return the patterns of lines; lines that are equal up to their first number share one."""
    groups: dict[str, set[str]] = {}
    for line in lines:
        groups.setdefault(line.partition(r"\d")[0], set()).add(line.removesuffix(r"\n"))
    return sorted(common(group) + r"\n" for group in groups.values())
