"""The clients of a simulation: one process, one loop, as many sessions as it is given.

    python -m harness.simulation.run.driver

On standard input, `drivers.py` gives it a `Job`, pickled, and, once it has said
READY, the start of the run; then standard input stays open for as long as the run
may go on. Events go into the job's file, in the form of history.py; progress is
told on standard output, a JSON line every HALF second. It uses the standard library
alone: one process has to carry 20,000 deliveries a second and keep its schedule
meanwhile, or it would measure itself.

The schedule does not wait: what is due is taken up when it is due, and how late
that was is recorded with it. Where the target takes no more, what is to be sent
waits here.
"""

from __future__ import annotations

import contextlib
import errno
import gc
import json
import os
import pickle
import re
import select
import socket
import struct
import sys
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import TextIO

from harness.descriptors import raise_descriptor_limit
from harness.simulation.history import as_text
from harness.simulation.run.recorder import Recorder
from harness.simulation.scenario.plan import Plan, Say, Session
from harness.simulation.scenario.vocabulary import harmless

CHUNK = 1 << 18
"""Bytes read in one call."""

EVENTS = 64
"""Connections attended to before it is looked at what is due: less than a millisecond's work."""

HALF = 0.5
"""Seconds between two words of how it goes."""

QUIET = 0.3
"""Seconds in which nobody hears anything, when all have heard the last words: then it is over."""

WELCOME_MOST = 4096
"""Bytes in which the welcome has to be found."""

READY = "ready"
"""Line that a driver says when it has read its job."""

RESET = struct.pack("ii", 1, 0)
"""SO_LINGER, for no seconds: close resets the connection."""


@dataclass(frozen=True)
class Job:
    """The job of one driver.

    mine: the sessions that are its own, by number. ports: of the plan's links, in
    their order. source: the address that all come from, where the target is not on this
    machine; empty: each from its own. welcome: a pattern of the welcome's text;
    None: there is none. patience: seconds of silence after which nothing more is
    expected. path: of the file for what happens.
    """

    plan: Plan
    mine: range
    target: tuple[str, int]
    ports: list[int]
    source: str
    welcome: str | None
    patience: float
    path: str


