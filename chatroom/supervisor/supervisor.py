"""The main process: it starts the others, lets people in, and ends it all in order.

One loop, in which nothing waits for one client, one worker or the console.
Signal handlers only wake it. A worker that dies once it was ready is replaced,
and its members are served by others; one that cannot start when the room does
stops the room with its error.

    workers            main                           signals
    ready ──────────►  all ready: listen, say so
    left ───────────►  close the dups, tell the registry
    (death) ────────►  reap, hand its members to others, start another
                       read the settings again,
                       replace all, one by one  ◄───  SIGHUP
                       one more, one less  ◄────────  SIGTTIN, SIGTTOU
                       transcript: reopen  ◄────────  SIGUSR1
                       stop  ◄──────────────────────  SIGINT, SIGTERM
                       drain ─► all: append what is read, read no more
    drained ────────►  all drained: the log is final
                       stop  ─► all: deliver it, close, end
"""

import contextlib
import logging
import os
import selectors
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from enum import Enum, auto
from functools import partial
from pathlib import Path
from time import monotonic
from typing import TYPE_CHECKING

from chatroom.config.options import option_name
from chatroom.config.settings import Settings
from chatroom.control import run_dir
from chatroom.control.bans import Bans
from chatroom.control.control_socket import MAX_CONNECTIONS, Answer, Control
from chatroom.errors import ChatroomError, LimitError, ListenError, RunDirError
from chatroom.log.ring import Geometry, MainLog
from chatroom.log.slots import Slots
from chatroom.logs import Event
from chatroom.supervisor.acceptor import Acceptor, Client
from chatroom.supervisor.admin_commands import AdminCommands
from chatroom.supervisor.assignment import Assignment
from chatroom.supervisor.console import Console, descriptor
from chatroom.supervisor.counters import Counters
from chatroom.supervisor.pending import MAX_PENDING
from chatroom.supervisor.pool import WorkerPool, WorkerProcess
from chatroom.supervisor.registry import Members, RegistryProcess
from chatroom.supervisor.status_report import StatusReport
from chatroom.supervisor.transcript import TranscriptProcess
from chatroom.system.channel import Record
from chatroom.system.descriptors import raise_limit
from chatroom.system.doorbell import Doorbell
from chatroom.system.endpoint import Endpoint
from chatroom.system.listening import endpoint, expect_life, listen, prepare, remove_file, resolve
from chatroom.system.memory import anonymous_file
from chatroom.system.signals import HANDLED_SIGNALS, STOP_SIGNALS, on_terminal
from chatroom.system.systemd import SystemdNotifier
from chatroom.system.tcp_counters import taken
from chatroom.worker.loop import LAGGED

if TYPE_CHECKING:
    from chatroom.supervisor.metrics import Metrics

DRAIN_WITHIN = 1.5
"""Seconds for the workers to append what they have read, when the room stops."""
END_WITHIN = 2.0
"""Seconds for the workers to deliver it and end; then they are killed."""

RESERVED = 64 + MAX_CONNECTIONS
"""Descriptors that a process of the room needs besides one for each member."""
RESERVED_PER_SEAT = 4
"""What each seat for a worker costs it: channel, sentinel and doorbell, which may be a pipe."""

NO_CONTROL = "nobody can ask for this room's status, nor tell it anything; --run-dir says where"

logger = logging.getLogger(__name__)


class Phase(Enum):
    STARTING = auto()
    RUNNING = auto()
    DRAINING = auto()
    STOPPING = auto()


