"""Choose the worker for a member, and the members to move. Pure functions of the loads.

Each message wakes all workers that serve members. In a small room, waking one more worker costs
more than all other work. In a larger room, a member gets the messages of each worker's turn in a
separate send, so more workers mean more sends. So newcomers fill one worker up to `pack` members
before the next worker gets any. With the default of 256 members, it takes about a millisecond to
send a message to all members of a worker. Once all workers have `pack` members, the room counts as
large, and the load is spread evenly.

The *load* of a worker is its number of members. `loads` holds the loads of the workers that can
serve members, by worker.
"""

from collections.abc import Mapping
from typing import NamedTuple

UNEVEN = 0.1
"""Tolerated difference between the loads of a large room's workers, as a fraction of a fair share.
"""

GATHER_AT = 0.75
"""The members of the least loaded worker move to the other workers if these are then filled to at
most this fraction of `pack` on average. The fraction is below 1, so that small changes of the
room's size move nobody."""


class Move(NamedTuple):
    """Members to move away from a worker."""

    worker: int
    members: int
    """Number of members."""


def place(loads: Mapping[int, int], pack: int) -> int:
    """Return the worker for one more member.

    This is the fullest worker below `pack`. If there is none, it is the least loaded worker. Of
    several equal workers, it is the one with the lowest number. `loads` is not empty.
    """
    return min(
        loads,
        key=lambda worker: (
            (0, -loads[worker], worker) if loads[worker] < pack else (1, loads[worker], worker)
        ),
    )


def rebalance(loads: Mapping[int, int], pack: int) -> Move | None:
    """Return a move that evens the load or empties a worker; None if no member should move.

    `place` chooses the new worker of each member that moves.
    """
    used = [worker for worker in loads if loads[worker]]
    if len(loads) < 2 or not used:
        return None
    total = sum(loads.values())
    most = max(used, key=loads.__getitem__)
    if loads[most] > pack:
        difference = loads[most] - min(loads.values())
        if difference > max(1, UNEVEN * total / len(loads)):
            # Leave at least `pack` members: otherwise `place` would choose this worker again.
            return Move(most, min(difference // 2, loads[most] - pack))
    elif total <= GATHER_AT * pack * (len(used) - 1):
        least = min(used, key=loads.__getitem__)
        return Move(least, loads[least])
    return None
