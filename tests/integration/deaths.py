"""Kill workers at random while a crowd sends lines, and check every byte. Run this by hand:

    python -m tests.integration.deaths --deaths 10000 --workers 2 --clients 60 --seed 1

One worker is killed, or two at once, or all. Meanwhile members leave and others join. After each
kill, the program waits until the room has all its workers again. Lines are dropped after the check,
so the program may run for hours. At the first difference, the program ends with exit code 1.
"""

import argparse
import os
import random
import re
import signal
import sys
import time
from collections.abc import Callable
from itertools import count

from tests.integration.crowd import Crowd
from tests.integration.rooms import DIED, NEVER_SILENT, SMALL_LOG, Room, addresses, room

NOTICED = r" event=worker-(died|failed) "
"""Pattern of the log lines about a death. The event is `worker-failed` if a worker dies before it
is ready."""

REPORT_EVERY = 10.0
"""Seconds between two progress reports."""


class Killer:
    """Kills workers of one room while its crowd sends lines."""

    def __init__(self, here: Room, options: argparse.Namespace) -> None:
        self._here = here
        self._options = options
        self._chance = random.Random(options.seed)
        self._crowd = Crowd(here.join_all(addresses(options.clients)), options.seed)
        self._sources = (f"127.{2 + n // 60_000}.{n // 240 % 250}.{n % 240 + 2}" for n in count())
        self._pids = {worker.pid for worker in here.workers()}
        self.deaths = 0
        self._began = self._reported = time.monotonic()

    def run(self) -> None:
        while self.deaths < self._options.deaths:
            self._crowd.talk_on(self._chance.randrange(1, 40))
            if self._chance.random() < 0.2:
                self._crowd.leave(self._crowd.present()[self._chance.randrange(1, 9)])
                self._crowd.add(self._here.connect(next(self._sources)))
            self._kill_while_all_talk()
            self._report()
        self._crowd.talk_on()
        self._here.wait_until_even(self._crowd.present(), self._options.workers)
        self._here.stop()
        self._crowd.end()
        self._say()

    def _kill_while_all_talk(self) -> None:
        """Kill workers in the middle of a turn, or while members move; wait for the new workers."""
        turns = self._chance.randrange(1, 30)
        victims = self._chance.choice((1, 1, 1, 2, self._options.workers))
        alive = sorted(self._pids)
        doomed = self._chance.sample(alive, min(victims, len(alive)))
        for _ in range(turns):
            self._crowd.turn()
        for pid in doomed:
            os.kill(pid, signal.SIGKILL)
        self.deaths += len(doomed)
        self._crowd.talk(self._all_back(), "all workers serve again")

    def _all_back(self) -> Callable[[], bool]:
        """Return a function that looks every 50 ms, and returns True if all workers serve again."""
        look_at = 0.0

        def back() -> bool:
            nonlocal look_at
            if time.monotonic() < look_at:
                return False
            look_at = time.monotonic() + 0.05
            # Count the deaths before listing the workers. Otherwise, a worker that dies between the
            # two steps would be counted as dead and also listed as alive.
            noticed = len(re.findall(NOTICED, self._here.errors)) == self.deaths
            workers = self._here.workers()
            self._pids = {worker.pid for worker in workers}
            return noticed and len(workers) == self._options.workers

        return back

    def summary(self) -> str:
        """Return the progress, the room's log without the lines about deaths, and its last
        lines."""
        said = self._here.errors.splitlines()
        noticed = [line for line in said if re.search(NOTICED, line)]
        rare = [line for line in said if not re.search(DIED, line)]
        return "\n".join(
            (
                f"{self.deaths} deaths, {len(noticed)} noticed; workers: {self._here.workers()}",
                *rare,
                "last:",
                *said[-8:],
            )
        )

    def _report(self) -> None:
        if time.monotonic() - self._reported > REPORT_EVERY:
            self._reported = time.monotonic()
            self._say()

    def _say(self) -> None:
        took = time.monotonic() - self._began
        print(f"{self.deaths} deaths, {self._crowd.lines} lines, {took:.0f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.integration.deaths", description=__doc__)
    parser.add_argument("--deaths", type=int, default=200)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--clients", type=int, default=60, help="number of members, at least 10")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logs = NOTICED if options.deaths else ""
    sizes = (*SMALL_LOG, *NEVER_SILENT)
    try:
        with room("--quiet", "--workers", options.workers, *sizes, logs=logs) as here:
            killer = Killer(here, options)
            try:
                killer.run()
            except AssertionError:
                print(killer.summary(), file=sys.stderr)
                raise
    except AssertionError as error:
        sys.exit(f"seed {options.seed}: {error}")


if __name__ == "__main__":
    main()
