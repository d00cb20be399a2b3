"""The progress of members in the log.

The main process computes it from the kernel's byte counts and the workers' checkpoints. No worker
is asked, and no lock is taken.
"""

import socket
from collections.abc import Mapping
from typing import NamedTuple, Protocol

from chatroom.log.ring import Log
from chatroom.log.slots import Slots
from chatroom.system.tcp_counters import Traffic, traffic
from chatroom.worker.recovery import walk


class Progress(NamedTuple):
    """A member's counts and lag at one moment; None if unknown."""

    counted: Traffic | None
    lag: int | None
    """Bytes of the log that the member's socket has not accepted yet."""


class _Member(Protocol):
    connection: socket.socket
    slot: int


def progress(log: Log, slots: Slots, members: Mapping[int, _Member]) -> dict[int, Progress]:
    """Return the members' progress, by id."""
    head = log.head
    lapped = max(0, head - log.geometry.entries)
    checkpoints = {id: slots.checkpoint(member.slot) for id, member in members.items()}
    known = {id: noted for id, noted in checkpoints.items() if noted.position > lapped}
    first = min((noted.position for noted in known.values()), default=head)
    spans, _ = log.spans_by_sender(first, head)
    end, found = log.offset(head), {}
    for id, member in members.items():
        counted, checkpoint = traffic(member.connection), known.get(id)
        lag: int | None = None
        if counted is not None and checkpoint is not None:
            sent = counted.taken - checkpoint.taken
            lag = max(0, end - walk(checkpoint.offset, sent, spans.get(id, ())))
        found[id] = Progress(counted, lag)
    return found
