"""The pool of workers: spawn them, watch their progress, reap and replace them.

Each worker has a seat: its number, its words in the log, its doorbell. A dead worker keeps its
seat, and so its position in the log, until other workers serve its members. Its replacement takes
another seat and is started at once. If several workers in a row die before they are ready, the
backoff between the attempts grows.

The pool decides how many workers there are. assignment.py decides which members they serve: it
receives the pool's three events, `PoolEvents`.
"""

import logging
from collections.abc import Sequence
from typing import Protocol

from chatroom.config.settings import Settings
from chatroom.errors import WorkerError
from chatroom.log.ring import Log
from chatroom.log.room_rate import NONE, RoomRate
from chatroom.log.slots import Slots
from chatroom.log.uplink import Uplink
from chatroom.logs import Event
from chatroom.supervisor.child import Child, pause_after
from chatroom.supervisor.watchdog import Watchdog
from chatroom.system.channel import Record
from chatroom.system.doorbell import Doorbell
from chatroom.system.event_loop import EventLoop
from chatroom.worker import process

ATTEMPTS = 10
"""Failed starts in a row after which the room ends, unless a worker is ready."""

logger = logging.getLogger(__name__)


class WorkerProcess:
    """A worker as the main process knows it."""

    def __init__(self, number: int, child: Child) -> None:
        self.number = number
        self.child = child
        self.ready = False
        self.drained = False
        self.killed = False
        """True once the pool has killed the worker, because the worker was surplus, outdated or
        stuck."""
        self.stuck = False
        """True once the pool has killed the worker because it made no progress."""

    @property
    def pid(self) -> int:
        return self.child.pid

    @property
    def serves(self) -> bool:
        """True while the worker is ready and was not killed."""
        return self.ready and not self.killed

    def tell(self, record: Record, descriptors: Sequence[int] = ()) -> None:
        """Send a record; the descriptors must stay open until it has been sent."""
        self.child.tell(record, descriptors)


class PoolEvents(Protocol):
    """The events of the pool."""

    def on_worker_ready(self, worker: WorkerProcess) -> None:
        """Handle a worker that can now serve members."""

    def on_worker_message(self, worker: WorkerProcess, record: Record) -> None:
        """Handle a worker's record about its members."""

    def on_worker_exit(self, worker: WorkerProcess) -> None:
        """Handle the exit of a worker. Its position in the log, or a lower position, is pinned."""


