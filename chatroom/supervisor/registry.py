"""The registry: the id, address and worker of each member.

The registry runs in a separate process, behind a manager (registry_manager.py). Only the registry
assigns ids and applies the limits. The main process calls it at each join and leave
(registry_process.py); a call takes about 40 µs, and no message waits for a call.
"""

import socket
from collections import Counter
from typing import NamedTuple

from chatroom.protocol.refusal_reason import RefusalReason
from chatroom.supervisor.placement import place

Directory = dict[int, tuple[str, int]]
"""Address and worker of each member, by id."""

UNASSIGNED = -1
"""Worker of a member that no worker serves, because none is alive."""


class Admission(NamedTuple):
    """Permission for a newcomer to join as the member `id`, on `worker`."""

    id: int
    worker: int


class Refusal(NamedTuple):
    """Refusal of a newcomer."""

    reason: RefusalReason


class Registry:
    """The directory. Only the calls `members` and `restore` take longer in a larger directory."""

    def __init__(self, max_clients: int, max_clients_per_address: int, pack: int) -> None:
        """`max_clients_per_address`: 0 means that only `max_clients` applies. `pack`: see
        placement.py."""
        self._max_clients = max_clients
        self._pack = pack
        self.limit(max_clients_per_address)
        self._last_id = 0
        self._members: Directory = {}
        self._addresses: Counter[str] = Counter()
        """Number of members from each address."""
        self._load: Counter[int] = Counter()
        """Number of members on each worker."""
        self._workers: set[int] = set()
        """Workers to which newcomers may be assigned."""

    def limit(self, max_clients_per_address: int) -> None:
        """Set the limit of members per address, for newcomers only; 0: no limit."""
        self._max_clients_per_address = max_clients_per_address or self._max_clients

    def enroll(self, worker: int) -> None:
        """Begin to assign newcomers to `worker`."""
        self._workers.add(worker)

    def dismiss(self, worker: int) -> None:
        """Stop assigning newcomers to `worker`."""
        self._workers.discard(worker)

    def admit(self, address: str) -> Admission | Refusal:
        """Refuse a newcomer, or give it an id and a worker (placement.py).

        `address` is in canonical form. No id is used twice. If no worker is enrolled, the newcomer
        is UNASSIGNED.
        """
        if len(self._members) >= self._max_clients:
            return Refusal(RefusalReason.FULL)
        if self._addresses[address] >= self._max_clients_per_address:
            return Refusal(RefusalReason.TOO_MANY)
        loads = {worker: self._load[worker] for worker in self._workers}
        worker = place(loads, self._pack) if loads else UNASSIGNED
        self._last_id += 1
        self._members[self._last_id] = address, worker
        self._addresses[address] += 1
        self._load[worker] += 1
        return Admission(self._last_id, worker)

    def leave(self, members: list[int]) -> None:
        """Forget members. Unknown ids are ignored."""
        for id in members:
            if id not in self._members:
                continue
            address, worker = self._members.pop(id)
            self._load[worker] -= 1
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]

    def move(self, members: list[int], worker: int) -> None:
        """Move members to `worker`. Unknown ids are ignored."""
        for id in members:
            if id in self._members:
                address, before = self._members[id]
                self._members[id] = address, worker
                self._load[before] -= 1
                self._load[worker] += 1

    def members(self) -> Directory:
        """Return all members."""
        return dict(self._members)

    def restore(self, last_id: int, members: Directory, workers: set[int]) -> None:
        """Fill a new directory with the content of the previous directory."""
        self._last_id = last_id
        self._members = dict(members)
        self._addresses = Counter(address for address, _ in members.values())
        self._load = Counter(worker for _, worker in members.values())
        self._workers = set(workers)


def main(end: socket.socket, _channel: socket.socket) -> None:
    """Serve the main process on one end of a pair of sockets. This is the target of the registry's
    process."""
    from chatroom.supervisor import registry_manager  # imported late: see its docstring

    registry_manager.serve(end, Registry)
