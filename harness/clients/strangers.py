"""Find the lines of strangers: clients of a running server that do not belong to this run.

A received line is a stranger's if it has a prefix and contains no token of this run, and if no
client of this run has sent the letters and digits of the line. Other characters are not compared,
because a server may change them. A part of a sent line is not a stranger's, because a server may
cut lines. Pure.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable

from harness.clients import stream
from harness.profile import Profile

MOST = 32 << 20
"""Maximum number of sent bytes to keep, and of received bytes to keep."""


class Record:
    """The canonical text that the clients have sent in the whole run, and received in the current
    test."""

    def __init__(self) -> None:
        self._sent: defaultdict[str, bytearray] = defaultdict(bytearray)
        self._heard: defaultdict[str, bytearray] = defaultdict(bytearray)
        self._left = MOST
        self._left_to_send = MOST

    def begin(self) -> None:
        """Begin a test. The sent text of earlier tests is kept, because it may still arrive."""
        self._heard.clear()
        self._left = MOST

    def sends(self, client: str, text: bytes) -> None:
        self._sent[client] += text[: self._left_to_send]
        self._left_to_send -= min(len(text), self._left_to_send)

    def receives(self, client: str, text: bytes) -> None:
        self._heard[client] += text[: self._left]
        self._left -= min(len(text), self._left)

    def stranger(self, profile: Profile, is_own: Callable[[bytes], bool]) -> bytes | None:
        """Return a stranger's line; None if there is none, or if MOST bytes or more were sent.

        is_own: returns whether a text contains a token of this run.
        """
        if not self._left_to_send:
            return None
        sent = [_core(bytes(text)) for text in self._sent.values()]
        for heard in self._heard.values():
            for line in stream.lines(bytes(heard), profile):
                core = _core(line.text)
                missing = line.prefix is None and profile.prefix.pattern
                if missing or not core or is_own(line.text):
                    continue
                if not any(core in text for text in sent):
                    return (line.prefix or b"") + line.text
        return None


def _core(text: bytes) -> bytes:
    """Return only the ASCII letters and digits of a text, in lower case."""
    return re.sub(rb"[^a-z0-9]", b"", text.lower())
