"""The process that writes the transcript: it reads the log, and appends to the file.

It tells the main process what it can't do, asks it who somebody is, and hands it
a descriptor of each file that it opens, before it writes there: should it die, the
next one begins with that file, finds in it which message was the last, and goes on.
When the main process is gone, it writes what is left, and ends.
"""

import contextlib
import errno
import socket
import sys
from multiprocessing import connection, parent_process
from pathlib import Path
from time import monotonic, time

from chatroom.config.settings import KIB, Settings
from chatroom.log.follower import CHUNK, READ_AGAIN, Chunk, Follower
from chatroom.log.ring import Geometry, Log
from chatroom.logs import stamp
from chatroom.sidecars.transcript.file import TranscriptFile
from chatroom.sidecars.transcript.lines import Sender, header, missed, said
from chatroom.system.channel import Channel, ChannelClosed, Record
from chatroom.system.doorbell import Doorbell

PAUSE = 0.02
"""Seconds between two looks at the log: whoever talks needs the processors."""
SMALL_CHUNK = 4 * KIB
"""Bytes of the log that are read at once where more can't be written."""
SYNC_EVERY = 1.0
"""Seconds in which the disk has to have what was written."""
RETRY_AFTER = 1.0
"""Seconds after which it tries again what has failed."""
FLUSH_AFTER = 0.05
"""Seconds after which it tells again what the channel did not take."""
LAST_WITHIN = 1.0
"""Seconds for what is left, when the main process is gone."""
ASKED_AT_ONCE = 50
"""Members whose addresses and prefixes fit into a record."""
MAX_KNOWN = 20_000
"""Members that it remembers; then it asks again."""


FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)

NOBODY_KNOWS = Sender(None, "")


def main(path: Path, where: str, run: str, settings: Settings, end: socket.socket) -> None:
    """Write until the room has ended; the target of the process. Signals are blocked by then."""
    channel = Channel(end)
    connection.wait([channel.socket])
    try:
        record, descriptors = next(channel.receive())
    except ChannelClosed:
        sys.exit(1)
    bells = record["bell"]
    log = Log(descriptors[0], Geometry.of(settings))
    bell = Doorbell(descriptors[1 : 1 + bells])
    file = None
    if record["file"]:
        file = TranscriptFile(descriptors[1 + bells], *record["file"])
    parent = parent_process()
    assert parent is not None
    TranscriptWriter(path, where, run, channel, log, bell, file, parent.sentinel).run()


