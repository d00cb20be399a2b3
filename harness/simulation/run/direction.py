"""One direction of a connection through the bad network: bytes go as its gate allows."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from math import inf

from harness.simulation.run.gates import CHUNK, CLOSED, RESET, Gate


class Direction:
    """The way from one socket of a connection to the other."""

    def __init__(
        self,
        source: socket.socket,
        sink: socket.socket,
        gate: Gate,
        reset: Callable[[], None],
        close_if_done: Callable[[], None],
    ) -> None:
        """reset, close_if_done: what this asks of its connection."""
        self.back = self
        """The other direction of the same connection."""
        self._loop = asyncio.get_running_loop()
        self._reset = reset
        self._close_if_done = close_if_done
        self._source = source
        self._sink = sink
        self._gate = gate
        self._heard_all = False
        """True once the source has ended, or is gone."""
        self._finished = False
        """True once the sink has been told so."""
        self._dropping = False
        """True where what the source says is read and dropped."""
        self._active = False
        self._reading = False
        self._writing = False
        self._timer: asyncio.TimerHandle | None = None

    @property
    def done(self) -> bool:
        return self._heard_all and self._finished

    def start(self) -> None:
        """Begin, as both sides are there."""
        self._active = True
        self.turn()

    def turn(self) -> None:
        """Pass on what is due, and see to it that this is called again when more can be done."""
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
            with contextlib.suppress(OSError):  # it is gone: whoever reads from it will see
                self._sink.shutdown(socket.SHUT_WR)
        room = self._dropping or self._gate.room() > 0
        self._watch(reading=room and not self._heard_all, writing=blocked)
        self._wake_at(self._gate.wake())
        self._close_if_done()

    def drop(self) -> None:
        """End the source for the sink, and read on so that its end is seen."""
        if not self._heard_all:
            self._dropping = True
            self._gate.now = self._loop.time()
            self._gate.end(CLOSED)
            self.turn()

    def lost(self) -> None:
        """Note that the source is gone: it says nothing more, and hears nothing more."""
        self._heard_all = True
        self._gate.now = self._loop.time()
        self._gate.end(RESET)
        self.back.stop()
        self.turn()

    def stop(self) -> None:
        """Neither read nor pass on any more."""
        self._active = False
        self._watch(reading=False, writing=False)
        self._wake_at(inf)

    def _read(self) -> None:
        self._gate.now = self._loop.time()
        room = CHUNK if self._dropping else min(self._gate.room(), CHUNK)
        if room > 0:  # it may be less than when it was asked last
            try:
                self._take(self._source.recv(room))
            except BlockingIOError:
                return
            except OSError:
                self.lost()
                return
        self.turn()

    def _take(self, data: bytes) -> None:
        self._heard_all = not data
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
