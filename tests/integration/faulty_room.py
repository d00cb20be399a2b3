"""A room whose processes fail at moments that a test chooses.

    with faulty_room(tmp_path, "stored", "--workers", 2) as (here, rounds):
        rounds.load()
        ...  # let a member send a line
        rounds.wait_until_fired()

"stored" is a place in the workers' code: see `POINTS` in `faults.py`, the program that such a room
runs. A process that reaches the place removes a *round*, which is a file in a folder of the test,
and then dies. Only one process can remove a given round. So a test decides when processes die,
which ones, and how many.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from tests.builds import skip_if_compiled
from tests.integration.faults import die
from tests.integration.rooms import Room, started
from tests.integration.waiting import until


class Rounds:
    """Rounds of a faulty room. Each round makes one process fail when this process reaches the
    point."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = count()

    def load(self, count: int = 1, pid: int | None = None) -> None:
        """Add `count` rounds, each for any process, or for the process `pid`."""
        for _ in range(count):
            (self.folder / f"{pid or 'any'}-{next(self._numbers)}").touch()

    @property
    def left(self) -> int:
        return len(os.listdir(self.folder))

    def wait_until_fired(self) -> None:
        until(lambda: not self.left, "a process reaches the point")


@contextmanager
def faulty_room(
    folder: Path,
    point: str,
    *options: object,
    skip: int = 0,
    act: Callable[[], None] = die,
    logs: str = "",
    ready: bool = True,
    loaded: int = 0,
    pause: float = 5.0,
) -> Iterator[tuple[Room, Rounds]]:
    """Yield a room and its rounds. A process that uses a round at `point` calls `act`.

    `skip`: number of times that each process passes `point` without failing although there is a
    round. `loaded`: number of rounds at the start. `ready`: wait until the room listens. `pause`:
    maximum backoff (s) between attempts to start a worker. The test is skipped if the workers' code
    is compiled.
    """
    skip_if_compiled()
    (folder / "rounds").mkdir()
    rounds = Rounds(folder / "rounds")
    rounds.load(loaded)
    environment = {
        "FAULT_ROUNDS": str(rounds.folder),
        "FAULT_POINT": point,
        "FAULT_SKIP": str(skip),
        "FAULT_ACT": act.__name__,
        "FAULT_PAUSE": str(pause),
    }
    room = [sys.executable, "-m", "tests.integration.faults", "--pack", "1"]
    arguments = [*room, *map(str, options)]
    with started([*arguments, "127.0.0.1", "0"], environment=environment, logs=logs) as client:
        if ready:
            client.listen()
        yield client, rounds
        if client.process.poll() is None:
            client.stop()
