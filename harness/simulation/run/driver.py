"""A driver: one process with one loop that runs any number of a simulation's sessions.

    python -m harness.simulation.run.driver

`drivers.py` sends a pickled `Job` to standard input. The driver prints READY, and then receives the
start time of the run. It ends at EOF on standard input. It writes events into the job's file, in
the format of history.py, and its progress to standard output, as a JSON line every half second. The
driver uses neither asyncio nor threads, because one process must handle 20,000 deliveries per
second on schedule. Otherwise, the harness would measure its own delay.

The schedule does not wait for the target: the driver performs each action when it is due, and
records the delay. If the target does not read, the driver queues the data to send.
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
import sys
from bisect import insort
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from operator import itemgetter
from typing import TextIO

from harness.clients.dialect import Login, Reader, to_server
from harness.descriptors import raise_descriptor_limit
from harness.linger import reset_on_close
from harness.profile import LF, Profile
from harness.simulation.history import as_text
from harness.simulation.run.recorder import Recorder
from harness.simulation.scenario.plan import Plan, Say, Session
from harness.simulation.scenario.vocabulary import harmless, name_in, numbers_of

CHUNK = 1 << 18
"""Maximum number of bytes per read."""

EVENTS = 64
"""Maximum number of connections to handle between two checks of the schedule. This takes less than
1 ms."""

REPORT_EVERY = 0.5
"""Seconds between two reports of progress."""

QUIET = 0.3
"""Seconds of silence after which the run ends, if all clients have received the final messages."""

WELCOME_MOST = 4096
"""Maximum length of the welcome, in bytes. If the first bytes that a client receives are more than
this, and are not the welcome, the client counts as unwelcomed."""

LOGIN_MOST = 1 << 16
"""Maximum number of bytes that a client receives during its login. After more bytes, the client
gives up the login, and treats these bytes as lines."""

SETTLES_WITHIN = 1.0
"""Seconds after which a client counts as a member if the server's profile has no welcome and the
client has received nothing."""

READY = "ready"
"""Line that a driver prints when it has read its job."""


@dataclass(frozen=True)
class Job:
    """The job of one driver.

    mine: numbers of the driver's sessions.
    endpoints: addresses of the target; the sessions use them in turn.
    ports: local ports of the plan's links, in the order of the links.
    source: source address of all sessions, if the target is on another machine; empty if each
    session has its own source address.
    profile: the target's dialect.
    patience: seconds of silence at the end after which the driver ends even if messages are
    missing.
    path: file for the driver's events.
    """

    plan: Plan
    mine: range
    endpoints: list[tuple[str, int]]
    ports: list[int]
    source: str
    profile: Profile
    patience: float
    path: str


@dataclass(slots=True, eq=False)
class Connection:
    """The socket of a session, with its state."""

    session: Session
    socket: socket.socket
    awaited: int
    """Number of final messages that the session must still receive."""
    reader: Reader | None
    """Translator of received data to the dialect of PROTOCOL.md; None if both are the same."""
    login: Login | None
    """Login that is not complete; None if it is complete, or if the dialect has no login."""
    held: list[tuple[bytes, str]] | None
    """Pieces, as in `pending`, to send once the client is a member; None if it need not wait."""
    established: bool = False
    welcomed: bool = False
    ending: bool = False
    """True once the client has stopped sending."""
    ended: bool = False
    line_end_due: bool = False
    """True if the next byte, if it is a LF, belongs to the welcome."""
    tail: bytes = b""
    """Received part of an incomplete line or welcome."""
    pending: deque[tuple[bytes, str]] = field(default_factory=deque)
    """Pieces to send. The last piece of a message has the message's name, others an empty name."""
    waits_to_write: bool = True
    """True if the driver waits until the socket is writable."""
    gaps: dict[int, tuple[float, float]] = field(default_factory=dict)
    """Unfinished messages by number, each with the time of its last piece and its longest pause."""

    @property
    def number(self) -> int:
        return self.session.number


def _translates(profile: Profile) -> bool:
    """Return whether data from the server must be translated to the dialect of PROTOCOL.md."""
    return profile.colours or profile.suffix is not None or profile.output_line_end != LF


