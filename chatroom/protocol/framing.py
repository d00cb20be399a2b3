"""Framing: turn input that arrives in pieces of any size into whole messages (LINE-1 … LINE-7).

A `Framer` is fed with the input of one member and returns *blocks*. A block is a bytes object with
zero or more whole messages, each ended by LF. So a thousand lines that arrive at once take little
more time than one line. A Framer has no clock: its caller calls `flush` after a silence, and
`close` at the end of the input.

Telnet commands are not text (telnet.py), and are removed. CR NUL, telnet's line end, becomes LF.

Invariant: each byte that was fed is either covered by a returned block, or waits. The waiting bytes
are the only state, so a new Framer that is fed the input from offset `framed` on continues where
the old Framer stopped. A telnet command inside unfinished text waits with the text. A command
before the text counts as covered.
"""

import codecs
from collections.abc import Iterator
from typing import Final

from chatroom.protocol import telnet
from chatroom.protocol.telnet import IAC

LF: Final = b"\n"
CR: Final = b"\r"
NUL: Final = b"\0"
CRLF: Final = b"\r\n"
CR_NUL = b"\r\0"
LONGEST_CHARACTER = 4  # bytes, in UTF-8

# IAC, CR and NUL as numbers: searching for a number is several times as fast as for bytes.
_IAC: Final = 0xFF
_CR: Final = 0x0D
_NUL: Final = 0x00

MAX_COMMANDS = 1024
"""Maximum size (bytes) of the telnet commands that wait with an unfinished line; if they exceed it,
the line is split. An incomplete command counts, too. A single command never exceeds this limit."""

MAX_GAPS = 64
"""Maximum number of telnet commands that wait with an unfinished line. This bounds the memory for
`_gaps`."""

_decoder = codecs.getincrementaldecoder("utf-8")


class Framer:
    """The framing of one member's input.

    `limit`: maximum size (bytes) of a line without its line end; at least LONGEST_CHARACTER. `fed`:
    offset in the input of the first byte that this Framer is fed.
    """

    __slots__ = ("_gaps", "_hidden", "_limit", "_waiting", "answers", "commands", "fed")

    def __init__(self, limit: int, fed: int = 0) -> None:
        self._limit = limit
        self._waiting = b""
        """Unfinished text, and after it an incomplete telnet command, if the input ends with
        one."""
        self._gaps: list[tuple[int, int]] = []
        """Telnet commands inside the unfinished text: the size of the text after each command, and
        the size of the command."""
        self._hidden = 0
        """Total size (bytes) of the commands in `_gaps`."""
        self.fed = fed
        """Offset in the input of the next byte to feed."""
        self.answers: bytes | None = None
        """Answers to the telnet commands so far; None if there was no command. The caller resets
        it."""
        self.commands = 0
        """Number of telnet commands so far, and of bytes 0xFF that are text. The caller resets
        it."""

    @property
    def framed(self) -> int:
        """Number of bytes of the input that are covered by returned blocks."""
        return self.fed - len(self._waiting) - self._hidden

    @property
    def unfinished(self) -> bool:
        """True while `flush` would return some text."""
        return bool(self._waiting) and _complete(self._waiting) > 0

    def feed(self, data: bytes) -> bytes:
        """Return the messages that `data` completes, as one block, which may be empty."""
        self.fed += len(data)
        if (
            not self._waiting
            and data[-1:] == LF
            and len(data) <= self._limit
            and _IAC not in data
            and _NUL not in data
        ):  # the usual case: no line can be too long
            return data.replace(CRLF, LF) if _CR in data else data
        size = len(data)
        data = self._waiting + data
        begun = b""
        if IAC in data:
            waited = len(self._waiting.partition(IAC)[0])
            data, gaps, begun, answers, commands = telnet.parse(data)
            self.commands += commands
            size = len(data) - waited
            if gaps:
                self.answers = (self.answers or b"") + answers
        else:
            gaps = []
        total = len(data)
        end = _line_end(data)
        block, rest = data[:end].replace(CRLF, LF), data[end:]
        if NUL in block:
            block = block.replace(CR_NUL, LF)
        if len(block) > self._limit:
            lines = block[:-1].split(LF)
            block = b"".join(piece + LF for line in lines for piece in _cut(line, self._limit))
        if len(rest) > self._limit:
            text = rest.removesuffix(CR)  # the CR may be part of a CR LF
            *pieces, last = _cut(text, self._limit)
            block += b"".join(piece + LF for piece in pieces)
            rest = last + rest[len(text) :]
        if gaps or self._gaps:
            before = [(after + size, removed) for after, removed in self._gaps]
            self._keep([*before, *((total - at, removed) for at, removed in gaps)], len(rest))
            if self._hidden + len(begun) > MAX_COMMANDS or len(self._gaps) > MAX_GAPS:
                block, rest = block + rest + LF, b""
                self._keep([], 0)
        self._waiting = rest + begun
        return block

    def _keep(self, gaps: list[tuple[int, int]], size: int) -> None:
        """Keep the gaps that lie in the last `size` bytes of the text."""
        self._gaps = [(after, removed) for after, removed in gaps if after < size]
        self._hidden = sum(removed for _, removed in self._gaps)

    def flush(self) -> bytes:
        """Return the text that waits, without LF (LINE-5).

        An incomplete character or telnet command at its end, and a CR that may be part
        of a line end, still wait, so that slow senders lose nothing (TEXT-1).
        """
        end = _complete(self._waiting)
        text, self._waiting = self._waiting[:end], self._waiting[end:]
        if self._gaps:
            self._keep(self._gaps, len(self._waiting.partition(IAC)[0]))
        return text

    def close(self) -> bytes:
        """Return all text that waits, without LF, at the end of the input (LEAVE-2)."""
        text, self._waiting = self._waiting, b""
        if IAC in text:
            text, _, command = text.partition(IAC)
            if not command:  # a single IAC at the end of the input begins no command
                text += telnet.LITERAL
        self._keep([], 0)
        return text


def _line_end(data: bytes) -> int:
    """Return the number of bytes up to the end of the last complete line."""
    end = data.rfind(LF) + 1
    if NUL in data and (at := data.rfind(CR_NUL)) >= 0:
        end = max(end, at + len(CR_NUL))
    return end


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
    text = text.partition(IAC)[0]
    return len(text) - (1 if text.endswith(CR) else _incomplete_character(text))


def _incomplete_character(text: bytes) -> int:
    """Return the number of bytes of an incomplete character at the end of `text`."""
    decoder = _decoder("replace")
    decoder.decode(text[1 - LONGEST_CHARACTER :])
    return len(decoder.getstate()[0])
