"""A room whose processes fail at certain moments, which a test chooses.

    with faulty_room(tmp_path, "stored", "--workers", 2) as (here, rounds):
        rounds.load()
        ...  # something in which text is appended
        rounds.wait_until_fired()

"stored" is a place in the workers' code: see `POINTS` in `faults.py`, the program that such a room
runs. A process that comes by there looks for a *round*, a file in a folder of the test's, and takes
it away. One process alone can take it, and dies for it. So a test says when that may happen, how
often, and to whom.
"""

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path

from tests.integration.faults import die
from tests.integration.rooms import Room, started
from tests.integration.waiting import until


class Rounds:
    """How many processes are to fail, from now on, when they come by the point."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._numbers = count()

    def load(self, count: int = 1, pid: int | None = None) -> None:
        """So many of them; `pid`: only the process of that pid."""
        for _ in range(count):
            (self.folder / f"{pid or 'any'}-{next(self._numbers)}").touch()

    @property
    def left(self) -> int:
        return len(os.listdir(self.folder))

    def wait_until_fired(self) -> None:
        until(lambda: not self.left, "a process comes by the point")


@contextmanager
def faulty_room(
    folder: Path,
    point: str,
    *options: object,
    skip: int = 0,
    act: Callable[[], None] = die,
    tells: str = "",
    ready: bool = True,
    loaded: int = 0,
    pause: float = 5.0,
) -> Iterator[tuple[Room, Rounds]]:
    """A room, and what makes its processes `act` at `point`, having come by `skip` times unharmed.

    They count from when a round is loaded; `loaded` are from the start. `ready`: wait until it is.
    `pause`: the longest one between attempts to start a worker.
    """
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
    arguments = [sys.executable, "-m", "tests.integration.faults", *map(str, options)]
    with started([*arguments, "127.0.0.1", "0"], environment=environment, tells=tells) as client:
        if ready:
            client.listen()
        yield client, rounds
        if client.process.poll() is None:
            client.stop()
