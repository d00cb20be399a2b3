"""The registry: the id, address and worker of each member.

The registry runs in a process of its own, behind a manager (`multiprocessing.managers`). It alone
gives out ids and applies the limits. The main process calls it at each join and leave; a call takes
about 40 µs, and no message waits for one.
"""

import contextlib
import logging
import socket
import struct
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, managers
from typing import Any

from chatroom.errors import RegistryError
from chatroom.logs import Event
from chatroom.protocol.refusal_reason import RefusalReason
from chatroom.supervisor.child import READY_WITHIN, Child
from chatroom.supervisor.placement import place
from chatroom.system.event_loop import EventLoop
from chatroom.system.spawn import PARENT

ANSWER_WITHIN = 3.0
"""Timeout (s) of a call, after which the registry's process is replaced."""

RESTARTS = 5
"""Maximum of restarts of the registry's process in a row for one call."""

FAILURES = (EOFError, OSError)
"""Errors of a call if the process ends, or if the system has no process left."""

logger = logging.getLogger(__name__)

Directory = dict[int, tuple[str, int]]
"""Address and worker of each member, by id."""

UNASSIGNED = -1
"""Worker of a member that no worker serves, because none is alive."""


@dataclass(frozen=True, slots=True)
class Admission:
    """Permission for a newcomer to join as the member `id`, on `worker`."""

    id: int
    worker: int


@dataclass(frozen=True, slots=True)
class Refusal:
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


class _Manager(managers.BaseManager):
    def __init__(self, end: socket.socket) -> None:
        """`end`: one of the pair. Nobody else has the other, so the key is no secret."""
        super().__init__(end, b"", "pair")  # type: ignore[arg-type]


_Manager.register("Registry", Registry)


class RegistryProcess:
    """The registry's process, as the main process calls it.

    If the process dies, or is stopped, another is started at once, and filled with the members
    that the main process holds. Each call raises RegistryError if no process can be started.
    """

    def __init__(
        self,
        loop: EventLoop,
        max_clients: int,
        max_clients_per_address: int,
        pack: int,
        held: Callable[[], Directory],
    ) -> None:
        """Start the process. `held` returns the members that the main process holds."""
        self._loop = loop
        self._limits = max_clients, max_clients_per_address
        self._pack = pack
        self._held = held
        self._last_id = 0
        self._workers: set[int] = set()
        self._child: Child | None = None
        self._registry: Any = None
        """Proxy of the registry in the process; None while the process starts."""
        self._stopped = False
        try:
            self._start()
        except FAILURES as error:
            child = self._child
            self.stop()
            why = error if child is None else f"ended with exit code {child.exitcode}"
            raise RegistryError(f"the registry's process can't start: {why}") from None

    def _start(self) -> None:
        """Start the process, in place of an earlier one. Raises one of FAILURES."""
        self._end()
        ours, theirs = socket.socketpair()
        with ours, theirs:
            child = Child(self._loop, (main, (theirs,)), lambda *_: None, self._on_exit)
            theirs.close()  # now its end is seen on ours
            self._child = child
            _limit(ours, READY_WITHIN)
            manager = _Manager(ours)
            manager.connect()
            child.ready()
            _limit(ours, ANSWER_WITHIN)
            registry = manager.Registry(*self._limits, self._pack)  # type: ignore[attr-defined]
            registry._connect()  # else the first call would connect, when `ours` is closed
        self._registry = registry

    def stop(self) -> None:
        """Kill the process, also one that is stopped (SIGSTOP). Later calls have no effect."""
        self._stopped = True
        self._end()

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None
        self._registry = None

    def _on_exit(self) -> None:
        """Start another process before the next call needs it."""
        self._child = None
        if self._registry is not None:
            self._call("leave", [])

    def limit(self, max_clients_per_address: int) -> None:
        self._limits = self._limits[0], max_clients_per_address
        self._call("limit", max_clients_per_address)

    def enroll(self, worker: int) -> None:
        self._workers.add(worker)
        self._call("enroll", worker)

    def dismiss(self, worker: int) -> None:
        self._workers.discard(worker)
        self._call("dismiss", worker)

    def admit(self, address: str) -> Admission | Refusal:
        answer: Admission | Refusal = self._call("admit", address)
        if isinstance(answer, Admission):
            self._last_id = answer.id
        return answer

    def leave(self, members: list[int]) -> None:
        """Forget members. `held` must no longer return them."""
        self._call("leave", members)

    def move(self, members: list[int], worker: int) -> None:
        """Move members to `worker`. `held` must already return them with that worker."""
        self._call("move", members, worker)

    def _call(self, method: str, *arguments: object) -> Any:
        """Call a method of the registry. If its process is dead or stopped, start another."""
        if self._stopped:
            return None
        try:
            return getattr(self._registry, method)(*arguments)
        except BlockingIOError:
            says = f"no answer within {ANSWER_WITHIN:g} s; the registry is restarted"
            logger.warning(Event("registry-stuck", says, seconds=ANSWER_WITHIN))
        except FAILURES:
            logger.warning(Event("registry-died", "the registry is restarted; no member is lost"))
        for _ in range(RESTARTS):
            with contextlib.suppress(*FAILURES):
                self._start()
                self._registry.restore(self._last_id, self._held(), self._workers)
                return getattr(self._registry, method)(*arguments)
        raise RegistryError(f"the registry's process died {RESTARTS} times in a row")


def _limit(end: socket.socket, seconds: float) -> None:
    """Set a timeout (s) on a connection, after which a read or write raises BlockingIOError."""
    whole = int(seconds)
    limit = struct.pack("ll", whole, int((seconds - whole) * 1e6))  # struct timeval
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)


# --- in the process ------------------------------------------------------------------------------


def main(end: socket.socket, _channel: socket.socket) -> None:
    """Serve the main process, on one end of a pair, until it has ended in any way."""
    server: Any = _Manager(end).get_server()
    # In one thread, unlike `serve_forever`, which needs a new one for each connection.
    server.stop_event = threading.Event()
    while not connection.wait([PARENT], 0):
        server.handle_request(server.listener.accept())
