"""One direction of a connection through the faulty network. A gate decides when bytes pass."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from math import inf

from harness.simulation.run.gates import CHUNK, CLOSED, RESET, Gate


class Direction:
    """Carries bytes from one socket of a connection, the source, to the other, the sink."""

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        gate: Gate,
        reset: Callable[[], None],
        close_if_done: Callable[[], None],
    ) -> None:
        """`reset`: function that resets the connection. `close_if_done`: function that closes the
        connection if both directions are done."""
        self.back = self
        """The opposite direction of the same connection; set after both directions were made."""
        self._loop = asyncio.get_running_loop()
        self._reset = reset
        self._close_if_done = close_if_done
        self._source = source
        self._sink = sink
        self._gate = gate
        self._source_ended = False
        """True once the source has reached EOF or failed."""
        self._finished = False
        """True once the sink was shut down for writing."""
        self._dropping = False
        """True once input is only read and dropped."""
        self._active = False
        self._reading = False
        self._writing = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def done(self) -> bool:
        return self._source_ended and self._finished

    def start(self) -> None:
        """Begin to carry bytes. Both sockets must be connected."""
        self._active = True
        self.turn()

    def turn(self) -> None:
        """Pass on the bytes that are due, and schedule the next turn."""
        if not self._active:
            return
        self._gate.now = self._loop.time()
        blocked = False
        while not blocked and (data := self._gate.due()):
            try:
                self._gate.took(self._sink.send(data))
            except BlockingIOError:
                blocked = True
            except OSError:
                self.back.lost()
                return
        ending = self._gate.ending()
        if ending == RESET:
            self._reset()
            return
        if ending == CLOSED and not self._finished:
            self._finished = True
            # If the sink is closed, the opposite direction, which reads from it, notices this.
            with contextlib.suppress(OSError):
                self._sink.shutdown(socket.SHUT_WR)
        room = self._dropping or self._gate.room() > 0
        self._watch(reading=room and not self._source_ended, writing=blocked)
        self._wake_at(self._gate.wake())
        self._close_if_done()

    def drop(self) -> None:
        """End the sink's stream. Read and drop further input, to notice the end of the source."""
        if not self._source_ended:
            self._dropping = True
            self._gate.now = self._loop.time()
            self._gate.end(CLOSED)
            self.turn()

    def lost(self) -> None:
        """Handle a failure of the source's socket: stop the opposite direction, reset the sink."""
        self._source_ended = True
        self._gate.now = self._loop.time()
        self._gate.end(RESET)
        self.back.stop()
        self.turn()

    def stop(self) -> None:
        """Stop reading and writing."""
        self._active = False
        self._watch(reading=False, writing=False)
        self._wake_at(inf)

    def _read(self) -> None:
        self._gate.now = self._loop.time()
        room = CHUNK if self._dropping else min(self._gate.room(), CHUNK)
        if room > 0:  # the room may have shrunk since the last turn
            try:
                self._take(self._source.recv(room))
            except BlockingIOError:
                return
            except OSError:
                self.lost()
                return
        self.turn()

    def _take(self, data: bytes) -> None:
        self._source_ended = not data
        if self._dropping:
            return
        if data:
            self._gate.put(data)
        else:
            self._gate.end(CLOSED)

    def _watch(self, reading: bool, writing: bool) -> None:
        if reading != self._reading:
            self._reading = reading
            if reading:
                self._loop.add_reader(self._source, self._read)
            else:
                self._loop.remove_reader(self._source)
        if writing != self._writing:
            self._writing = writing
            if writing:
                self._loop.add_writer(self._sink, self.turn)
            else:
                self._loop.remove_writer(self._sink)

    def _wake_at(self, when: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if when < inf:
            self._timer = self._loop.call_at(when, self.turn)
