"""The end of a worker's service, when the room stops.

The main process asks for it in two steps. *Drain*: read no more, and append all
that was read. *Stop*, when all workers have drained: deliver the rest, and
close all connections so that nothing of it is lost.
"""

import contextlib
import selectors
import socket
from time import monotonic

from chatroom.config.settings import MAX_READ
from chatroom.worker.delivery import Delivery
from chatroom.worker.input import Input
from chatroom.worker.member import Member

STOP_WITHIN = 1.2
"""Seconds that members who are behind are given when the room stops."""

LINGER_WITHIN = 0.3
"""Seconds, then, for members that are still talking."""
SILENCE = 0.05
"""Seconds in which none of them says anything: they are done."""


class Shutdown:
    """The two steps, and how far they have come."""

    def __init__(self, input: Input, delivery: Delivery) -> None:
        self._input = input
        self._delivery = delivery
        self._reported = False
        """Whether the main process was told that all that was read is appended."""
        self.deadline: float | None = None
        """Time at which members have had long enough to take what they lack."""

    def drain(self) -> None:
        """Begin with the first step."""
        self._input.drain()

    def has_drained(self, full: bool) -> bool:
        """Return, once, that the first step is done. `full`: the log had no room for the batch."""
        if not self._input.draining or full or self._input.unsaid or self._reported:
            return False
        self._reported = True
        return True

    def stop(self) -> None:
        """Begin with the second step."""
        self.deadline = monotonic() + STOP_WITHIN

    def is_over(self) -> bool:
        """Return whether the room stops and all was delivered, or there is no time left for it."""
        if self.deadline is None:
            return False
        return not self._delivery.behind or monotonic() >= self.deadline

    def close_gracefully(self) -> None:
        """Close all connections so that what was sent still arrives.

        Input that is unread when a socket is closed, or that comes afterwards,
        makes the kernel reset the connection and drop what the peer has yet to
        take. So our side is ended first, and members that are still talking are
        read from for a while.
        """
        members = self._delivery.members()
        for member in members:
            with contextlib.suppress(OSError):
                member.socket.shutdown(socket.SHUT_WR)
        _linger(members)
        for member in members:
            member.close()


def _linger(members: list[Member]) -> None:
    """Read and drop what members still say, until they are done, or LINGER_WITHIN is over."""
    deadline = monotonic() + LINGER_WITHIN
    with selectors.DefaultSelector() as selector:
        for member in members:
            if _drain_input(member):
                selector.register(member, selectors.EVENT_READ, member)
        while selector.get_map() and monotonic() < deadline:
            ready = selector.select(SILENCE)
            if not ready:
                break
            for key, _ in ready:
                if not _drain_input(key.data):
                    selector.unregister(key.data)


def _drain_input(member: Member) -> bool:
    """Drop some of a member's input; return whether there was any."""
    try:
        return bool(member.socket.recv(MAX_READ))
    except OSError:
        return False