@dataclass(slots=True, eq=False)
class Connection:
    """A session while it lasts."""

    session: Session
    socket: socket.socket
    awaited: int
    """Last words of others that it has not heard."""
    established: bool = False
    welcomed: bool = False
    ending: bool = False
    """True once it has said all that it will."""
    ended: bool = False
    line_end_due: bool = False
    """True where the next byte, if it is LF, ends the welcome."""
    tail: bytes = b""
    """The beginning of a line, or of the welcome."""
    pending: deque[tuple[bytes, str]] = field(default_factory=deque)
    """Pieces to be sent, and the message that each of them ends; empty where it ends none."""
    waits_to_write: bool = True
    gaps: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Time of the last piece of each message that is begun, and its longest pause."""

    @property
    def number(self) -> int:
        return self.session.number


class Driver:
    def __init__(self, job: Job, file: TextIO, told: TextIO) -> None:
        self._job = job
        self._told = told
        self._poll = select.epoll()
        self._connections: dict[int, Connection] = {}
        """Connections by descriptor."""
        self._by_number: dict[int, Connection] = {}
        self._welcome = (
            None if job.welcome is None else re.compile(job.welcome.encode() + rb"\r?\n?")
        )
        plan = job.plan
        names: dict[bytes, str] = {}
        self._finals: set[str] = set()
        """Last words, as the record has them."""
        for session in plan.sessions:
            prefix = b"<%s>" % self._address(session).encode()
            for say in session.says:
                name = f'"{session.name_of(say)}"'
                names[prefix + harmless(say.text)] = name
                if say.final:
                    self._finals.add(name)
        self._record = Recorder(file, names)
        self._finals_at = plan.talk
        self._heard_at = 0.0
        """Time at which anything was heard last, but by those on a bad network."""
        self._now_read = 0.0
        """Time at which what is being attended to was read."""
        self._awaiting = 0
        """Connections that lack the last words of others."""
        self._actions = self._schedule()

    def _address(self, session: Session) -> str:
        return self._job.source or session.address

    def _schedule(self) -> deque[tuple[float, Callable[[], None]]]:
        """Return the actions of the sessions, in order of time."""
        actions: list[tuple[float, Callable[[], None]]] = []
        for session in self._job.plan.sessions:
            if session.number not in self._job.mine:
                continue
            actions.append((session.arrives, partial(self._connect, session)))
            due = session.arrives
            for say in session.says:
                due, begin = max(due, say.due), 0  # never before the last piece of the one before
                actions.append((due, partial(self._say, session, say, due)))
                text = say.text + b"\n"
                for cut, pause in zip((*say.cuts, len(text)), (*say.pauses, 0.0), strict=True):
                    is_last = cut == len(text)
                    piece = partial(self._piece, session, say, text[begin:cut], is_last)
                    actions.append((due, piece))
                    due, begin = due + pause, cut
            if session.leaves is not None:
                actions.append((session.leaves, partial(self._leave, session)))
        return deque(sorted(actions, key=itemgetter(0)))

    # --- the loop ------------------------------------------------------------

    def run(self, start: float) -> None:
        """Run until all have heard all, or nothing comes any more, or standard input ends.

        start: of the run, on the monotonic clock, in seconds.
        """
        self._record.start = start
        # Nothing here makes cycles, and a collection would hold up the schedule.
        gc.freeze()
        gc.disable()
        self._poll.register(sys.stdin, select.EPOLLIN)
        actions, now = self._actions, self._record.now
        tell_at = 0.0
        while True:
            begun = now()
            while actions and actions[0][0] <= begun:
                actions.popleft()[1]()
            begun = now()
            if begun >= tell_at:
                tell_at = begun + HALF
                self._tell(begun)
            if not actions and self._is_over(begun):
                break
            due = min(actions[0][0], tell_at) if actions else tell_at
            if not self._attend(max(0.0, due - begun)):
                break

    def _attend(self, timeout: float) -> bool:
        """Wait, and attend to some connections; return whether the run goes on."""
        for fd, events in self._poll.poll(timeout, EVENTS):
            connection = self._connections.get(fd)
            if connection is None:
                if fd == sys.stdin.fileno() and not os.read(fd, 1):
                    return False
                continue
            if not connection.established:
                self._established(connection)
            elif events & select.EPOLLOUT:
                self._write(connection)
            if events & ~select.EPOLLOUT and not connection.ended:
                self._read(connection)
        return True

    def _is_over(self, now: float) -> bool:
        quiet = now - max(self._heard_at, self._finals_at)
        return quiet > self._job.patience or (quiet > QUIET and not self._awaiting)

    def _tell(self, now: float) -> None:
        connected = sum(connection.welcomed for connection in self._connections.values())
        status = {"elapsed": now, "connected": connected, **self._record.news()}
        print(json.dumps(status), file=self._told, flush=True)

    # --- coming --------------------------------------------------------------

    def _connect(self, session: Session) -> None:
        job = self._job
        where = job.target if session.link is None else ("127.0.0.1", job.ports[session.link])
        family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
        link = None if session.link is None else job.plan.links[session.link].fault
        more = {"population": session.population, "address": self._address(session), "link": link}
        self._record.happened(session.number, "connects", **more)
        try:
            connection = socket.socket(family, socket.SOCK_STREAM)
        except OSError as error:
            self._record.happened(
                session.number, "refused", why=f"the harness itself: {error.strerror}"
            )
            return
        connection.setblocking(False)
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            if not job.source:
                connection.bind((session.address, 0))
            failed = connection.connect_ex(where)
        except OSError as error:
            failed = error.errno or 0
        if failed not in (0, errno.EINPROGRESS):
            self._record.happened(session.number, "refused", why=os.strerror(failed))
            connection.close()
            return
        stays = session.leaves is None and session.link is None
        own = sum(say.final for say in session.says[-1:])
        found = Connection(session, connection, len(self._finals) - own if stays else 0)
        self._awaiting += found.awaited > 0
        self._connections[connection.fileno()] = self._by_number[session.number] = found
        self._poll.register(connection, select.EPOLLIN | select.EPOLLOUT)

    def _established(self, connection: Connection) -> None:
        failed = connection.socket.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
        if failed:
            self._record.happened(connection.number, "refused", why=os.strerror(failed))
            self._forget(connection)
            return
        connection.established = True
        self._record.happened(
            connection.number, "connected", port=connection.socket.getsockname()[1]
        )
        if self._welcome is None:
            self._welcomed(connection)
        self._write(connection)

    def _welcomed(self, connection: Connection) -> None:
        connection.welcomed = True
        self._record.happened(connection.number, "welcomed")

    # --- saying --------------------------------------------------------------

    def _say(self, session: Session, say: Say, due: float) -> None:
        connection = self._by_number.get(session.number)
        if connection is None or connection.ending:
            return
        self._record.says(session, say, due)
        connection.gaps[say.number] = 0.0, 0.0

    def _piece(self, session: Session, say: Say, piece: bytes, is_last: bool) -> None:
        connection = self._by_number.get(session.number)
        if connection is None or connection.ending or say.number not in connection.gaps:
            return
        connection.pending.append((piece, session.name_of(say) if is_last else ""))
        before, longest = connection.gaps[say.number]
        now = self._record.now()
        connection.gaps[say.number] = now, max(longest, now - before if before else 0.0)
        if connection.established and not connection.waits_to_write:
            self._write(connection)

    def _write(self, connection: Connection) -> None:
        """Send what is pending, as much as is taken."""
        pending = connection.pending
        while pending:
            piece, message = pending[0]
            try:
                size = connection.socket.send(piece)
            except BlockingIOError:
                size = 0
            except OSError:
                pending.clear()  # to read tells how it ended
                break
            if size < len(piece):
                pending[0] = piece[size:], message
                break
            pending.popleft()
            if message:
                _, gap = connection.gaps.pop(int(message.partition(".")[2]))
                self._record.sent(connection.number, message, gap)
        if connection.waits_to_write != bool(pending):
            connection.waits_to_write = bool(pending)
            events = select.EPOLLIN | (select.EPOLLOUT if pending else 0)
            self._poll.modify(connection.socket, events)

    # --- hearing -------------------------------------------------------------

    def _read(self, connection: Connection) -> bool:
        """Read once; return whether anything came."""
        try:
            data = connection.socket.recv(CHUNK)
        except BlockingIOError:
            return False
        except OSError:
            self._end(connection, "reset")
            return False
        if not data:
            self._end(connection, "closed")
            return False
        self._now_read = self._record.now()
        if connection.session.link is None:
            self._heard_at = self._now_read
        if connection.welcomed:
            self._hear(connection, connection.tail + data)
        else:
            self._find_welcome(connection, connection.tail + data)
        return True

    def _hear(self, connection: Connection, data: bytes) -> None:
        now = self._now_read
        if connection.line_end_due and data:  # of a welcome that came in two pieces
            connection.line_end_due = False
            data = data.removeprefix(b"\n")
        lines = data.split(b"\n")
        connection.tail = lines.pop()
        if not lines:
            return
        heard = self._record.hears(now, connection.number, lines)
        if connection.awaited and now >= self._finals_at:
            connection.awaited -= sum(name in self._finals for name in heard)
            if connection.awaited <= 0:
                connection.awaited = 0
                self._awaiting -= 1

    def _find_welcome(self, connection: Connection, data: bytes) -> None:
        assert self._welcome is not None
        found = self._welcome.match(data)
        if found:
            self._welcomed(connection)
            connection.line_end_due = not found[0].endswith(b"\n")
            self._hear(connection, data[found.end() :])
        elif b"\n" in data or len(data) > WELCOME_MOST:
            self._record.happened(
                connection.number, "unwelcomed", rest=as_text(data[:WELCOME_MOST])
            )
            connection.welcomed = True
            self._hear(connection, data)
        else:
            connection.tail = data

    # --- going ---------------------------------------------------------------

    def _leave(self, session: Session) -> None:
        connection = self._by_number.get(session.number)
        if connection is None or connection.ending:
            return
        how = session.how
        if how == "close":
            # What has come is read, so that it is no reset that ends the connection.
            while self._read(connection):
                pass
            if connection.ended:
                return
        connection.ending = True
        self._record.happened(connection.number, "leaves", how=how)
        with contextlib.suppress(OSError):
            if how == "half-close":
                connection.socket.shutdown(socket.SHUT_WR)
                return
            if how == "reset":
                connection.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
        self._forget(connection)

    def _end(self, connection: Connection, how: str) -> None:
        """Note that the target has ended it."""
        more = {"rest": as_text(connection.tail)} if connection.tail else {}
        if connection.established:
            self._record.happened(connection.number, "ended", how=how, **more)
        else:
            self._record.happened(connection.number, "refused", why=how)
        self._forget(connection)

    def _forget(self, connection: Connection) -> None:
        connection.ended = True
        self._awaiting -= connection.awaited > 0
        connection.awaited = 0
        del self._connections[connection.socket.fileno()]
        del self._by_number[connection.number]
        self._poll.unregister(connection.socket)
        connection.socket.close()


def main() -> int:
    """Read the job; say that it was read; read when it starts, and do it. Exit status: 1 where it
    came to no end of its own."""
    raise_descriptor_limit()
    # Who says what there is to do, and when, may be interrupted before it has.
    with contextlib.suppress(EOFError, pickle.UnpicklingError, BrokenPipeError):
        job: Job = pickle.load(sys.stdin.buffer)
        with open(job.path, "w", encoding="utf-8", buffering=1 << 20) as file:
            driver = Driver(job, file, sys.stdout)
            print(READY, flush=True)
            driver.run(pickle.load(sys.stdin.buffer))
        return 0
    return 1


if __name__ == "__main__":
    sys.exit(main())