class WorkerPool:
    """The workers, by seat."""

    def __init__(
        self,
        settings: Settings,
        loop: EventLoop,
        log: Log,
        slots: Slots,
        room_rate: RoomRate,
        doorbells: Sequence[Doorbell],
        uplink: Uplink | None = None,
    ) -> None:
        """`uplink`: uplink of a room in a cluster; None without a cluster."""
        self.wanted = settings.workers
        self.workers: dict[int, WorkerProcess] = {}
        self.pinned_seat: int | None = None
        """Seat of a dead worker until other workers serve all its members; None if there is no such
        seat. After several deaths, it is the seat with the lowest position, because pinning that
        seat is enough.
        """
        self._settings = settings
        self._loop = loop
        self._log = log
        self._slots = slots
        self._room_rate = room_rate
        self._doorbells = doorbells
        self._uplink = uplink
        self._events: PoolEvents | None = None
        self._outdated: list[WorkerProcess] = []
        """Workers to replace, one after another."""
        self._complete = False
        """True once all workers of the first start have been ready at the same time."""
        self.closing = False
        """True once the room stops: from then on, no worker is replaced."""
        self._failures = 0
        """Failed starts in a row: no process was spawned, or it ended before it was ready."""
        self._retry = loop.timer(self._adjust)
        """Timer of the backoff after a failed start."""
        self._watchdog = Watchdog(loop, settings.watchdog, self._check_progress)

    def start(self, events: PoolEvents) -> None:
        """Start the workers; report to `events` from now on."""
        self._events = events
        self._adjust()

    @property
    def seats(self) -> int:
        return self._settings.seats

    def ready(self) -> list[WorkerProcess]:
        return [worker for worker in self.workers.values() if worker.ready]

    # --- how many ------------------------------------------------------------

    def resize(self, workers: int) -> None:
        """Set the number of workers and adjust to it; if it is out of range, log a warning."""
        most = self._settings.max_workers
        if 1 <= workers <= most:
            self.wanted = workers
            self._adjust()
        else:
            says = f"the number of workers must be 1 to {most} until the room is restarted"
            logger.warning(Event("workers-limit", says, wanted=workers, most=most))

    def renew(self, settings: Settings) -> None:
        """Start workers with these settings from now on. The number of seats does not change."""
        self._settings = settings
        self._watchdog.renew(settings.watchdog)

    def replace_all(self) -> None:
        """Replace all workers, one after another."""
        self._outdated = list(self.workers.values())
        self._adjust()

    def stop(self, record: Record) -> None:
        """Send a record to all workers. From now on, replace and watch no worker."""
        self.closing = True
        self._retry.cancel()
        self._watchdog.stop()
        for worker in self.workers.values():
            worker.child.ready()
            worker.tell(record)

    def _adjust(self) -> None:
        """Start missing workers, or kill a worker that is outdated or surplus."""
        if self.closing:
            return
        wanted = self.wanted + bool(self._outdated)
        if len(self.workers) < wanted:
            if self._retry.due is None:
                free = set(range(self._settings.seats)) - {self.pinned_seat, *self.workers}
                for number in sorted(free)[: wanted - len(self.workers)]:
                    self._start(number)
        elif self.pinned_seat is None and all(worker.serves for worker in self.workers.values()):
            if self._outdated:
                self._end(self._outdated.pop(0))
            elif len(self.workers) > wanted:
                self._end(self.workers[max(self.workers)])

    def _start(self, number: int) -> None:
        """Start a worker in a free seat."""
        self._log.prepare_seat(number)
        try:
            child = Child(
                self._loop,
                (process.main, (number, self._settings.limits)),
                lambda record, _: self._handle_message(worker, record),
                lambda: self._reap(worker),
            )
        except OSError as error:
            self._fail(number, error.strerror or str(error))
            return
        worker = self.workers[number] = WorkerProcess(number, child)
        bells = [fd for bell in self._doorbells for fd in bell.fds]
        shared = [self._log.fd, self._slots.fd, self._room_rate.fd]
        if self._uplink is not None:
            shared.append(self._uplink.fd)
        worker.tell({"doorbells": len(self._doorbells)}, [*shared, *bells])

    def _end(self, worker: WorkerProcess) -> None:
        """Kill a worker. Other workers recover its members without loss, as after any other
        death."""
        worker.killed = True
        worker.child.kill()

    # --- records of workers --------------------------------------------------

    def _handle_message(self, worker: WorkerProcess, record: Record) -> None:
        assert self._events is not None
        match record:
            case {"failed": reason}:
                worker.child.failure = reason
            case {"ready": True}:
                worker.ready = True
                worker.child.ready()
                self._failures = 0
                self._complete = self._complete or len(self.ready()) == self.wanted
                logger.info(Event("worker-ready", worker=worker.number, pid=worker.pid))
                self._events.on_worker_ready(worker)
                self._adjust()
            case {"drained": True}:
                worker.drained = True
            case _:
                self._events.on_worker_message(worker, record)

    # --- progress ------------------------------------------------------------

    def _check_progress(self) -> None:
        """Kill the workers that make no progress, and wake the others (watchdog.py)."""
        ready = {worker.number: worker for worker in self.ready()}
        turns = {number: self._log.turns(number) for number in ready}
        stuck = self._watchdog.check(turns)
        logs = [self._log] if self._uplink is None else [self._uplink, self._log]
        numbers = {worker.pid: number for number, worker in ready.items()}
        for pid in [log.holder() for log in logs if stuck]:
            holder = numbers.get(pid or 0)
            if holder in stuck:
                stuck = [holder]  # the other workers wait for its lock
            elif pid is not None and (holder is None or self._watchdog.made_no_progress(holder)):
                # The stuck workers wait for the lock. If its holder is a worker, the next check may
                # find that worker stuck. If it is the bridge of a cluster, cluster.py watches it.
                stuck = []
        for number in stuck:
            within = self._settings.watchdog
            says = f"the worker made no progress for {within:g} s; it is replaced"
            logger.warning(Event("worker-stuck", says, worker=number, seconds=within))
            ready[number].stuck = True
            self._end(ready[number])
        if stuck:
            self._watchdog.reset()
        for number in ready:
            self._doorbells[number].ring()

    # --- the end of a worker -------------------------------------------------

    def _reap(self, worker: WorkerProcess) -> None:
        """Pin the position of a worker that has ended, report its exit, and start another
        worker."""
        assert self._events is not None
        del self.workers[worker.number]
        if worker in self._outdated:
            self._outdated.remove(worker)
        self._pin_log_position(worker.number)
        self._room_rate.publish(worker.number, NONE)
        self.wake_all()  # the worker may have died after an append, before it rang the doorbells
        if not self.closing:
            self._note_exit(worker)
        self._events.on_worker_exit(worker)
        self._adjust()  # after the events: the members must not wait until a process is started

    def _pin_log_position(self, number: int) -> None:
        """Keep a dead worker's seat. If another seat is kept already, free the seat with the higher
        position."""
        dead = [number] if self.pinned_seat is None else [self.pinned_seat, number]
        self.pinned_seat, *higher = sorted(dead, key=self._log.worker_position)
        for seat in higher:
            self._log.retire(seat)
        if self._uplink is not None:
            self._uplink.pin(dead, self.pinned_seat)

    def release_seat(self) -> None:
        """Release the pinned seat: other workers now serve all members of the dead workers."""
        if self.pinned_seat is None:
            return
        self._log.retire(self.pinned_seat)
        if self._uplink is not None:
            self._uplink.retire(self.pinned_seat)
        self.pinned_seat = None
        self.wake_all()
        self._adjust()

    def _note_exit(self, worker: WorkerProcess) -> None:
        """Log a death. Raises WorkerError if the room can't continue."""
        code = worker.child.exitcode
        if not worker.ready:
            self._fail(worker.number, worker.child.failure or f"ended with exit code {code}")
        elif not worker.killed:
            says = "it is replaced; other workers serve its members"
            logger.warning(Event("worker-died", says, worker=worker.number, exit=code))

    def _fail(self, number: int, why: str) -> None:
        """Start the backoff after a failed start. Raises WorkerError if the room can't continue."""
        if self._retry.due is None:  # several starts at once count as one
            self._failures += 1
        if not self._complete or (self._failures >= ATTEMPTS and not self.ready()):
            raise WorkerError(f"worker {number} can't start: {why}")
        pause = pause_after(self._failures)
        self._retry.set_after(pause)
        says = f"the worker failed to start; next attempt in {pause:g} s"
        logger.warning(Event("worker-failed", says, worker=number, error=why, next=pause))

    def wake_all(self) -> None:
        """Ring the doorbells of all workers, and of the other followers of the log."""
        for bell in self._doorbells:
            bell.ring()

    def kill(self) -> None:
        """Kill all workers."""
        for worker in self.workers.values():
            worker.child.kill()

    def end(self) -> None:
        """Kill all workers and wait for their ends."""
        self.kill()
        for worker in self.workers.values():
            worker.child.end()
