"""A connection in a server's dialect: canonical text on this side, the server's own on the other.

Canonical text has LF as its line end, and contains no colours, no suffix and no echo of the
client's own messages. So a test is written once, for every dialect. Pure.
"""

from __future__ import annotations

import re
from collections import Counter, deque

from harness.profile import CRLF, Profile

_COLOUR = re.compile(rb"\x1b\[[0-9;]*m")
"""ECMA-48, SGR: a colour or another rendition."""
_COLOUR_BEGUN = re.compile(rb"\x1b(?:\[[0-9;]*)?\Z")

MOST_ECHOES = 4096
"""Maximum number of own lines whose echo is awaited; older ones are forgotten."""


def without_colours(text: bytes) -> bytes:
    """Return a text without its SGR sequences."""
    return _COLOUR.sub(b"", text)


def to_server(text: bytes, profile: Profile) -> bytes:
    """Return canonical text as the server expects it."""
    if profile.input_line_end != CRLF:
        return text
    return text.replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")


class Reader:
    """Translates what one client receives, read by read. What may be incomplete waits."""

    def __init__(self, profile: Profile) -> None:
        self.bare_line_ends = 0
        """Number of LFs without a CR, in a dialect whose output lines end with CR LF."""
        self._profile = profile
        self._held = b""
        """The beginning of a sequence whose end has not arrived: a CR, or part of a colour."""
        suffix = profile.suffix
        self._suffix = suffix and re.compile(
            rb"(?:%b)(?=\n|\Z)|(?<=\n)(?:%b)" % (suffix.pattern, suffix.pattern)
        )

    def feed(self, data: bytes) -> bytes:
        """Return the canonical text of the next bytes."""
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
    """The echoes of one client's own lines, in a dialect with echo."""

    def __init__(self, prefix: re.Pattern[bytes]) -> None:
        self._prefix = prefix
        self._unfinished = b""
        self._due: deque[bytes] = deque(maxlen=MOST_ECHOES)
        """Lines that were sent, without LF, and whose echo has not arrived."""
        self.returned: Counter[bytes] = Counter()
        """Number of echoes of each line that was sent, without its LF."""

    def say(self, text: bytes) -> None:
        """Note canonical text that the client sends."""
        *lines, self._unfinished = (self._unfinished + text.replace(b"\r\n", b"\n")).split(b"\n")
        self._due += lines

    def remove(self, heard: bytearray) -> None:
        """Remove from the input all echoes that have arrived whole."""
        if not self._due:
            return
        *lines, unfinished = bytes(heard).split(b"\n")
        others = [line for line in lines if not self._take(line)]
        if len(others) < len(lines):
            heard[:] = b"\n".join([*others, unfinished])

    def _take(self, line: bytes) -> bool:
        """Return whether a line is an echo, which is then no longer due."""
        prefix = self._prefix.match(line)
        if not prefix:
            return False
        text = line[prefix.end() :]
        if text not in self._due:  # another text behind a shorter or longer prefix may be
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
    """The steps before a client is a member: what the server asks, and what the client answers."""

    def __init__(self, profile: Profile, name: str) -> None:
        self._steps = deque(profile.login)
        self._name = name

    @property
    def done(self) -> bool:
        return not self._steps

    @property
    def awaited(self) -> bytes:
        """Pattern of the question that has not arrived yet."""
        return self._steps[0].expects.pattern if self._steps else b""

    def answer(self, heard: bytearray) -> bytes | None:
        """Take a question from the input; return the answer, canonical.

        Return None while the question is incomplete, or if all steps are done.
        """
        if not self._steps:
            return None
        asked = self._steps[0].expects.search(heard)
        if not asked:
            return None
        del heard[: asked.end()]
        return self._steps.popleft().sends.replace("{name}", self._name).encode() + b"\n"
