"""One run of a simulation: starts and ends its processes, and injects the target's faults.

    run ─┬─ target          the server under test (target.py)
         ├─ proxy           the faulty network, if the scenario has links
         ├─ driver 1 … N    the clients; each driver runs a share of the sessions
         └─ this process    injects the target's faults, measures its costs, shows progress

Each driver writes its events to its own file, a part. At the end, the parts and the
events of this process are merged into one history.
"""

from __future__ import annotations

import contextlib
import json
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from math import inf
from pathlib import Path

from harness.errors import CannotJudge, StartError, Undecided
from harness.profile import Profile
from harness.simulation import history
from harness.simulation.run.driver import Job
from harness.simulation.run.drivers import Drivers
from harness.simulation.run.faults import FaultInjector
from harness.simulation.run.progress import Status
from harness.simulation.run.proxy import Proxy
from harness.simulation.run.startup import await_first_client
from harness.simulation.scenario.plan import Plan
from harness.target.interrupts import allow_signals, defer_signals
from harness.target.target import Command, Target

SESSIONS_PER_DRIVER = 1000
"""Maximum number of sessions per driver, if the number of drivers is not given."""

HEAD_START = 0.2
"""Seconds from the moment at which all drivers are ready to the start of the run. In this time, the
start time is sent to all drivers."""

PATIENCE = 15.0
"""Seconds of silence, after all messages were sent, after which a driver ends even if messages are
missing."""

MEASURE_EVERY = 1.0
"""Seconds between two measurements of the target's costs."""


