"""The main process: it starts the others, lets people in, and ends it all in order.

One loop, in which nothing waits for one client, one worker or the console.
Signal handlers only wake it. A worker that dies once it was ready is replaced;
one that cannot start stops the room with its error.

    workers            main                           signals
    ready ──────────►  all ready: listen, say so
    left ───────────►  close the dups, tell the registry
    (death) ────────►  reap, disconnect its clients, start another
                       stop  ◄──────────────────────  SIGINT, SIGTERM
                       drain ─► all: append what is read, read no more
    drained ────────►  all drained: the log is final
                       stop  ─► all: deliver it, close, end
"""

import contextlib
import logging
import selectors
import signal
import socket
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum, auto
from functools import partial
from multiprocessing import get_context
from multiprocessing.context import SpawnProcess
from time import monotonic

from chatroom.acceptor import Acceptor, Client
from chatroom.console import Console, descriptor
from chatroom.errors import LimitError, WorkerError
from chatroom.net.channel import Channel, ChannelClosed, Record
from chatroom.net.descriptors import raise_limit
from chatroom.net.listening import listen, spell
from chatroom.settings import Settings
from chatroom.shared.doorbell import Doorbell
from chatroom.shared.log import Geometry, Log
from chatroom.shared.memory import anonymous_file
from chatroom.shared.registry import Members, RegistryProcess
from chatroom.signals import STOP_SIGNALS, stop_signals_blocked
from chatroom.worker import process
from chatroom.worker.loop import LAGGED

DRAIN_WITHIN = 1.5
"""Seconds for the workers to append what they have read, when the room stops."""
END_WITHIN = 2.0
"""Seconds for the workers to deliver it and end; then they are killed."""

RESERVED = 64
"""Descriptors that a process of the room needs besides one for each member."""
RESERVED_PER_WORKER = 4
"""What each worker costs it: channel, sentinel and doorbell, which may be a pipe."""

WORKER_DIED = "its worker died"

logger = logging.getLogger(__name__)


class Phase(Enum):
    STARTING = auto()
    RUNNING = auto()
    DRAINING = auto()
    STOPPING = auto()


@dataclass(slots=True)
class WorkerProcess:
    """A worker as the main process knows it."""

    number: int
    process: SpawnProcess
    channel: Channel
    ready: bool = False
    drained: bool = False
    channel_full: bool = False
    """Whether records wait until its channel can be written."""
    failure: str = ""


