"""A browser's session, which outlives its WebSocket. Pure: no sockets, no clock.

Lines and messages are numbered. So when a browser resumes the session after a lost connection, no
line and no message is lost or duplicated:

- *Lines of the room* have the numbers 1, 2, 3 … The session keeps the last lines (KEEP_LINES,
  KEEP_SIZE) until the browser confirms that it has seen them. A browser that resumes sends the
  number of the last line that it has seen. It gets the later lines, and the number of lines that
  are no longer kept.
- *Messages of the browser* have the numbers 1, 2, 3 …, too. The session drops a message whose
  number it already has. A browser that resumes gets the number of the last message that has reached
  the room, and sends only the later messages.

    browser ─► WebSocket ─► Session.say ─► bytes for the room, then Session.sent(bytes)
    room ─► Session.receive ─► Session.frame ─► WebSocket ─► browser

Cost: O(1) for each line, and memory for the kept lines. While a WebSocket is open, no line is
dropped before it is sent. So the caller must stop reading from the room while the browser does not
read.

docs/web.md describes the frames.
"""

import json
from collections import deque
from collections.abc import Collection
from json.encoder import encode_basestring
from sys import getsizeof
from typing import Any, Self

from chatroom.sidecars.web.stream import LineStream

KEEP_LINES = 2_000
"""Maximum number of lines to keep until the browser has confirmed them with `seen`."""
KEEP_SIZE = 256 * 1024
"""Maximum total size of these lines in memory (bytes). A character takes one to four bytes, and an
empty str takes about 50."""


class ProtocolError(Exception):
    """The browser has sent a frame that the protocol does not allow. The message is one line."""


