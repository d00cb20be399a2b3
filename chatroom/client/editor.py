"""The line that is being typed. Pure: bytes from the keyboard in, actions out.

The keyboard's bytes may be cut anywhere: inside a character, inside the sequence of an arrow key.
Pasted text is no different from typed text: each of its lines is sent.
"""

import codecs
import unicodedata
from dataclasses import dataclass

from chatroom.client.cells import cells

ZERO_WIDTH_JOINER = "\u200d"


@dataclass(frozen=True, slots=True)
class Send:
    """Enter was pressed: this line is complete."""

    line: str


@dataclass(frozen=True, slots=True)
class Leave:
    """The user wants to go; whatever was typed after it is ignored."""


Action = Send | Leave


class Editor:
    """Holds `line`, what was typed since Enter was last pressed."""

    def __init__(self) -> None:
        self.line = ""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        # What has come of a key's escape sequence: "" (none), ESC, ESC [ or ESC O.
        self._escape = ""

    def feed(self, data: bytes) -> list[Action]:
        """Take what the keyboard sent and return what is to be done about it, in order."""
        actions: list[Action] = []
        for key in self._decoder.decode(data):
            if self._swallowed(key):
                continue
            if action := self._press(key):
                actions.append(action)
                if isinstance(action, Leave):
                    break
        return actions

    def _swallowed(self, key: str) -> bool:
        """Whether `key` is part of an escape sequence: an arrow key's, a paste's brackets."""
        match self._escape:
            case _ if key == "\x1b":
                self._escape = key
            case "\x1b" if key in "[O":
                self._escape += key
            case "\x1b[" if key >= " ":
                # Parameters, until a letter ends it; the Linux console's F1 is ESC [ [ A.
                if "@" <= key != "[":
                    self._escape = ""
            case "\x1bO" if key >= " ":
                self._escape = ""
            case _:
                # Not in a sequence, or the Escape key alone: what follows it was typed for itself.
                self._escape = ""
                return False
        return True

    def _press(self, key: str) -> Action | None:
        match key:
            case "\r" | "\n":
                line, self.line = self.line, ""
                return Send(line)
            case "\x03":  # Ctrl-C, on a terminal that makes no signal of it
                return Leave()
            case "\x04":  # Ctrl-D
                return None if self.line else Leave()
            case "\x7f" | "\b":
                self.line = _without_last_character(self.line)
            case "\x15":  # Ctrl-U
                self.line = ""
            case "\x17":  # Ctrl-W
                self.line = _without_last_word(self.line)
            case _ if key == "\t" or unicodedata.category(key) != "Cc":
                self.line += key
        return None


def _without_last_character(line: str) -> str:
    """Less the last character that is seen: with its accents, and with all that is joined to it."""
    end = len(line)
    while end:
        end -= 1
        if cells(line[end]) and line[end - 1 : end] != ZERO_WIDTH_JOINER:
            break
    return line[:end]


def _without_last_word(line: str) -> str:
    line = line.rstrip()
    while line and not line[-1].isspace():
        line = line[:-1]
    return line
