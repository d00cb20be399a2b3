"""A worker's shutdown, when the room stops.

The main process requests two steps. *Drain*: read nothing more, and append everything that was
read. *Stop*, when all workers have drained: deliver the rest of the log, and close all connections
without losing what was sent.
"""

import contextlib
import socket
from time import monotonic

from chatroom.config.limits import MAX_READ
from chatroom.system.poller import READ, Poller
from chatroom.worker.delivery import Delivery
from chatroom.worker.input import Input
from chatroom.worker.member import Member

STOP_WITHIN = 1.2
"""Timeout (s) for delivery to slow members when the room stops."""

LINGER_WITHIN = 0.3
"""Maximum time (s) to linger after the delivery, that is, to read members' input and drop it."""
SILENCE = 0.05
"""Seconds without any input after which lingering ends early."""


class Shutdown:
    """The two steps of a worker's shutdown, and their progress."""

    def __init__(self, input: Input, delivery: Delivery) -> None:
        self._input = input
        self._delivery = delivery
        self._reported = False
        """True once the main process was told that this worker has drained."""
        self.deadline: float | None = None
        """Time (s, monotonic) at which delivery must end; None before the second step."""

    def drain(self) -> None:
        """Begin the first step."""
        self._input.drain()

    def has_drained(self, full: bool) -> bool:
        """Return True once: at the first call after the first step is done.

        `full`: the batch could not be appended.
        """
        if not self._input.draining or full or self._input.unbatched or self._reported:
            return False
        self._reported = True
        return True

    def stop(self) -> None:
        """Begin the second step."""
        self.deadline = monotonic() + STOP_WITHIN

    def is_over(self) -> bool:
        """Return True if the second step has delivered everything, or its time is over."""
        if self.deadline is None:
            return False
        return not self._delivery.behind or monotonic() >= self.deadline

    def close_gracefully(self) -> None:
        """Close all connections without losing what was sent.

        If a socket has unread input when it is closed, or receives some later, the kernel resets
        the connection and drops what the peer has not received yet. So shut down the sending side
        first, and linger: drop input for a while.
        """
        members = self._delivery.members()
        for member in members:
            with contextlib.suppress(OSError):
                member.socket.shutdown(socket.SHUT_WR)
        _linger(members)
        for member in members:
            member.close()


def _linger(members: list[Member]) -> None:
    """Drop the input of members that still send, until all of them have closed or are silent.

    Takes LINGER_WITHIN at most.
    """
    deadline = monotonic() + LINGER_WITHIN
    with contextlib.closing(Poller()) as poller:
        for member in members:
            if _drain_input(member):
                poller.register(member, READ, member)
        while len(poller) and monotonic() < deadline:
            ready = poller.poll(SILENCE)
            if not ready:
                break
            for member in ready:
                if not _drain_input(member):
                    poller.unregister(member)


def _drain_input(member: Member) -> bool:
    """Drop some of a member's input; return False at its end, or if there is none."""
    try:
        return bool(member.socket.recv(MAX_READ))
    except OSError:
        return False
