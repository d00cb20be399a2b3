"""The main process: start the other processes, admit clients, handle signals, stop in order.

There is one event loop, which never waits for a client, a worker or the console. Signal handlers
only wake the loop. A ready worker that dies is replaced, and other workers serve its members. If a
worker fails to start when the room starts, the room ends with that worker's error.

    workers            main                           signals
    ready ──────────►  all ready: accept clients, print the address
    left ───────────►  close the dups, tell the registry
    (death) ────────►  reap, hand its members to others, start another
                       read the settings again,
                       replace all, one by one  ◄───  SIGHUP
                       one more, one fewer  ◄───────  SIGTTIN, SIGTTOU
                       transcript: reopen  ◄────────  SIGUSR1
                       stop  ◄──────────────────────  SIGINT, SIGTERM
                       drain ─► all: append what is read, stop reading
    drained ────────►  all drained: the log is final
                       stop  ─► all: deliver it, close, end

The workers' events go from pool.py to assignment.py, not through this module.
"""

import contextlib
import logging
import os
import signal
import socket
import sys
from collections.abc import Callable, Sequence
from enum import Enum, auto
from pathlib import Path
from typing import Any

from chatroom.config.options import option_name
from chatroom.config.settings import Settings
from chatroom.control import run_dir
from chatroom.control.bans import Bans
from chatroom.control.control_socket import MAX_CONNECTIONS, Answer, ControlServer
from chatroom.errors import ChatroomError, LimitError, ListenError, RunDirError
from chatroom.log.ring import Geometry, Log
from chatroom.log.room_rate import RoomRate
from chatroom.log.slots import Slots
from chatroom.log.uplink import Uplink, geometry
from chatroom.logs import Event
from chatroom.sidecars.web.process import reserved
from chatroom.supervisor.acceptor import Acceptor
from chatroom.supervisor.admin_commands import AdminCommands
from chatroom.supervisor.assignment import Assignment
from chatroom.supervisor.cluster import ClusterProcess
from chatroom.supervisor.console import Console, descriptor
from chatroom.supervisor.counters import Counters
from chatroom.supervisor.members import Members
from chatroom.supervisor.pending import MAX_PENDING
from chatroom.supervisor.pool import WorkerPool
from chatroom.supervisor.registry import Directory
from chatroom.supervisor.registry_process import RegistryProcess
from chatroom.supervisor.room_voice import RoomVoice
from chatroom.supervisor.sources import Sources
from chatroom.supervisor.status_report import StatusReport
from chatroom.supervisor.transcript import TranscriptProcess
from chatroom.system.channel import Record
from chatroom.system.descriptors import raise_limit
from chatroom.system.doorbell import Doorbell
from chatroom.system.endpoint import Endpoint
from chatroom.system.event_loop import EventLoop
from chatroom.system.listening import endpoint, listen, prepare, remove_file, resolve, set_keepalive
from chatroom.system.memory import anonymous_file
from chatroom.system.signals import HANDLED_SIGNALS, STOP_SIGNALS, on_terminal, watch_signals
from chatroom.system.spawn import reap_orphans
from chatroom.system.systemd import SystemdNotifier
from chatroom.system.tcp_counters import taken
from chatroom.wording import counted

DRAIN_WITHIN = 1.5
"""Timeout (s) for the workers to append what they have read, when the room stops."""
END_WITHIN = 2.0
"""Timeout (s) for the workers to deliver the rest of the log and end; then they are killed."""

RESERVED = 64 + MAX_CONNECTIONS
"""Number of descriptors that a process of the room needs, in addition to one for each member."""
RESERVED_PER_SEAT = 4
"""Number of descriptors for each seat of a worker: channel, sentinel, and doorbell (two, if it is a
pipe)."""

NO_CONTROL = "chatroom.status and chatroom.admin are unavailable; set another --run-dir"

logger = logging.getLogger(__name__)


