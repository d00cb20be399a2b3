"""What is sent and what is shown: on a terminal, and off it. Pure.

A front takes bytes from standard input and text from the room. The session asks it what is to be
sent and shown, and does that when socket and output are ready; what arrived is `printable` before
a front sees it.
"""

from typing import NamedTuple, Protocol

from chatroom.client.editor import Editor, Leave
from chatroom.client.screen import Screen
from chatroom.protocol.text import printable


class Reaction(NamedTuple):
    """What standard input asks for."""

    send: bytes = b""
    show: str = ""
    leave: bool = False


class Front(Protocol):
    """How the room is presented. What a method returns as text is to be shown."""

    def open(self) -> str:
        """Begin."""

    def typed(self, data: bytes) -> Reaction:
        """Standard input brought `data`."""

    def arrived(self, text: str) -> str:
        """The room sent `text`."""

    def close(self) -> str:
        """Nothing more will be typed. (More may arrive.)"""


class Plain:
    """Off the terminal: all that standard input brings is sent, all that arrives is shown."""

    def open(self) -> str:
        return ""

    def typed(self, data: bytes) -> Reaction:
        return Reaction(send=data)

    def arrived(self, text: str) -> str:
        return text

    def close(self) -> str:
        return ""


class Prompt:
    """On a terminal: a line is typed at a prompt that what arrives never tears."""

    def __init__(self, columns: int, rows: int) -> None:
        self._editor = Editor()
        self._screen = Screen(columns, rows)

    def open(self) -> str:
        return self._screen.open()

    def typed(self, data: bytes) -> Reaction:
        sent, shown, leave = b"", "", False
        for action in self._editor.feed(data):
            if isinstance(action, Leave):
                leave = True
            else:
                sent += action.line.encode() + b"\n"
                shown += self._screen.sent(printable(action.line))
        return Reaction(sent, shown + self._screen.typed(printable(self._editor.line)), leave)

    def arrived(self, text: str) -> str:
        return self._screen.arrived(text)

    def resized(self, columns: int, rows: int) -> str:
        """The screen has another size now."""
        return self._screen.resized(columns, rows)

    def resumed(self, columns: int, rows: int) -> str:
        """The screen was another program's for a while."""
        return self._screen.resumed(columns, rows)

    def close(self) -> str:
        return self._screen.close()