class TranscriptWriter:
    """`file`: what the one before had open. `run` it, once."""

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
    ) -> None:
        self._path = path
        self._where = where
        self._run = run
        self._channel = channel
        self._log = log
        self._bell = bell
        self._file = file
        self._parent = parent
        self._follower: Follower | None = None
        """None until it is known which message was the last."""
        self._known: dict[int, Sender] = {}
        self._unknown: set[int] = set()
        """Who has said something, and was asked for."""
        self._trouble: str | None = ""
        """What it has told that it can't do; None: that all is well; empty: nothing yet."""
        self._open_at: float | None = monotonic() if file is None else None
        """When to open the file, anew if there is one."""
        self._reopen = 0
        """Which order it is to do so, if it is one."""
        self._look_at: float | None = monotonic()
        """When to look at the log; None: when the doorbell is rung."""
        self._chunk = CHUNK
        """How much is written at once."""
        self._sync_at: float | None = None
        self._end_by: float | None = None
        """When it ends, whatever is left; before that, if nothing is, or can't be written."""
        self._told = False
        """Whether the main process knows where it is."""
        self._missed = 0
        """Messages that it lacks, and has not told of."""
        self._finished = False
        self._orphaned = False
        """Whether the main process is gone."""

    def run(self) -> None:
        while self._end_by is None or not (self._finished or monotonic() >= self._end_by):
            self._wait()
            self._turn()
        self._end()

    # --- wait ----------------------------------------------------------------

    def _wait(self) -> None:
        bell = self._bell.fileno()
        sources = [] if self._orphaned else [self._channel.fileno(), self._parent]
        if self._look_at is None and self._file is not None and not self._unknown:
            sources.append(bell)
        timeout = self._timeout()
        ready = connection.wait(sources, timeout) if sources or timeout is not None else []
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
            self._unknown.clear()
            self._hurry(LAST_WITHIN)

    def _timeout(self) -> float | None:
        times = [self._open_at, self._sync_at, self._end_by]
        if self._file is not None and not self._unknown:
            times.append(self._look_at)
        if self._channel.backlog:
            times = [self._end_by, monotonic() + FLUSH_AFTER]
        due = min((at for at in times if at is not None), default=None)
        return None if due is None else max(0.0, due - monotonic())

    def _handle_message(self) -> None:
        for record, _ in self._channel.receive():
            match record:
                case {"members": members}:
                    for id, address, prefix in members:
                        self._known[id] = Sender(address, prefix)
                        self._unknown.discard(id)
                case {"reopen": number}:
                    self._open_at, self._reopen = monotonic(), number
                case {"stop": within}:
                    self._hurry(within)

    def _hurry(self, within: float) -> None:
        """Nothing more will be said: write what is left, and end."""
        now = monotonic()
        self._end_by = now + within
        self._look_at = now
        if self._file is None:
            self._open_at = now

    # --- write ---------------------------------------------------------------

    def _turn(self) -> None:
        """Do what is due."""
        if self._channel.backlog and not self._orphaned:
            return  # the main process has yet to hear which file it is
        now = monotonic()
        try:
            if self._follower is None:
                number = 0 if self._file is None else self._file.repair()
                self._follower = Follower(self._log, number)
            if self._open_at is not None and now >= self._open_at:
                self._try_to_open(now)
            if self._file is None:
                return
            if self._look_at is not None and now >= self._look_at and not self._unknown:
                self._write(self._file, self._follower, now)
            if self._sync_at is not None and now >= self._sync_at:
                self._sync_at = None
                self._file.sync()
                self._tell({"at": self._follower.position})
                self._told = True
                self._tell_missed()
        except OSError as error:
            self._fail(error, now)

    def _try_to_open(self, now: float) -> None:
        """Where it can't be opened, what is open is written to, until it can."""
        try:
            self._open()
        except OSError as error:
            self._complain(error)
            self._open_at = now + RETRY_AFTER
            self._finished = self._end_by is not None and self._file is None

    def _open(self) -> None:
        """Open the file; one that is open is written to until the new one is."""
        assert self._follower is not None
        if self._file is None or not self._file.is_at(self._path):
            file = TranscriptFile.open(self._path, self._follower.number)
            if self._file is not None:
                self._file.close()
            self._file = file
            self._tell({"opened": [file.begin, file.after]}, file.fd)
        if self._reopen:
            self._tell({"reopened": self._reopen})
        self._open_at, self._reopen = None, 0
        self._look_at = monotonic()  # when the main process has heard of it

    def _write(self, file: TranscriptFile, follower: Follower, now: float) -> None:
        """Write a chunk of what was said."""
        if self._channel.backlog and not self._orphaned:
            return
        chunk = follower.read(self._chunk)
        if chunk is None:
            self._look_at = now + READ_AGAIN
            return
        if not self._orphaned and self._ask({entry.sender for entry in chunk.entries}):
            return
        data = self._lines(chunk, follower.number, file)
        if data:
            file.append(data)
        self._missed += len(chunk.missed)
        moved = chunk.begin != chunk.end
        follower.advance(chunk)
        self._chunk = min(CHUNK, 2 * self._chunk)
        if data or moved or not self._told:
            self._sync_at = self._sync_at or now + SYNC_EVERY
        self._well()
        if self._end_by is not None:
            self._look_at, self._finished = now, not moved
        elif chunk.more:
            self._look_at = now
        else:
            self._look_at = now + PAUSE if moved else None

    def _lines(self, chunk: Chunk, number: int, file: TranscriptFile) -> bytes:
        time_ = stamp(time())
        data = header(self._where, self._run, file.after, time_) if file.fresh else b""
        if chunk.missed:
            data += missed(chunk.missed, time_)
        lines: list[str] = []
        for run in chunk.runs(number):
            who = self._known.get(run.sender, NOBODY_KNOWS)
            lines += said(run.text, run.sender, who, run.first, run.skip, time_)
        return data + "".join(lines).encode()

    def _ask(self, senders: set[int]) -> bool:
        """Whether it has to be asked first who some of them are."""
        self._unknown = senders - self._known.keys()
        if not self._unknown:
            return False
        if len(self._known) > MAX_KNOWN:
            self._known.clear()
            self._unknown = senders
        ids = sorted(self._unknown)
        for first in range(0, len(ids), ASKED_AT_ONCE):
            self._tell({"who": ids[first : first + ASKED_AT_ONCE]})
        return True

    # --- what goes wrong -----------------------------------------------------

    def _fail(self, error: OSError, now: float) -> None:
        """Say so, unless that was said, and try again later; or with less, at once."""
        if error.errno in FULL and self._chunk > SMALL_CHUNK:
            self._chunk = SMALL_CHUNK
            self._look_at = now
            return
        self._complain(error)
        self._look_at = now + RETRY_AFTER
        if self._file is not None and self._file.gone:
            self._open_at = self._look_at  # another one may be where it was
        self._finished = self._end_by is not None

    def _complain(self, error: OSError) -> None:
        reason = error.strerror or str(error)
        if reason != self._trouble:
            self._trouble = reason
            self._tell({"trouble": reason})

    def _well(self) -> None:
        if self._trouble is not None and self._open_at is None:
            self._trouble = None
            self._tell({"fine": True})

    def _tell(self, record: Record, *descriptors: int) -> None:
        if not self._orphaned:
            with contextlib.suppress(ChannelClosed):  # it is met when it waits
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
            self._tell({"lacks": left})
