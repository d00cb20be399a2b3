"""Assign members to workers: newcomers, a dead worker's members, and for an even spread.

    a newcomer          adopt ──► the worker that the registry names
    a worker's death    adopt ──► the living, the least loaded first; ack ◄── they serve them
    an uneven spread    yield ──► the most loaded; yielded ◄──
                        adopt ──► the least loaded; ack ◄──

Who is handed over is always the same to the new worker: the kernel and the slot
say how far it has come (worker/recovery.py). Meanwhile nobody serves it, and
the log has to keep what it needs: a dead worker's seat stays taken, and one
that has yielded members stands still in the log, until all is *settled*: every
worker has acknowledged (ack) that it serves the members it was handed.
"""

import heapq
from collections import Counter
from itertools import count, islice

from chatroom.log.ring import Log
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.supervisor.counters import Counters
from chatroom.supervisor.members import Client, Members
from chatroom.supervisor.pool import WorkerPool, WorkerProcess
from chatroom.supervisor.registry import UNASSIGNED, RegistryProcess
from chatroom.system.channel import Record
from chatroom.system.event_loop import EventLoop
from chatroom.system.tcp_counters import taken

MAX_ADOPTED = 56
"""Members in one record, which has to hold a greeting, and for each member its address and its
prefix, however long they are: in JSON, 400 bytes for the longest prefix, 60 for the rest."""

DEATHS = 3
"""Workers that may die in a row over one member: then it is disconnected."""

UNEVEN = 0.1
"""Part of a fair share by which a worker may have more members than another."""

BALANCE_AFTER = 0.2
"""Seconds between a change of the spread and a look at it."""
MAX_YIELD = 1000
"""Members that are on the way between workers at once; their ids fit into a record."""