def run(
    settings: Settings,
    inherited: Sequence[socket.socket] = (),
    notifier: SystemdNotifier | None = None,
    reload: Callable[[], Settings] | None = None,
    loop: EventLoop | None = None,
) -> None:
    """Run a room until SIGINT or SIGTERM. Call it in the main thread.

    `inherited`: listening sockets that the service manager has passed. `notifier` reports to that
    manager. `reload` reads the settings again and returns them; it may raise ChatroomError.

    Raises ChatroomError if the room can't start or continue: for example, WorkerError if no worker
    starts, or RegistryError if the registry does not start. In every case, no process, socket or
    shared memory of the room is left.
    """
    with contextlib.ExitStack() as cleanup:
        supervisor = Supervisor(
            settings,
            inherited,
            notifier or SystemdNotifier({}),
            reload or (lambda: settings),
            loop or EventLoop(),
            cleanup,
        )
        supervisor.run()


class Phase(Enum):
    STARTING = auto()
    RUNNING = auto()
    DRAINING = auto()
    STOPPING = auto()


class Supervisor:
    """One room: makes the parts of the main process, and moves from one phase to the next."""

    def __init__(
        self,
        settings: Settings,
        inherited: Sequence[socket.socket],
        notifier: SystemdNotifier,
        load_settings: Callable[[], Settings],
        loop: EventLoop,
        cleanup: contextlib.ExitStack,
    ) -> None:
        """See `run` for the arguments. `cleanup` later releases the resources that are acquired
        here."""
        self._settings = settings
        self._notifier = notifier
        self._load_settings = load_settings
        self._loop = loop
        self._workers_set = settings.workers
        """Number of workers in the settings. SIGTTIN and SIGTTOU do not change this number."""
        self._phase = Phase.STARTING
        self._deadline = loop.timer(lambda: None)
        """Timeout of the phase. It only wakes the loop; `_check_phase` then finds that the timer is
        not set any more."""
        self._keepalive = loop.timer(self._send_keepalive)
        self._on_terminal = on_terminal()
        # Resolving names may take long. A signal still ends the process here: nothing needs cleanup
        # yet.
        addresses = [resolve(at) for at in settings.listen]
        metrics = None if settings.metrics is None else resolve(settings.metrics)
        web = None if settings.web is None else resolve(settings.web)
        tls = None if settings.tls is None else resolve(settings.tls)
        capacity = _capacity(settings)
        cleanup.callback(loop.close)
        self._watch_signals(cleanup)
        self._listeners = _listen(addresses, inherited, settings.peer_timeout, cleanup)
        self._where = ", ".join(str(endpoint(listener)) for listener in self._listeners)
        # The workers' doorbells, by seat; after them, the doorbells of the other followers of the
        # log.
        doorbells = [Doorbell.new() for _ in range(settings.seats)]
        log, slots, room_rate = _share(settings)
        uplink = _share_uplink(settings)
        if uplink is not None:
            doorbells.append(Doorbell.new())
        bell = Doorbell.new()
        self._console = Console(None if settings.quiet else log, bell, descriptor(sys.stdout))
        if not settings.quiet:
            doorbells.append(bell)
        self._counters = Counters()
        folder = _run_dir(settings, cleanup)
        first = endpoint(self._listeners[0])
        bans = Bans(run_dir.bans_of(folder, first) if folder and settings.keep_bans else None)
        self._registry = RegistryProcess(
            loop, capacity, settings.max_clients_per_address, settings.pack, self._held
        )
        cleanup.callback(self._registry.stop)
        voice = RoomVoice(loop, log if uplink is None else uplink, self._wake_all)
        self._members = Members(
            loop,
            log,
            slots,
            Sources(settings.sources),
            self._registry,
            self._counters,
            self._reserve_line,
            voice.announce if settings.announce else None,
        )
        self._transcript: TranscriptProcess | None = None
        if settings.transcript is not None:
            bell = Doorbell.new()
            doorbells.append(bell)
            self._transcript = TranscriptProcess(loop, settings, self._where, log, bell)
            cleanup.callback(self._transcript.close)  # after the workers have ended
        self._cluster: ClusterProcess | None = None
        if uplink is not None:
            control = run_dir.socket_of(folder, first) if folder else None
            self._cluster = ClusterProcess(
                loop, settings, self._where, log, uplink, doorbells, control
            )
            cleanup.callback(self._cluster.stop)
        self._pool = WorkerPool(settings, loop, log, slots, room_rate, doorbells, uplink)
        cleanup.callback(self._pool.end)
        self._assignment = Assignment(
            loop, self._pool, self._members, self._registry, self._counters, log, settings.pack
        )
        self._acceptor = Acceptor(
            loop,
            settings,
            self._listeners,
            self._registry,
            self._members,
            self._counters,
            bans,
            self._assignment.hand_over,
            log,
        )
        cleanup.callback(self._acceptor.close)
        self._status_report = StatusReport(
            log,
            slots,
            self._pool,
            self._members.by_id,
            self._counters,
            self._where,
            capacity,
            None if self._cluster is None else self._cluster.status,
            self._gateways_status,
        )
        self._admin_commands = AdminCommands(
            self._members,
            bans,
            voice,
            self._assignment.end_input,
        )
        self._control = ControlServer(loop, self._answer)
        cleanup.callback(self._control.close)
        if folder is not None:
            self._open_control_socket(folder, first)
        self._metrics = None
        if metrics is not None:
            # This imports the standard library's HTTP server, which few rooms need.
            from chatroom.supervisor.metrics import MetricsProcess

            in_use = [endpoint(listener) for listener in self._listeners]
            self._metrics = MetricsProcess(loop, metrics, self._status_report.totals, in_use)
            cleanup.callback(self._metrics.stop)
        self._web = None
        if web is not None or tls is not None:
            from chatroom.supervisor.web import Addresses, Gateways

            in_use = [endpoint(listener) for listener in self._listeners]
            if self._metrics is not None:
                in_use.append(self._metrics.where)
            self._web = Gateways(loop, settings, Addresses(web, tls), in_use, self._acceptor.admit)
            cleanup.callback(self._web.stop)

    def run(self) -> None:
        """Run the room to its end. Call it once."""
        for listener in self._listeners:
            if taken(listener) is None:
                says = (
                    "the kernel does not count bytes here: a worker's death disconnects its members"
                )
                logger.info(Event("no-recovery", says, at=str(endpoint(listener))))
        self._pool.start(self._assignment)
        self._registry.connect()
        if self._cluster is not None:
            self._cluster.start()
        if self._transcript is not None:
            self._transcript.start()
        if self._metrics is not None:
            self._metrics.start()
        if self._web is not None:
            self._web.start()
        while self._pool.workers or self._phase is not Phase.STOPPING:
            self._loop.turn()
            self._check_phase()
        self._console.close()

    # --- phases --------------------------------------------------------------

    def _check_phase(self) -> None:
        """Enter the next phase when the workers allow it, or the phase's timeout has passed."""
        workers = self._pool.workers.values()
        late = self._deadline.due is None
        match self._phase:
            case Phase.STARTING if len(self._pool.ready()) >= self._settings.workers and (
                self._cluster is None or self._cluster.ready
            ):
                self._phase = Phase.RUNNING
                self._accept(True)
                self._console.print_line(f"listening on {self._where}")
                if self._metrics is not None:
                    self._console.print_line(f"metrics on http://{self._metrics.where}/metrics")
                if self._web is not None:
                    for line in self._web.where:
                        self._console.print_line(line)
                logger.info(Event("listening", at=self._where, pid=os.getpid()))
                self._notifier.ready(self._status())
                self._send_keepalive()
            case Phase.RUNNING:
                self._accept(bool(self._pool.ready()))
            case Phase.DRAINING if (
                late
                or not workers  # no worker is left to serve unassigned members
                or (
                    self._assignment.settled
                    and all(worker.drained for worker in workers)
                    and (self._cluster is None or self._cluster.drained())
                )
            ):
                self._assignment.stop()
                self._enter(Phase.STOPPING, END_WITHIN, {"stop": True})
            case Phase.STOPPING if late:
                self._pool.kill()

    def _accept(self, accept: bool) -> None:
        self._acceptor.accept(accept)
        if self._web is not None:
            self._web.accept(accept)

    def _enter(self, phase: Phase, within: float, record: Record) -> None:
        self._phase = phase
        self._deadline.set_after(within)
        self._pool.stop(record)

    def _stop(self) -> None:
        # One stop signal is enough: block further stop signals. Ignoring them (SIG_IGN) would race
        # with a signal that has just arrived.
        signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
        if self._phase in (Phase.STARTING, Phase.RUNNING):
            self._notifier.stopping()
            self._registry.stop()  # nobody can join now; do not wait for a registry that hangs
            self._keepalive.cancel()
            self._acceptor.close()
            if self._web is not None:
                self._web.accept(False)
            self._enter(Phase.DRAINING, DRAIN_WITHIN, {"drain": True})

    # --- signals -------------------------------------------------------------

    def _watch_signals(self, cleanup: contextlib.ExitStack) -> None:
        adopts = os.getpid() == 1
        numbers = (*HANDLED_SIGNALS, signal.SIGCHLD) if adopts else HANDLED_SIGNALS
        watch_signals(self._loop, numbers, self._on_signal, cleanup)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, HANDLED_SIGNALS)  # see __main__.py

    def _on_signal(self, number: int) -> None:
        match number:
            case signal.SIGHUP if self._on_terminal and not on_terminal():
                self._stop()  # the terminal's window was closed
            case signal.SIGHUP if self._phase is Phase.RUNNING:
                self._notifier.reloading()
                self._reload()
                self._notifier.ready(self._status())
            case signal.SIGTTIN if self._phase is Phase.RUNNING:
                self._pool.resize(self._pool.wanted + 1)
            case signal.SIGTTOU if self._phase is Phase.RUNNING:
                self._pool.resize(self._pool.wanted - 1)
            case signal.SIGUSR1 if self._transcript is not None:
                self._transcript.reopen()
            case signal.SIGINT | signal.SIGTERM:
                self._stop()
            case signal.SIGCHLD:
                reap_orphans()

    def _reload(self) -> None:
        """Read the settings again, apply the options that need no restart, and replace all workers.

        If the settings can't be read, nothing changes.
        """
        try:
            wanted = self._load_settings()
        except ChatroomError as error:
            logger.error(Event("not-reloaded", "nothing was changed", error=error))
            return
        self._settings, applied, need_restart = self._settings.renewed(wanted)
        self._renew(self._settings, applied)
        if wanted.workers != self._workers_set:
            self._workers_set = wanted.workers
            self._pool.resize(wanted.workers)
        self._pool.replace_all()
        logger.info(Event("reloaded", changed=[option_name(name) for name in applied]))
        if need_restart:
            names = [option_name(name) for name in need_restart]
            says = f"needs a restart: {', '.join(names)}; all other changes are in effect"
            logger.warning(Event("needs-restart", says, settings=names))

    def _renew(self, settings: Settings, names: list[str]) -> None:
        """Apply the new settings. Members that have joined before get no new welcome."""
        self._acceptor.greeting, self._acceptor.history = settings.greeting, settings.history
        self._pool.renew(settings)
        if self._transcript is not None:
            self._transcript.renew(settings)
        if self._cluster is not None:
            self._cluster.renew(settings)
        if self._web is not None:
            self._web.renew(settings)
        if "max_clients_per_address" in names:
            self._registry.limit(settings.max_clients_per_address)
        if "peer_timeout" in names:
            for listener in self._listeners:
                set_keepalive(listener, settings.peer_timeout)

    # --- the owner, the service manager, the console -------------------------

    def _open_control_socket(self, folder: Path, first: Endpoint) -> None:
        """Open the control socket in a folder. If that fails, log a warning, or raise ListenError
        if --run-dir names the folder."""
        try:
            self._control.listen(run_dir.socket_of(folder, first))
        except ListenError as error:
            if self._settings.run_dir:
                raise
            logger.warning(Event("no-control", NO_CONTROL, error=error))

    def _answer(self, request: Answer) -> Answer:
        """Answer a request of the room's owner."""
        if request.get("ask") == "status":
            return self._status_report.full()
        if self._phase is not Phase.RUNNING:
            return {"error": "the room is starting or stopping"}
        done = self._admin_commands.run(request)
        return {"error": "unknown request"} if done is None else done

    def _send_keepalive(self) -> None:
        """Send a keepalive to the service manager, and schedule the next one."""
        if self._notifier.every is not None:
            self._notifier.alive(self._status())
            self._keepalive.set_after(self._notifier.every)

    def _status(self) -> str:
        members = counted(len(self._members.by_id), "member")
        return f"{members}, {counted(len(self._pool.ready()), 'worker')}, {self._where}"

    def _gateways_status(self) -> list[dict[str, Any]]:
        return [] if self._web is None else self._web.status()

    def _wake_all(self) -> None:
        self._pool.wake_all()

    def _held(self) -> Directory:
        return self._members.directory()

    def _reserve_line(self) -> Callable[[str | None], None]:
        if self._settings.quiet:
            return lambda _line: None
        return self._console.reserve_line()


