"""Faults of the target: during the run, its processes are killed, stopped or restarted.

The target must be a command. If only an address is known, its processes are unknown.
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

from harness.simulation.scenario.plan import ScheduledFault
from harness.target.target import Command

Record = Callable[[dict[str, Any]], None]
"""Function that records an event of the history, with the current time."""


class FaultInjector:
    """Injects the scheduled faults into a target, and later resumes the stopped processes."""

    def __init__(
        self,
        target: Command,
        faults: Sequence[ScheduledFault],
        seed: int,
        record: Record,
        clock: Callable[[], float],
    ) -> None:
        """`record`: function to call when a fault begins or ends. `clock`: function that returns
        the time in seconds since the run's start."""
        self.latest = ""
        """Kind of the last fault."""
        self._target = target
        self._faults = deque(faults)
        self._chance = random.Random(f"{seed} faults")
        self._record = record
        self._clock = clock
        self._held: list[tuple[float, ScheduledFault, list[psutil.Process]]] = []
        """Faults with stopped processes: time to resume them, the fault, and the processes."""

    @property
    def due(self) -> float:
        """Time of the next action, in seconds since the run's start; `inf` if there is none."""
        faults = (fault.due for fault in [*self._faults][:1])
        return min((*faults, *(until for until, _, _ in self._held)), default=inf)

    def act(self) -> None:
        """Perform all actions that are due. Raise StartError if the target does not restart."""
        now = self._clock()
        self.release(now)
        while self._faults and self._faults[0].due <= now:
            self._inject(self._faults.popleft())

    def _inject(self, fault: ScheduledFault) -> None:
        self.latest = fault.kind
        match fault.kind:
            case "kill-worker" | "kill-workers":
                workers = self._target.roles().workers
                victims = workers if fault.kind == "kill-workers" else self._one_of(workers)
                self._signal(fault, victims, signal.SIGKILL)
            case "stop-worker":
                self._hold(fault, self._one_of(self._target.roles().workers))
            case "kill-engine":
                self._signal(fault, self._one_of(self._target.roles().engines), signal.SIGKILL)
            case "stop-engine":
                self._hold(fault, self._one_of(self._target.roles().engines))
            case "kill-bridge":
                self._signal(fault, self._one_of(self._target.roles().bridges), signal.SIGKILL)
            case "stop":
                self._hold(fault, self._target.processes())
            case "hangup":
                self._signal(fault, self._target.processes()[:1], signal.SIGHUP)
            case "restart":
                self._record_change(fault, "begins", [])
                self._target.stop()
                self._target.start()
                self._record_change(fault, "ends", [])

    def release(self, now: float = inf) -> None:
        """Resume the processes whose stop ends at the time `now` or earlier."""
        for held in [held for held in self._held if held[0] <= now]:
            self._held.remove(held)
            _, fault, processes = held
            for process in processes:
                with contextlib.suppress(psutil.Error):  # the target may have killed the process
                    process.send_signal(signal.SIGCONT)
            self._record_change(fault, "ends", processes)

    def _one_of(self, found: Sequence[psutil.Process]) -> list[psutil.Process]:
        """Return a random one of the processes; none if there is none."""
        return [self._chance.choice(found)] if found else []

    def _signal(
        self, fault: ScheduledFault, processes: list[psutil.Process], number: signal.Signals
    ) -> None:
        self._record_change(fault, "begins" if processes else "misses", processes)
        for process in processes:
            with contextlib.suppress(psutil.Error):
                process.send_signal(number)

    def _hold(self, fault: ScheduledFault, processes: list[psutil.Process]) -> None:
        self._signal(fault, processes, signal.SIGSTOP)
        if processes:
            self._held.append((self._clock() + fault.seconds, fault, processes))

    def _record_change(
        self, fault: ScheduledFault, what: str, processes: list[psutil.Process]
    ) -> None:
        pids = [process.pid for process in processes]
        self._record({"fault": fault.kind, "what": what, "processes": pids})