class Assignment:
    """Receives the events of the pool (`PoolEvents`)."""

    def __init__(
        self,
        loop: EventLoop,
        pool: WorkerPool,
        members: Members,
        registry: RegistryProcess,
        counters: Counters,
        log: Log,
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._members = members
        self._registry = registry
        self._counters = counters
        self._log = log
        self._stopped = False
        """Whether the workers are told to end: nobody takes their members over."""
        self._orphaned_at: float | None = None
        """When the first worker died whose members are not all served again."""
        self._numbers = count(1)
        self._awaited: dict[WorkerProcess, int] = {}
        """Number of the ack that says that a worker serves all members it was handed."""
        self._unassigned: list[int] = []
        """Members that no worker serves, because none is alive."""
        self._yielder: WorkerProcess | None = None
        """Worker that was told to yield members, until all is settled."""
        self._yielded = False
        """Whether the yielder has given its members up."""
        self._look = loop.timer(self._balance)
        """Set when the spread may have become uneven."""

    def hand_over(self, id: int, client: Client) -> None:
        """Hand a newcomer to the worker that the registry named."""
        if client.worker == UNASSIGNED:
            self._unassigned.append(id)
        else:
            self._adopt(self._pool.workers[client.worker], [id])

    def stop(self) -> None:
        """From now on workers end because they were told to: nobody takes their members over."""
        self._stopped = True

    # --- events of the pool --------------------------------------------------

    def on_worker_ready(self, worker: WorkerProcess) -> None:
        """It takes those that nobody serves, and later its share of the rest."""
        self._registry.enroll(worker.number)
        unassigned, self._unassigned = self._unassigned, []
        self._assign(unassigned)
        self._spread_changed()

    def on_worker_message(self, worker: WorkerProcess, record: Record) -> None:
        match record:
            case {"left": departures}:
                self._members.leave({id: LeaveReason(reason) for id, reason in departures})
                self._spread_changed()
            case {"yielded": members}:
                self._yielded = True
                self._assign(members)
                self._settle()
            case {"ack": number} if self._awaited.get(worker) == number:
                # It serves all members that it was handed before it was asked for this ack.
                del self._awaited[worker]
                self._settle()

    def on_worker_exit(self, dead: WorkerProcess) -> None:
        """Do what docs/guarantees.md, "A worker's death", says; the numbers are those there."""
        if dead.ready:
            self._registry.dismiss(dead.number)
            self._counters.deaths[dead.number] += 1
        if self._stopped:
            return
        # 1. The pool has reaped it, so that no socket has two owners, and pinned its position.
        self._awaited.pop(dead, None)
        if self._yielder is dead:
            self._yielder = None
        orphans, lost = self._members_of(dead)
        self._members.leave(lost)
        # 2. The living get its members, the least loaded first; where none is alive, they wait.
        if orphans and self._orphaned_at is None:
            self._orphaned_at = self._loop.now()
        self._assign(orphans)
        # 3. Each new worker finds out where they stand (worker/recovery.py), and acks it.
        # 4. The last ack lets the log go on; where the dead one had no members, none is awaited.
        self._settle()
        # 5. The pool starts another worker, to which the most loaded will yield: `_balance`.
        self._spread_changed()

    def _members_of(self, dead: WorkerProcess) -> tuple[list[int], dict[int, LeaveReason]]:
        """Return a dead worker's members: those to be served by others, and those that are lost."""
        suspect = self._log.suspect(dead.number)
        orphans: list[int] = []
        lost: dict[int, LeaveReason] = {}
        for id, client in self._members.by_id.items():
            if client.worker != dead.number:
                continue
            to_blame = id == suspect and (dead.stuck or not dead.told_to_end)
            client.deaths = client.deaths + 1 if to_blame else 0
            if taken(client.connection) is None:
                lost[id] = LeaveReason.WORKER_DIED
            elif client.deaths >= DEATHS:
                lost[id] = LeaveReason.WORKERS_KEPT_DYING
            else:
                orphans.append(id)
        return orphans, lost

    # --- hand members over ---------------------------------------------------

    def _assign(self, members: list[int]) -> None:
        """Hand members that have not left to the least loaded workers, which acknowledge it."""
        ready = {worker.number: worker for worker in self._pool.ready()}
        members = [id for id in members if id in self._members.by_id]
        if not members:
            return
        if not ready:
            for id in members:
                self._members.by_id[id].worker = UNASSIGNED
            self._registry.move(members, UNASSIGNED)
            self._unassigned += members
            return
        load = self._load()
        for id in members:
            load[self._members.by_id[id].worker] -= 1
        least = [(load[number], number) for number in ready]
        heapq.heapify(least)
        shares: dict[int, list[int]] = {}
        for id in members:
            size, number = least[0]
            heapq.heapreplace(least, (size + 1, number))
            shares.setdefault(number, []).append(id)
            self._members.by_id[id].worker = number
        for number, share in shares.items():
            self._registry.move(share, number)
            self._adopt(ready[number], share)
            self._awaited[ready[number]] = ack = next(self._numbers)
            ready[number].tell({"ack": ack})

    def _adopt(self, worker: WorkerProcess, members: list[int]) -> None:
        alike: dict[bytes, list[int]] = {}
        for id in members:
            alike.setdefault(self._members.by_id[id].greeting, []).append(id)
        for greeting, those in alike.items():
            for first in range(0, len(those), MAX_ADOPTED):
                found = {id: self._members.by_id[id] for id in those[first : first + MAX_ADOPTED]}
                record = {
                    "adopt": [
                        (id, client.address, client.prefix, client.slot, client.header_bytes)
                        for id, client in found.items()
                    ],
                    "greeting": greeting.decode(),
                }
                fds = [client.connection.fileno() for client in found.values()]
                worker.tell(record, fds)

    @property
    def settled(self) -> bool:
        """Whether nobody is on the way between workers."""
        return not (self._awaited or self._unassigned)

    def _settle(self) -> None:
        """Where nobody is on the way between workers, let the log go on."""
        if not self.settled:
            return
        self._pool.release_seat()
        if self._orphaned_at is not None:
            self._counters.recovered(self._loop.now() - self._orphaned_at)
            self._orphaned_at = None
        if self._yielder is not None and self._yielded:
            self._yielder.tell({"settled": True})
            self._yielder = None
        self._spread_changed()

    # --- balance -------------------------------------------------------------

    def _spread_changed(self) -> None:
        """Members have left, or moved, or a worker has begun: the spread may be uneven."""
        if self._look.due is None:
            self._look.set_after(BALANCE_AFTER)

    def _balance(self) -> None:
        """Have the most loaded worker yield as many of its members as it has too many."""
        ready = self._pool.ready()
        if self._pool.closing or self._yielder or not self.settled or len(ready) < 2:
            return  # it is looked at again when all is settled
        load = self._load()
        ready.sort(key=lambda worker: load[worker.number])
        least, most = ready[0], ready[-1]
        difference = load[most.number] - load[least.number]
        if difference <= max(1, UNEVEN * len(self._members.by_id) / len(ready)):
            return
        theirs = (
            id
            for id, client in self._members.by_id.items()
            # Another worker could not go on with one whose bytes the system does not count.
            if client.worker == most.number and taken(client.connection) is not None
        )
        moving = [*islice(theirs, min(difference // 2, MAX_YIELD))]
        if moving:
            self._yielder, self._yielded = most, False
            most.tell({"yield": moving})

    def _load(self) -> Counter[int]:
        """Return the number of members on each worker."""
        return Counter(client.worker for client in self._members.by_id.values())