# --- what a room needs before it starts ----------------------------------------------------------


def _capacity(settings: Settings) -> int:
    """Return the maximum number of members that descriptors and settings allow. Raises
    LimitError."""
    pending = MAX_PENDING if settings.proxy_from else 0
    pending += reserved(settings.web_processes) if settings.web or settings.tls else 0
    capacity = raise_limit(RESERVED + RESERVED_PER_SEAT * settings.seats + pending)
    if capacity < settings.max_clients:
        says = f"descriptors (ulimit -n) allow only {counted(capacity, 'member')}"
        logger.warning(Event("few-descriptors", says, capacity=capacity))
    return min(capacity, settings.max_clients)


def _listen(
    addresses: Sequence[Endpoint],
    inherited: Sequence[socket.socket],
    peer_timeout: int,
    cleanup: contextlib.ExitStack,
) -> list[socket.socket]:
    """Return all listeners: first the sockets of the service manager, then our own. Raises
    ListenError."""
    listeners = [*inherited]
    for listener in listeners:
        try:
            prepare(listener, peer_timeout)
        except OSError as error:
            where = endpoint(listener)
            raise ListenError(f"can't listen on {where}: {error.strerror}") from None
    for at in addresses:
        listener = listen(at, peer_timeout, [endpoint(other) for other in listeners])
        listeners.append(listener)
        cleanup.callback(listener.close)
        if at.path:
            cleanup.callback(remove_file, at.path, os.stat(at.path).st_ino)
    return listeners


