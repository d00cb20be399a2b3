"""The status of a room: its members, its workers, and its totals.

chatroom.status and the metrics request this report. The report uses data that the main process, the
kernel and the workers' checkpoints have anyway: it delays no message, and asks no worker.
"""

import os
from collections import Counter
from collections.abc import Callable, Mapping
from time import monotonic, time
from typing import Any

from chatroom import __version__
from chatroom.build import BUILD
from chatroom.log.ring import Log
from chatroom.log.slots import Slots
from chatroom.supervisor.counters import Counters
from chatroom.supervisor.members import Client
from chatroom.supervisor.pool import WorkerPool
from chatroom.supervisor.progress import Progress, progress


class StatusReport:
    """Makes the report, which takes about 10 µs per member."""

    def __init__(
        self,
        log: Log,
        slots: Slots,
        pool: WorkerPool,
        clients: Mapping[int, Client],
        counters: Counters,
        where: str,
        capacity: int,
        cluster: Callable[[], dict[str, Any]] | None = None,
        gateways: Callable[[], list[dict[str, Any]]] = list,
    ) -> None:
        """`cluster` returns the part of the report about the cluster; None without a cluster.
        `gateways` returns the part about the gateways, a row for each."""
        self._log = log
        self._slots = slots
        self._pool = pool
        self._clients = clients
        self._counters = counters
        self._where = where
        self._capacity = capacity
        self._cluster = cluster
        self._gateways = gateways

    def full(self) -> dict[str, Any]:
        """Return the report. Sizes are in bytes, times in seconds.

        `up` and `here` are durations. Setting the system's clock does not change them, or rates
        that are computed from them. `since` is a time since the epoch, according to the system's
        clock at the time of the report.
        """
        found = self._progress()
        return self._totals(found) | {"members": self._members(found)}

    def totals(self) -> dict[str, Any]:
        """Return the report without the list of members."""
        return self._totals(self._progress())

    def _totals(self, found: Mapping[int, Progress]) -> dict[str, Any]:
        lags: dict[int, int] = {}
        for id, (_, lag) in found.items():
            worker = self._clients[id].worker
            lags[worker] = max(lags.get(worker, 0), lag or 0)
        cluster = {} if self._cluster is None else {"cluster": self._cluster()}
        gateways = self._gateways()
        web = {"gateways": gateways} if gateways else {}
        return (
            cluster
            | web
            | {
                "room": self._room() | {"lag": max(lags.values(), default=0)},
                "workers": self._workers(lags),
            }
        )

    def _room(self) -> dict[str, Any]:
        log, counters = self._log, self._counters
        head = log.head
        work = [log.work(seat) for seat in range(self._pool.seats)]
        return {
            "version": __version__,
            "build": BUILD,
            "listening": self._where,
            "pid": os.getpid(),
            **_since("up", counters.started_at),
            "members": len(self._clients),
            "capacity": self._capacity,
            "workers": self._pool.wanted,
            "joins": counters.joins,
            "leaves": dict(counters.leaves),
            "refusals": dict(counters.refusals),
            "probes": counters.probes,
            "messages": log.messages(head),
            "bytes": log.offset(head),
            "deliveries": sum(counts.due for counts in work),
            "append_waits": sum(counts.waits for counts in work),
            "worker_deaths": counters.deaths.total(),
            "recoveries": counters.recoveries,
            "recovery_seconds": counters.pause,
            "longest_recovery": counters.longest_pause,
        }

    def _workers(self, lags: Mapping[int, int]) -> list[dict[str, Any]]:
        load = Counter(client.worker for client in self._clients.values())
        found = []
        for number, worker in sorted(self._pool.workers.items()):
            work = self._log.work(number)
            found.append(
                {
                    "worker": number,
                    "pid": worker.pid,
                    "ready": worker.ready,
                    "members": load[number],
                    "messages": work.appended,
                    "deliveries": work.due,
                    "restarts": self._counters.deaths[number],
                    "lag": lags.get(number, 0),
                }
            )
        return found

    def _progress(self) -> dict[int, Progress]:
        return progress(self._log, self._slots, self._clients)

    def _members(self, found: Mapping[int, Progress]) -> list[dict[str, Any]]:
        return [
            {
                "id": id,
                "address": client.address,
                "port": client.port,
                **_since("here", client.joined_at),
                "worker": client.worker,
                "said": None if counted is None else counted.received,
                "heard": None if counted is None else counted.taken,
                "lag": lag,
            }
            for (id, client), (counted, lag) in zip(
                self._clients.items(), found.values(), strict=True
            )
        ]


def _since(name: str, start: float) -> dict[str, float]:
    """Return two values for a start time (s, monotonic).

    The item `name` is the number of seconds since then; `since` is the start in seconds since the
    epoch.
    """
    duration = monotonic() - start
    return {name: duration, "since": time() - duration}
