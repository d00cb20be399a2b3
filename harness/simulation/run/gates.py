"""The gates of a faulty network. They decide which bytes to pass on, and when. Pure.

A `Link` of the scenario describes a kind of fault, with ranges for its times. A `Course` is the
fault of one connection, with random values in these ranges. A connection has two gates, one for
each direction. A gate keeps the bytes that were read from one side until they may be passed on to
the other side. It has neither sockets nor a clock: its caller sets the time, in seconds of one
monotonic clock. The kinds of faults:

    slow           bytes of the server are passed on at a limited rate
    stall          bytes of the server are not passed on, as if the client did not read
    drip           bytes of the client are passed on one by one, with pauses
    delay          bytes in both directions are passed on after a delay
    cut-off        the connection to the server is reset, the connection to the client is closed
    reset          both connections are reset
    half-close     the client's stream to the server is ended (FIN); the client still receives
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass
from math import inf

from harness.simulation.scenario.scenario import Link

CONNECTION_FAULTS = ("cut-off", "reset", "half-close")
"""Faults that end a connection, or one direction of it. network.py injects these faults. The gates
of such a connection pass on all bytes."""

CLOSED, RESET = "closed", "reset"
"""Ways in which the source of a direction ends: by FIN, or by RST."""

HELD = 1 << 16
"""Maximum number of bytes that a gate keeps."""

HELD_BY_DELAY = 1 << 20
"""Maximum number of bytes that a delay gate keeps. This also limits its rate: in the time of one
delay, it passes on at most this number of bytes."""

CHUNK = 1 << 16
"""Maximum number of bytes to pass on in one call."""

GRAIN = 0.05
"""Seconds between two portions that a slow gate passes on. At rates below 20 bytes per second, the
time is longer, because a portion has at least one byte."""


@dataclass(frozen=True)
class Course:
    """The fault of one connection, with its times.

    begins, ends: time at which the fault begins and ends; `ends` is `inf` for a fault that lasts
    until the connection ends. bytes_per_second: rate of a `slow`. pause: seconds between two bytes
    of a `drip`. held: seconds of a `delay`.
    """

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
    """Return the random course of a connection that was accepted at the time `came`.

    number: number of the link. connection: number of the connection in the link. The same seed and
    numbers give the same course, relative to `came`.
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
    """Return two gates: for the bytes of the client, and for the bytes of the server."""
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
        """Add bytes that were read from the source."""
        self._held += data

    def end(self, how: str) -> None:
        """Record that the source has ended. how: CLOSED or RESET."""
        self._ending = how

    def due(self) -> bytes:
        """Return the next bytes to pass on now; empty if there are none."""
        return bytes(self._held[:CHUNK])

    def took(self, size: int) -> None:
        """Record that the first `size` bytes that `due` returned were passed on."""
        del self._held[:size]

    def ending(self) -> str:
        """Return how to end the sink now, CLOSED or RESET; empty if it must not end yet.

        Call this after `due`. A FIN is passed on after all bytes before it. A RST overtakes bytes
        that could not be passed on yet, like a RST of TCP.
        """
        return self._ending if self._ending == RESET or not self._held else ""

    def wake(self) -> float:
        """Return the time at which to call `due` again without an event; `inf` if never."""
        return inf


class SlowGate(Gate):
    """A gate that limits the rate during the fault. At a rate of 0, it passes nothing.

    rate: in bytes per second. The gate reads only bytes that it may pass on, so that the server
    notices the slow client. After a silence, it passes at most two portions at once.
    """

    def __init__(self, course: Course, rate: float) -> None:
        super().__init__()
        self._course = course
        self._rate = rate
        self._size = min(max(1, int(rate * GRAIN)), CHUNK)
        self._grain = self._size / rate if rate else inf
        """Seconds after which the gate may pass `_size` more bytes."""
        self._spent = course.begins
        """Time at which the bytes that were passed would be due at exactly this rate."""

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
    """A gate that passes one byte at a time during the fault, with a pause after each byte."""

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
    """A gate that delays all input during the fault, and keeps the order of its input."""

    def __init__(self, course: Course) -> None:
        super().__init__()
        self._course = course
        self._later: deque[tuple[float, bytes]] = deque()
        """Delayed input, each with the time at which it is due."""
        self._size = 0
        """Number of bytes in `_later`."""
        self._last = -inf
        """Time at which the latest input is due. New input is not due earlier."""

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
