"""Unexpected lines, and the message that each contains."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.profile import Profile
from harness.simulation.history import as_bytes
from harness.simulation.judge.facts import Facts, Message
from harness.simulation.scenario.vocabulary import TOKEN, harmless

BAD = "\ufffd"
"""Character for bytes that are not UTF-8 (TEXT-2)."""
_BAD_RUN = re.compile(BAD + "+")


@dataclass(frozen=True)
class Line:
    """A line that differs from every expected one.

    message: index of the message whose token it contains first; None: no known token.
    prefix, text: the parts before and from the token; without a token, as the profile
    splits them. due: the expected text, if the line is this text or its beginning; otherwise
    empty. more: indices of further messages whose tokens it contains.
    """

    message: int | None
    prefix: bytes
    text: str
    due: str = ""
    more: tuple[int, ...] = ()


class Lines:
    def __init__(self, facts: Facts, profile: Profile) -> None:
        self._facts = facts
        self._profile = profile

    def read(self, line: bytes) -> Line | None:
        """Parse a line; return None for a notice."""
        if any(notice.fullmatch(line + b"\n") for notice in self._profile.notices):
            return None
        index = self._facts.index
        tokens = [token for token in TOKEN.finditer(line) if token[1].decode() in index]
        if not tokens:
            head = self._profile.prefix.match(line)
            begin = head.end() if head else 0
            return Line(None, line[:begin], plain(line[begin:]))
        first, *more = (index[token[1].decode()] for token in tokens)
        message, begin = self._facts.messages[first], tokens[0].start()
        prefix, text = line[:begin], plain(line[begin:])
        return Line(first, prefix, text, _due(message, text), tuple(more))

    def is_welcome(self, line: str) -> bool:
        welcome = self._profile.welcome
        return welcome is not None and welcome.match(as_bytes(line)) is not None

    def parted(self, found: Line) -> tuple[bytes, str]:
        """Split a line into prefix and text as the profile does, with or without a token."""
        head = self._profile.prefix.match(found.prefix)
        if head is None:
            return found.prefix, found.text
        return head[0], plain(found.prefix[head.end() :]) + found.text


def plain(text: bytes) -> str:
    """Decode a text, and replace each run of U+FFFD by one: servers differ in how many they write
    for bytes that are not UTF-8."""
    decoded = text.decode("utf-8", "replace")
    return _BAD_RUN.sub(BAD, decoded) if BAD * 2 in decoded else decoded


def delivered(message: Message) -> str:
    """Return the text of a message as it should be delivered."""
    return plain(harmless(message.text))


def texts_of(text: bytes) -> tuple[str, str]:
    """Return the two forms in which a text may be delivered: harmless (TEXT-3), and unchanged."""
    return plain(harmless(text)), plain(text)


def _due(message: Message, text: str) -> str:
    """Return the text of a message, raw or as it should be delivered, if `text` is its beginning or
    equal to it; otherwise, return an empty string."""
    both = texts_of(message.text)
    return next((due for due in both if due == text), "") or next(
        (due for due in both if _begins(text, due)), ""
    )


def _begins(text: str, whole: str) -> bool:
    """Return whether a text is the beginning of another. Its last character may be incomplete."""
    return whole.startswith((text, text.removesuffix(BAD)))
