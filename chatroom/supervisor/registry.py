"""The registry: who is in the room, from where, and on which worker.

It lives in a process of its own (`multiprocessing.managers`) and is the one
place that gives out ids and applies the limits. The main process asks it when
somebody joins or leaves; a call takes about 40 µs, and no message waits for one.
"""

import contextlib
import logging
import os
import secrets
import socket
import struct
import sys
import threading
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from multiprocessing import connection, parent_process
from multiprocessing.managers import BaseManager
from time import monotonic
from typing import Any

from chatroom.errors import RegistryError
from chatroom.logs import Event
from chatroom.supervisor.child import READY_WITHIN, Child
from chatroom.system.channel import Channel, Record
from chatroom.system.event_loop import EventLoop

ANSWER_WITHIN = 3.0
"""Seconds for an answer; then the registry's process is taken for stopped, and another started."""

RESTARTS = 5
"""Times that a registry's process is started again, one after another, for one call."""

FAILURES = (EOFError, OSError, RuntimeError)
"""Errors of a call where the process ends, or where the system has no process or thread for it."""

logger = logging.getLogger(__name__)

Directory = dict[int, tuple[str, int]]
"""Address and worker of each member, by id."""

UNASSIGNED = -1
"""The worker of a member that none serves, because none is alive."""


@dataclass(frozen=True, slots=True)
class Admission:
    """A newcomer may join, as the member `id`, on `worker`."""

    id: int
    worker: int


@dataclass(frozen=True, slots=True)
class Refusal:
    """A newcomer may not join; `reason` is the line that it is told (JOIN-5)."""

    reason: str


class Registry:
    """The directory itself. All of its calls cost the same for the first member and the last."""

    def __init__(self, max_clients: int, max_clients_per_address: int) -> None:
        """`max_clients_per_address` 0: as many as the room holds."""
        self._max_clients = max_clients
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
        """From now on no more may join from one address; who is in stays."""
        self._max_clients_per_address = max_clients_per_address or self._max_clients

    def enroll(self, worker: int) -> None:
        """`worker` is ready to serve members."""
        self._workers.add(worker)

    def dismiss(self, worker: int) -> None:
        """`worker` serves no more: no newcomer is placed there."""
        self._workers.discard(worker)

    def admit(self, address: str) -> Admission | Refusal:
        """Give a newcomer from a canonical `address` an id and the worker with the fewest members.

        An id is never given twice. Where no worker is enrolled, the newcomer is UNASSIGNED.
        """
        if len(self._members) >= self._max_clients:
            return Refusal("The room is full")
        if self._addresses[address] >= self._max_clients_per_address:
            return Refusal("Too many connections from your address")
        worker = min(sorted(self._workers), key=self._load.__getitem__, default=UNASSIGNED)
        self._last_id += 1
        self._members[self._last_id] = address, worker
        self._addresses[address] += 1
        self._load[worker] += 1
        return Admission(self._last_id, worker)

    def leave(self, members: list[int]) -> None:
        """Forget members; those that it does not know, it has forgotten already."""
        for id in members:
            if id not in self._members:
                continue
            address, worker = self._members.pop(id)
            self._load[worker] -= 1
            self._addresses[address] -= 1
            if not self._addresses[address]:
                del self._addresses[address]

    def move(self, members: list[int], worker: int) -> None:
        """`worker` serves members from now on that another one has served."""
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
        """Fill a new directory with what an earlier one knew."""
        self._last_id = last_id
        self._members = dict(members)
        self._addresses = Counter(address for address, _ in members.values())
        self._load = Counter(worker for _, worker in members.values())
        self._workers = set(workers)


class _Manager(BaseManager):
    pass


_Manager.register("Registry", Registry)


