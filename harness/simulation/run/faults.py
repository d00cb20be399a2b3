"""Faults of the target: its processes are killed, stopped or restarted during the run.

The target must be a command; the processes behind an address can't be reached.
"""

from __future__ import annotations

import contextlib
import random
import signal
from collections import deque
from collections.abc import Callable, Sequence
from math import inf
from typing import Any

import psutil

from harness.simulation.scenario.plan import Strike
from harness.target.target import Command

Tell = Callable[[dict[str, Any]], None]
"""Function that records an event of the history, with the current time."""


class Striker:
    """Strikes a target on schedule, and resumes stopped processes."""

    def __init__(
        self,
        target: Command,
        strikes: Sequence[Strike],
        seed: int,
        tell: Tell,
        clock: Callable[[], float],
    ) -> None:
        """tell: called with each fault as it happens. clock: returns the seconds of the run."""
        self.latest = ""
        """Kind of the last fault."""
        self._target = target
        self._strikes = deque(strikes)
        self._chance = random.Random(f"{seed} strikes")
        self._tell = tell
        self._clock = clock
        self._held: list[tuple[float, Strike, list[psutil.Process]]] = []
        """Stopped processes, and the times at which to resume them."""

    @property
    def due(self) -> float:
        """Time of the next action, in seconds of the run; `inf`: none."""
        strikes = (strike.due for strike in [*self._strikes][:1])
        return min((*strikes, *(until for until, _, _ in self._held)), default=inf)

    def act(self) -> None:
        """Take all actions that are due. Raise StartError if the target does not start again."""
        now = self._clock()
        self.release(now)
        while self._strikes and self._strikes[0].due <= now:
            self._strike(self._strikes.popleft())

    def _strike(self, strike: Strike) -> None:
        self.latest = strike.kind
        match strike.kind:
            case "kill-worker" | "kill-workers":
                victims = self._workers(single=strike.kind == "kill-worker")
                self._signal(strike, victims, signal.SIGKILL)
            case "stop-worker":
                self._hold(strike, self._workers(single=True))
            case "stop":
                self._hold(strike, self._target.processes())
            case "hangup":
                self._signal(strike, self._target.processes()[:1], signal.SIGHUP)
            case "restart":
                self._say(strike, "begins", [])
                self._target.stop()
                self._target.start()
                self._say(strike, "ends", [])

    def release(self, now: float = inf) -> None:
        """Resume the stopped processes whose time is over."""
        for held in [held for held in self._held if held[0] <= now]:
            self._held.remove(held)
            _, strike, processes = held
            for process in processes:
                with contextlib.suppress(psutil.Error):  # the target may have killed it as hung
                    process.send_signal(signal.SIGCONT)
            self._say(strike, "ends", processes)

    def _workers(self, *, single: bool) -> list[psutil.Process]:
        """Return the target's workers, or one of them."""
        found = workers_of(self._target)
        return [self._chance.choice(found)] if found and single else found

    def _signal(
        self, strike: Strike, processes: list[psutil.Process], number: signal.Signals
    ) -> None:
        self._say(strike, "begins", processes)
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)

    def _hold(self, strike: Strike, processes: list[psutil.Process]) -> None:
        self._signal(strike, processes, signal.SIGSTOP)
        self._held.append((self._clock() + strike.seconds, strike, processes))

    def _say(self, strike: Strike, what: str, processes: list[psutil.Process]) -> None:
        pids = [process.pid for process in processes]
        self._tell({"fault": strike.kind, "what": what, "processes": pids})


def workers_of(target: Command) -> list[psutil.Process]:
    """Return the processes, except the first, that hold connections of clients."""
    found = []
    for process in target.processes()[1:]:
        with contextlib.suppress(psutil.Error):
            if any(
                place.laddr and place.laddr.port == target.port and place.raddr
                for place in process.net_connections("tcp")
            ):
                found.append(process)
    return found
