"""What to write to a terminal so that what arrives never tears the line being typed. Pure.

The screen, from above: what has arrived and one's own lines; then, always from the left edge, the
prompt and what is being typed, over as many rows as it takes. Each method returns the text that
brings the terminal to its next state: it erases the prompt, writes what is new, and draws the
prompt again.

A line that arrived without its end is left as it is, the prompt goes below it, and what arrives
next goes on where it ended: the cursor is led back there. So it does not show how the network cut
a line. Where the cursor can't be led back (the screen was resized, one's own line is between), it
goes on below.

All text that comes in here has to be `printable` already.
"""

from chatroom.client.cells import place, tail

PROMPT = "<You>"
ELLIPSIS = "…"

# Row by row: some terminals save the screen to their history when all of it is erased at once, and
# that it would be, at every key, with the prompt in the topmost row.
ERASE_ROW = "\r\x1b[K"
UP = "\x1b[A"
NEW_LINE = "\r\n"


class Screen:
    """A terminal of `columns` by `rows`, whose cursor is where the prompt ends."""

    def __init__(self, columns: int, rows: int) -> None:
        self._columns = columns
        self._rows = rows
        self._prompt = ""
        self._line = ""
        self._drawn = ""
        # Whether the last line that arrived has yet to end, and the column in the row above the
        # prompt where it goes on; 0 where it can't: then it goes on at the prompt's row.
        self._unended = False
        self._column = 0

    def open(self) -> str:
        """Draw the prompt for the first time."""
        self._prompt = PROMPT
        return self._draw()

    def typed(self, line: str) -> str:
        """Show `line` as what is being typed."""
        self._line = line
        return self._erase() + self._draw()

    def sent(self, line: str) -> str:
        """Leave `line` standing as one's own, and start another."""
        erased = self._erase()
        self._line, self._column = "", 0
        return erased + PROMPT + line + NEW_LINE + self._draw()

    def arrived(self, text: str) -> str:
        """Show what arrived, which may begin and end anywhere in a line."""
        if not text:  # Half a character, so far.
            return ""
        written = self._erase()
        if self._column:
            written += f"{UP}\x1b[{self._column}C"
        elif self._unended and text.startswith("\n"):
            # The line that ends here was left for good when the prompt went below it.
            text = text[1:]
            self._unended = False
        _, ended, rest = text.rpartition("\n")
        column = place(rest, self._columns, 0 if ended else self._column).column
        self._unended = bool(rest) or (self._unended and not ended)
        # After a full row the next character is due at the left edge below: where the prompt is.
        self._column = column if self._unended and column < self._columns else 0
        written += text.replace("\n", NEW_LINE)
        if self._unended:
            written += NEW_LINE
        return written + self._draw()

    def resized(self, columns: int, rows: int) -> str:
        """Draw the prompt anew on a screen of another size.

        By then the terminal has wrapped anew what stands on it, as nearly all of them do, so what
        is to be erased is as high as the *new* width makes it.
        """
        self._columns, self._rows = columns, rows
        self._column = 0
        return self._erase() + self._draw()

    def resumed(self, columns: int, rows: int) -> str:
        """Draw the prompt after another program had the screen: what stands there is not ours."""
        self._columns, self._rows = columns, rows
        self._column = 0
        return ERASE_ROW + self._draw()

    def close(self) -> str:
        """Take the prompt away for good; what was typed but not sent stays to be seen."""
        if self._line:
            taken_away = NEW_LINE
            self._column = 0
        else:
            taken_away = self._erase()
        self._prompt = self._line = self._drawn = ""
        return taken_away

    def _erase(self) -> str:
        below = place(self._drawn, self._columns).row
        return (ERASE_ROW + UP) * below + ERASE_ROW

    def _draw(self) -> str:
        # One row is left to what arrives, and the prompt can't be erased once it has scrolled off
        # the top: of a line that is too long its end is shown. A wide character that does not fit
        # at the right edge leaves a cell unused, in each row at most one.
        room = max(self._rows - 1, 1) * (self._columns - 1) - len(self._prompt + ELLIPSIS)
        shown = tail(self._line, room)
        self._drawn = self._prompt + (shown if shown == self._line else ELLIPSIS + shown)
        return self._drawn
