"""The main process's part of the transcript: start its process, watch it and replace it.

    the process                        the main process
    opened, and the file  ──────────►  keeps a descriptor, for the next one
    at                    ──────────►  sees that it makes progress
    trouble, fine, missed, lacks  ──►  warns
                          ◄──────────  reopen (SIGUSR1), stop
    (death)               ──────────►  starts another

Nothing of it holds up the room, and nothing that goes wrong there ends it.
"""

import contextlib
import logging
import os
import secrets
import selectors
from dataclasses import dataclass
from multiprocessing import connection
from multiprocessing.context import SpawnProcess
from time import monotonic

from chatroom.config.settings import Settings
from chatroom.log.ring import Log
from chatroom.logs import Event
from chatroom.sidecars.transcript import process
from chatroom.supervisor.pool import READY_WITHIN, RETRY_AFTER, pause_after
from chatroom.supervisor.watchdog import Watchdog
from chatroom.system.channel import Channel, ChannelClosed, Record
from chatroom.system.child import spawn
from chatroom.system.doorbell import Doorbell

CLOSE_WITHIN = 3.0
"""Seconds, when the room has ended, for what is not written yet."""
LEAST_WATCHED = 5 * process.SYNC_EVERY
"""Seconds that its process has to make progress, at least: it tells of it each SYNC_EVERY."""

logger = logging.getLogger(__name__)


@dataclass(slots=True)
class _Process:
    process: SpawnProcess
    channel: Channel
    ready_by: float
    """When it has to have told something, however busy the machine is."""
    met: bool = False
    """Whether it has."""
    heard: bool = True
    """Whether its channel is listened to; it ends a moment before the process."""


def _watchdog(settings: Settings) -> Watchdog:
    within = max(settings.watchdog, LEAST_WATCHED) if settings.watchdog else 0.0
    return Watchdog(within, monotonic())


