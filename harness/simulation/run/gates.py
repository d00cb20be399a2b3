"""The gates of a bad network: the bytes that may be passed on, and when. Pure.

A `Link` describes the fault of the connections that come by it, a `Course` what was
drawn for one of them. A connection has two gates, one for what the client says and one for
what it hears. A gate holds what was read from one side until it may be passed on
to the other; it knows neither sockets nor a clock: whoever asks sets its time, in
seconds of one monotonic clock.

    slow           what the server says is carried at so many bytes per second
    stall          nothing of it is carried: a client that does not read
    drip           what the client says is carried byte by byte, with pauses
    delay          what either says is held for a while before it is carried
    cut-off        the server is reset; the client's side is closed
    reset          both are reset
    half-close     the client's side is ended (FIN), and it still hears
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from math import inf

from harness.simulation.scenario.scenario import Link

BEFALL = ("cut-off", "reset", "half-close")
"""Faults of a connection, not of what it carries: their gates are faithful."""

CLOSED, RESET = "closed", "reset"
"""The ways in which a side ends: by FIN, by RST."""

HELD = 1 << 16
"""Bytes, at most, that a gate holds: there is no room for more."""

HELD_BY_DELAY = 1 << 20
"""Bytes, at most, that a delay holds; so it carries no more in the time for which it holds."""

CHUNK = 1 << 16
"""Bytes, at most, that are due at once."""

GRAIN = 0.05
"""Seconds: what is slow is carried so often, but a byte at a time below 20 bytes per second."""


@dataclass(frozen=True)
class Course:
    """The fault of one connection. begins, ends: times; ends: `inf` where it stays so."""

    fault: str
    begins: float
    ends: float
    bytes_per_second: float
    pause: float
    held: float

    def holds(self, now: float) -> bool:
        """Return whether the fault is there now."""
        return self.begins <= now < self.ends


def draw(link: Link, came: float, seed: int, number: int, connection: int) -> Course:
    """Draw the course of a connection that came at a time.

    number: the link's. connection: which of those that came by it this one is. The
    same seed and numbers give the same course, whatever happens to others.
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
    """Make the gates for what the client says, and for what it hears."""
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
    """One direction, carried faithfully."""

    def __init__(self) -> None:
        self.now = 0.0
        """The time, to be set before anything is asked or told."""
        self._held = bytearray()
        self._ending = ""

    def room(self) -> int:
        """Return the bytes that may be read now."""
        return HELD - len(self._held)

    def put(self, data: bytes) -> None:
        """Take what was read."""
        self._held += data

    def end(self, how: str) -> None:
        """Note that the side that is read from has ended: CLOSED or RESET."""
        self._ending = how

    def due(self) -> bytes:
        """Return what is to be passed on now: some of it, empty if nothing."""
        return bytes(self._held[:CHUNK])

    def took(self, size: int) -> None:
        """Note that so many bytes, of what is due, were passed on."""
        del self._held[:size]

    def ending(self) -> str:
        """Return how the other side is to be ended now; empty: not yet. Ask after `due`.

        What came before a FIN goes before it; a RST overtakes what could not be
        passed on yet, as TCP's does.
        """
        return self._ending if self._ending == RESET or not self._held else ""

    def wake(self) -> float:
        """Return the time at which to ask again though nothing has happened; `inf`: never."""
        return inf


class SlowGate(Gate):
    """A gate for so many bytes per second while the fault is there; for none where that is 0.

    Nothing is read before it may be passed on, so that what waits, waits at the
    server. A server that said nothing for a while has saved up two
    grains at most.
    """

    def __init__(self, course: Course, rate: float) -> None:
        super().__init__()
        self._course = course
        self._rate = rate
        self._size = min(max(1, int(rate * GRAIN)), CHUNK)
        self._grain = self._size / rate if rate else inf
        """Seconds that it takes to be allowed `_size` bytes."""
        self._spent = course.begins
        """The time up to which the rate is used up."""

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
    """One byte at a time, with a pause after each, while the fault is there."""

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
    """A gate that holds all that comes during the fault; what comes later stays behind it."""

    def __init__(self, course: Course) -> None:
        super().__init__()
        self._course = course
        self._later: deque[tuple[float, bytes]] = deque()
        self._size = 0
        """Bytes in `_later`."""
        self._last = -inf
        """Nothing that comes from now on is due before that."""

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