class Driver:
    def __init__(self, job: Job, file: TextIO, output: TextIO) -> None:
        self._job = job
        self._output = output
        self._poll = select.epoll()
        self._connections: dict[int, Connection] = {}
        """Connections by descriptor."""
        self._by_number: dict[int, Connection] = {}
        welcome = job.profile.welcome
        self._welcome = welcome and re.compile(welcome.pattern + rb"\r?\n?")
        self._line_end = to_server(b"\n", job.profile)
        plan = job.plan
        names: dict[bytes, str] = {}
        self._finals: set[str] = set()
        """Names of all final messages, in quotes as in the history's file."""
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
        """Last time at which a session without a link received data."""
        self._now_read = 0.0
        """Time at which the latest data was read."""
        self._awaiting = 0
        """Number of connections that must still receive final messages."""
        self._actions = self._schedule()

    def _address(self, session: Session) -> str:
        return self._job.source or session.address

    def _schedule(self) -> deque[tuple[float, Callable[[], None]]]:
        """Return the actions of this driver's sessions, each with its time, in order of time."""
        actions: list[tuple[float, Callable[[], None]]] = []
        for session in self._job.plan.sessions:
            if session.number not in self._job.mine:
                continue
            actions.append((session.arrives, partial(self._connect, session)))
            due = session.arrives
            for say in session.says:
                due, begin = max(due, say.due), 0  # after the last piece of the previous message
                actions.append((due, partial(self._say, session, say, due)))
                text = say.text + self._line_end
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
        """Run until every client has received the final messages, or standard input ends.

        Also end after `patience` seconds of silence. start: start time of the run, in seconds of
        the monotonic clock.
        """
        self._record.start = start
        # Garbage collections would delay the schedule. They are not needed, because the driver
        # creates no reference cycles.
        gc.freeze()
        gc.disable()
        self._poll.register(sys.stdin, select.EPOLLIN)
        actions, now = self._actions, self._record.now
        report_at = 0.0
        while True:
            begun = now()
            while actions and actions[0][0] <= begun:
                actions.popleft()[1]()
            begun = now()
            if begun >= report_at:
                report_at = begun + REPORT_EVERY
                self._report(begun)
            if not actions and self._is_over(begun):
                break
            due = min(actions[0][0], report_at) if actions else report_at
            if not self._attend(max(0.0, due - begun)):
                break

    def _attend(self, timeout: float) -> bool:
        """Wait for events, and handle at most EVENTS; return False at EOF on standard input."""
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

    def _report(self, now: float) -> None:
        connected = sum(connection.welcomed for connection in self._connections.values())
        status = {"elapsed": now, "connected": connected, **self._record.news()}
        print(json.dumps(status), file=self._output, flush=True)

    # --- connecting ----------------------------------------------------------

    def _connect(self, session: Session) -> None:
        job = self._job
        where = job.endpoints[session.number % len(job.endpoints)]
        if session.link is not None:
            where = "127.0.0.1", job.ports[session.link]
        family = socket.AF_INET6 if ":" in where[0] else socket.AF_INET
        link = None if session.link is None else job.plan.links[session.link].fault
        self._record.happened(
            session.number,
            "connects",
            name=session.name,
            population=session.population,
            address=self._address(session),
            link=link,
        )
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
        profile = job.profile
        found = Connection(
            session,
            connection,
            len(self._finals) - own if stays else 0,
            Reader(profile) if _translates(profile) else None,
            Login(profile, session.name) if profile.login else None,
            [] if profile.login else None,
        )
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
        if connection.login:
            self._log_in(connection)
        else:
            self._await_membership(connection)
        self._write(connection)

    def _log_in(self, connection: Connection) -> None:
        """Answer the questions of the login that have arrived."""
        login, heard = connection.login, bytearray(connection.tail)
        assert login is not None
        while (answer := login.answer(heard)) is not None:
            connection.pending.append((to_server(answer, self._job.profile), ""))
        connection.tail = bytes(heard)
        if login.done:
            connection.login = None
            self._await_membership(connection)
        self._write(connection)

    def _await_membership(self, connection: Connection) -> None:
        """If the profile has no welcome, count the client as a member after SETTLES_WITHIN."""

        def settle() -> None:
            if not (connection.welcomed or connection.ended):
                self._welcomed(connection)

        if self._welcome is None:
            due = self._record.now() + SETTLES_WITHIN
            insort(self._actions, (due, settle), key=itemgetter(0))

    def _welcomed(self, connection: Connection) -> None:
        self._record.happened(connection.number, "welcomed")
        self._enter(connection)

    def _enter(self, connection: Connection) -> None:
        """Count a client as a member, and send the pieces that it has held back."""
        connection.welcomed = True
        if connection.held is not None:
            connection.pending.extend(connection.held)
            connection.held = None
            self._write(connection)

    # --- sending -------------------------------------------------------------

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
        waiting = connection.pending if connection.held is None else connection.held
        waiting.append((piece, session.name_of(say) if is_last else ""))
        before, longest = connection.gaps[say.number]
        now = self._record.now()
        connection.gaps[say.number] = now, max(longest, now - before if before else 0.0)
        if connection.established and not connection.waits_to_write:
            self._write(connection)

    def _write(self, connection: Connection) -> None:
        """Send as much pending data as the socket accepts; wait for the rest."""
        pending = connection.pending
        while pending:
            piece, message = pending[0]
            try:
                size = connection.socket.send(piece)
            except BlockingIOError:
                size = 0
            except OSError:
                pending.clear()  # the next read shows how the connection ended
                break
            if size < len(piece):
                pending[0] = piece[size:], message
                break
            pending.popleft()
            if message:
                _, gap = connection.gaps.pop(numbers_of(message)[1])
                self._record.sent(connection.number, message, gap)
        if connection.waits_to_write != bool(pending):
            connection.waits_to_write = bool(pending)
            events = select.EPOLLIN | (select.EPOLLOUT if pending else 0)
            self._poll.modify(connection.socket, events)

    # --- receiving -----------------------------------------------------------

    def _read(self, connection: Connection) -> bool:
        """Read once from a connection; return whether data was received."""
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
        if connection.reader:
            data = connection.reader.feed(data)
        if connection.login:
            connection.tail += data
            self._log_in(connection)
            if connection.login and len(connection.tail) <= LOGIN_MOST:
                return True
            connection.login = None
            data, connection.tail = connection.tail, b""
        if connection.welcomed:
            self._take_lines(connection, connection.tail + data)
        else:
            self._find_welcome(connection, connection.tail + data)
        return True

    def _take_lines(self, connection: Connection, data: bytes) -> None:
        now = self._now_read
        if connection.line_end_due and data:  # the end of the welcome may arrive after its text
            connection.line_end_due = False
            data = data.removeprefix(b"\n")
        lines = data.split(b"\n")
        connection.tail = lines.pop()
        if not lines:
            return
        heard = self._record.hears(now, connection.number, lines)
        if connection.awaited and now >= self._finals_at:
            connection.awaited -= sum(self._is_final(connection, line) for line in heard)
            if connection.awaited <= 0:
                connection.awaited = 0
                self._awaiting -= 1

    def _is_final(self, connection: Connection, heard: str) -> bool:
        """Return whether a received line contains the final message of another session.

        heard: the line as it is recorded in the history.
        """
        name = heard if heard in self._finals else f'"{name_in(heard.encode())}"'
        return name in self._finals and numbers_of(name.strip('"'))[0] != connection.number

    def _find_welcome(self, connection: Connection, data: bytes) -> None:
        if self._welcome is None:
            if data:  # the server sends data only to members
                self._welcomed(connection)
                self._take_lines(connection, data)
        elif found := self._welcome.match(data):
            self._welcomed(connection)
            connection.line_end_due = not found[0].endswith(b"\n")
            self._take_lines(connection, data[found.end() :])
        elif b"\n" in data or len(data) > WELCOME_MOST:
            self._record.happened(
                connection.number, "unwelcomed", rest=as_text(data[:WELCOME_MOST])
            )
            self._enter(connection)
            self._take_lines(connection, data)
        else:
            connection.tail = data

    # --- leaving -------------------------------------------------------------

    def _leave(self, session: Session) -> None:
        connection = self._by_number.get(session.number)
        if connection is None or connection.ending:
            return
        how = session.how
        if how == "close":
            # If there is unread input, a close sends a RST instead of a FIN.
            while self._read(connection):
                pass
            if connection.ended:
                return
        connection.ending = True
        if how == "half-close":
            try:
                connection.socket.shutdown(socket.SHUT_WR)
            except OSError:  # the socket is not connected yet, or no longer connected
                how = "close"
        self._record.happened(connection.number, "leaves", how=how)
        if how == "half-close":
            return
        if how == "reset":
            with contextlib.suppress(OSError):
                reset_on_close(connection.socket)
        self._forget(connection)

    def _end(self, connection: Connection, how: str) -> None:
        """Record that the target has closed or reset a connection, and close the socket."""
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
    """Read the job and the start time of the run from standard input, and run.

    Return the exit status: 1 if standard input ended before the start time was read.
    """
    raise_descriptor_limit()
    # The parent may be interrupted before it has sent the job and the start time.
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
