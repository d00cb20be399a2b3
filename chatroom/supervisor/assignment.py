"""Assign members to workers: newcomers, a dead worker's members, and members moved for balance.

    a newcomer          adopt ──► the worker that the registry names
    a worker's death    adopt ──► other workers; ack ◄── when they serve the members
    a rebalance         yield ──► a worker; yielded ◄──
                        adopt ──► other workers; ack ◄──

placement.py chooses these workers.

A worker adopts all these members in the same way: it recovers each member's progress from the
kernel, the log and the slot (worker/recovery.py). Until then, the log must keep the entries that
recovery needs. So the position of a dead worker, or of a worker that has yielded members, is pinned
until all members are *settled*: each worker has acknowledged (ack) that it serves the members it
was handed.
"""

from collections import Counter
from itertools import count, islice

from chatroom.log.ring import Log
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.supervisor.counters import Counters
from chatroom.supervisor.members import Client, Members
from chatroom.supervisor.placement import place, rebalance
from chatroom.supervisor.pool import WorkerPool, WorkerProcess
from chatroom.supervisor.registry import UNASSIGNED
from chatroom.supervisor.registry_process import RegistryProcess
from chatroom.system.channel import Record
from chatroom.system.event_loop import EventLoop
from chatroom.system.tcp_counters import taken

MAX_ADOPTED = 56
"""Maximum number of members in one record. The record must hold a greeting, and the address and
prefix of each member: in JSON, up to 400 bytes for the prefix and 60 for the rest."""

DEATHS = 3
"""Number of workers in a row that have died while they handled a member, after which the member is
disconnected."""

BALANCE_AFTER = 0.2
"""Seconds from a change of the loads to the next `_balance`."""
MAX_IDS = 1000
"""Maximum number of ids in a record, and so of members that move between workers at once."""