class Supervisor:
    """One room, from its start to its end: `run` it, once, in a process's main thread."""

    def __init__(
        self,
        settings: Settings,
        inherited: Sequence[socket.socket] = (),
        notifier: SystemdNotifier | None = None,
        reload: Callable[[], Settings] | None = None,
    ) -> None:
        """`inherited`: sockets that listen already, from the service `notifier`. `reload` reads the
        settings again, where that may bring others; it may raise ChatroomError."""
        self._settings = settings
        self._inherited = inherited
        self._notifier = notifier or SystemdNotifier({})
        self._read_again = reload or (lambda: settings)
        self._workers_set = settings.workers
        """How many workers the settings said last; SIGTTIN and SIGTTOU may have said others."""
        self._manager_hears_at = 0.0
        self._phase = Phase.STARTING
        self._on_terminal = on_terminal()
        self._deadline: float | None = None
        """When the phase is over, whatever has not happened."""
        self._selector = selectors.DefaultSelector()
        """Its data are called, without arguments, when their sources are ready."""
        self._control = Control(self._selector, self._answer)
        self._metrics: Metrics | None = None

    def run(self) -> None:
        """Run the room until SIGINT or SIGTERM.

        Raises ChatroomError where it can't start, or can't go on: WorkerError
        where no worker can be started, RegistryError where the registry can't.
        However it ends, no process, file or shared memory of it is left.
        """
        settings = self._settings
        # That may take long, and so far there is nothing that a signal would leave behind.
        addresses = [resolve(at) for at in settings.listen]
        metrics = None if settings.metrics is None else resolve(settings.metrics)
        comers = MAX_PENDING if settings.proxy_from else 0
        capacity = raise_limit(RESERVED + RESERVED_PER_SEAT * settings.seats + comers)
        if capacity < settings.max_clients:
            says = f"descriptors (ulimit -n) allow no more than {capacity} members"
            logger.warning(Event("few-descriptors", says, capacity=capacity))
        capacity = min(capacity, settings.max_clients)
        with contextlib.ExitStack() as cleanup:
            cleanup.callback(self._selector.close)
            self._watch_signals(cleanup)
            self._listeners = listeners = self._listen(addresses, cleanup)
            self._share()
            self._counters = Counters()
            folder = self._run_dir(cleanup)
            first = endpoint(listeners[0])
            bans = Bans(run_dir.bans_of(folder, first) if folder and settings.keep_bans else None)
            self._registry = RegistryProcess(
                capacity, settings.max_clients_per_address, self._held, self._selector
            )
            cleanup.callback(self._registry.stop)
            self._acceptor = Acceptor(
                listeners,
                self._selector,
                self._registry,
                self._slots,
                self._hand_over,
                self._counters,
                bans,
                settings.proxy_from,
                settings.prefix,
                settings.greeting,
            )
            cleanup.callback(self._acceptor.close)
            self._where = ", ".join(str(endpoint(listener)) for listener in listeners)
            for listener in listeners:
                if taken(listener) is None:
                    says = "a worker's end disconnects whom it serves there: nobody counts for them"
                    logger.info(Event("no-recovery", says, at=str(endpoint(listener))))
            self._transcript = self._keep_transcript(cleanup)
            self._pool = WorkerPool(
                settings,
                self._selector,
                self._log,
                self._slots,
                self._doorbells,
                self._handle_message,
                self._on_worker_exit,
            )
            cleanup.callback(self._pool.end)
            self._assignment = Assignment(
                self._pool,
                self._acceptor.clients,
                self._registry,
                self._log.suspect,
                self._on_members_left,
                self._counters.recovered,
            )
            self._open_control_socket(folder, first, bans, capacity)
            cleanup.callback(self._control.close)
            if metrics is not None:
                # It imports the standard library's HTTP server, which few rooms need.
                from chatroom.supervisor.metrics import Metrics

                self._metrics = Metrics(metrics, self._selector, self._control.attach)
                cleanup.callback(self._metrics.stop)
            self._loop()
            self._console.close()

    def _listen(
        self, addresses: Sequence[Endpoint], cleanup: contextlib.ExitStack
    ) -> list[socket.socket]:
        """All listeners: those that a service manager has opened, and our own."""
        listeners = [*self._inherited]
        for listener in listeners:
            try:
                prepare(listener, self._settings.peer_timeout)
            except OSError as error:
                where = endpoint(listener)
                raise ListenError(f"can't listen on {where}: {error.strerror}") from None
        for at in addresses:
            listener = listen(at, self._settings.peer_timeout)
            listeners.append(listener)
            cleanup.callback(listener.close)
            if at.path:
                cleanup.callback(remove_file, at.path, os.stat(at.path).st_ino)
        return listeners

    def _keep_transcript(self, cleanup: contextlib.ExitStack) -> TranscriptProcess | None:
        if self._settings.transcript is None:
            return None
        bell = Doorbell.new()
        self._doorbells.append(bell)
        clients = self._acceptor.clients
        keeper = TranscriptProcess(
            self._settings, self._where, self._log, bell, clients, self._selector
        )
        cleanup.callback(keeper.close)  # when the workers have ended
        return keeper

    def _run_dir(self, cleanup: contextlib.ExitStack) -> Path | None:
        """The private folder; None where the default one can't be had, which ends no room."""
        folder = self._settings.run_dir or run_dir.default()
        try:
            run_dir.ensure(folder)
        except RunDirError as error:
            if self._settings.run_dir or self._settings.keep_bans:
                raise
            logger.warning(Event("no-control", NO_CONTROL, error=error))
            return None
        if not self._settings.run_dir:
            cleanup.callback(_remove_if_empty, folder)
        return folder

    def _open_control_socket(
        self,
        folder: Path | None,
        first: Endpoint,
        bans: Bans,
        capacity: int,
    ) -> None:
        """From now on the room's owner can ask and tell it, by a socket in that folder."""
        clients = self._acceptor.clients
        self._status_report = StatusReport(
            self._log, self._slots, self._pool, clients, self._counters, self._where, capacity
        )
        self._admin_commands = AdminCommands(
            clients, bans, self._log, self._acceptor.disconnect, self._wake
        )
        if folder is None:
            return
        try:
            self._control.listen(run_dir.socket_of(folder, first))
        except ListenError as error:
            if self._settings.run_dir:
                raise
            logger.warning(Event("no-control", NO_CONTROL, error=error))

    def _answer(self, request: Answer) -> Answer:
        """To the room's owner."""
        if request.get("ask") == "status":
            return self._status_report.whole()
        if request.get("ask") == "totals":
            return self._status_report.totals()
        if self._phase is not Phase.RUNNING:
            return {"error": "the room starts, or stops"}
        done = self._admin_commands.run(request)
        return {"error": "it is not known what that asks for"} if done is None else done

    def _wake(self) -> None:
        """Have all deliver what was appended."""
        for bell in self._doorbells:
            bell.ring()

    def _share(self) -> None:
        """Make what the processes have in common: the log, the slots, the doorbells."""
        settings = self._settings
        geometry = Geometry.of(settings)
        try:
            self._log = MainLog(anonymous_file("chatroom log", geometry.file_size), geometry)
        except (OSError, ValueError, OverflowError) as error:
            raise LimitError(f"no memory for a log of {settings.log_size} bytes: {error}") from None
        self._log.format()
        try:
            size = Slots.file_size(settings)
            self._slots = Slots(anonymous_file("chatroom slots", size), settings)
        except (OSError, ValueError, OverflowError) as error:
            raise LimitError(f"no memory for {settings.max_clients} members: {error}") from None
        self._doorbells = [Doorbell.new() for _ in range(settings.seats)]
        bell = Doorbell.new()
        self._console = Console(None if settings.quiet else self._log, bell, descriptor(sys.stdout))
        if not settings.quiet:
            self._doorbells.append(bell)

    # --- the loop ------------------------------------------------------------

    def _loop(self) -> None:
        while self._pool.workers or self._phase is not Phase.STOPPING:
            times = [self._acceptor.tick(), self._control.tick()]
            if self._phase in (Phase.STARTING, Phase.RUNNING):
                times += self._pool.tend(), self._assignment.tick(), self._tell_manager()
                times.append(self._metrics.tick() if self._metrics is not None else None)
            times.append(self._pool.retry())
            if self._transcript is not None:
                times.append(self._transcript.tick())
            if self._deadline is not None:
                times.append(max(0.0, self._deadline - monotonic()))
            timeout = min((time for time in times if time is not None), default=None)
            for key, _ in self._selector.select(timeout):
                key.data()
            self._look_at_phase()

    def _look_at_phase(self) -> None:
        """Go on when all workers are where they have to be, or the phase's time is over."""
        workers = self._pool.workers.values()
        late = self._deadline is not None and monotonic() >= self._deadline
        match self._phase:
            case Phase.STARTING if len(self._pool.ready()) >= self._settings.workers:
                self._phase = Phase.RUNNING
                self._acceptor.open()
                self._console.say(f"listening on {self._where}")
                if self._metrics is not None:
                    self._console.say(f"metrics on http://{self._metrics.where}/metrics")
                logger.info(Event("listening", at=self._where, pid=os.getpid()))
                self._notifier.ready(self._status())
            case Phase.DRAINING if (
                late
                or not workers  # who is on the way then is served by nobody any more
                or (self._assignment.settled and all(worker.drained for worker in workers))
            ):
                self._enter(Phase.STOPPING, END_WITHIN, {"stop": True})
            case Phase.STOPPING if late:
                self._pool.kill()

    def _enter(self, phase: Phase, within: float, order: Record) -> None:
        self._phase, self._deadline = phase, monotonic() + within
        for worker in self._pool.workers.values():
            self._pool.tell(worker, order)

    def _watch_signals(self, cleanup: contextlib.ExitStack) -> None:
        wake, woken = socket.socketpair()
        for end in (wake, woken):
            end.setblocking(False)
            cleanup.callback(end.close)
        for number in HANDLED_SIGNALS:
            signal.signal(number, lambda *_: None)  # to be told of through `woken`
        # Those who are impatient fill it; one that is unread is enough.
        signal.set_wakeup_fd(wake.fileno(), warn_on_full_buffer=False)
        cleanup.callback(signal.set_wakeup_fd, -1)
        self._selector.register(woken, selectors.EVENT_READ, partial(self._on_signal, woken))

    def _on_signal(self, woken: socket.socket) -> None:
        """Do what the signals say that have come."""
        for number in woken.recv(64):
            match number:
                case signal.SIGHUP if self._on_terminal and not on_terminal():
                    self._stop()  # its window was closed
                case signal.SIGHUP if self._phase is Phase.RUNNING:
                    self._notifier.reloading()
                    self._reload()
                    self._notifier.ready(self._status())
                case signal.SIGTTIN if self._phase is Phase.RUNNING:
                    self._pool.want(self._pool.wanted + 1)
                case signal.SIGTTOU if self._phase is Phase.RUNNING:
                    self._pool.want(self._pool.wanted - 1)
                case signal.SIGUSR1 if self._transcript is not None:
                    self._transcript.reopen()
                case signal.SIGINT | signal.SIGTERM:
                    self._stop()

    def _reload(self) -> None:
        """Take the settings that are said now, as far as that can be, and replace all workers.

        Where they can't be read, all stays as it was, the workers too.
        """
        try:
            wanted = self._read_again()
        except ChatroomError as error:
            logger.error(Event("not-reloaded", "all stays as it was", error=error))
            return
        self._settings, taken, others = self._settings.renewed(wanted)
        self._renew(self._settings, taken)
        if wanted.workers != self._workers_set:
            self._workers_set = wanted.workers
            self._pool.want(wanted.workers)
        self._pool.replace_all()
        logger.info(Event("reloaded", changed=[option_name(name) for name in taken]))
        if others:
            names = [option_name(name) for name in others]
            says = f"needs a restart: {', '.join(names)}; all else is in effect"
            logger.warning(Event("needs-restart", says, settings=names))

    def _renew(self, settings: Settings, names: list[str]) -> None:
        """Have all heed what has changed. Members were greeted as they were greeted."""
        self._acceptor.greeting = settings.greeting
        self._pool.renew(settings)
        if self._transcript is not None:
            self._transcript.renew(settings)
        if "max_clients_per_address" in names:
            self._registry.limit(settings.max_clients_per_address)
        if "peer_timeout" in names:
            for listener in self._listeners:
                expect_life(listener, settings.peer_timeout)

    def _stop(self) -> None:
        # Once is enough. To ignore them from now on would race with one that has just come.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        if self._phase in (Phase.STARTING, Phase.RUNNING):
            self._notifier.stopping()
            self._acceptor.close()
            self._enter(Phase.DRAINING, DRAIN_WITHIN, {"drain": True})

    # --- the service manager -------------------------------------------------

    def _tell_manager(self) -> float | None:
        """Let it hear of us where it is time; return the seconds until that is due again."""
        if self._notifier.every is None or self._phase is Phase.STARTING:
            return None
        now = monotonic()
        if now >= self._manager_hears_at:
            self._notifier.alive(self._status())
            self._manager_hears_at = now + self._notifier.every
        return self._manager_hears_at - now

    def _status(self) -> str:
        members, workers = len(self._acceptor.clients), len(self._pool.ready())
        return f"{members} members, {workers} workers, {self._where}"

    # --- workers -------------------------------------------------------------

    def _handle_message(self, worker: WorkerProcess, record: Record) -> None:
        match record:
            case {"ready": True}:
                self._pool.began(worker)
                self._registry.enroll(worker.number)
                self._assignment.began()
                if self._phase is Phase.RUNNING:
                    self._acceptor.open()
            case {"left": departures}:
                self._on_members_left(dict(departures))
            case {"yielded": members}:
                self._assignment.yielded(members)
            case {"ack": number}:
                self._assignment.acked(worker, number)

    def _on_worker_exit(self, worker: WorkerProcess) -> None:
        """A worker is dead: others serve its members, and another takes its place."""
        if worker.ready:
            self._registry.dismiss(worker.number)
            self._counters.deaths[worker.number] += 1
        if self._phase is Phase.STOPPING:
            return
        if self._phase is not Phase.DRAINING:
            self._pool.note_exit(worker)
            if not self._pool.ready():
                self._acceptor.hold()
        self._assignment.take_over(worker)

    # --- members -------------------------------------------------------------

    def _hand_over(self, id: int, client: Client) -> None:
        self._show(f"{client.address} connected")
        self._assignment.hand_over(id, client)

    def _on_members_left(self, reasons: dict[int, str]) -> None:
        if not reasons:
            return
        for id, client in self._acceptor.leave(list(reasons)).items():
            reason = client.why or reasons[id]
            self._counters.leaves[reason] += 1
            if self._transcript is not None:
                self._transcript.left(id, client)
            logger.info(
                Event("left", member=id, address=client.address, port=client.port, reason=reason)
            )
            line = f"{client.address} disconnected"
            if reason == LAGGED:
                line += ": it lagged too far behind"
            elif client.why:
                line += f": {client.why}"
            self._show(line)
        self._assignment.changed()

    def _show(self, line: str) -> None:
        if not self._settings.quiet:
            self._console.say(line)

    def _held(self) -> Members:
        clients = self._acceptor.clients
        return {id: (client.address, client.worker) for id, client in clients.items()}


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
