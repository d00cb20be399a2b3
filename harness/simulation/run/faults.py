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
from harness.target.roles import Roles
from harness.target.target import Command

PROCESS_WITHIN = 2.0
"""Seconds for which a fault waits if there is no process with the role that it needs, as right
after another fault."""
RETRY_AFTER = 0.05
"""Seconds after which the fault looks for processes again."""

_ROLES: dict[str, Callable[[Roles], list[psutil.Process]]] = {
    "kill-worker": lambda roles: roles.workers,
    "kill-workers": lambda roles: roles.workers,
    "stop-worker": lambda roles: roles.workers,
    "kill-engine": lambda roles: roles.engines,
    "stop-engine": lambda roles: roles.engines,
    "kill-bridge": lambda roles: roles.bridges,
}
"""Processes that a fault needs, by its kind."""

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
        self._retry_at = -inf
        """Time at which the first fault looks for processes again."""
        self._held: list[tuple[float, ScheduledFault, list[psutil.Process]]] = []
        """Faults with stopped processes: time to resume them, the fault, and the processes."""

    @property
    def due(self) -> float:
        """Time of the next action, in seconds since the run's start; `inf` if there is none."""
        faults = (max(fault.due, self._retry_at) for fault in [*self._faults][:1])
        return min((*faults, *(until for until, _, _ in self._held)), default=inf)

    def act(self) -> None:
        """Perform all actions that are due. Raise StartError if the target does not restart."""
        now = self._clock()
        self.release(now)
        while self._faults and max(self._faults[0].due, self._retry_at) <= now:
            fault = self._faults[0]
            role = _ROLES.get(fault.kind)
            found = role(self._target.roles()) if role else []
            if role and not found and now < fault.due + PROCESS_WITHIN:
                self._retry_at = now + RETRY_AFTER
                break
            self._faults.popleft()
            self._inject(fault, found)

    def _inject(self, fault: ScheduledFault, found: list[psutil.Process]) -> None:
        """Inject a fault; one that needs a role strikes among the processes `found`."""
        self.latest = fault.kind
        single = [self._chance.choice(found)] if found else []
        match fault.kind:
            case "kill-worker" | "kill-engine" | "kill-bridge":
                self._signal(fault, single, signal.SIGKILL)
            case "kill-workers":
                self._signal(fault, found, signal.SIGKILL)
            case "stop-worker" | "stop-engine":
                self._hold(fault, single)
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