class Assignment:
    """Decides which worker serves which member; receives the pool's events (`PoolEvents`)."""

    def __init__(
        self,
        loop: EventLoop,
        pool: WorkerPool,
        members: Members,
        registry: RegistryProcess,
        counters: Counters,
        log: Log,
        pack: int,
    ) -> None:
        self._loop = loop
        self._pool = pool
        self._members = members
        self._registry = registry
        self._counters = counters
        self._log = log
        self._pack = pack
        self._stopped = False
        """True once the workers were told to stop: their members are not reassigned."""
        self._orphaned_at: float | None = None
        """Time (s) of the first death since all members were served; None while all are served."""
        self._numbers = count(1)
        self._awaited: dict[WorkerProcess, int] = {}
        """Number of the last ack requested from each worker, until it arrives."""
        self._unassigned: list[int] = []
        """Ids of members that no worker serves, because none is alive."""
        self._yielder: WorkerProcess | None = None
        """Worker that was told to yield members; None once these members are settled."""
        self._yielded = False
        """True once the yielder has given its members up."""
        self._balance_timer = loop.timer(self._balance)
        """Timer of `_balance`; set when members may have to move."""

    def hand_over(self, id: int, client: Client) -> None:
        """Hand a newcomer to the worker that the registry named."""
        if client.worker == UNASSIGNED:
            self._unassigned.append(id)
        else:
            self._adopt(self._pool.workers[client.worker], [id])

    def end_input(self, members: list[int]) -> None:
        """Tell the workers to read nothing more from members that were disconnected.

        The kernel still holds text that they have sent, so a throttled member's flood would
        continue.
        """
        by_worker: dict[int, list[int]] = {}
        for id in members:
            by_worker.setdefault(self._members.by_id[id].worker, []).append(id)
        by_worker.pop(UNASSIGNED, None)
        for number, ids in by_worker.items():
            for first in range(0, len(ids), MAX_IDS):
                self._pool.workers[number].tell({"end": ids[first : first + MAX_IDS]})

    def stop(self) -> None:
        """Reassign no members from now on: workers end because they were told to stop."""
        self._stopped = True

    # --- events of the pool --------------------------------------------------

    def on_worker_ready(self, worker: WorkerProcess) -> None:
        """Assign the unassigned members; `_balance` later gives the new worker its share."""
        self._registry.enroll(worker.number)
        unassigned, self._unassigned = self._unassigned, []
        self._assign(unassigned)
        self._schedule_balance()

    def on_worker_message(self, worker: WorkerProcess, record: Record) -> None:
        match record:
            case {"left": departures}:
                self._members.leave({id: LeaveReason(reason) for id, reason in departures})
                self._schedule_balance()
            case {"yielded": members}:
                self._yielded = True
                self._assign(members)
                self._settle()
            case {"ack": number} if self._awaited.get(worker) == number:
                # The worker serves all members that it was handed before this ack was requested.
                del self._awaited[worker]
                self._settle()

    def on_worker_exit(self, dead: WorkerProcess) -> None:
        """Reassign a dead worker's members.

        The numbers of the steps are those in docs/guarantees.md, "A worker's death".
        """
        if dead.ready:
            self._registry.dismiss(dead.number)
            self._counters.deaths[dead.number] += 1
        if self._stopped:
            return
        # 1. The pool has reaped the worker, so that two workers never serve one socket. It has also
        # pinned the worker's position.
        self._awaited.pop(dead, None)
        if self._yielder is dead:
            self._yielder = None
        orphans, lost = self._members_of(dead)
        suspects = [id for id, why in lost.items() if why is LeaveReason.WORKERS_KEPT_DYING]
        self._members.send_reason(suspects, LeaveReason.WORKERS_KEPT_DYING)
        self._members.leave(lost)
        # 2. Other workers get its members; if no worker is alive, the members wait.
        if orphans and self._orphaned_at is None:
            self._orphaned_at = self._loop.now()
        self._assign(orphans)
        # 3. Each of these workers recovers its new members (worker/recovery.py), and sends an ack.
        # 4. The last ack unpins the position. If no ack is awaited, it is unpinned at once.
        self._settle()
        # 5. The pool starts another worker; `_balance` moves members to it.
        self._schedule_balance()

    def _members_of(self, dead: WorkerProcess) -> tuple[list[int], dict[int, LeaveReason]]:
        """Return a dead worker's members: orphans to reassign, and lost members with reasons."""
        suspect = self._log.suspect(dead.number)
        orphans: list[int] = []
        lost: dict[int, LeaveReason] = {}
        for id, client in self._members.by_id.items():
            if client.worker != dead.number:
                continue
            is_suspect = id == suspect and (dead.stuck or not dead.killed)
            client.deaths = client.deaths + 1 if is_suspect else 0
            if taken(client.connection) is None:
                lost[id] = LeaveReason.WORKER_DIED
            elif client.deaths >= DEATHS:
                lost[id] = LeaveReason.WORKERS_KEPT_DYING
            else:
                orphans.append(id)
        return orphans, lost

    # --- hand members over ---------------------------------------------------

    def _assign(self, members: list[int]) -> None:
        """Hand members to workers and request acks. Skip members that have left."""
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
        loads = {number: load[number] for number in ready}
        shares: dict[int, list[int]] = {}
        for id in members:
            number = place(loads, self._pack)
            loads[number] += 1
            shares.setdefault(number, []).append(id)
            self._members.by_id[id].worker = number
        for number, share in shares.items():
            self._registry.move(share, number)
            self._adopt(ready[number], share)
            self._awaited[ready[number]] = ack = next(self._numbers)
            ready[number].tell({"ack": ack})

    def _adopt(self, worker: WorkerProcess, members: list[int]) -> None:
        by_greeting: dict[bytes, list[int]] = {}
        for id in members:
            by_greeting.setdefault(self._members.by_id[id].greeting, []).append(id)
        for greeting, ids in by_greeting.items():
            for first in range(0, len(ids), MAX_ADOPTED):
                found = {id: self._members.by_id[id] for id in ids[first : first + MAX_ADOPTED]}
                record = {
                    "adopt": [
                        (
                            id,
                            client.address,
                            client.prefix,
                            client.slot,
                            client.header_bytes,
                            *(() if client.after is None else (client.after,)),
                        )
                        for id, client in found.items()
                    ],
                    "greeting": greeting.decode(),
                }
                fds = [client.connection.fileno() for client in found.values()]
                worker.tell(record, fds)
                ended = [id for id, client in found.items() if client.removed_for]
                if ended:  # these were disconnected while they moved
                    worker.tell({"end": ended})

    @property
    def settled(self) -> bool:
        """True if no member waits for a worker to take it over."""
        return not (self._awaited or self._unassigned)

    def _settle(self) -> None:
        """Unpin the positions in the log if no member waits for a worker to take it over."""
        if not self.settled:
            return
        self._pool.release_seat()
        if self._orphaned_at is not None:
            self._counters.recovered(self._loop.now() - self._orphaned_at)
            self._orphaned_at = None
        if self._yielder is not None and self._yielded:
            self._yielder.tell({"settled": True})
            self._yielder = None
        self._schedule_balance()

    # --- balance -------------------------------------------------------------

    def _schedule_balance(self) -> None:
        """Schedule `_balance`, because members have left or moved, or a worker has started."""
        if self._balance_timer.due is None:
            self._balance_timer.set_after(BALANCE_AFTER)

    def _balance(self) -> None:
        """Tell a worker to yield members, so that other workers serve them."""
        if self._pool.closing or self._yielder or not self.settled:
            return  # `_settle` or `on_worker_ready` schedules it again
        load = self._load()
        loads = {worker.number: load[worker.number] for worker in self._pool.ready()}
        move = rebalance(loads, self._pack)
        if move is None:
            return
        movable = (
            id
            for id, client in self._members.by_id.items()
            # No other worker could recover a member whose bytes the kernel does not count.
            if client.worker == move.worker and taken(client.connection) is not None
        )
        moving = [*islice(movable, min(move.members, MAX_IDS))]
        if moving:
            self._yielder, self._yielded = self._pool.workers[move.worker], False
            self._yielder.tell({"yield": moving})

    def _load(self) -> Counter[int]:
        """Return the number of members on each worker."""
        return Counter(client.worker for client in self._members.by_id.values())
