"""Parser of unexpected lines. It finds the message that a line contains."""

from __future__ import annotations

import re
from dataclasses import dataclass

from harness.profile import Profile
from harness.simulation.history import as_bytes
from harness.simulation.judge.facts import Facts, Message
from harness.simulation.scenario.vocabulary import TOKEN, harmless

BAD = "\ufffd"
"""Character that replaces bytes that are not UTF-8 (TEXT-2)."""
_BAD_RUN = re.compile(BAD + "+")


@dataclass(frozen=True)
class Line:
    """A received line that is not the expected line of any message.

    message: index of the message whose token comes first in the line; None if there is no known
    token. prefix: the part of the line before this token. text: the rest of the line. Without a
    token, the profile's pattern separates prefix and text. due: the text of the message, if `text`
    is equal to it or is its beginning; otherwise empty. more: indices of further messages whose
    tokens are in the line.
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
        """Parse an unexpected line. Return None if it is a notice of the server."""
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
        """Return prefix and text of a line, separated by the profile's pattern, not by a token."""
        head = self._profile.prefix.match(found.prefix)
        if head is None:
            return found.prefix, found.text
        return head[0], plain(found.prefix[head.end() :]) + found.text


def plain(text: bytes) -> str:
    """Decode a text, and replace each run of U+FFFD by a single U+FFFD.

    Servers differ in the number of U+FFFD that they deliver for bytes that are not UTF-8.
    """
    decoded = text.decode("utf-8", "replace")
    return _BAD_RUN.sub(BAD, decoded) if BAD * 2 in decoded else decoded


def delivered(message: Message) -> str:
    """Return the text that a server should deliver for a message."""
    return plain(harmless(message.text))


def texts_of(text: bytes) -> tuple[str, str]:
    """Return the two forms in which a server may deliver a text.

    These are the text with replaced control characters (TEXT-3), and the unchanged text.
    """
    return plain(harmless(text)), plain(text)


def _due(message: Message, text: str) -> str:
    """Return the form of a message's text that is equal to `text` or begins with `text`.

    See `texts_of` for the forms. Return an empty string if no form does.
    """
    both = texts_of(message.text)
    return next((due for due in both if due == text), "") or next(
        (due for due in both if _begins(text, due)), ""
    )


def _begins(text: str, whole: str) -> bool:
    """Return whether `text` is the beginning of `whole`. Its last character may be incomplete."""
    return whole.startswith((text, text.removesuffix(BAD)))