class Supervisor:
    """One room, from its start to its end: `run` it, once, in a process's main thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._phase = Phase.STARTING
        self._deadline: float | None = None
        """When the phase is over, whatever has not happened."""
        self._selector = selectors.DefaultSelector()
        """Its data are called, without arguments, when their sources are ready."""
        self._workers: dict[int, WorkerProcess] = {}

    def run(self) -> None:
        """Run the room until SIGINT or SIGTERM.

        Raises ChatroomError where it can't start, or can't go on: WorkerError
        where a worker can't be replaced, RegistryError where the registry can't.
        However it ends, no process, file or shared memory of it is left.
        """
        settings = self._settings
        capacity = raise_limit(RESERVED + RESERVED_PER_WORKER * settings.workers)
        if capacity < settings.max_clients:
            logger.warning("descriptors (ulimit -n) allow no more than %d members", capacity)
        capacity = min(capacity, settings.max_clients)
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(self._selector.close)
            self._watch_signals(cleanup)
            listener = listen(settings.host, settings.port)
            cleanup.callback(listener.close)
            self._share()
            self._registry = RegistryProcess(capacity, settings.max_clients_per_address, self._held)
            cleanup.callback(self._registry.stop)
            self._acceptor = Acceptor(listener, self._selector, self._registry, self._hand_over)
            cleanup.callback(self._acceptor.close)
            self._where = spell(*listener.getsockname()[:2])
            cleanup.callback(self._end_workers)
            for number in range(settings.workers):
                self._spawn(number)
            self._loop()
            self._console.close()

    def _share(self) -> None:
        """Make what the processes have in common: the log, the doorbells."""
        settings = self._settings
        geometry = Geometry.of(settings)
        try:
            self._log = Log(
                anonymous_file("chatroom log", geometry.file_size), geometry, settings.workers
            )
        except (OSError, ValueError, OverflowError) as error:
            raise LimitError(f"no memory for a log of {settings.log_size} bytes: {error}") from None
        self._log.format()
        self._doorbells = [Doorbell.new() for _ in range(settings.workers)]
        bell = Doorbell.new()
        self._console = Console(None if settings.quiet else self._log, bell, descriptor(sys.stdout))
        if not settings.quiet:
            self._doorbells.append(bell)

    # --- the loop ------------------------------------------------------------

    def _loop(self) -> None:
        while self._workers or self._phase is not Phase.STOPPING:
            times = [self._acceptor.tick()]
            if self._deadline is not None:
                times.append(max(0.0, self._deadline - monotonic()))
            timeout = min((time for time in times if time is not None), default=None)
            for key, _ in self._selector.select(timeout):
                key.data()
            self._look_at_phase()

    def _look_at_phase(self) -> None:
        """Go on when all workers are where they have to be, or the phase's time is over."""
        workers = self._workers.values()
        late = self._deadline is not None and monotonic() >= self._deadline
        match self._phase:
            case Phase.STARTING if all(worker.ready for worker in workers):
                self._phase = Phase.RUNNING
                self._acceptor.open()
                self._console.say(f"listening on {self._where}")
            case Phase.DRAINING if late or all(worker.drained for worker in workers):
                self._enter(Phase.STOPPING, END_WITHIN, {"stop": True})
            case Phase.STOPPING if late:
                self._kill_workers()

    def _enter(self, phase: Phase, within: float, order: Record) -> None:
        self._phase, self._deadline = phase, monotonic() + within
        for worker in self._workers.values():
            self._tell(worker, order)

    def _watch_signals(self, cleanup: contextlib.ExitStack) -> None:
        wake, woken = socket.socketpair()
        for end in (wake, woken):
            end.setblocking(False)
            cleanup.callback(end.close)
        for number in STOP_SIGNALS:
            signal.signal(number, lambda *_: None)  # to be told of through `woken`
        # Those who are impatient fill it; one that is unread is enough.
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        cleanup.callback(signal.set_wakeup_fd, -1)
        self._selector.register(woken, selectors.EVENT_READ, partial(self._stop, woken))

    def _stop(self, woken: socket.socket) -> None:
        woken.recv(64)
        # Once is enough. To ignore them from now on would race with one that has just come.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        if self._phase in (Phase.STARTING, Phase.RUNNING):
            self._acceptor.close()
            self._enter(Phase.DRAINING, DRAIN_WITHIN, {"drain": True})

    # --- workers -------------------------------------------------------------

    def _spawn(self, number: int) -> None:
        ours, theirs = Channel.pair()
        with stop_signals_blocked():
            child = get_context("spawn").Process(
                target=process.main, args=(number, self._settings, theirs.socket)
            )
            child.start()
        theirs.close()
        worker = self._workers[number] = WorkerProcess(number, child, ours)
        self._selector.register(ours, selectors.EVENT_READ, partial(self._hear, worker))
        self._selector.register(child.sentinel, selectors.EVENT_READ, partial(self._reap, worker))
        shared = [self._log.fd, *(fd for bell in self._doorbells for fd in bell.fds)]
        self._tell(worker, {"doorbells": len(self._doorbells)}, shared)

    def _tell(self, worker: WorkerProcess, record: Record, descriptors: Sequence[int] = ()) -> None:
        with contextlib.suppress(ChannelClosed):  # its sentinel will tell
            worker.channel.send(record, descriptors)
            self._watch(worker)

    def _watch(self, worker: WorkerProcess) -> None:
        """Wait to write to a worker just while records for it wait."""
        if worker.channel.fileno() < 0:
            return  # it has ended, and its process will
        if worker.channel_full != bool(worker.channel.backlog):
            worker.channel_full = not worker.channel_full
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if worker.channel_full else 0)
            self._selector.modify(worker.channel, events, partial(self._hear, worker))

    def _hear(self, worker: WorkerProcess) -> None:
        if self._workers.get(worker.number) is not worker:
            return  # it was reaped a moment ago
        try:
            for record, _ in worker.channel.receive():
                self._obey(worker, record)
            worker.channel.flush()
            self._watch(worker)
        except ChannelClosed:
            self._forget(worker.channel)
            worker.channel.close()

    def _obey(self, worker: WorkerProcess, record: Record) -> None:
        match record:
            case {"ready": True}:
                worker.ready = True
                logger.info("worker %d is ready, pid %d", worker.number, worker.process.pid)
                self._registry.enroll(worker.number)
                if self._phase is Phase.RUNNING:
                    self._acceptor.open()
            case {"failed": reason}:
                worker.failure = reason
            case {"left": departures}:
                self._part(dict(departures))
            case {"drained": True}:
                worker.drained = True

    def _reap(self, worker: WorkerProcess) -> None:
        """A worker's process has ended."""
        self._hear(worker)  # its last words
        del self._workers[worker.number]
        self._forget(worker.channel)
        self._forget(worker.process.sentinel)
        worker.channel.close()
        worker.process.join()
        self._log.retire(worker.number)
        for bell in self._doorbells:
            bell.ring()  # whoever waited for it to make room
        if worker.ready:
            self._registry.dismiss(worker.number)
        if self._phase in (Phase.DRAINING, Phase.STOPPING):
            return
        ended = f"ended with exit code {worker.process.exitcode}"
        if not worker.ready:
            raise WorkerError(f"worker {worker.number} can't start: {worker.failure or ended}")
        logger.warning("worker %d %s; starting another", worker.number, ended)
        clients = self._acceptor.clients.items()
        self._part({id: WORKER_DIED for id, one in clients if one.worker == worker.number})
        if not any(other.ready for other in self._workers.values()):
            self._acceptor.hold()
        self._spawn(worker.number)

    def _forget(self, source: Channel | int) -> None:
        with contextlib.suppress(KeyError, ValueError):  # forgotten already, and closed
            self._selector.unregister(source)

    def _kill_workers(self) -> None:
        for worker in self._workers.values():
            worker.process.kill()

    def _end_workers(self) -> None:
        """Whatever happened, none is left."""
        self._kill_workers()
        for worker in self._workers.values():
            worker.process.join()

    # --- members -------------------------------------------------------------

    def _hand_over(self, id: int, client: Client) -> None:
        self._show(f"{client.address} connected")
        self._tell(
            self._workers[client.worker],
            {"adopt": id, "address": client.address},
            [client.connection.fileno()],
        )

    def _part(self, reasons: dict[int, str]) -> None:
        for id, client in self._acceptor.leave(list(reasons)).items():
            logger.info("member %d, %s, left: %s", id, client.address, reasons[id])
            line = f"{client.address} disconnected"
            if reasons[id] == LAGGED:
                line += ": it lagged too far behind"
            self._show(line)

    def _show(self, line: str) -> None:
        if not self._settings.quiet:
            self._console.say(line)

    def _held(self) -> Members:
        clients = self._acceptor.clients
        return {id: (client.address, client.worker) for id, client in clients.items()}