class TranscriptProcess:
    """All is called from the main process's loop; `selector` is that loop's. `bell`: the process's.

    `where`: what the room listens on.
    """

    def __init__(
        self,
        settings: Settings,
        where: str,
        log: Log,
        bell: Doorbell,
        selector: selectors.BaseSelector,
    ) -> None:
        assert settings.transcript is not None
        self._path = settings.transcript
        self._settings = settings
        self._where = where
        self._run = secrets.token_hex(8)
        self._log = log
        self._bell = bell
        self._selector = selector
        self._at = log.head
        """Entries before this position are written; those of the room's begin need not be."""
        self._child: _Process | None = None
        self._file: tuple[int, list[int]] | None = None
        """A descriptor of the file that is written, and where and behind what it was begun."""
        self._reopens = 0
        """How often it was to be opened anew."""
        self._reopening = False
        """Whether it was not, yet."""
        self._trouble = ""
        self._start_at = 0.0
        self._failures = 0
        """Processes in a row that have written nothing."""
        self._stop: Record | None = None
        """What the process is told, now that the room has ended."""
        self._done = False
        """Whether the process has ended because all is done."""
        self._killed = False
        self._watchdog = _watchdog(settings)
        self._signs = 0
        """Of life that the process has given, or did not owe."""

    def renew(self, settings: Settings) -> None:
        """From now on, its process has so many seconds to make progress."""
        if settings.watchdog != self._settings.watchdog:
            self._watchdog = _watchdog(settings)
        self._settings = settings

    def tick(self) -> float | None:
        """Start the process where it is time; return the seconds until it may be, None for never.

        And tell it again what its channel did not take.
        """
        if self._child is None:
            now = monotonic()
            if now >= self._start_at:
                self._start()
            if self._child is None:
                return max(0.0, self._start_at - now)
        else:
            self._flush(self._child)
        self._watch(self._child, monotonic())
        due = self._watchdog.due
        times = [] if due is None else [max(0.0, due - monotonic())]
        return min([*times, RETRY_AFTER] if self._child.channel.backlog else times, default=None)

    def _watch(self, child: _Process, now: float) -> None:
        """Kill a process that has something to write, and makes no progress: the next one goes on.

        Where it has told that it can't write, it is known to try again.
        """
        tries = bool(self._trouble) if child.met else now < child.ready_by
        if tries or self._log.head <= self._at:
            self._signs += 1
        if self._watchdog.look(now, {0: self._signs}):
            self._watchdog.forgive()
            says = "the process that writes it makes no progress, and is replaced"
            self._warn("transcript-stuck", says)
            child.process.kill()

    def reopen(self) -> None:
        """Another file has, or is to have, the transcript's name."""
        self._reopens += 1
        self._reopening = True
        self._tell({"reopen": self._reopens})

    def close(self) -> None:
        """The room has ended: all that was said is written, if that takes not too long."""
        deadline = monotonic() + CLOSE_WITHIN
        self._stop = {"stop": CLOSE_WITHIN * 0.8}
        self._tell(self._stop)
        starts = 0
        while not self._done and (left := deadline - monotonic()) > 0:
            if self._child is None:
                starts += 1
                if starts > 3:
                    break
                self._start()
                continue
            child = self._child
            sources = [child.process.sentinel, *([child.channel.fileno()] if child.heard else [])]
            ready = connection.wait(sources, min(left, RETRY_AFTER))
            self._hear(child)
            if child.process.sentinel in ready:
                self._reap(child)
            else:
                self._flush(child)
        if self._child is not None:
            self._killed = True
            self._child.process.kill()
            self._child.process.join()
            self._reap(self._child)
        if not self._done:
            self._warn("transcript-unfinished", "it may lack what was said last")
        self._keep(None)

    # --- the process ---------------------------------------------------------

    def _start(self) -> None:
        try:
            started, ours = spawn(process.main, self._path, self._where, self._run, self._settings)
        except OSError as error:
            says = "the process that writes it can't be started; it is tried again"
            self._fail("transcript-failed", says, error=error.strerror)
            return
        self._watchdog.forgive()
        child = self._child = _Process(started, Channel(ours), monotonic() + READY_WITHIN)
        self._selector.register(ours, selectors.EVENT_READ, lambda: self._hear(child))
        self._selector.register(
            child.process.sentinel, selectors.EVENT_READ, lambda: self._reap(child)
        )
        fd, file = self._file or (None, None)
        shared = [self._log.fd, *self._bell.fds, *([] if fd is None else [fd])]
        self._tell({"bell": len(self._bell.fds), "file": file}, shared)
        if self._reopening:
            self._tell({"reopen": self._reopens})
        if self._stop is not None:
            self._tell(self._stop)

    def _tell(self, record: Record, descriptors: list[int] | tuple[int, ...] = ()) -> None:
        if self._child is not None:
            with contextlib.suppress(ChannelClosed):  # its sentinel will tell
                self._child.channel.send(record, descriptors)

    def _flush(self, child: _Process) -> None:
        """Tell it again what its channel did not take."""
        with contextlib.suppress(ChannelClosed):  # its sentinel will tell
            child.channel.flush()

    def _hear(self, child: _Process) -> None:
        if not child.heard:
            return
        try:
            for record, descriptors in child.channel.receive():
                self._signs += 1
                child.met = True
                self._handle_message(record, descriptors)
            child.channel.flush()
        except ChannelClosed:
            child.heard = False
            self._selector.unregister(child.channel)

    def _handle_message(self, record: Record, descriptors: list[int]) -> None:
        match record:
            case {"opened": begun}:
                self._keep((descriptors[0], begun))
            case {"reopened": number}:
                self._reopening = number < self._reopens
            case {"at": position}:
                self._at = position
            case {"trouble": why}:
                self._trouble = why
                again = "" if self._stop else "; it is tried again"
                self._warn("transcript-trouble", f"it can't be written{again}", error=why)
            case {"fine": True}:
                self._failures = 0
                if self._trouble:
                    self._trouble = ""
                    self._warn("transcript-resumed", "it is written again")
            case {"missed": messages}:
                says = "the log no longer held them; a line in the file says which"
                self._warn("transcript-missed", says, messages=messages)
            case {"lacks": messages}:
                self._warn("transcript-lacks", "the last messages are not in it", messages=messages)

    def _reap(self, child: _Process) -> None:
        """Its process has ended."""
        self._hear(child)  # its last words
        if child.heard:
            child.heard = False
            self._selector.unregister(child.channel)
        self._selector.unregister(child.process.sentinel)
        child.channel.close()
        child.process.join()
        self._child = None
        self._done = self._stop is not None and child.process.exitcode == 0
        if not self._done and not self._killed:
            says = "the process that writes it has ended; another is started"
            self._fail("transcript-died", says, exit=child.process.exitcode)

    def _fail(self, event: str, says: str, **fields: object) -> None:
        pause = pause_after(self._failures) if self._failures else 0.0
        self._failures += 1
        self._start_at = monotonic() + pause
        self._warn(event, says, **fields)

    def _warn(self, event: str, says: str, **fields: object) -> None:
        logger.warning(Event(event, says, file=self._path, **fields))

    def _keep(self, file: tuple[int, list[int]] | None) -> None:
        if self._file is not None:
            os.close(self._file[0])
        self._file = file
