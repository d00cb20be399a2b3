"""The registry: the id, address and worker of each member.

The registry runs in a process of its own (`multiprocessing.managers`). It alone gives out ids and
applies the limits. The main process calls it at each join and leave; a call takes about 40 µs, and
no message waits for one.
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
from chatroom.protocol.refusal_reason import RefusalReason
from chatroom.supervisor.child import READY_WITHIN, Child
from chatroom.system.channel import Channel, Record
from chatroom.system.event_loop import EventLoop

ANSWER_WITHIN = 3.0
"""Timeout (s) of a call, after which the registry's process is replaced."""

RESTARTS = 5
"""Maximum of restarts of the registry's process in a row for one call."""

FAILURES = (EOFError, OSError, RuntimeError)
"""Errors of a call if the process ends, or if the system has no process or thread left."""

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

    def __init__(self, max_clients: int, max_clients_per_address: int) -> None:
        """`max_clients_per_address`: 0 means that only `max_clients` applies."""
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
        """Set the limit of members per address for newcomers; 0: no limit. Members stay."""
        self._max_clients_per_address = max_clients_per_address or self._max_clients

    def enroll(self, worker: int) -> None:
        """Place newcomers on `worker`, too."""
        self._workers.add(worker)

    def dismiss(self, worker: int) -> None:
        """Place no newcomers on `worker` any more."""
        self._workers.discard(worker)

    def admit(self, address: str) -> Admission | Refusal:
        """Refuse a newcomer, or give it an id and the worker with the fewest members.

        `address` is in canonical form. An id is never given twice. If no worker is enrolled, the
        newcomer is UNASSIGNED.
        """
        if len(self._members) >= self._max_clients:
            return Refusal(RefusalReason.FULL)
        if self._addresses[address] >= self._max_clients_per_address:
            return Refusal(RefusalReason.TOO_MANY)
        worker = min(sorted(self._workers), key=self._load.__getitem__, default=UNASSIGNED)
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


class _Manager(BaseManager):
    pass


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
        held: Callable[[], Directory],
    ) -> None:
        """Start the process. `held` returns the members that the main process holds."""
        self._loop = loop
        self._limits = max_clients, max_clients_per_address
        self._held = held
        self._last_id = 0
        self._workers: set[int] = set()
        self._child: Child | None = None
        self._address = ""
        """Address at which the process serves; empty until it does."""
        self._registry: Any = None
        """Proxy of the registry in the process; None while the process starts."""
        try:
            self._start()
        except FAILURES as error:
            self.stop()
            raise RegistryError(f"the registry's process can't start: {error!r}") from None

    def _start(self) -> None:
        """Start the process, in place of an earlier one. Raises one of FAILURES."""
        self.stop()
        self._address = ""
        child = self._child = Child(self._loop, (main, ()), self._on_record, self._on_exit)
        deadline = monotonic() + READY_WITHIN
        while not self._address:
            if self._child is None or monotonic() >= deadline:
                raise EOFError(f"ended with exit code {child.exitcode}")
            child.wait(deadline - monotonic())
        child.ready()
        manager = _Manager(self._address)
        # These calls have no timeout, and the process may be stopped (SIGSTOP) during them, too.
        killer = threading.Timer(ANSWER_WITHIN, child.kill)
        killer.start()
        try:
            manager.connect()
            registry = manager.Registry(*self._limits)  # type: ignore[attr-defined]
            registry._connect()  # else the first call would connect, without a timeout
        finally:
            killer.cancel()
            killer.join()
        _limit(registry._tls.connection.fileno(), ANSWER_WITHIN)
        self._registry = registry

    def stop(self) -> None:
        """Kill the process, also one that is stopped (SIGSTOP)."""
        if self._child is not None:
            self._child.end()
            self._child = None
        # Only after the kill: when the proxy is garbage-collected, it calls the process, and would
        # wait for a stopped one.
        self._registry = None

    def _on_record(self, record: Record, _descriptors: list[int]) -> None:
        self._address = record["serves"]

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
        try:
            return getattr(self._registry, method)(*arguments)
        except BlockingIOError:
            says = f"no answer within {ANSWER_WITHIN:g} s; the registry is restarted"
            logger.warning(Event("registry-stuck", says, seconds=ANSWER_WITHIN))
        except (EOFError, OSError):
            logger.warning(Event("registry-died", "the registry is restarted; no member is lost"))
        for _ in range(RESTARTS):
            with contextlib.suppress(*FAILURES):
                self._start()
                self._registry.restore(self._last_id, self._held(), self._workers)
                return getattr(self._registry, method)(*arguments)
        raise RegistryError(f"the registry's process died {RESTARTS} times in a row")


def _limit(connection: int, seconds: float) -> None:
    """Set a timeout (s) on a connection, after which a read raises BlockingIOError."""
    with socket.socket(fileno=os.dup(connection)) as same:
        whole = int(seconds)
        limit = struct.pack("ll", whole, int((seconds - whole) * 1e6))  # struct timeval
        same.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)


# --- in the process ------------------------------------------------------------------------------


def main(end: socket.socket) -> None:
    """Send the registry's address, and serve until the main process has ended in any way."""
    # An abstract address leaves no file behind, even if this process is killed. A client must
    # know the key, which only the main process and its children have.
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
