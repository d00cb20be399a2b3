"""Framing: input that is cut anywhere becomes whole messages (LINE-1 … LINE-7).

A `Framer` is fed with the input of one member and returns *blocks*. A block is
zero or more whole messages in one bytes object, each ended by LF, so a thousand
lines that came at once cost little more than one. A Framer has no clock: its
caller calls `flush` after a silence, and `close` at the end of the input.

Invariant: each byte that was fed is either covered by a returned block, or waits.
The waiting bytes are the only state, so a new Framer that is fed the input from
offset `framed` on continues where this one stopped.
"""

import codecs
from collections.abc import Iterator

LF = b"\n"
CR = b"\r"
CRLF = b"\r\n"
LONGEST_CHARACTER = 4  # bytes, in UTF-8

_decoder = codecs.getincrementaldecoder("utf-8")


class Framer:
    """The framing of one member's input.

    `limit`: longest text of a line in bytes, without its end, at least LONGEST_CHARACTER.
    `fed`: offset in the input of the first byte that this Framer is fed.
    """

    __slots__ = ("_limit", "_waiting", "fed")

    def __init__(self, limit: int, fed: int = 0) -> None:
        self._limit = limit
        self._waiting = b""
        self.fed = fed
        """Offset in the input of the next byte to feed."""

    @property
    def framed(self) -> int:
        """Bytes of the input that returned blocks cover."""
        return self.fed - len(self._waiting)

    @property
    def unfinished(self) -> bool:
        """True while `flush` would return some text."""
        return bool(self._waiting) and _complete(self._waiting) > 0

    def feed(self, data: bytes) -> bytes:
        """Return the messages that `data` completes as one block, empty if there are none."""
        self.fed += len(data)
        if not self._waiting and data[-1:] == LF and len(data) <= self._limit:
            return data.replace(CRLF, LF)  # the usual case: no line can be too long
        data = self._waiting + data
        end = data.rfind(LF) + 1
        block, rest = data[:end].replace(CRLF, LF), data[end:]
        if len(block) > self._limit:
            lines = block[:-1].split(LF)
            block = b"".join(piece + LF for line in lines for piece in _cut(line, self._limit))
        if len(rest) > self._limit:
            text = rest.removesuffix(CR)  # the CR may be part of a CR LF
            *pieces, last = _cut(text, self._limit)
            block += b"".join(piece + LF for piece in pieces)
            rest = last + rest[len(text) :]
        self._waiting = rest
        return block

    def flush(self) -> bytes:
        """Return the text that waits, without LF (LINE-5).

        An incomplete character at its end, and a CR that may be part of a CR LF, still
        wait, so that slow senders lose nothing (TEXT-1).
        """
        end = _complete(self._waiting)
        text, self._waiting = self._waiting[:end], self._waiting[end:]
        return text

    def close(self) -> bytes:
        """Return all text that waits, without LF, at the end of the input (LEAVE-2)."""
        text, self._waiting = self._waiting, b""
        return text


def _cut(line: bytes, limit: int) -> Iterator[bytes]:
    """Yield pieces of `line` of at most `limit` bytes, none cut inside a character.

    `line` has no line end.
    """
    start = 0
    while len(line) - start > limit:
        end = start + limit
        end -= _incomplete_character(line[start:end])
        yield line[start:end]
        start = end
    yield line[start:]


def _complete(text: bytes) -> int:
    """Return the number of bytes of `text` that no later byte can affect."""
    return len(text) - (1 if text.endswith(CR) else _incomplete_character(text))


def _incomplete_character(text: bytes) -> int:
    """Return the number of bytes of an incomplete character at the end of `text`."""
    decoder = _decoder("replace")
    decoder.decode(text[1 - LONGEST_CHARACTER :])
    return len(decoder.getstate()[0])
