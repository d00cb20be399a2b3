"""The gates of a faulty network: they decide which bytes to pass on, and when. Pure.

A `Link` describes the fault of its connections; a `Course` is drawn from it for one
connection. A connection has two gates, one for each direction. A gate holds bytes read
from one side until they may be passed on to the other. It has neither sockets nor a clock:
its caller sets the time, in seconds of one monotonic clock.

    slow           the server's bytes are carried at a limited rate
    stall          the server's bytes are not carried, as if the client did not read
    drip           the client's bytes are carried one by one, with pauses
    delay          bytes in both directions are held for a while
    cut-off        the server's side is reset; the client's is closed
    reset          both sides are reset
    half-close     the client's direction is ended (FIN); the client still receives
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from math import inf

from harness.simulation.scenario.scenario import Link

CONNECTION_FAULTS = ("cut-off", "reset", "half-close")
"""Faults of a whole connection; its gates pass everything."""

CLOSED, RESET = "closed", "reset"
"""Ways in which a side ends: by FIN, or by RST."""

HELD = 1 << 16
"""Maximum number of bytes that a gate holds."""

HELD_BY_DELAY = 1 << 20
"""Maximum number of bytes that a delay gate holds, and so carries per delay."""

CHUNK = 1 << 16
"""Maximum number of bytes that are due at once."""

GRAIN = 0.05
"""Seconds between two portions of a slow gate; more at rates below 20 bytes per second."""


@dataclass(frozen=True)
class Course:
    """The fault of one connection, from time `begins` to `ends`; `inf`: to the end of it."""

    fault: str
    begins: float
    ends: float
    bytes_per_second: float
    pause: float
    held: float

    def holds(self, now: float) -> bool:
        """Return whether the fault is active at this time."""
        return self.begins <= now < self.ends


def draw(link: Link, came: float, seed: int, number: int, connection: int) -> Course:
    """Draw the course of a connection that was accepted at the time `came`.

    number: number of the link. connection: number of the connection in the link. The same
    seed and numbers give the same course.
    """
    chance = random.Random(f"{seed} {number} {connection}")
    begins = came + chance.uniform(*link.after)
    lasts = chance.uniform(*link.seconds) if link.seconds else inf
    return Course(
        link.fault,
        begins,
        begins + lasts,
        link.bytes_per_second,
        chance.uniform(*link.pause),
        chance.uniform(*link.held),
    )


def gates(course: Course) -> tuple[Gate, Gate]:
    """Return the gates for the client's bytes and for the server's."""
    match course.fault:
        case "slow":
            return Gate(), SlowGate(course, course.bytes_per_second)
        case "stall":
            return Gate(), SlowGate(course, 0)
        case "drip":
            return DripGate(course), Gate()
        case "delay":
            return DelayGate(course), DelayGate(course)
        case _:
            return Gate(), Gate()


class Gate:
    """A gate that passes on everything at once."""

    def __init__(self) -> None:
        self.now = 0.0
        """Current time. The caller sets it before each call."""
        self._held = bytearray()
        self._ending = ""

    def room(self) -> int:
        """Return the number of bytes that may be read now."""
        return HELD - len(self._held)

    def put(self, data: bytes) -> None:
        """Take bytes that were read."""
        self._held += data

    def end(self, how: str) -> None:
        """Record that the source has ended: CLOSED or RESET."""
        self._ending = how

    def due(self) -> bytes:
        """Return bytes to pass on now; empty if there are none."""
        return bytes(self._held[:CHUNK])

    def took(self, size: int) -> None:
        """Record that the first `size` of the due bytes were passed on."""
        del self._held[:size]

    def ending(self) -> str:
        """Return how to end the other side now; empty: not yet. Call it after `due`.

        A FIN follows all bytes before it; a RST overtakes bytes that could not be passed
        on yet, as TCP's does.
        """
        return self._ending if self._ending == RESET or not self._held else ""

    def wake(self) -> float:
        """Return the time of the next turn without an event; `inf`: none."""
        return inf


class SlowGate(Gate):
    """A gate with a limited rate, in bytes per second, during the fault; 0 stops it.

    It reads only bytes that it may pass on, so that the backlog stays at the server. After a
    silence, it passes at most two portions at once.
    """

    def __init__(self, course: Course, rate: float) -> None:
        super().__init__()
        self._course = course
        self._rate = rate
        self._size = min(max(1, int(rate * GRAIN)), CHUNK)
        self._grain = self._size / rate if rate else inf
        """Seconds after which `_size` more bytes are allowed."""
        self._spent = course.begins
        """Time up to which the rate is used up."""

    def room(self) -> int:
        return max(0, min(super().room(), self._allowed() - len(self._held)))

    def due(self) -> bytes:
        return super().due()[: self._allowed()]

    def took(self, size: int) -> None:
        super().took(size)
        if self._rate and self._course.holds(self.now):
            self._spent = max(self._spent, self.now - 2 * self._grain) + size / self._rate

    def wake(self) -> float:
        if not self._course.holds(self.now):
            return inf
        granted = self._spent + self._grain
        return min(granted if granted > self.now else inf, self._course.ends)

    def _allowed(self) -> int:
        if not self._course.holds(self.now):
            return HELD
        if self.now < self._spent + self._grain:
            return 0
        return max(self._size, int(min(self.now - self._spent, 2 * self._grain) * self._rate))


class DripGate(Gate):
    """A gate that passes one byte at a time, with a pause after each, during the fault."""

    def __init__(self, course: Course) -> None:
        super().__init__()
        self._course = course
        self._next = course.begins

    def due(self) -> bytes:
        if not self._course.holds(self.now):
            return super().due()
        return bytes(self._held[:1]) if self.now >= self._next else b""

    def took(self, size: int) -> None:
        super().took(size)
        if self._course.holds(self.now):
            self._next = self.now + self._course.pause

    def wake(self) -> float:
        if not self._held or not self._course.holds(self.now) or self._next <= self.now:
            return inf
        return min(self._next, self._course.ends)


class DelayGate(Gate):
    """A gate that delays all input during the fault; later input is not passed before it."""

    def __init__(self, course: Course) -> None:
        super().__init__()
        self._course = course
        self._later: deque[tuple[float, bytes]] = deque()
        self._size = 0
        """Number of bytes in `_later`."""
        self._last = -inf
        """Earliest time at which new input may be due."""

    def room(self) -> int:
        return HELD_BY_DELAY - len(self._held) - self._size

    def put(self, data: bytes) -> None:
        self._later.append((self._due(), data))
        self._size += len(data)

    def end(self, how: str) -> None:
        super().end(how)
        self._last = self._due()

    def due(self) -> bytes:
        while self._later and self._later[0][0] <= self.now:
            data = self._later.popleft()[1]
            self._size -= len(data)
            self._held += data
        return super().due()

    def ending(self) -> str:
        return super().ending() if not self._later and self._last <= self.now else ""

    def wake(self) -> float:
        if self._later:
            return self._later[0][0]
        return self._last if self._ending and self._last > self.now else inf

    def _due(self) -> float:
        held = self._course.held if self._course.holds(self.now) else 0
        self._last = max(self._last, self.now + held)
        return self._last
