"""The process that writes the transcript: it follows the log and appends to the file.

The process reports errors to the main process. Before the process writes to a file that it has
opened, it passes a descriptor of the file to the main process. If the process dies, the next
process gets this descriptor, finds the last message in the file, and continues after that message.
When the main process has ended, the transcript process writes the remaining messages and ends.

With --transcript-size, a file is rotated when the next line does not fit: the file is renamed, and
a new file is opened. If the process dies during a rotation, the next process does the remaining
steps.
"""

import contextlib
import errno
import socket
import sys
from math import inf
from pathlib import Path
from time import monotonic, time

from chatroom.config.limits import Limits
from chatroom.config.sizes import KIB
from chatroom.log.follower import CHUNK, READ_AGAIN, Follower
from chatroom.log.ring import Geometry, Log
from chatroom.sidecars.transcript.file import TranscriptFile
from chatroom.sidecars.transcript.lines import header, last_number, message_lines, missed
from chatroom.system.channel import PARENT, Channel, ChannelClosed, Record
from chatroom.system.doorbell import Doorbell
from chatroom.system.poller import wait
from chatroom.wording import stamp

PAUSE = 0.02
"""Pause (s) between two reads of the log, so that the workers get the processors."""
SMALL_CHUNK = 4 * KIB
"""Number of bytes of the log to read at once when a larger chunk can't be written."""
SYNC_EVERY = 1.0
"""Maximum time (s) from a write until it is flushed to the disk."""
RETRY_AFTER = 1.0
"""Pause (s) before a retry after an error."""
FLUSH_AFTER = 0.05
"""Pause (s) before another attempt to send reports that the channel did not accept."""
LAST_WITHIN = 1.0
"""Timeout (s) for writing the rest when the main process has ended."""

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
"""Errors after which a smaller write may still succeed."""


def main(path: Path, where: str, run: str, limits: Limits, end: socket.socket) -> None:
    """Write until the room has ended. This is the target of the process.

    `where` and `run`: see lines.py. The process starts with the room's signals blocked.
    """
    channel = Channel(end)
    wait([channel])
    try:
        record, descriptors = next(channel.receive())
    except ChannelClosed:
        sys.exit(1)
    bells = record["bell"]
    log = Log(descriptors[0], Geometry.of(limits))
    bell = Doorbell(descriptors[1 : 1 + bells])
    opened = record["file"]
    file = TranscriptFile(descriptors[1 + bells], *opened) if opened else None
    size = limits.transcript_size
    TranscriptWriter(path, where, run, channel, log, bell, file, PARENT, size).run()


