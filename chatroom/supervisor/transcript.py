"""The main process's part of the transcript: the process that writes it is there, and is told.

    the process                        the main process
    opened, and the file  ──────────►  keeps a descriptor, for the next one
    at                    ──────────►  knows how far it has come
    trouble, fine, missed, lacks  ──►  warns
                          ◄──────────  reopen (SIGUSR1), stop
    (death)               ──────────►  starts another

Nothing of it holds up the room, and nothing that goes wrong there ends it.
"""

import logging
import os
import secrets

from chatroom.config.settings import Settings
from chatroom.log.ring import Log
from chatroom.logs import Event
from chatroom.sidecars.transcript import process
from chatroom.supervisor.child import Child, RestartedChild
from chatroom.supervisor.watchdog import Watchdog
from chatroom.system.channel import Record
from chatroom.system.doorbell import Doorbell
from chatroom.system.event_loop import EventLoop

CLOSE_WITHIN = 3.0
"""Seconds, when the room has ended, for what is not written yet."""
MAX_CLOSING_STARTS = 3
"""Starts of a process in that time, where one after another dies."""
LEAST_WATCHED = 5 * process.SYNC_EVERY
"""Seconds that the process has to make progress, at least: it tells of it each SYNC_EVERY."""

logger = logging.getLogger(__name__)


class TranscriptProcess:
    """Keeps the process there; `bell` is rung when the log has grown."""

    def __init__(
        self, loop: EventLoop, settings: Settings, where: str, log: Log, bell: Doorbell
    ) -> None:
        """`where`: what the room listens on, for the head of the file."""
        assert settings.transcript is not None
        self._loop = loop
        self._path = settings.transcript
        self._log = log
        self._bell = bell
        arguments = (self._path, where, secrets.token_hex(8), settings)
        self._process = RestartedChild(
            loop,
            (process.main, arguments),
            self._handle_message,
            self._on_start,
            "transcript",
            file=self._path,
        )
        self._at = log.head
        """Entries before this position are written; those of the room's begin need not be."""
        self._file: tuple[int, list[int]] | None = None
        """A descriptor of the file that is written, and where and behind what it was begun."""
        self._reopens = 0
        """Number of requests to open it anew."""
        self._reopening = False
        """Whether the last of them is not done yet."""
        self._trouble = ""
        self._stop: Record | None = None
        """Record that ends the process, once the room has ended."""
        self._watchdog = Watchdog(loop, _watched_for(settings), self._look_at_progress)
        self._signs = 0
        """Signs of life that the process has given, or did not owe."""
        self._met = False
        """Whether the process that is there has given one."""

    def start(self) -> None:
        """Start the process, and another whenever it ends, until `close`."""
        self._process.start()

    def renew(self, settings: Settings) -> None:
        """From now on, its process has so many seconds to make progress."""
        self._watchdog.renew(_watched_for(settings))

    def reopen(self) -> None:
        """Open the file anew: another one has, or is to have, its name."""
        self._reopens += 1
        self._reopening = True
        self._process.tell({"reopen": self._reopens})

    def close(self) -> None:
        """The room has ended: have all that was said written, if that takes not too long."""
        self._watchdog.stop()
        deadline = self._loop.now() + CLOSE_WITHIN
        self._stop = {"stop": CLOSE_WITHIN * 0.8}
        self._process.stop()
        self._process.tell(self._stop)
        starts = 0
        while not self._process.done and (left := deadline - self._loop.now()) > 0:
            if self._process.child is not None:
                self._process.child.wait(left)
            elif starts == MAX_CLOSING_STARTS:
                break
            else:
                starts += 1
                self._process.start()
        self._process.end()
        if not self._process.done:
            self._warn("transcript-unfinished", "it may lack what was said last")
        self._keep(None)

    # --- the process ---------------------------------------------------------

    def _on_start(self, child: Child) -> None:
        self._met = False
        self._watchdog.forgive()
        fd, file = self._file or (None, None)
        shared = [self._log.fd, *self._bell.fds, *([] if fd is None else [fd])]
        child.tell({"bell": len(self._bell.fds), "file": file}, shared)
        if self._reopening:
            child.tell({"reopen": self._reopens})
        if self._stop is not None:
            child.tell(self._stop)

    def _handle_message(self, record: Record, descriptors: list[int]) -> None:
        self._signs += 1
        if not self._met and self._process.child is not None:
            self._met = True
            self._process.child.ready()
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
                self._process.succeeded()
                if self._trouble:
                    self._trouble = ""
                    self._warn("transcript-resumed", "it is written again")
            case {"missed": messages}:
                says = "the log no longer held them; a line in the file says which"
                self._warn("transcript-missed", says, messages=messages)
            case {"lacks": messages}:
                self._warn("transcript-lacks", "the last messages are not in it", messages=messages)

    def _look_at_progress(self) -> None:
        """Kill a process that has something to write, and makes no progress: the next one goes on.

        One that has told that it can't write is known to try again.
        """
        if self._trouble or not self._met or self._log.head <= self._at:
            self._signs += 1
        stuck = self._watchdog.look({0: self._signs})
        if stuck and self._process.child is not None:
            self._watchdog.forgive()
            says = "the process that writes it makes no progress, and is replaced"
            self._warn("transcript-stuck", says)
            self._process.child.kill()

    def _warn(self, event: str, says: str, **fields: object) -> None:
        logger.warning(Event(event, says, file=self._path, **fields))

    def _keep(self, file: tuple[int, list[int]] | None) -> None:
        if self._file is not None:
            os.close(self._file[0])
        self._file = file


def _watched_for(settings: Settings) -> float:
    """Return the seconds that the process has to make progress; 0: it is not watched."""
    return max(settings.watchdog, LEAST_WATCHED) if settings.watchdog else 0.0
