"""Translate between the canonical text of the tests and the text in a server's dialect.

Canonical text has LF as its line end, and contains no colours, no suffix and no echo of the
client's own messages. So each test is written only once, for all dialects. Pure.
"""

from __future__ import annotations

import re
from collections import Counter, deque

from harness.profile import CRLF, Profile

_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")
"""An SGR sequence of ECMA-48, which sets a colour or another text attribute."""
_COLOUR_BEGUN = re.compile(rb"\x1b(?:\[[0-9;]*)?\Z")
"""The beginning of an SGR sequence whose end has not arrived."""

MOST_ECHOES = 4096
"""Maximum number of sent lines whose echo is awaited; older lines are forgotten."""


def without_colours(text: bytes) -> bytes:
    """Return a text without its SGR sequences."""
    return _COLOUR.sub(b"", text)


def to_server(text: bytes, profile: Profile) -> bytes:
    """Return canonical text as the server expects it."""
    if profile.input_line_end != CRLF:
        return text
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


class Reader:
    """Translates the bytes that one client receives to canonical text, one read at a time. An
    incomplete sequence at the end of a read is kept until the next read."""

    def __init__(self, profile: Profile) -> None:
        self.bare_line_ends = 0
        """Number of LFs without a CR, in a dialect whose output lines end with CR LF."""
        self._profile = profile
        self._held = b""
        """The beginning of a sequence whose end has not arrived: a CR, or a part of a colour."""
        suffix = profile.suffix
        self._suffix = suffix and re.compile(
            rb"(?:%b)(?=\n|\Z)|(?<=\n)(?:%b)" % (suffix.pattern, suffix.pattern)
        )

    def feed(self, data: bytes) -> bytes:
        """Return the canonical text of the next received bytes."""
        data, self._held = self._held + data, b""
        if self._profile.colours:
            data = without_colours(data)
            if begun := _COLOUR_BEGUN.search(data):
                data, self._held = data[: begun.start()], begun[0]
        if self._profile.output_line_end == CRLF:
            self.bare_line_ends += data.count(b"\n") - data.count(b"\r\n")
            data = data.replace(b"\r\n", b"\n")
            if data.endswith(b"\r") and not self._held:
                data, self._held = data[:-1], b"\r"
        return self._suffix.sub(b"", data) if self._suffix else data


class Echoes:
    """The echoes of one client's own lines, in a dialect in which the server sends them back."""

    def __init__(self, prefix: re.Pattern[bytes]) -> None:
        self._prefix = prefix
        self._unfinished = b""
        self._due: deque[bytes] = deque(maxlen=MOST_ECHOES)
        """Sent lines, without LF, whose echo has not arrived."""
        self.returned: Counter[bytes] = Counter()
        """Number of echoes that have arrived, by the sent line without LF."""

    def say(self, text: bytes) -> None:
        """Note canonical text that the client sends."""
        *lines, self._unfinished = (self._unfinished + text.replace(b"\r\n", b"\n")).split(b"\n")
        self._due += lines

    def remove(self, heard: bytearray, new: int) -> None:
        """Remove the complete echoes from the last `new` bytes of the input, and from the
        unfinished line before them. Earlier lines have been examined already."""
        if not self._due:
            return
        begin = heard.rfind(b"\n", 0, len(heard) - new) + 1
        *lines, unfinished = bytes(heard[begin:]).split(b"\n")
        others = [line for line in lines if not self._take(line)]
        if len(others) < len(lines):
            heard[begin:] = b"\n".join([*others, unfinished])

    def _take(self, line: bytes) -> bool:
        """Return whether a line is the echo of a line that is due; if so, count it as arrived."""
        prefix = self._prefix.match(line)
        if not prefix:
            return False
        text = line[prefix.end() :]
        if text not in self._due:  # the pattern may also match a shorter or a longer prefix
            texts = (due for due in self._due if line.endswith(due) and self._precedes(due, line))
            found = next(texts, None)
            if found is None:
                return False
            text = found
        self._due.remove(text)
        self.returned[text] += 1
        return True

    def _precedes(self, text: bytes, line: bytes) -> bool:
        return self._prefix.fullmatch(line, 0, len(line) - len(text)) is not None


class Login:
    """The questions of the server before a client is a member, and the client's answers."""

    def __init__(self, profile: Profile, name: str) -> None:
        self._steps = deque(profile.login)
        self._name = name

    @property
    def done(self) -> bool:
        return not self._steps

    @property
    def awaited(self) -> bytes:
        """Pattern of the next question; empty if all questions are answered."""
        return self._steps[0].expects.pattern if self._steps else b""

    def answer(self, heard: bytearray) -> bytes | None:
        """Remove the next question from the input, and return the answer as canonical text.

        Return None if the question has not arrived completely, or if all questions are answered.
        """
        if not self._steps:
            return None
        asked = self._steps[0].expects.search(heard)
        if not asked:
            return None
        del heard[: asked.end()]
        return self._steps.popleft().sends.replace("{name}", self._name).encode() + b"\n"
