"""What arrived, cut anywhere, becomes whole messages (LINE-1 … LINE-7).

A `Framer` is fed with what was read from one member and returns *blocks*: zero
or more whole messages in one bytes object, each ended by LF, so that a thousand
lines that came at once cost little more than one. It never waits; its caller
owns the clock and says when a silence has lasted long enough (`flush`) and when
nothing more will come (`close`).

Invariant: all that was fed is either covered by what was returned, or waits.
Nothing else is remembered, so a new Framer that is fed with the input from
`taken` on goes on where this one stopped.
"""

import codecs
from collections.abc import Iterator

LF = b"\n"
CR = b"\r"
CRLF = b"\r\n"
LONGEST_CHARACTER = 4  # bytes, in UTF-8

_decoder = codecs.getincrementaldecoder("utf-8")


class Framer:
    """One member's input; `limit`: bytes of text in a line, at least LONGEST_CHARACTER.

    `fed`: how much of the input was covered before, where this Framer goes on.
    """

    __slots__ = ("_limit", "_waiting", "fed")

    def __init__(self, limit: int, fed: int = 0) -> None:
        self._limit = limit
        self._waiting = b""
        self.fed = fed
        """Bytes of the input that it was fed with, those before it began included."""

    @property
    def taken(self) -> int:
        """Bytes of the input that what was returned covers."""
        return self.fed - len(self._waiting)

    @property
    def unfinished(self) -> bool:
        """Whether a text waits that `flush` would return."""
        return bool(self._waiting) and _complete(self._waiting) > 0

    def feed(self, data: bytes) -> bytes:
        """The messages that `data` completes, as one block; empty where it completes none."""
        self.fed += len(data)
        if not self._waiting and data[-1:] == LF and len(data) <= self._limit:
            return data.replace(CRLF, LF)  # nearly always: no line of it can be too long
        data = self._waiting + data
        end = data.rfind(LF) + 1
        block, rest = data[:end].replace(CRLF, LF), data[end:]
        if len(block) > self._limit:
            lines = block[:-1].split(LF)
            block = b"".join(piece + LF for line in lines for piece in _cut(line, self._limit))
        if len(rest) > self._limit:
            text = rest.removesuffix(CR)  # with a LF behind it, it is no text
            *pieces, last = _cut(text, self._limit)
            block += b"".join(piece + LF for piece in pieces)
            rest = last + rest[len(text) :]
        self._waiting = rest
        return block

    def flush(self) -> bytes:
        """The text that waits, without LF (LINE-5), less what the next byte may complete.

        A character of which a part has arrived, and a CR that may belong to a
        CR LF, wait on: whoever types slowly is not to be harmed (TEXT-1).
        """
        end = _complete(self._waiting)
        text, self._waiting = self._waiting[:end], self._waiting[end:]
        return text

    def close(self) -> bytes:
        """All that waits, without LF: nothing more will come (LEAVE-2)."""
        text, self._waiting = self._waiting, b""
        return text


def _cut(line: bytes, limit: int) -> Iterator[bytes]:
    """`line`, without its end, in pieces of at most `limit` bytes, none cut inside a character."""
    start = 0
    while len(line) - start > limit:
        end = start + limit
        end -= _begun_character(line[start:end])
        yield line[start:end]
        start = end
    yield line[start:]


def _complete(text: bytes) -> int:
    """How many bytes of `text` stand whatever comes next."""
    return len(text) - (1 if text.endswith(CR) else _begun_character(text))


def _begun_character(text: bytes) -> int:
    """How many bytes at the end of `text` begin a character and do not complete it."""
    decoder = _decoder("replace")
    decoder.decode(text[1 - LONGEST_CHARACTER :])
    return len(decoder.getstate()[0])
