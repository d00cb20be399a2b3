"""The cells of a row: text whose columns are the same for terminals and this program. Pure.

No standard defines the width of a character: terminals, multiplexers and libraries have different
tables. Replacing doubtful characters would make whole scripts unreadable. Instead

- a character that takes more cells in some terminal than in prompt_toolkit is followed by FILLER, a
  cell that is not drawn, so that the character gets the maximum number of cells;
- after each character whose width is in doubt, the output (output.py) moves the cursor to the next
  character's column, so that the rest is in its place in a terminal that gives the character fewer
  cells;
- each emoji is shown by itself, because the cells of joined emoji can't be known.
"""

import re
from functools import lru_cache
from unicodedata import category

from prompt_toolkit.utils import get_cwidth

from chatroom.protocol.text import REPLACEMENT

#: A cell that is not drawn, since the character before it may cover it. A noncharacter, which
#: received text does not contain (see `visible`).
FILLER = "\ufdd0"

#: Maximum number of characters without width, mostly accents, in a cell. Writing systems need about
#: four; prompt_toolkit's time and memory grow with the square of their number.
ACCENTS = 8

# Characters that join emoji or alter the one before them. (The last range are tags. They make flags
# of regions; their only other use is invisible text.)
_ALTERS_EMOJI = re.compile(
    "[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff\U000e0000-\U000e007f]"
    "|(?<=[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d"
)

# Chinese, Japanese and Korean characters, which have two cells everywhere. They are common, and a
# move of the cursor after each one would make rows four times as long.
_AGREED = re.compile("[\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3]")


@lru_cache(4096)
def _cells(char: str) -> int:
    """Return the maximum number of cells that a terminal gives a character."""
    cells = get_cwidth(char)
    if "\U0001f000" <= char <= "\U0001faff":
        return 2  # Emoji. A table older than the character gives it one cell, or none.
    if cells or category(char) in ("Mn", "Me", "Cf"):
        return cells
    # A vowel sign of an Indic script: some terminals give it a cell, others none. (All agree about
    # Hangul.)
    return 0 if "\u1160" <= char <= "\u11ff" or "\ud7b0" <= char <= "\ud7ff" else 1


@lru_cache(4096)
def is_agreed(char: str) -> bool:
    """Return True if all terminals give a character, with its accents, the same cells."""
    return char.isascii() or _AGREED.fullmatch(char) is not None


def shown(text: str) -> list[str]:
    """Return what to show for each character of `text`: nothing, or itself and its fillers.

    A cell shows ACCENTS accents; each further one is shown as U+FFFD.
    """
    altering = {found.start() for found in _ALTERS_EMOJI.finditer(text)}
    cells = []
    accents = 0
    for index, char in enumerate(text):
        if index in altering:
            cells.append("")
            continue
        accents = 0 if get_cwidth(char) else accents + 1
        if accents > ACCENTS:
            cells.append(REPLACEMENT)
        else:
            cells.append(char + FILLER * (_cells(char) - get_cwidth(char)))
    return cells


def settled(text: str) -> str:
    """Return the result of `shown` as one string."""
    return text if text.isascii() else "".join(shown(text))
