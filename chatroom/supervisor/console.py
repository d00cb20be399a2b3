"""Print the conversation, as the tutorial's server does, and what the main process logs.

The console follows the log, and nobody waits for it. A thread of its own writes, so
that a terminal that is held, or a pipe that nobody reads, stops nothing but itself.
It writes at most a chunk in each pause; where it falls too far behind, it says how
many messages it left out, and goes on at the head.
"""

import contextlib
import os
import select
import signal
import threading
from collections import deque
from typing import TextIO

from chatroom.config.sizes import KIB, MIB
from chatroom.errors import LimitError
from chatroom.log.follower import READ_AGAIN, Follower
from chatroom.log.ring import Log
from chatroom.system.doorbell import Doorbell
from chatroom.system.signals import STOP_SIGNALS

PAUSE = 0.05
"""Seconds between two chunks. A person reads no faster, and the workers need the processors."""
CHUNK = 64 * KIB
"""Bytes of the log, at most, that are printed at once; but one entry at least."""
MAX_BEHIND = MIB
"""Bytes of the log that it may have yet to print, if the log keeps as many: most of a second at
its pace."""
MAX_LINES = 1000
"""Lines, of some 100 bytes each, that it keeps while nobody reads."""
CLOSE_WITHIN = 0.3
"""Seconds, when the room has ended, for whoever reads slowly."""
LEFT_OUT = b"(%d left out)\n"


def descriptor(stream: TextIO | None) -> int:
    """Return a standard stream's descriptor; of one that is closed, one that leads nowhere."""
    return stream.fileno() if stream else os.open(os.devnull, os.O_WRONLY)


class Console:
    """The thread, and what it has yet to print.

    `log` is None for a quiet console, which prints what it is told to `print_line` and
    nothing else; else the console begins at its head. The main thread makes it, and
    calls `print_line` and `close`; neither waits for whoever reads `fd`.
    """

    def __init__(self, log: Log | None, doorbell: Doorbell, fd: int) -> None:
        """Raises LimitError where no thread can be started."""
        self._log = log
        self._doorbell = doorbell
        self._fd = fd
        self._follower: Follower | None = None
        if log is not None:
            self._follower = Follower(log, log.messages(log.head), MAX_BEHIND, rest=0)
        self._read_again = False
        """True where the log could not be read just now, and is to be read in a moment."""
        self._lines: deque[tuple[int, bytes]] = deque()
        """Lines to print, each with the position in the log behind which it comes."""
        self._dropped = 0
        """Notices for which there was no room, ever; the main thread counts them."""
        self._dropped_told = 0
        self._line_open = False
        """Whether what was printed last has no LF."""
        self._skip_lf = False
        """Whether the next byte is a LF that would end a line already ended, or not shown."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # no memory for its stack, or too many threads
            raise LimitError(f"no thread to print with: {error}") from None

    def print_line(self, line: str) -> None:
        """Print a line behind all that was appended so far."""
        if len(self._lines) < MAX_LINES:
            position = self._log.head if self._log else 0
            self._lines.append((position, line.encode(errors="backslashreplace") + b"\n"))
        else:
            self._dropped += 1
        self._doorbell.ring()

    def close(self, within: float = CLOSE_WITHIN) -> None:
        """Print what is left, for at most `within` seconds, and end."""
        self._closing.set()
        self._doorbell.ring()
        self._thread.join(within)

    def _run(self) -> None:
        # They are for the main thread, and when it blocks them they come to nobody.
        # And a terminal's SIGTTOU would stop what prints from the background.
        signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, signal.SIGTTOU))
        with contextlib.suppress(OSError):  # nobody will read more, and the room goes on
            closing = False  # it is asked before the last look for what is left
            while self._read_again or not closing:
                timeout = READ_AGAIN if self._read_again else None
                select.select([self._doorbell], [], [], timeout)
                self._doorbell.clear()
                closing = self._closing.is_set()
                while text := self._next():
                    self._write(text)
                    self._closing.wait(PAUSE)

    def _next(self) -> bytes:
        """Return what to print next; empty when it has caught up."""
        text, position = b"", 0
        if self._log is not None and self._follower is not None:
            text = self._converse(self._log, self._follower)
            position = self._follower.position
        while self._lines and self._lines[0][0] <= position:
            text += self._line(self._lines.popleft()[1])
        dropped = self._dropped - self._dropped_told
        if dropped and not self._lines:
            self._dropped_told += dropped
            text += self._line(LEFT_OUT % dropped)
        return text

    def _converse(self, log: Log, follower: Follower) -> bytes:
        """Return a chunk of the log, up to the next of the lines, or the line to print instead."""
        while True:
            stop = self._lines[0][0] if self._lines else None
            chunk = follower.read(CHUNK, stop)
            self._read_again = chunk is None
            if chunk is None:
                return b""
            follower.advance(chunk)
            if chunk.missed:
                text = self._line(LEFT_OUT % len(chunk.missed))
                self._skip_lf = log.unfinished(chunk.end.offset)
                return text
            if chunk.text:
                self._line_open = not chunk.text.endswith(b"\n")
                text = chunk.text[self._skip_lf :]
                self._skip_lf = False
                if text:
                    return text
            elif chunk.begin == chunk.end:
                return b""

    def _line(self, line: bytes) -> bytes:
        """Return `line` on a line of its own."""
        if not self._line_open:
            return line
        self._line_open, self._skip_lf = False, True
        return b"\n" + line

    def _write(self, text: bytes) -> None:
        rest = memoryview(text)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # someone else has set it so
                select.select([], [self._fd], [])