def _share(settings: Settings) -> tuple[Log, Slots, RoomRate]:
    """Make the shared memory: the log, the slots and the room's rate. Raises LimitError."""
    limits = settings.limits
    geometry = Geometry.of(limits)
    try:
        log = Log(anonymous_file("chatroom log", geometry.file_size), geometry)
    except (OSError, ValueError, OverflowError) as error:
        raise LimitError(f"no memory for a log of {settings.log_size} bytes: {error}") from None
    log.format()
    try:
        slots = Slots(anonymous_file("chatroom slots", Slots.file_size(limits)), limits)
        size = RoomRate.file_size(limits)
        room_rate = RoomRate(anonymous_file("chatroom rate", size), limits)
    except (OSError, ValueError, OverflowError) as error:
        members = counted(settings.max_clients, "member")
        raise LimitError(f"no memory for {members}: {error}") from None
    room_rate.format()
    return log, slots, room_rate


def _share_uplink(settings: Settings) -> Uplink | None:
    """Make the uplink of a room in a cluster. Raises LimitError."""
    if not settings.cluster:
        return None
    limits = settings.limits
    try:
        size = geometry(limits).file_size
        uplink = Uplink(anonymous_file("chatroom uplink", size), limits)
    except (OSError, ValueError, OverflowError) as error:
        raise LimitError(
            f"no memory for an uplink of {settings.uplink_size} bytes: {error}"
        ) from None
    uplink.format()
    return uplink


def _run_dir(settings: Settings, cleanup: contextlib.ExitStack) -> Path | None:
    """Return the private folder, or None if the default folder can't be used.

    Raises RunDirError if the settings need the folder.
    """
    folder = settings.run_dir or run_dir.default()
    try:
        run_dir.ensure(folder)
    except RunDirError as error:
        if settings.run_dir:
            raise
        if settings.keep_bans:
            raise RunDirError(f"{error}; --keep-bans needs one: set --run-dir") from None
        logger.warning(Event("no-control", NO_CONTROL, error=error))
        return None
    if not settings.run_dir:
        cleanup.callback(_remove_if_empty, folder)
    return folder


def _remove_if_empty(folder: Path) -> None:
    with contextlib.suppress(OSError):
        folder.rmdir()
