"""The user's terminal, which has to be left as it was found, whatever happens.

Not for Windows: it has no termios.
"""

import os
import signal
import termios
from contextlib import suppress
from types import TracebackType
from typing import Any

from chatroom.client.streams import CHUNK, STDIN, STDOUT

LOCAL_FLAGS, CONTROL_CHARACTERS = 3, 6

USUAL_SIZE = (80, 24)


class Terminal:
    """Standard input and output, which are a terminal. Entered, it gives each key at once.

    It echoes nothing then; Ctrl-C and Ctrl-Z still make signals.
    """

    def __init__(self) -> None:
        self._found = termios.tcgetattr(STDIN)

    def __enter__(self) -> "Terminal":
        self.enter()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.restore()

    def enter(self) -> None:
        """Take the terminal over."""
        attributes = list(self._found)
        attributes[LOCAL_FLAGS] &= ~(termios.ICANON | termios.ECHO)
        characters = list(attributes[CONTROL_CHARACTERS])
        characters[termios.VMIN], characters[termios.VTIME] = 1, 0
        attributes[CONTROL_CHARACTERS] = characters
        self._set(attributes)

    def restore(self) -> None:
        """Give it back as it was found."""
        self._set(self._found)

    @staticmethod
    def _set(attributes: list[Any]) -> None:
        with suppress(termios.error):  # It has hung up; a signal says so too, and ends us.
            # NOW does not wait for what the terminal has yet to show: it may be stopped (Ctrl-S).
            termios.tcsetattr(STDIN, termios.TCSANOW, attributes)

    def suspend(self) -> None:
        """Stop, as Ctrl-Z asks, and lend the terminal to the shell; returns when continued."""
        self.restore()
        # Not SIGSTOP: the kernel ignores this one where no shell is there to continue us.
        handler = signal.signal(signal.SIGTSTP, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGTSTP)
        signal.signal(signal.SIGTSTP, handler)
        self.enter()

    def size(self) -> tuple[int, int]:
        """Columns and rows."""
        try:
            columns, rows = os.get_terminal_size(STDOUT)
        except OSError:  # It has hung up.
            return USUAL_SIZE
        return columns or USUAL_SIZE[0], rows or USUAL_SIZE[1]

    def fileno(self) -> int:
        return STDIN

    def read(self) -> bytes:
        return os.read(STDIN, CHUNK)
