"""Which worker serves whom: newcomers, a dead worker's members, and an even spread.

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
from collections.abc import Callable
from itertools import count, islice
from time import monotonic

from chatroom.supervisor.acceptor import Client
from chatroom.supervisor.pool import WorkerPool, WorkerProcess
from chatroom.supervisor.registry import RegistryProcess
from chatroom.system.tcp_counters import taken

MAX_ADOPTED = 56
"""Members in one record, which has to hold a greeting, and for each member its address and its
prefix, however long they are: in JSON, 400 bytes for the longest prefix, 60 for the rest."""

DEATHS = 3
"""Workers that may die in a row over one member: then it is put out."""

UNEVEN = 0.1
"""Part of a fair share by which a worker may have more members than another."""

BALANCE_AFTER = 0.2
"""Seconds between a change of the spread and a look at it."""
MAX_YIELD = 1000
"""Members that are on the way between workers at once; their ids fit into a record."""

UNASSIGNED = -1
"""The worker of those whom none serves."""

ITS_WORKER_DIED = "its worker died"
ITS_WORKERS_DIED = "its workers kept dying over it"


class Assignment:
    """All is called from the main process's loop. `clients`: the members, by id."""

    def __init__(
        self,
        pool: WorkerPool,
        clients: dict[int, Client],
        registry: RegistryProcess,
        suspect: Callable[[int], int],
        on_members_left: Callable[[dict[int, str]], None],
        recovered: Callable[[float], None],
    ) -> None:
        """`suspect(seat)`: id of the member over which the worker there died, or 0.
        `on_members_left(reasons)` disconnects members, each id with its reason.
        `recovered(seconds)`: every member has a worker again, after so long."""
        self._pool = pool
        self._clients = clients
        self._registry = registry
        self._blamed = suspect
        self._on_members_left = on_members_left
        self._recovered = recovered
        self._orphaned_at: float | None = None
        """When the first worker died whose members are not all served again."""
        self._numbers = count(1)
        self._awaited: dict[WorkerProcess, int] = {}
        """Number of the ack that says that a worker serves all members it was handed."""
        self._unassigned: list[int] = []
        """Members whom no worker serves, because none is alive."""
        self._yielder: WorkerProcess | None = None
        """Who was told to yield members, until all is settled."""
        self._yielded = False
        """Whether it has."""
        self._balance_at: float | None = None
        """When to look whether the spread is even."""

    def hand_over(self, id: int, client: Client) -> None:
        """A newcomer, to the worker that the registry named."""
        self._adopt(self._pool.workers[client.worker], [id])

    def take_over(self, dead: WorkerProcess) -> None:
        """Hand a dead worker's members to the living."""
        self._awaited.pop(dead, None)
        if self._yielder is dead:
            self._yielder = None
        suspect = self._blamed(dead.number)
        orphans, lost = [], {}
        for id, client in self._clients.items():
            if client.worker != dead.number:
                continue
            to_blame = id == suspect and (dead.stuck or not dead.told_to_end)
            client.deaths = client.deaths + 1 if to_blame else 0
            if taken(client.connection) is None:
                lost[id] = ITS_WORKER_DIED
            elif client.deaths >= DEATHS:
                lost[id] = ITS_WORKERS_DIED
            else:
                orphans.append(id)
        self._on_members_left(lost)
        if orphans and self._orphaned_at is None:
            self._orphaned_at = monotonic()
        self._assign(orphans)
        self._settle()

    def began(self) -> None:
        """A worker is ready: it takes those whom nobody serves, and later its share of the rest."""
        unassigned, self._unassigned = self._unassigned, []
        self._assign(unassigned)
        self.changed()

    def acked(self, worker: WorkerProcess, number: int) -> None:
        """A worker serves all members that it was handed before it was asked for this ack."""
        if self._awaited.get(worker) == number:
            del self._awaited[worker]
            self._settle()

    def yielded(self, members: list[int]) -> None:
        """Nobody serves these members any more: their worker has left them to another."""
        self._yielded = True
        self._assign(members)
        self._settle()

    def _assign(self, members: list[int]) -> None:
        """Hand members that have not left to the least loaded workers, which acknowledge it."""
        ready = {worker.number: worker for worker in self._pool.ready()}
        members = [id for id in members if id in self._clients]
        if not members:
            return
        if not ready:
            for id in members:
                self._clients[id].worker = UNASSIGNED
            self._registry.move(members, UNASSIGNED)
            self._unassigned += members
            return
        load = self._load()
        for id in members:
            load[self._clients[id].worker] -= 1
        least = [(load[number], number) for number in ready]
        heapq.heapify(least)
        shares: dict[int, list[int]] = {}
        for id in members:
            size, number = least[0]
            heapq.heapreplace(least, (size + 1, number))
            shares.setdefault(number, []).append(id)
            self._clients[id].worker = number
        for number, share in shares.items():
            self._registry.move(share, number)
            self._adopt(ready[number], share)
            self._awaited[ready[number]] = ack = next(self._numbers)
            self._pool.tell(ready[number], {"ack": ack})

    def _adopt(self, worker: WorkerProcess, members: list[int]) -> None:
        alike: dict[bytes, list[int]] = {}
        for id in members:
            alike.setdefault(self._clients[id].greeting, []).append(id)
        for greeting, those in alike.items():
            for first in range(0, len(those), MAX_ADOPTED):
                found = {id: self._clients[id] for id in those[first : first + MAX_ADOPTED]}
                record = {
                    "adopt": [
                        (id, client.address, client.prefix, client.slot, client.header_bytes)
                        for id, client in found.items()
                    ],
                    "greeting": greeting.decode(),
                }
                fds = [client.connection.fileno() for client in found.values()]
                self._pool.tell(worker, record, fds)

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
            self._recovered(monotonic() - self._orphaned_at)
            self._orphaned_at = None
        if self._yielder is not None and self._yielded:
            self._pool.tell(self._yielder, {"settled": True})
            self._yielder = None
        self.changed()

    # --- balance -------------------------------------------------------------

    def changed(self) -> None:
        """Members have left, or moved, or a worker has begun: the spread may have become uneven."""
        if self._balance_at is None:
            self._balance_at = monotonic() + BALANCE_AFTER

    def tick(self) -> float | None:
        """Even the spread where it is time; return the seconds until it may be, None for never."""
        if self._balance_at is None:
            return None
        now = monotonic()
        if now >= self._balance_at:
            self._balance_at = None
            self._balance()
        return None if self._balance_at is None else max(0.0, self._balance_at - now)

    def _balance(self) -> None:
        """Have the most loaded worker yield as many of its members as it has too many."""
        ready = self._pool.ready()
        if self._yielder or not self.settled or len(ready) < 2:
            return  # it is looked at again when all is settled
        load = self._load()
        ready.sort(key=lambda worker: load[worker.number])
        least, most = ready[0], ready[-1]
        difference = load[most.number] - load[least.number]
        if difference <= max(1, UNEVEN * len(self._clients) / len(ready)):
            return
        theirs = (
            id
            for id, client in self._clients.items()
            # Whom the system does not count could not be gone on with.
            if client.worker == most.number and taken(client.connection) is not None
        )
        moving = [*islice(theirs, min(difference // 2, MAX_YIELD))]
        if moving:
            self._yielder, self._yielded = most, False
            self._pool.tell(most, {"yield": moving})

    def _load(self) -> Counter[int]:
        """How many members each worker has."""
        return Counter(client.worker for client in self._clients.values())
