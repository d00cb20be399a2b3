"""Print the conversation, and the main process's own lines.

The console follows the log (log/follower.py), and nothing waits for it. The console writes in a
separate thread, so a stopped terminal or an unread pipe blocks only that thread. The thread writes
at most one chunk per PAUSE. If the console falls too far behind, it prints how many messages it
left out and continues at the head.
"""

import contextlib
import logging
import os
import select
import signal
import threading
from collections import deque
from collections.abc import Callable
from typing import TextIO

from chatroom.config.sizes import KIB, MIB
from chatroom.errors import LimitError
from chatroom.log.follower import READ_AGAIN, Follower
from chatroom.log.ring import Log
from chatroom.system.doorbell import Doorbell
from chatroom.system.signals import STOP_SIGNALS

PAUSE = 0.05
"""Pause (s) between two chunks. People can't read faster, and the workers need the processors."""
CHUNK = 64 * KIB
"""Maximum size (bytes) of a chunk of the log; a chunk has at least one entry, of any size."""
MAX_BEHIND = MIB
"""Maximum lag (bytes) behind the head: about 0.8 s of output. If the log keeps fewer bytes, that
number is the maximum."""
MAX_LINES = 1000
"""Maximum number of lines, of about 100 bytes each, that wait while nobody reads the output."""
CLOSE_WITHIN = 0.3
"""Timeout (s) for a slow reader to read the rest when the room has ended."""
LEFT_OUT = b"(%d left out)\n"


def descriptor(stream: TextIO | None) -> int:
    """Return a standard stream's descriptor; if the stream is closed, open the null device
    instead."""
    return stream.fileno() if stream else os.open(os.devnull, os.O_WRONLY)


class _Line:
    """A line to print as soon as the log has been printed up to `position`."""

    def __init__(self, position: int, text: bytes | None) -> None:
        self.position = position
        self.text = text
        """Text with its LF; empty to print nothing; None while the text is undecided."""


class Console:
    """The console's thread, and its queue of lines.

    The console prints the messages that are appended to `log` from now on. A quiet console has no
    log, and prints only lines. The main thread makes the console and calls `print_line` and
    `close`; `print_line` never waits for the reader of `fd`.
    """

    def __init__(self, log: Log | None, doorbell: Doorbell, fd: int) -> None:
        """Start the thread. Raises LimitError if it can't be started."""
        self._log = log
        self._doorbell = doorbell
        self._fd = fd
        self._follower: Follower | None = None
        if log is not None:
            self._follower = Follower(log, log.messages(log.head), MAX_BEHIND, skip_to=0)
        self._read_again = False
        """True if another process was appending: the log must be read again after READ_AGAIN."""
        self._lines: deque[_Line] = deque()
        """Lines to print, in order of their positions."""
        self._dropped = 0
        """Total number of lines dropped because MAX_LINES waited; only the main thread changes
        it."""
        self._dropped_reported = 0
        """Part of `_dropped` that has been reported; only the console's thread changes it."""
        self._line_open = False
        """True if the last byte printed was not a LF."""
        self._skip_lf = False
        """True if the next byte of the log is the LF of a line that the console has already ended,
        or has left out. That LF is not printed."""
        self._closing = threading.Event()
        self._thread = threading.Thread(target=self._run, name="console", daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:  # no memory for its stack, or too many threads
            raise LimitError(f"can't start the console's thread: {error}") from None

    def print_line(self, line: str) -> None:
        """Print a line after all messages appended so far. Drop the line if MAX_LINES lines
        wait."""
        self.reserve_line()(line)

    def reserve_line(self) -> Callable[[str | None], None]:
        """Reserve a place after all messages appended so far, and return a function.

        Call the function with the line to print there, or None. Until then, nothing after this
        place is printed.
        """
        reserved = _Line(self._log.head if self._log else 0, None)
        dropped = len(self._lines) >= MAX_LINES
        if not dropped:
            self._lines.append(reserved)

        def decide(line: str | None) -> None:
            if dropped:
                self._dropped += line is not None
            reserved.text = b"" if line is None else line.encode(errors="backslashreplace") + b"\n"
            self._doorbell.ring()

        return decide

    def close(self, within: float = CLOSE_WITHIN) -> None:
        """Print the rest, without undecided lines, within `within` seconds, and end the thread."""
        for line in list(self._lines):
            if line.text is None:
                line.text = b""
        self._closing.set()
        self._doorbell.ring()
        self._thread.join(within)

    def _run(self) -> None:
        # Only the main thread may receive the stop signals. While the main thread blocks them, they
        # must wait. A terminal's SIGTTOU would stop a process that prints in the background.
        signal.pthread_sigmask(signal.SIG_BLOCK, (*STOP_SIGNALS, signal.SIGTTOU))
        with contextlib.suppress(OSError):  # the reader has closed the output; the room continues
            closing = False  # read before the last `_next`, so that no line is missed
            while self._read_again or not closing:
                timeout = READ_AGAIN if self._read_again else None
                select.select([self._doorbell], [], [], timeout)
                self._doorbell.clear()
                closing = self._closing.is_set()
                while text := self._next():
                    self._write(text)
                    self._closing.wait(PAUSE)

    def _next(self) -> bytes:
        """Return the text to print next; empty if the console has caught up."""
        text, position = b"", 0
        while self._lines and self._lines[0].text == b"":
            self._lines.popleft()
        if self._log is not None and self._follower is not None:
            text = self._messages(self._log, self._follower)
            position = self._follower.position
        while self._lines and self._lines[0].position <= position:
            line = self._lines[0].text
            if line is None:
                break
            self._lines.popleft()
            if line:
                text += self._line(line)
        dropped = self._dropped - self._dropped_reported
        if dropped and not self._lines:
            self._dropped_reported += dropped
            text += self._line(LEFT_OUT % dropped)
        return text

    def _messages(self, log: Log, follower: Follower) -> bytes:
        """Return a chunk of the log up to the next line, or a LEFT_OUT line in its place."""
        while True:
            stop = self._lines[0].position if self._lines else None
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
        """Return `line`, with a LF before it if the console's last line is unfinished."""
        if not self._line_open:
            return line
        self._line_open, self._skip_lf = False, True
        return b"\n" + line

    def _write(self, text: bytes) -> None:
        rest = memoryview(text)
        while rest:
            try:
                rest = rest[os.write(self._fd, rest) :]
            except BlockingIOError:  # another process has set O_NONBLOCK
                select.select([], [self._fd], [])


class ConsoleHandler(logging.Handler):
    """Prints log records on a console, so that an unread standard error does not block the room.

    Only the main thread may log, because only the main thread may call `Console.print_line`.
    """

    def __init__(self, console: Console) -> None:
        super().__init__()
        self._console = console

    def emit(self, record: logging.LogRecord) -> None:
        self._console.print_line(self.format(record))