class Session:
    """One browser session, from its first WebSocket until it is dropped."""

    __slots__ = (
        "_accepted",
        "_first",
        "_last_text",
        "_lines",
        "_pending",
        "_said",
        "_shown",
        "_shown_partial",
        "_size",
        "_stream",
        "_unfinished",
        "attached",
    )

    def __init__(self) -> None:
        self.attached = False
        """True while a WebSocket is open."""
        self._stream = LineStream()
        # --- lines of the room
        self._lines: deque[str] = deque()
        """Kept lines, the oldest first."""
        self._last_text = ""
        self._first = 1
        """Number of the first kept line, or of the next line if none is kept."""
        self._size = 0
        """Size of the kept lines, as KEEP_SIZE counts it."""
        self._shown = 0
        """Number of the last line that was sent over the current WebSocket."""
        self._unfinished = ""
        """Text of the unfinished line, to send to the browser; empty if there is none. The line's
        number is `last` + 1."""
        self._shown_partial = ""
        """Text of the unfinished line that was last sent over the current WebSocket."""
        # --- messages of the browser
        self._accepted = 0
        """Number of the last message that this session has accepted."""
        self._said = 0
        """Number of the last message that has reached the room as a whole."""
        self._pending: deque[int] = deque()
        """Number of bytes that are not sent to the room yet, for each message after `_said`."""

    # --- another process ------------------------------------------------------

    def state(self) -> dict[str, Any]:
        """Return everything that another process needs to continue this session, for JSON."""
        return {
            "rest": self._stream.rest.decode("latin-1"),
            "lines": [*self._lines],
            "last_text": self._last_text,
            "first": self._first,
            "unfinished": self._unfinished,
            "accepted": self._accepted,
            "said": self._said,
            "pending": [*self._pending],
        }

    @classmethod
    def continued(cls, state: dict[str, Any]) -> Self:
        """Return a session that continues from the state of another one, without a WebSocket."""
        made = cls()
        made._stream = LineStream(state["rest"].encode("latin-1"))
        made._lines.extend(state["lines"])
        made._last_text = state["last_text"]
        made._first = state["first"]
        made._size = _size(made._lines)
        made._unfinished = state["unfinished"]
        made._accepted = state["accepted"]
        made._said = state["said"]
        made._pending.extend(state["pending"])
        made._forget()
        return made

    # --- the WebSocket -------------------------------------------------------

    def attach(self, seen: int) -> dict[str, int]:
        """Begin or resume the session with a new WebSocket.

        `seen`: number of the last line that the browser has seen. Return the numbers for the
        gateway's first frame. Raises ProtocolError.
        """
        if not 0 <= seen <= self.last:
            raise ProtocolError(f"line {seen} does not exist; the last one is {self.last}")
        missed = max(0, self._first - 1 - seen)
        self.attached = True
        self._shown = seen + missed
        self._shown_partial = ""
        self.seen(self._shown)
        return {"said": self._said, "missed": missed}

    def detach(self) -> None:
        """Note that the WebSocket was lost. From now on, lines may be dropped before they are
        sent."""
        self.attached = False
        self._forget()

    # --- the room's lines ----------------------------------------------------

    @property
    def last(self) -> int:
        """Number of the last finished line."""
        return self._first + len(self._lines) - 1

    @property
    def last_text(self) -> str:
        """Text of the unfinished line, or of the last line; empty if there is none."""
        return self._stream.unfinished or self._last_text

    @property
    def is_partial(self) -> bool:
        """True if the unfinished line has text that `on_silence` would add to the next frame."""
        return self._stream.unfinished != self._unfinished

    def receive(self, data: bytes) -> None:
        """Process bytes that the room has sent."""
        lines = self._stream.feed(data)
        if lines:
            self._unfinished = ""
            self._last_text = lines[-1]
            self._lines.extend(lines)
            self._size += _size(lines)
            self._forget()

    def on_silence(self) -> None:
        """Add the unfinished line to the next frame, because the room has been silent for a
        while."""
        self._unfinished = self._stream.unfinished

    def frame(self) -> str | None:
        """Return a frame with everything that was not sent over the WebSocket yet; None if there is
        nothing."""
        if not self.attached:
            return None
        number, unsent = self._shown + 1, self.last - self._shown
        rows = [
            f"[{number + at},{encode_basestring(self._lines[at - unsent])}]" for at in range(unsent)
        ]
        if rows:
            self._shown = self.last
            self._shown_partial = ""
        if self._unfinished != self._shown_partial:
            self._shown_partial = self._unfinished
            rows.append(f"[{self.last + 1},{encode_basestring(self._unfinished)},1]")
        return f'{{"lines":[{",".join(rows)}]}}' if rows else None

    def seen(self, number: int) -> bool:
        """Drop the lines up to `number`, because the browser has seen them.

        Return False if all of them were dropped before. Raises ProtocolError.
        """
        if not 0 <= number <= self._shown:
            raise ProtocolError(f"line {number} was not sent; the last one is {self._shown}")
        is_new = self._first <= number
        while self._first <= number:
            self._drop_first()
        return is_new

    def _forget(self) -> None:
        """Drop the oldest lines beyond the limits; while a WebSocket is open, only lines that were
        sent.

        At least one line is kept, however long it is.
        """
        while len(self._lines) > 1 and (self._size > KEEP_SIZE or len(self._lines) > KEEP_LINES):
            if self.attached and self._first > self._shown:
                break
            self._drop_first()

    def _drop_first(self) -> None:
        self._size -= _size((self._lines.popleft(),))
        self._first += 1

    # --- the browser's messages ----------------------------------------------

    def say(self, number: int, text: str) -> bytes:
        """Accept a message; return the bytes for the room, or b"" if the session already has the
        message.

        Raises ProtocolError if an earlier message is missing.
        """
        if number <= self._accepted:
            return b""
        if number != self._accepted + 1:
            raise ProtocolError(f"message {number} follows message {self._accepted}")
        data = _clean(text).encode() + b"\n"
        self._accepted = number
        self._pending.append(len(data))
        return data

    def sent(self, size: int) -> bool:
        """Note that `size` more bytes were sent to the room; return True if `said` has grown."""
        before = self._said
        while self._pending and size >= self._pending[0]:
            size -= self._pending.popleft()
            self._said += 1
        if self._pending:
            self._pending[0] -= size
        return self._said > before

    @property
    def said(self) -> int:
        """Number of the last message that has reached the room as a whole."""
        return self._said


def _size(lines: Collection[str]) -> int:
    return sum(map(getsizeof, lines))


def _clean(text: str) -> str:
    """Replace lone surrogates with U+FFFD: JSON allows them, but UTF-8 does not."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


# --- frames of the browser ------------------------------------------------------------------------


def parse(frame: str) -> dict[str, Any]:
    """Return the object in a frame. Raises ProtocolError."""
    try:
        found = json.loads(frame)
    except (ValueError, RecursionError):
        raise ProtocolError("a frame must be a JSON object") from None
    if not isinstance(found, dict):
        raise ProtocolError("a frame must be a JSON object")
    return found


def number(found: dict[str, Any], key: str) -> int:
    """Return the number under a key of an object; 0 if it is missing. Raises ProtocolError."""
    value = found.get(key, 0)
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise ProtocolError(f"{key} must be a number from 0")
    return value
