"""The workers' processes: start them, watch them, replace those that die.

Each worker has a seat: its number, its words in the log, its doorbell. A dead
worker keeps its seat, which pins the log's position, until other workers serve
its members; so a replacement takes another seat. A worker that dies is replaced
at once. Where several in a row die before they are ready, the pauses between
the attempts grow.
"""

import contextlib
import logging
import selectors
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from multiprocessing.context import SpawnProcess
from time import monotonic

from chatroom.config.settings import Settings
from chatroom.errors import WorkerError
from chatroom.log.ring import Log
from chatroom.log.slots import Slots
from chatroom.logs import Event
from chatroom.supervisor.watchdog import Watchdog
from chatroom.system.channel import Channel, ChannelClosed, Record
from chatroom.system.child import spawn
from chatroom.system.doorbell import Doorbell
from chatroom.worker import process

FIRST_PAUSE = 0.1
LONGEST_PAUSE = 5.0
"""Seconds before another worker is started, when the last one died before it was ready."""
READY_WITHIN = 30.0
"""Seconds in which a worker has to be ready; then it is taken for one that can't start."""
RETRY_AFTER = 0.05
"""Seconds after which a record is sent again that the system has refused."""
ATTEMPTS = 10
"""In a row that may fail, where no worker is alive."""

logger = logging.getLogger(__name__)


def pause_after(failures: int) -> float:
    """Seconds before a process is started again, where so many in a row have failed; 1 at least."""
    # So many doublings are enough, and a thousand are more than a float takes.
    return min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(failures - 1, 30))


@dataclass(slots=True, eq=False)
class WorkerProcess:
    """A worker as the main process knows it."""

    number: int
    process: SpawnProcess
    channel: Channel
    ready_by: float
    """When it has to be ready."""
    ready: bool = False
    drained: bool = False
    channel_full: bool = False
    """Whether records wait until its channel can be written, and are not just refused."""
    failure: str = ""
    told_to_end: bool = False
    """Whether it was killed by us: it is too many, is replaced, or hangs."""
    stuck: bool = False
    """Whether it was killed because it hangs."""

    @property
    def serves(self) -> bool:
        """Whether it has begun, and is to go on."""
        return self.ready and not self.told_to_end