class RegistryProcess:
    """The registry, called from the main process; it lives in a process of its own.

    Should that process die, or be stopped, another is started at once, and filled
    with what the main process holds.
    Raises RegistryError where none can be started.
    """

    def __init__(
        self,
        loop: EventLoop,
        max_clients: int,
        max_clients_per_address: int,
        held: Callable[[], Directory],
    ) -> None:
        """`held` returns what the main process knows of the members."""
        self._loop = loop
        self._limits = max_clients, max_clients_per_address
        self._held = held
        self._last_id = 0
        self._workers: set[int] = set()
        self._child: Child | None = None
        self._address = ""
        """Address of the process; empty until it serves."""
        self._registry: Any = None
        """The registry in it; None while it starts."""
        try:
            self._start()
        except FAILURES as error:
            self.stop()
            raise RegistryError(f"the registry's process can't start: {error!r}") from None

    def _start(self) -> None:
        """Start the process, in place of one that is there. Raises one of FAILURES."""
        self.stop()
        self._address = ""
        child = self._child = Child(self._loop, (main, ()), self._on_record, self._on_exit)
        deadline = monotonic() + READY_WITHIN
        while not self._address:
            if self._child is None or monotonic() >= deadline:
                raise EOFError(f"ended with exit code {child.process.exitcode}")
            child.wait(deadline - monotonic())
        child.ready()
        manager = _Manager(self._address)
        # There is no limit to these calls, in which it may be stopped as well (SIGSTOP).
        killer = threading.Timer(ANSWER_WITHIN, child.kill)
        killer.start()
        try:
            manager.connect()
            registry = manager.Registry(*self._limits)  # type: ignore[attr-defined]
            registry._connect()  # or the first call would, and have no limit
        finally:
            killer.cancel()
            killer.join()
        _limit(registry._tls.connection.fileno(), ANSWER_WITHIN)
        self._registry = registry

    def stop(self) -> None:
        """Leave no process: it may be stopped, and not dead."""
        if self._child is not None:
            self._child.end()
            self._child = None
        self._registry = None  # not before: a proxy that goes calls the process, dead or stopped

    def _on_record(self, record: Record, _descriptors: list[int]) -> None:
        self._address = record["serves"]

    def _on_exit(self) -> None:
        """The process has ended: another is started before anyone asks for it."""
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
        """Forget members; the main process must hold them no more."""
        self._call("leave", members)

    def move(self, members: list[int], worker: int) -> None:
        """The main process must hold them as that worker's."""
        self._call("move", members, worker)

    def _call(self, method: str, *arguments: object) -> Any:
        """Call a method of the registry; where its process is dead or stopped, in another one."""
        try:
            return getattr(self._registry, method)(*arguments)
        except BlockingIOError:
            says = f"it did not answer in {ANSWER_WITHIN:g} s; another is started"
            logger.warning(Event("registry-stuck", says, seconds=ANSWER_WITHIN))
        except (EOFError, OSError):
            logger.warning(Event("registry-died", "another is started, which knows all members"))
        for _ in range(RESTARTS):
            with contextlib.suppress(*FAILURES):
                self._start()
                self._registry.restore(self._last_id, self._held(), self._workers)
                return getattr(self._registry, method)(*arguments)
        raise RegistryError(f"the registry's process died {RESTARTS} times in a row")


def _limit(connection: int, seconds: float) -> None:
    """Have the kernel end a wait on this connection after so many seconds, with BlockingIOError."""
    with socket.socket(fileno=os.dup(connection)) as same:
        whole = int(seconds)
        limit = struct.pack("ll", whole, int((seconds - whole) * 1e6))  # struct timeval
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)


# --- in the process ------------------------------------------------------------------------------


def main(end: socket.socket) -> None:
    """Serve a registry, and say where, until the main process is gone, killed or not."""
    # An abstract address leaves no file behind, even where this process is killed; who connects
    # has to know the key that only the main process's children have.
    address = f"\0chatroom-{secrets.token_hex(16)}" if sys.platform == "linux" else None
    server = _Manager(address).get_server()
    parent = parent_process()
    assert parent is not None
    sentinel = parent.sentinel

    def end_with_parent() -> None:
        connection.wait([sentinel])
        os._exit(0)

    threading.Thread(target=end_with_parent, name="parent watch", daemon=True).start()
    where = server.address
    assert isinstance(where, str | bytes)
    Channel(end).send({"serves": os.fsdecode(where)})
    server.serve_forever()