@dataclass
class Run:
    """A run: its plan, its target, and how it ended.

    folder: folder for the history. on_status: function to call with a `Status` twice a second.
    processes: number of drivers; 0 for as many as the plan needs. scale: factor of all timeouts.
    end: "complete", or the reason for another end.
    """

    plan: Plan
    target: Target
    profile: Profile
    folder: Path
    on_status: Callable[[Status], None]
    processes: int = 0
    scale: float = 1.0
    end: str = ""
    events: list[history.Event] = field(default_factory=list)
    startup: float | None = None
    """Seconds in which a first client joined; None if it did not join in time."""
    _start: float = 0.0
    _ran: dict[int, float] = field(default_factory=dict)
    """Processor time (s) of each thread of the target, including threads that have ended."""

    @property
    def path(self) -> Path:
        return self.folder / history.HISTORY

    def run(self) -> None:
        """Run the simulation, and write the history, even after an error.

        Raise CannotJudge if this machine lacks a resource, such as ports.
        """
        with tempfile.TemporaryDirectory(prefix="parts-", dir=self.folder) as parts:
            try:
                self._run(Path(parts))
            except KeyboardInterrupt:
                self.end = "interrupted"
                raise
            except CannotJudge as error:
                self.end = f"{history.CANNOT_JUDGE}: {error}"
                raise
            finally:
                with defer_signals():
                    self._merge(sorted(Path(parts).iterdir()))

    def _run(self, parts: Path) -> None:
        plan = self.plan
        if len({":" in host for host, _ in self.target.endpoints}) > 1:
            raise CannotJudge("the target's addresses must be either IPv4 or IPv6")
        self._start = time.monotonic()  # provisional, until the drivers are ready
        self.startup = await_first_client(self.target, self.profile, self.scale)
        if how := self.target.death():
            self.end = f"the target {how} after a first client had joined and left"
            return
        with defer_signals(), contextlib.ExitStack() as cleanup, allow_signals():
            proxy = None
            if plan.links:
                proxy = Proxy(self.target.endpoints, plan.seed, plan.links)
                cleanup.callback(self._record_links, proxy)  # for the last events of the proxy
                cleanup.callback(proxy.stop)  # registered first, as `start` may be interrupted
                proxy.start()
            drivers = Drivers()
            cleanup.callback(drivers.stop)
            drivers.start(self._jobs(parts, proxy.ports if proxy else []), self.scale)
            self._start = time.monotonic() + HEAD_START
            drivers.begin(self._start)
            injector = None
            if isinstance(self.target, Command):
                injector = FaultInjector(
                    self.target, plan.faults, plan.seed, self._record, self._now
                )
                cleanup.callback(injector.release)
            self._watch(drivers, injector, proxy)

    def _jobs(self, parts: Path, ports: list[int]) -> list[Job]:
        """Return the jobs of the drivers. The sessions are distributed evenly among them."""
        plan = self.plan
        count = self.processes or max(1, -(-len(plan.sessions) // SESSIONS_PER_DRIVER))
        return [
            Job(
                plan,
                range(number, len(plan.sessions), count),
                self.target.endpoints,
                ports,
                source_to(self.target),
                self.profile,
                PATIENCE * self.scale,
                str(parts / f"{number:04}"),
            )
            for number in range(count)
        ]

    def _watch(self, drivers: Drivers, injector: FaultInjector | None, proxy: Proxy | None) -> None:
        """Inject faults and show progress until all drivers have ended, or the target has ended."""
        measure_at = report_at = 0.0
        while drivers.running:
            now = self._now()
            if injector:
                try:
                    injector.act()
                except StartError as error:
                    self.end = f"the target did not start again: {error}"
                    return
            if proxy:
                if how := proxy.death():
                    raise CannotJudge(f"the faulty network {how}")
                self._record_links(proxy)
            if how := self.target.death():  # before measuring, which may take long
                self.end = f"the target {how}"
                return
            if now >= measure_at:
                measure_at = now + MEASURE_EVERY
                self._measure()
            if now >= report_at:
                report_at = now + 0.5
                self.on_status(drivers.status(now, injector.latest if injector else ""))
            due = min(measure_at, report_at, injector.due if injector else inf)
            drivers.wait(max(0.0, due - self._now()))
        drivers.check()
        self.end = history.COMPLETE

    # --- the history ---------------------------------------------------------

    def _now(self) -> float:
        return time.monotonic() - self._start

    def _record(self, event: history.Event) -> None:
        self.events.append({"t": round(self._now(), 6), **event})

    def _record_links(self, proxy: Proxy) -> None:
        """Record the proxy's events. They have no session number until `with_sessions` adds it."""
        for event in proxy.events():
            self.events.append({**event, "t": round(event["t"] - self._start, 6)})

    def _measure(self) -> None:
        if not isinstance(self.target, Command):
            return
        with contextlib.suppress(Undecided):
            costs = self.target.costs()
            self._ran |= {thread: times.ran for thread, times in self.target.times().items()}
            self._record(
                {
                    "costs": {
                        "memory": costs.memory,
                        "descriptors": costs.descriptors,
                        "cpu": round(sum(self._ran.values()), 3),
                    }
                }
            )

    def _merge(self, parts: list[Path]) -> None:
        plan = self.plan
        scenario = plan.scenario
        header = {
            "history": history.VERSION,
            "scenario": scenario.name,
            "seed": plan.seed,
            "seconds": scenario.seconds,
            "talk": plan.talk,
            "clients": scenario.clients,
            "target": str(self.target),
            "startup": None if self.startup is None else round(self.startup, 3),
            "reach": [*map(str, scenario.reach)],
            "left_out": dict(scenario.left_out),
            "phases": [[phase.name, phase.seconds] for phase in scenario.phases],
        }
        with self.path.open("w", encoding="utf-8") as file:
            history.write(header, file)
            ours = map(history.line_of, with_sessions(self.events, parts))
            file.writelines(history.merge([*map(history.lines_of, parts), ours]))
            history.write({"t": round(self._now(), 6), "end": self.end}, file)


def with_sessions(events: list[history.Event], parts: list[Path]) -> Iterator[history.Event]:
    """Yield events in order of time. In events of links, replace address and port by the session.

    If several sessions used this address and port, choose the latest session before the event.
    """
    whose: dict[tuple[str, int], list[tuple[float, int]]] = {}
    if any("address" in event for event in events):
        came: dict[int, tuple[str, float]] = {}
        for part in parts:
            for line in history.lines_of(part):
                if '"what":"connect' not in line:
                    continue
                event = json.loads(line)
                if event["what"] == "connects":
                    came[event["who"]] = event["address"], event["t"]
                elif event["what"] == "connected":
                    address, t = came[event["who"]]
                    whose.setdefault((address, event["port"]), []).append((t, event["who"]))
    for event in sorted(events, key=lambda event: event["t"]):
        if "address" in event:
            those = whose.get((event.pop("address"), event.pop("port")), [])
            before = [connection for connection in those if connection[0] <= event["t"]]
            if before:
                yield {**event, "who": max(before)[1]}
        else:
            yield event


def source_to(target: Target) -> str:
    """Return the source address of all connections to a target.

    Return an empty text if each client can have a different source address.
    """
    host, port = target.address
    if host == "localhost" or host.startswith("127."):
        return "" if sys.platform == "linux" else "127.0.0.1"
    family, kind, protocol, _, where = socket.getaddrinfo(host, port, type=socket.SOCK_DGRAM)[0]
    with socket.socket(family, kind, protocol) as probe:
        probe.connect(where)  # for UDP, this sends no packet
        address: str = probe.getsockname()[0]
    return address