class WorkerPool:
    """The workers, by seat. All is called from the main process's loop.

    `handle_message(worker, record)` is called with each record of a worker, `on_exit(worker)`
    when its process has ended and it is no longer one of the `workers`.
    """

    def __init__(
        self,
        settings: Settings,
        selector: selectors.BaseSelector,
        log: Log,
        slots: Slots,
        doorbells: list[Doorbell],
        handle_message: Callable[[WorkerProcess, Record], None],
        on_exit: Callable[[WorkerProcess], None],
    ) -> None:
        self.wanted = settings.workers
        self.workers: dict[int, WorkerProcess] = {}
        self.pinned_seat: int | None = None
        """The seat of a dead worker, whose members are not all served by others yet. One is enough
        for several: the log waits for the one that stands lowest."""
        self._settings = settings
        self._selector = selector
        self._log = log
        self._slots = slots
        self._doorbells = doorbells
        self._handle_message = handle_message
        self._on_exit = on_exit
        self._outdated: list[WorkerProcess] = []
        """Who is to be replaced by a new one, one after another."""
        self._began = False
        """Whether all the workers that the room began with have been ready."""
        self._failures = 0
        """Attempts in a row in which a worker has died before it was ready."""
        self._start_at = 0.0
        self._watchdog = Watchdog(settings.watchdog, monotonic())

    @property
    def seats(self) -> int:
        return self._settings.seats

    def ready(self) -> list[WorkerProcess]:
        return [worker for worker in self.workers.values() if worker.ready]

    # --- how many ------------------------------------------------------------

    def want(self, workers: int) -> None:
        """From now on there are to be so many, where that can be."""
        if 1 <= workers <= self._settings.most_workers:
            self.wanted = workers
        else:
            most = self._settings.most_workers
            says = f"there may be 1 to {most} workers here, until the room is started anew"
            logger.warning(Event("workers-limit", says, wanted=workers, most=most))

    def renew(self, settings: Settings) -> None:
        """Workers that are started from now on have these settings; the seats stay as they are."""
        if settings.watchdog != self._settings.watchdog:
            self._watchdog = Watchdog(settings.watchdog, monotonic())
        self._settings = settings

    def replace_all(self) -> None:
        """Replace each worker by a new one, one after another."""
        self._outdated = list(self.workers.values())

    def tend(self) -> float | None:
        """Start who is missing, end who is too many; return the seconds until that is due again."""
        now = monotonic()
        wanted = self.wanted + bool(self._outdated)
        times = []
        if len(self.workers) < wanted:
            if now < self._start_at:
                times.append(self._start_at - now)
            else:
                free = set(range(self._settings.seats)) - {self.pinned_seat, *self.workers}
                for number in sorted(free)[: wanted - len(self.workers)]:
                    self._start(number)
        elif self.pinned_seat is None and all(worker.serves for worker in self.workers.values()):
            if self._outdated:
                self._end(self._outdated.pop(0))
            elif len(self.workers) > wanted:
                self._end(self.workers[max(self.workers)])
        self._watch(now)
        times += self._watch_starts(now)
        if self._watchdog.due is not None:
            times.append(self._watchdog.due - now)
        return max(0.0, min(times)) if times else None

    def _start(self, number: int) -> None:
        """Start a worker in a seat that is free."""
        self._log.seat(number)
        try:
            child, ours = spawn(process.main, number, self._settings)
        except OSError as error:
            self._fail(number, error.strerror or str(error))
            return
        worker = self.workers[number] = WorkerProcess(
            number, child, Channel(ours), monotonic() + READY_WITHIN
        )
        self._selector.register(ours, selectors.EVENT_READ, partial(self._hear, worker))
        self._selector.register(child.sentinel, selectors.EVENT_READ, partial(self._reap, worker))
        shared = [
            self._log.fd,
            self._slots.fd,
            *(fd for bell in self._doorbells for fd in bell.fds),
        ]
        self.tell(worker, {"doorbells": len(self._doorbells)}, shared)

    def began(self, worker: WorkerProcess) -> None:
        """A worker is ready."""
        worker.ready = True
        self._failures = 0
        self._began = self._began or len(self.ready()) == self.wanted
        logger.info(Event("worker-ready", worker=worker.number, pid=worker.process.pid))

    def _end(self, worker: WorkerProcess) -> None:
        """Kill a worker. There is no gentler way: nothing of what it does is lost."""
        worker.told_to_end = True
        worker.process.kill()

    # --- progress ------------------------------------------------------------

    def _watch_starts(self, now: float) -> list[float]:
        """Kill those that do not become ready; return the seconds until each has to be."""
        starting = [worker for worker in self.workers.values() if not worker.ready]
        for worker in starting:
            if worker.ready_by <= now:
                worker.failure = f"it was not ready within {READY_WITHIN:g} s"
                worker.process.kill()
        return [worker.ready_by - now for worker in starting if worker.ready_by > now]

    def _watch(self, now: float) -> None:
        """Kill the workers that make no progress, and wake the others: see watchdog.py."""
        if self._watchdog.due is None or now < self._watchdog.due:
            return
        ready = {worker.number: worker for worker in self.ready()}
        stuck = self._watchdog.look(now, {number: self._log.turns(number) for number in ready})
        holder = self._log.holder() if stuck else None
        holders = [number for number, worker in ready.items() if worker.process.pid == holder]
        if any(number not in stuck and self._watchdog.stands_still(number) for number in holders):
            stuck = []  # the others wait for it: by the next look it may be found stuck
        if stuck:
            for number in [number for number in holders if number in stuck] or stuck:
                within = self._settings.watchdog
                says = f"it made no progress for {within:g} s, and is replaced"
                logger.warning(Event("worker-stuck", says, worker=number, seconds=within))
                ready[number].stuck = True
                self._end(ready[number])
            self._watchdog.forgive()
        for number in ready:
            self._doorbells[number].ring()

    # --- what is said --------------------------------------------------------

    def tell(self, worker: WorkerProcess, record: Record, descriptors: Sequence[int] = ()) -> None:
        with contextlib.suppress(ChannelClosed):  # its sentinel will tell
            worker.channel.send(record, descriptors)
            self._wait_to_write(worker)

    def retry(self) -> float | None:
        """Tell again what the system refused; return the seconds until that is due, None if not.

        The channel can be written meanwhile: to wait for that would be no wait.
        """
        for worker in self.workers.values():
            if worker.channel.refused:
                with contextlib.suppress(ChannelClosed):  # its sentinel will tell
                    worker.channel.flush()
                    self._wait_to_write(worker)
        refused = any(worker.channel.refused for worker in self.workers.values())
        return RETRY_AFTER if refused else None

    def _wait_to_write(self, worker: WorkerProcess) -> None:
        """Wait to write to a worker just while records for it wait."""
        if worker.channel.fileno() < 0:
            return  # it has ended, and its process will
        full = bool(worker.channel.backlog) and not worker.channel.refused
        if worker.channel_full != full:
            worker.channel_full = not worker.channel_full
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.channel_full else 0)
            self._selector.modify(worker.channel, events, partial(self._hear, worker))

    def _hear(self, worker: WorkerProcess) -> None:
        if self.workers.get(worker.number) is not worker:
            return  # it was reaped a moment ago
        try:
            for record, _ in worker.channel.receive():
                match record:
                    case {"failed": reason}:
                        worker.failure = reason
                    case {"drained": True}:
                        worker.drained = True
                    case _:
                        self._handle_message(worker, record)
            worker.channel.flush()
            self._wait_to_write(worker)
        except ChannelClosed:
            self._forget(worker.channel)
            worker.channel.close()

    # --- the end of one ------------------------------------------------------

    def _reap(self, worker: WorkerProcess) -> None:
        """A worker's process has ended."""
        self._hear(worker)  # its last words
        del self.workers[worker.number]
        if worker in self._outdated:
            self._outdated.remove(worker)
        self._forget(worker.channel)
        self._forget(worker.process.sentinel)
        worker.channel.close()
        worker.process.join()
        self._pin_log_position(worker.number)
        for bell in self._doorbells:
            bell.ring()  # whoever it should have woken
        self._on_exit(worker)

    def _pin_log_position(self, number: int) -> None:
        """Of two seats where the log stands still, the one that stands lower is enough."""
        higher = number
        if self.pinned_seat is None:
            self.pinned_seat = number
        elif self._log.stands(number) < self._log.stands(self.pinned_seat):
            higher, self.pinned_seat = self.pinned_seat, number
        if higher != self.pinned_seat:
            self._log.retire(higher)

    def note_exit(self, worker: WorkerProcess) -> None:
        """A worker has died, and the room goes on. Raises WorkerError where that is in vain."""
        code = worker.process.exitcode
        if worker.ready:
            if not worker.told_to_end:
                says = "another is started, and others serve its members"
                logger.warning(Event("worker-died", says, worker=worker.number, exit=code))
            return
        self._fail(worker.number, worker.failure or f"ended with exit code {code}")

    def _fail(self, number: int, why: str) -> None:
        """An attempt to start a worker has failed: the next one is made later."""
        if monotonic() >= self._start_at:  # else it was started with one that has failed already
            self._failures += 1
        if not self._began or (self._failures >= ATTEMPTS and not self.ready()):
            raise WorkerError(f"worker {number} can't start: {why}")
        pause = pause_after(self._failures)
        self._start_at = monotonic() + pause
        says = f"it can't start; the next attempt is made in {pause:g} s"
        logger.warning(Event("worker-failed", says, worker=number, error=why, next=pause))

    def release_seat(self) -> None:
        """All that the dead have left is served by others: nobody waits for them any more."""
        if self.pinned_seat is None:
            return
        self._log.retire(self.pinned_seat)
        self.pinned_seat = None
        for bell in self._doorbells:
            bell.ring()

    def _forget(self, source: Channel | int) -> None:
        with contextlib.suppress(KeyError, ValueError):  # forgotten already, and closed
            self._selector.unregister(source)

    def kill(self) -> None:
        for worker in self.workers.values():
            worker.process.kill()

    def end(self) -> None:
        """Whatever happened, none is left."""
        self.kill()
        for worker in self.workers.values():
            worker.process.join()
