"""The main process's part of the registry: start its process, call it, and replace it."""

import contextlib
import logging
import socket
import struct
from collections.abc import Callable, Iterator
from typing import Any

from chatroom.errors import RegistryError
from chatroom.logs import Event
from chatroom.supervisor.child import READY_WITHIN, Child
from chatroom.supervisor.registry import Admission, Directory, Refusal, main
from chatroom.system.event_loop import EventLoop

ANSWER_WITHIN = 3.0
"""Timeout (s) of a call, after which the registry's process is replaced."""

RESTARTS = 5
"""Maximum number of restarts of the registry's process for one call."""

FAILURES = (EOFError, OSError)
"""Errors that a call raises if the process ends, or if the system can't start a process."""

logger = logging.getLogger(__name__)


class RegistryProcess:
    """The registry's process, as the main process calls it.

    If the process dies, another process is started at once, and gets the members from the main
    process. If the process hangs, the next call replaces it after ANSWER_WITHIN seconds. Each call
    raises RegistryError if no process can be started.
    """

    def __init__(
        self,
        loop: EventLoop,
        max_clients: int,
        max_clients_per_address: int,
        pack: int,
        held: Callable[[], Directory],
    ) -> None:
        """Start the process. `held` returns the members that the main process has."""
        self._loop = loop
        self._limits = max_clients, max_clients_per_address
        self._pack = pack
        self._held = held
        self._last_id = 0
        self._workers: set[int] = set()
        self._child: Child | None = None
        self._end_of_pair: socket.socket | None = None
        """One end of a pair of sockets, until `_connect` uses it. The new process has the other
        end."""
        self._registry: Any = None
        """Proxy of the registry in the process; None while the process starts."""
        self._stopped = False
        with self._starting():
            self._spawn()

    def connect(self) -> None:
        """Wait until the process is ready. Call it once, before any other method except `stop`.

        The constructor does not wait, so that the workers can start at the same time.
        """
        with self._starting():
            self._connect()

    @contextlib.contextmanager
    def _starting(self) -> Iterator[None]:
        """Raise RegistryError, and stop, if the first start raises one of FAILURES."""
        try:
            yield
        except FAILURES as error:
            child = self._child
            self.stop()
            why = error if child is None else f"ended with exit code {child.exitcode}"
            raise RegistryError(f"the registry's process can't start: {why}") from None

    def _spawn(self) -> None:
        """Start the process, and end the previous process if there is one. Raises OSError."""
        self._end()
        ours, theirs = socket.socketpair()
        self._end_of_pair = ours
        with theirs:  # once `theirs` is closed here, `ours` reports the end of the process
            self._child = Child(self._loop, (main, (theirs,)), lambda *_: None, self._on_exit)

    def _connect(self) -> None:
        """Wait for the process, and make the registry in it. Raises one of FAILURES."""
        from chatroom.supervisor import registry_manager  # imported late: see its docstring

        assert self._child is not None
        assert self._end_of_pair is not None
        with self._end_of_pair as ours:
            self._end_of_pair = None
            _limit(ours, READY_WITHIN)
            manager = registry_manager.connect(ours)
            self._child.ready()
            _limit(ours, ANSWER_WITHIN)
            registry = manager.Registry(*self._limits, self._pack)
            registry._connect()  # the proxy's first call would do this, but `ours` is closed then
        self._registry = registry

    def stop(self) -> None:
        """Kill the process, even if it is stopped (SIGSTOP). Later calls have no effect."""
        self._stopped = True
        self._end()

    def _end(self) -> None:
        if self._child is not None:
            self._child.end()
            self._child = None
        if self._end_of_pair is not None:
            self._end_of_pair.close()
            self._end_of_pair = None
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
        """Forget members. `held` must no longer return these members."""
        self._call("leave", members)

    def move(self, members: list[int], worker: int) -> None:
        """Move members to `worker`. `held` must already return these members with that worker."""
        self._call("move", members, worker)

    def _call(self, method: str, *arguments: object) -> Any:
        """Call a method of the registry. If its process is dead or hangs, start another process."""
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
                self._spawn()
                self._connect()
                self._registry.restore(self._last_id, self._held(), self._workers)
                return getattr(self._registry, method)(*arguments)
        raise RegistryError(f"the registry's process died {RESTARTS} times in a row")


def _limit(end: socket.socket, seconds: float) -> None:
    """Set a timeout (s) on a connection, after which a read or write raises BlockingIOError."""
    whole = int(seconds)
    limit = struct.pack("ll", whole, int((seconds - whole) * 1e6))  # struct timeval
    end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, limit)
    end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, limit)
