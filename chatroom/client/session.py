"""The plain form: one loop between the room and the user.

Two streams run in opposite directions, each through a queue: from standard input to the room
(`_outgoing`), and from the room to standard output (`_display`). A stream's source is read only
while its queue is short, so memory stays bounded, and neither direction can block the other.

The session ends when it knows its `Ending` and has shown everything, or when its time is up.
"""

import os
import select
import signal
import socket
import time
from codecs import getincrementaldecoder
from collections.abc import Sequence
from io import FileIO
from typing import NamedTuple

from chatroom.client.reach import reason
from chatroom.client.signals import Signals
from chatroom.client.streams import CHUNK, Piped
from chatroom.client.tls import Encrypted
from chatroom.protocol.text import printable

#: Bytes in a queue from which on its source waits.
FULL = 256 * 1024
#: What a pipe that is ready takes without making its writer wait. (A terminal: see `output`.)
PIECE = getattr(select, "PIPE_BUF", 4096)
#: Windows can wait for sockets only: there, output is written at once, however long it takes.
WAITS_FOR_FILES = os.name == "posix"

#: Seconds after an ending signal in which what had arrived may still be shown.
LAST_WORDS = 0.5
#: What a shell reports of a program that wrote where nobody read any longer (SIGPIPE).
BROKEN_PIPE = 128 + 13


class Ending(NamedTuple):
    """How it ended: the exit code, and what there is to say on standard error."""

    code: int
    words: str = ""


class Session:
    """A connection to a room, and the user's side of it."""

    def __init__(
        self,
        room: socket.socket | Encrypted,
        source: Piped,
        output: FileIO,
        signals: Signals,
        *,
        patience: float | None,
    ) -> None:
        """`patience`: seconds that the room has to close after our side did; None: for ever."""
        self._room = room
        self._source = source
        self._output = output
        self._signals = signals
        self._patience = patience

        self._decode = getincrementaldecoder("utf-8")("replace").decode
        self._outgoing = bytearray()
        self._display = bytearray()
        self._typing = True  # Standard input may bring more.
        self._said_all = False  # Our side of the connection is closed.
        self._unsent: OSError | None = None  # Why the room takes nothing any longer.
        self._ending: Ending | None = None
        self._deadline: float | None = None

    def run(self) -> Ending:
        """Run until the user leaves, the connection ends, or a signal ends it."""
        while not self._over():
            self._turn()
        return self._ending or Ending(0)

    def _over(self) -> bool:
        if self._deadline is not None and time.monotonic() >= self._deadline:
            return True
        return self._ending is not None and not self._display

    def _turn(self) -> None:
        readable, writable = self._wait()
        if self._signals in readable:
            self._on_signal()
        if self._room in readable:
            self._receive()
        if self._source in readable:
            self._read()
        if self._room in writable:
            self._send()
        if self._output in writable:
            self._flush()
        if not (self._typing or self._outgoing or self._said_all or self._unsent):
            self._finish()

    def _wait(self) -> tuple[Sequence[object], Sequence[object]]:
        """Wait for whatever can be gone on with; return what can be read, and what written."""
        readers: list[Signals | socket.socket | Encrypted | Piped] = [self._signals]
        writers: list[socket.socket | Encrypted | FileIO] = []
        if self._ending is None:
            if len(self._display) < FULL:
                readers.append(self._room)
            if self._typing and len(self._outgoing) < FULL:
                readers.append(self._source)
            if self._outgoing:
                writers.append(self._room)
        if self._display:
            writers.append(self._output)
        timeout = None if self._deadline is None else max(0, self._deadline - time.monotonic())
        # Not `selectors`: epoll refuses files, which select takes for what they are, always ready.
        readable, writable, _ = select.select(readers, writers, [], timeout)
        return readable, writable

    # --- the user to the room ---------------------------------------------------------------------

    def _read(self) -> None:
        try:
            data = self._source.read()
        except OSError as error:
            self._end(1, f"standard input: {reason(error)}")
            return
        self._outgoing += data
        # At its end nothing more will be typed; what was typed is still sent.
        self._typing = bool(data)

    def _send(self) -> None:
        try:
            del self._outgoing[: self._room.send(self._outgoing[:CHUNK])]
        except BlockingIOError:
            pass
        except OSError as error:
            # What the room said before it went may still be there to read: `_receive` ends this.
            self._unsent = error
            self._outgoing.clear()
            self._typing = False

    def _finish(self) -> None:
        """Close our side: all is sent."""
        self._said_all = True
        if self._patience is not None:
            self._deadline = time.monotonic() + self._patience
        try:
            self._room.shutdown(socket.SHUT_WR)
        except OSError as error:
            self._unsent = error

    # --- the room to the user ---------------------------------------------------------------------

    def _receive(self) -> None:
        try:
            data = self._room.recv(CHUNK)
        except BlockingIOError:
            return
        except OSError as error:
            self._gone(self._unsent or error)
            return
        self._show(printable(self._decode(data, final=not data)))
        if not data:
            self._gone(self._unsent)

    def _gone(self, error: OSError | None) -> None:
        """The room closed the connection, or (`error`) it was cut."""
        # Who pipes something in has to know whether it may not have arrived; who left, has left.
        if self._said_all and (error is None or self._patience is not None):
            self._end(0)
        else:
            why = reason(error) if error else "closed by the server"
            self._end(1, f"connection lost: {why}")

    def _show(self, text: str) -> None:
        self._display += text.encode()
        while self._display and not WAITS_FOR_FILES:
            self._flush()

    def _flush(self) -> None:
        try:
            # None: it does not block, as no terminal does here, and is not ready after all.
            written = self._output.write(self._display[:PIECE])
        except OSError as error:
            self._display.clear()
            if self._ending is None or self._ending.code == 0:
                broken = isinstance(error, BrokenPipeError)
                said = "" if broken else f"standard output: {reason(error)}"
                self._ending = Ending(BROKEN_PIPE if broken else 1, said)
        else:
            del self._display[: written or 0]

    # --- the end ----------------------------------------------------------------------------------

    def _on_signal(self) -> None:
        for number in self._signals.take():
            if self._ending:
                # It is to end at once, whatever is still to be shown, and why it ended is to be
                # said: that may have to wait for the same terminal.
                self._ending = self._ending._replace(words="")
                self._deadline = time.monotonic()
            else:
                self._end(0 if number == signal.SIGINT else 128 + number)
                self._deadline = time.monotonic() + LAST_WORDS

    def _end(self, code: int, words: str = "") -> None:
        if self._ending is None:
            self._ending = Ending(code, words)
