"""The main process's part of the transcript: keep its process running, and send it requests.

    the process                        the main process
    opened, and the file  ──────────►  keeps a descriptor for the next process
      (rotated)                        and logs
    at                    ──────────►  notes the position that is written
    trouble, fine,        ──────────►  logs
    missed, unwritten
                          ◄──────────  reopen (SIGUSR1), stop
    (death)               ──────────►  starts another

The room never waits for the transcript, and no error of the transcript ends the room.
"""

import logging
import os

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
"""Timeout (s) for the process to write the rest when the room has ended."""
MAX_CLOSING_STARTS = 3
"""Maximum number of starts within CLOSE_WITHIN, if one process after another dies."""
MIN_WATCHDOG = 5 * process.SYNC_EVERY
"""Minimum of the watchdog's timeout (s): the process reports its position every SYNC_EVERY."""

logger = logging.getLogger(__name__)


class TranscriptProcess:
    """The process that writes the transcript; `bell` is rung when the log has grown."""

    def __init__(
        self, loop: EventLoop, settings: Settings, where: str, log: Log, bell: Doorbell
    ) -> None:
        """`where`: addresses at which the room listens, for the header of the file."""
        assert settings.transcript is not None
        self._loop = loop
        self._path = settings.transcript
        self._log = log
        self._bell = bell
        arguments = (self._path, where, os.urandom(8).hex(), settings.limits)
        self._process = RestartedChild(
            loop,
            (process.main, arguments),
            self._handle_message,
            self._on_start,
            "transcript",
            file=self._path,
        )
        self._at = log.head
        """Position in the log before which all messages are in the file."""
        self._file: tuple[int, list[int]] | None = None
        """Descriptor of the open file; the offset at which this room's lines begin, and the number
        of the last message before these lines."""
        self._reopens = 0
        """Total number of requests to reopen the file."""
        self._reopening = False
        """True while the last request is pending."""
        self._trouble = ""
        """Error of the last write; empty if it succeeded."""
        self._stop: Record | None = None
        """Record that ends the process; None until the room has ended."""
        self._watchdog = Watchdog(loop, _watched_for(settings), self._check_progress)
        self._progress = 0
        """Count of signs of progress, for the watchdog: records received, and checks at which no
        record was due."""
        self._has_reported = False
        """True once the running process has sent a record."""

    def start(self) -> None:
        """Start the process, and restart it whenever it ends, until `close`."""
        self._process.start()

    def renew(self, settings: Settings) -> None:
        """Apply the watchdog's timeout of new settings."""
        self._watchdog.renew(_watched_for(settings))

    def reopen(self) -> None:
        """Tell the process to reopen the file by its name, after a rotation."""
        self._reopens += 1
        self._reopening = True
        self._process.tell({"reopen": self._reopens})

    def close(self) -> None:
        """Let the process write the rest of the log, within CLOSE_WITHIN, and end it.

        Call it once the workers have ended.
        """
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
            self._warn("transcript-unfinished", "the last messages may be missing")
        self._keep(None)

    # --- the process ---------------------------------------------------------

    def _on_start(self, child: Child) -> None:
        self._has_reported = False
        self._watchdog.reset()
        fd, file = self._file or (None, None)
        shared = [self._log.fd, *self._bell.fds, *([] if fd is None else [fd])]
        child.tell({"bell": len(self._bell.fds), "file": file}, shared)
        if self._reopening:
            child.tell({"reopen": self._reopens})
        if self._stop is not None:
            child.tell(self._stop)

    def _handle_message(self, record: Record, descriptors: list[int]) -> None:
        self._progress += 1
        if not self._has_reported and self._process.child is not None:
            self._has_reported = True
            self._process.child.ready()
        match record:
            case {"opened": begun, **rotation}:
                self._on_opened(descriptors[0], begun, rotation)
            case {"reopened": number}:
                self._reopening = number < self._reopens
            case {"at": position}:
                self._at = position
            case {"trouble": why}:
                self._trouble = why
                again = "" if self._stop else "; retrying"
                self._warn("transcript-trouble", f"the file can't be written{again}", error=why)
            case {"fine": True}:
                self._process.succeeded()
                if self._trouble:
                    self._trouble = ""
                    self._warn("transcript-resumed", "the file can be written again")
            case {"missed": messages}:
                says = "the log no longer has these messages; a line in the file reports the gap"
                self._warn("transcript-missed", says, messages=messages)
            case {"unwritten": messages}:
                says = "the last messages are missing in the file"
                self._warn("transcript-incomplete", says, messages=messages)

    def _on_opened(self, fd: int, begun: list[int], rotation: Record) -> None:
        """Keep the new file. If the old file was full, log the rotation."""
        self._keep((fd, begun))
        match rotation:
            case {"rotated": [to, size]}:
                says = "the full file was renamed, and a new one begun; an older FILE.1 is replaced"
                self._warn("transcript-rotated", says, to=to, size=size)

    def _check_progress(self) -> None:
        """Kill the process if it has something to write and makes no progress. Another process
        replaces it.

        After a report of trouble, the process is not killed, because it retries.
        """
        if self._trouble or not self._has_reported or self._log.head <= self._at:
            self._progress += 1
        if self._watchdog.check({0: self._progress}):
            self._watchdog.reset()
            self._process.replace_stuck()

    def _warn(self, event: str, says: str, **fields: object) -> None:
        logger.warning(Event(event, says, file=self._path, **fields))

    def _keep(self, file: tuple[int, list[int]] | None) -> None:
        if self._file is not None:
            os.close(self._file[0])
        self._file = file


def _watched_for(settings: Settings) -> float:
    """Return the watchdog's timeout (s) for the process; 0 disables it."""
    return max(settings.watchdog, MIN_WATCHDOG) if settings.watchdog else 0.0
