"""The registry: the id, address and worker of each member.

The registry runs in a process of its own, behind a manager (`multiprocessing.managers`). It alone
gives out ids and applies the limits. The main process calls it at each join and leave; a call takes
about 40 µs, and no message waits for one. registry_process.py is the main process's part.
"""

import socket
import threading
from collections import Counter
from multiprocessing import connection, managers
from typing import Any, NamedTuple

from chatroom.protocol.refusal_reason import RefusalReason
from chatroom.supervisor.placement import place
from chatroom.system.channel import PARENT
from chatroom.system.poller import wait

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
    """The directory. Only `members` and `restore` take time in proportion to its size."""

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
        """Workers that newcomers may be placed on."""

    def limit(self, max_clients_per_address: int) -> None:
        """Set the limit of members per address for newcomers; 0: no limit. Members stay."""
        self._max_clients_per_address = max_clients_per_address or self._max_clients

    def enroll(self, worker: int) -> None:
        """Place newcomers on `worker`, too."""
        self._workers.add(worker)

    def dismiss(self, worker: int) -> None:
        """Place no newcomers on `worker` any more."""
        self._workers.discard(worker)

    def admit(self, address: str) -> Admission | Refusal:
        """Refuse a newcomer, or give it an id and a worker (placement.py).

        `address` is in canonical form. An id is never given twice. If no worker is enrolled, the
        newcomer is UNASSIGNED.
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
        """Fill a new directory with the content of an earlier one."""
        self._last_id = last_id
        self._members = dict(members)
        self._addresses = Counter(address for address, _ in members.values())
        self._load = Counter(worker for _, worker in members.values())
        self._workers = set(workers)


class _Listener:
    """Listener of the manager: it has one connection, and accepts it again for each client.

    A manager's own listener has an address, to which every user of the machine can connect. The
    main process is the only client here, with one request at a time, so one pair of sockets does.
    """

    def __init__(self, address: socket.socket, backlog: int) -> None:  # noqa: ARG002
        self.address = address

    def accept(self) -> connection.Connection:
        return _connection(self.address)


def _client(address: socket.socket, authkey: bytes) -> connection.Connection:
    """Connect to the manager as multiprocessing.connection.Client does."""
    made = _connection(address)
    connection.answer_challenge(made, authkey)
    connection.deliver_challenge(made, authkey)
    return made


def _connection(end: socket.socket) -> connection.Connection:
    return connection.Connection(end.dup().detach())  # whoever gets it closes it


managers.listener_client["pair"] = _Listener, _client  # type: ignore[attr-defined]


class Manager(managers.BaseManager):
    """The manager of one `Registry`."""

    def __init__(self, end: socket.socket) -> None:
        """`end`: one of the pair. Nobody else has the other, so the key is no secret."""
        super().__init__(end, b"", "pair")  # type: ignore[arg-type]


Manager.register("Registry", Registry)


def main(end: socket.socket, _channel: socket.socket) -> None:
    """Serve the main process, on one end of a pair, until it has ended in any way.

    The target of the registry's process.
    """
    server: Any = Manager(end).get_server()
    # In one thread, unlike `serve_forever`, which needs a new one for each connection.
    server.stop_event = threading.Event()
    while not wait([PARENT], 0.0):
        server.handle_request(server.listener.accept())
