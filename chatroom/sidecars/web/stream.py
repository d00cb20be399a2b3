"""The room's bytes as lines of text. Pure: no sockets, no clock.

The room sends lines that end with LF. A line may arrive in pieces, cut anywhere, even inside a
character. It may also stay unfinished: a member has sent text without LF (LINE-5), and the room
sends the LF later (LINE-6). The caller shows unfinished text after a silence.
"""

import codecs

LF = b"\n"
CR = "\r"

LONGEST = 4 * 1024 * 1024
"""Maximum length of a line (bytes). A longer line is split, so that a room that never sends LF
can't fill the memory. Our room's lines are shorter: a line has at most 1 MiB of text (--max-line),
which may triple in size."""

_decoder = codecs.getincrementaldecoder("utf-8")


class LineStream:
    """Splits the bytes of one connection to a room into lines.

    Cost: O(n) for n bytes in total, unless a line arrives in very many pieces.
    """

    __slots__ = ("rest",)

    def __init__(self, rest: bytes = b"") -> None:
        self.rest = rest
        """Bytes after the last LF."""

    def feed(self, data: bytes) -> list[str]:
        """Return the lines that `data` completes, without their ends."""
        *lines, self.rest = (self.rest + data).split(LF)
        if len(self.rest) > LONGEST:
            lines.append(self.rest)
            self.rest = b""
        return [line.decode(errors="replace").removesuffix(CR) for line in lines]

    @property
    def unfinished(self) -> str:
        """The text after the last line, without an incomplete character or a CR at its end."""
        if not self.rest:
            return ""
        return _decoder("replace").decode(self.rest).removesuffix(CR)
