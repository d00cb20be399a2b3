"""Lines of strangers: of clients that are not of this run, in the room of a running server.

A line is a stranger's if it has a prefix, contains no token of this run, and nobody in this run has
sent its letters and digits. (A server may change other characters, or cut a line.) Pure.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable

from harness.clients import stream
from harness.profile import Profile

MOST = 32 << 20
"""Maximum number of bytes to keep of what was sent, and of what was received."""


class Record:
    """The canonical text that the clients of a run have sent, and that those of a test received."""

    def __init__(self) -> None:
        self._sent: defaultdict[str, bytearray] = defaultdict(bytearray)
        self._heard: defaultdict[str, bytearray] = defaultdict(bytearray)
        self._left = MOST
        self._left_to_send = MOST

    def begin(self) -> None:
        """Begin a test. What earlier ones have sent may still arrive."""
        self._heard.clear()
        self._left = MOST

    def sends(self, client: str, text: bytes) -> None:
        self._sent[client] += text[: self._left_to_send]
        self._left_to_send -= min(len(text), self._left_to_send)

    def receives(self, client: str, text: bytes) -> None:
        self._heard[client] += text[: self._left]
        self._left -= min(len(text), self._left)

    def stranger(self, profile: Profile, is_own: Callable[[bytes], bool]) -> bytes | None:
        """Return a stranger's line, or None. is_own: whether a text contains a token of this run.

        If more than MOST bytes were sent, the answer is None.
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
    """Return the ASCII letters, in lower case, and digits of a text."""
    return re.sub(rb"[^a-z0-9]", b"", text.lower())
