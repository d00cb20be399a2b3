"""Text that is safe to show (TEXT-1 … TEXT-3).

A member's text is printed on the terminals of the other members. A terminal executes control
characters, and bidirectional controls reorder the text around them. Such characters could overwrite
or hide the prefix of another member. So they are replaced by visible characters. They are not
dropped, so that no part of a message is lost.
"""

import re
from typing import Final

REPLACEMENT = "\N{REPLACEMENT CHARACTER}"

# LF ends a message and TAB is text; every other C0 character, and DEL, has a
# control picture (TEXT-3).
_PICTURES = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"} | {
    0x7F: 0x2421
}
# C1, the characters with the Unicode property Bidi_Control, and the two
# separators that some terminals and editors treat as line ends.
_REPLACED = "\x80-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\u2028\u2029"
# Deprecated format characters, and interlinear annotations: they change how the text around them is
# shown. Hangul fillers: blank letters, which can set the direction of a line, as any letter can.
_REPLACED += "\u206a-\u206f\ufff9-\ufffb\u115f\u1160\u3164\uffa0"
_HARMFUL = re.compile(f"[\x00-\x08\x0b-\x1f\x7f{_REPLACED}]")
_PLAIN = bytes([*b"\t\n", *range(0x20, 0x7F)])
_MARKED: Final = bytes(code if code in _PLAIN else code ^ 1 for code in range(256))
"""Table for `translate` that changes every byte which is not plain ASCII."""


def _harmless(match: re.Match[str]) -> str:
    picture = _PICTURES.get(ord(match[0]))
    return REPLACEMENT if picture is None else chr(picture)


def printable(text: str) -> str:
    """Return `text` with its control characters, except LF and TAB, replaced by visible
    characters."""
    return _HARMFUL.sub(_harmless, text)


def sanitize(block: bytes) -> bytes:
    """Return `block` as valid UTF-8 that is safe to show (TEXT-2, TEXT-3).

    Plain ASCII, the usual case, is returned unchanged.
    """
    if block.translate(_MARKED) == block:
        return block
    return printable(block.decode("utf-8", "replace")).encode()
