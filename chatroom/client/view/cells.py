"""The cells of a row: text whose columns are the same for terminals and this program.

No standard defines the width of a character: terminals, multiplexers and libraries have different
tables. Replacing the characters whose width is in doubt would make whole scripts unreadable.
Instead:

- A character that takes more cells in some terminal than in prompt_toolkit is followed by FILLER, a
  cell that is not drawn. So the character gets the maximum number of cells.
- After each character whose width is in doubt, the output (output.py) moves the cursor to the next
  character's column. So the rest of the row is in its place, even in a terminal that gives the
  character fewer cells.
- Joined emoji are shown as separate emoji, because the number of their cells can't be known.
"""

import re
from functools import lru_cache
from unicodedata import category

from prompt_toolkit.utils import get_cwidth

from chatroom.protocol.text import REPLACEMENT

#: A cell that is not drawn, because the character before it may cover it. It is a noncharacter,
#: which received text does not contain (see `visible`).
FILLER = "\ufdd0"

#: Maximum number of characters without width, mostly accents, in a cell. Writing systems need about
#: four such characters in a cell; prompt_toolkit's time and memory grow with the square of their
#: number.
ACCENTS = 8

# Characters that join emoji, or modify the emoji before them. (The last range are tags, which form
# flags of regions. The only other use of tags is invisible text.)
_ALTERS_EMOJI = re.compile(
    "[\ufe0e\ufe0f\U0001f3fb-\U0001f3ff\U000e0000-\U000e007f]"
    "|(?<=[\u2190-\u2bff\ufe0f\U0001f000-\U0001faff])\u200d"
)

# Chinese, Japanese and Korean characters, which have two cells everywhere. Because these characters
# are common, moving the cursor after each of them would make a row four times as long.
_AGREED = re.compile("[\u3041-\u3096\u30a1-\u30fa\u4e00-\u9fa5\uac00-\ud7a3]")


@lru_cache(4096)
def _cells(char: str) -> int:
    """Return the maximum number of cells that a terminal gives a character."""
    cells = get_cwidth(char)
    if "\U0001f000" <= char <= "\U0001faff":
        return 2  # An emoji. In a table older than the character, it has 1 or 0 cells.
    if cells or category(char) in ("Mn", "Me", "Cf"):
        return cells
    # A vowel sign of an Indic script has one cell in some terminals, and none in others. (All
    # terminals agree about Hangul.)
    return 0 if "\u1160" <= char <= "\u11ff" or "\ud7b0" <= char <= "\ud7ff" else 1


@lru_cache(4096)
def is_agreed(char: str) -> bool:
    """Return True if a character, with its accents, has the same number of cells in all
    terminals."""
    return char.isascii() or _AGREED.fullmatch(char) is not None


def shown(text: str) -> list[str]:
    """Return the text to show for each character: "", or the character and its fillers.

    A cell shows ACCENTS accents; each further accent is shown as U+FFFD.
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