class TranscriptWriter:
    """The writer of the transcript; call `run` once.

    `file`: the file that the previous process had open, or None. `parent`: the main process'
    sentinel. `limit`: maximum size (bytes) of the file, into which any line must fit; 0: no limit.
    """

    def __init__(
        self,
        path: Path,
        where: str,
        run: str,
        channel: Channel,
        log: Log,
        bell: Doorbell,
        file: TranscriptFile | None,
        parent: int,
        limit: int = 0,
    ) -> None:
        self._path = path
        self._where = where
        self._run = run
        self._channel = channel
        self._log = log
        self._bell = bell
        self._file = file
        self._parent = parent
        self._limit = limit
        self._full = False
        """True from the first line that does not fit into the file until another file is open."""
        self._follower: Follower | None = None
        """Cursor in the log; None until the last message in the file is known."""
        self._trouble: str | None = ""
        """Error reported last; None: success was reported; empty: nothing was reported yet."""
        self._open_at: float | None = monotonic() if file is None else None
        """Time (s, monotonic) to open the file, or to reopen it; None: not needed."""
        self._reopen = 0
        """Number of the request to reopen the file; 0: there is none."""
        self._look_at: float | None = monotonic()
        """Time (s, monotonic) to read the log. None: read it when the doorbell rings. inf: read it
        when another file is open."""
        self._chunk = CHUNK
        """Number of bytes of the log to write at once."""
        self._sync_at: float | None = None
        """Time (s, monotonic) to flush the file to the disk; None: nothing to flush."""
        self._end_by: float | None = None
        """Time (s, monotonic) at which the process must end; None before the room stops."""
        self._finished = False
        """True if nothing is left to write, or the rest can't be written."""
        self._reported = 0
        """Position in the log reported last: everything before it is on the disk."""
        self._missed = 0
        """Number of missed messages that were not reported yet."""
        self._orphaned = False
        """True once the main process has ended."""

    def run(self) -> None:
        while self._end_by is None or not (self._finished or monotonic() >= self._end_by):
            self._wait()
            self._turn()
        self._end()

    # --- wait ----------------------------------------------------------------

    def _wait(self) -> None:
        bell = self._bell.fileno()
        sources = [] if self._orphaned else [self._channel.fileno(), self._parent]
        if self._look_at is None and self._file is not None:
            sources.append(bell)
        timeout = self._timeout()
        ready = wait(sources, timeout)
        if bell in ready:
            self._bell.clear()
            self._look_at = monotonic()
        if self._orphaned:
            return
        try:
            self._channel.flush()
            self._handle_message()
            if self._parent in ready:
                raise ChannelClosed
        except ChannelClosed:
            self._orphaned = True
            self._finish_within(LAST_WITHIN)

    def _timeout(self) -> float | None:
        if self._blocked:
            times = [self._end_by, monotonic() + FLUSH_AFTER]
        else:
            times = [self._open_at, self._sync_at, self._end_by]
            if self._file is not None:
                times.append(self._look_at)
        due = min((at for at in times if at is not None), default=None)
        return None if due is None else max(0.0, due - monotonic())

    @property
    def _blocked(self) -> bool:
        """True while reports wait for the channel, such as the report of a new file."""
        return self._channel.backlog > 0 and not self._orphaned

    def _handle_message(self) -> None:
        for record, _ in self._channel.receive():
            match record:
                case {"reopen": number}:
                    self._open_at, self._reopen = monotonic(), number
                case {"stop": within}:
                    self._finish_within(within)

    def _finish_within(self, within: float) -> None:
        """Write the rest of the log, which no longer grows, and end within `within`
        seconds."""
        now = monotonic()
        self._end_by = now + within
        self._look_at = now
        if self._file is None:
            self._open_at = now

    # --- write ---------------------------------------------------------------

    def _turn(self) -> None:
        """Open the file, or write to it and flush it, if due."""
        if self._blocked:
            return
        now = monotonic()
        try:
            if self._follower is None:
                number = 0 if self._file is None else self._file.repair()
                self._follower = Follower(self._log, number)
            if self._open_at is not None and now >= self._open_at:
                self._open(self._follower.number, now)
            elif self._file is not None:
                if self._look_at is not None and now >= self._look_at:
                    self._write(self._file, self._follower, now)
                if self._sync_at is not None and now >= self._sync_at:
                    self._sync(self._file, self._follower.position)
        except OSError as error:
            self._fail(error, now)

    def _open(self, number: int, now: float) -> None:
        """Open the file for messages after `number`; keep the old file until that succeeds.

        A full file is renamed first, unless it was moved.
        """
        rotated: Record = {}
        try:
            if self._file is not None and self._full:
                aside = self._file.rotate(self._path)
                if aside is not None:
                    rotated = {"rotated": [str(aside), self._file.size]}
            opened = self._file is None or not self._file.is_at(self._path)
            file = TranscriptFile.open(self._path, number) if opened else None
        except OSError as error:
            self._report_trouble(error)
            self._open_at = now + RETRY_AFTER
            self._finished = self._end_by is not None and (self._file is None or self._full)
            return
        if file is not None:
            if self._file is not None:
                self._file.close()
            self._file, self._full = file, False
            # One record for both steps: the next process repeats both steps, or neither of them.
            self._tell({"opened": [file.begin, file.after], **rotated}, file.fd)
        if self._reopen:
            self._tell({"reopened": self._reopen})
        self._open_at, self._reopen = None, 0
        self._look_at = monotonic()  # but not before the main process has the file: see `_blocked`

    def _write(self, file: TranscriptFile, follower: Follower, now: float) -> None:
        """Write a chunk of messages."""
        chunk = follower.read(self._chunk)
        if chunk is None:
            self._look_at = now + READ_AGAIN
            return
        time_ = stamp(time())
        data = header(self._where, self._run, file.after, time_) if file.fresh else b""
        if chunk.missed:
            data += missed(chunk.missed, time_)
        data += "".join(message_lines(run, time_) for run in chunk.runs(follower.number)).encode()
        fitting = data[: self._room(file, data)]
        if fitting:
            try:
                file.append(fitting)
            except OSError as error:
                if error.errno not in FULL or self._chunk == SMALL_CHUNK:
                    raise
                self._chunk, self._look_at = SMALL_CHUNK, now
                return
        if len(fitting) < len(data):
            self._on_full(follower, fitting, now)
            return
        follower.advance(chunk)
        self._missed += len(chunk.missed)
        self._chunk = min(CHUNK, 2 * self._chunk)
        if data or follower.position != self._reported:
            self._sync_at = self._sync_at or now + SYNC_EVERY
        self._report_success()
        moved = chunk.begin != chunk.end
        if self._end_by is not None:
            self._look_at, self._finished = now, not moved
        elif chunk.more:
            self._look_at = now
        else:
            self._look_at = now + PAUSE if moved else None

    def _room(self, file: TranscriptFile, data: bytes) -> int:
        """Return the size of the whole lines at the beginning of `data` that fit into the file."""
        room = self._limit - file.size
        if not self._limit or len(data) <= room:
            return len(data)
        return data.rfind(b"\n", 0, max(0, room)) + 1

    def _on_full(self, follower: Follower, fitting: bytes, now: float) -> None:
        """Schedule a rotation. `fitting`: the part of the chunk that was written; the new file gets
        the rest."""
        if fitting:
            number = last_number(fitting[fitting.rfind(b"\n", 0, -1) + 1 :])
            assert number is not None
            follower.number = max(follower.number, number)
        self._full, self._open_at, self._look_at = True, now, inf

    def _sync(self, file: TranscriptFile, position: int) -> None:
        """Flush the file to the disk, and report the position of the last message in it."""
        self._sync_at = None
        file.sync()
        self._tell({"at": position})
        self._reported = position
        self._tell_missed()

    # --- errors and reports --------------------------------------------------

    def _fail(self, error: OSError, now: float) -> None:
        """Report an error, unless the last report was the same, and retry later."""
        self._report_trouble(error)
        self._look_at = now + RETRY_AFTER
        if self._file is not None and self._file.gone:
            self._open_at = self._look_at  # another file may have taken its name
        self._finished = self._end_by is not None

    def _report_trouble(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        if reason != self._trouble:
            self._trouble = reason
            self._tell({"trouble": reason})

    def _report_success(self) -> None:
        if self._trouble is not None and self._open_at is None:
            self._trouble = None
            self._tell({"fine": True})

    def _tell(self, record: Record, *descriptors: int) -> None:
        if not self._orphaned:
            with contextlib.suppress(ChannelClosed):  # `_wait` will notice
                self._channel.send(record, descriptors)

    def _tell_missed(self) -> None:
        if self._missed:
            self._tell({"missed": self._missed})
            self._missed = 0

    def _end(self) -> None:
        if self._file is not None:
            try:
                self._file.sync()
            except OSError as error:
                self._fail(error, monotonic())
        self._tell_missed()
        left = self._log.messages(self._log.head) - (self._follower.number if self._follower else 0)
        if left:
            self._tell({"unwritten": left})
