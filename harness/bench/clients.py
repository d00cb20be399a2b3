"""The connections of the load generator, all in one process.

There are three ways to receive. `gather` keeps all data of every client, for the stages that are
not timed. `play` and `pour` only count bytes, for the timed rounds: the load generator runs on the
same processors as the server, so its own work makes the server slower. `take` returns the data of
one read from each of a few clients, for messages on a fixed schedule.
"""

from __future__ import annotations

import select
import socket
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager

from harness.bench import payload
from harness.bench.dialects import Dialect
from harness.bench.payload import ArrivalError, Heads

BUFFER = 1 << 20
"""Maximum number of bytes per read. In most rounds, a client receives less, so one read is enough
for it."""

AT_ONCE = 16
"""Maximum number of clients that one call of `take` reads from. Its caller checks the clock between
two calls, to send the next message on time."""

JOIN_TAIL = 1024
"""Number of bytes to keep of a client's input while other clients join. It is more than the length
of any dialect's `joined`. The rest is dropped, because it can be large: at each join, ncat sends
every client a list of all clients, in total N³ entries for N clients."""


class Clients:
    """N clients of one server, numbered from 0.

    `addresses`: the server's addresses. The clients connect to them in turn, so client 0 and client
    1 are at different nodes of a cluster.

    `patience`: number of seconds. If data is missing, and no client receives a byte for this time,
    an `ArrivalError` is raised.
    """

    def __init__(
        self, addresses: Sequence[tuple[str, int]], dialect: Dialect, patience: float
    ) -> None:
        self.addresses = addresses
        self.dialect = dialect
        self.patience = patience
        self.sockets: list[socket.socket] = []
        self.heard: list[bytearray] = []
        self._number: dict[int, int] = {}  # by descriptor
        self._receive: dict[int, Callable[[memoryview], int]] = {}  # by descriptor
        self._poll = select.epoll()
        self._scratch = memoryview(bytearray(BUFFER))

    def close(self) -> None:
        for sock in self.sockets:
            sock.close()
        self._poll.close()

    # -- joining ---------------------------------------------------------------------

    def join(self, count: int, at_once: int, start_limit: float) -> list[float]:
        """Connect `count` clients, with at most `at_once` joining at the same time.

        Return the time of each client's welcome, in seconds since the call, in ascending order. The
        first connection is retried for `start_limit` seconds, because the server may not listen
        yet.
        """
        joined = self.dialect.joined
        start = time.monotonic()
        times: list[float] = []
        pending: set[int] = set()

        def is_in(number: int) -> bool:
            heard = self.heard[number]
            done = joined in heard if joined else bool(heard)
            if done:
                times.append(time.monotonic() - start)
            return done

        while len(times) < count:
            while len(self.sockets) < count and len(pending) < at_once:
                pending.add(self._connect(start_limit if not self.sockets else 0.0))
            self._gather_some(pending, is_in, "waiting for the welcome", keep=JOIN_TAIL)
        return times

    def _connect(self, start_limit: float) -> int:
        address = self.addresses[len(self.sockets) % len(self.addresses)]
        deadline = time.monotonic() + start_limit
        while True:
            sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
            try:
                sock.settimeout(self.patience)
                sock.connect(address)
                break
            except ConnectionRefusedError:
                sock.close()
                if time.monotonic() >= deadline:
                    raise ArrivalError(f"client {len(self.sockets)} was refused") from None
                time.sleep(0.02)
            except OSError as error:
                sock.close()
                raise ArrivalError(f"client {len(self.sockets)} can't connect: {error}") from None
        number = len(self.sockets)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        sock.setblocking(False)
        self.sockets.append(sock)
        self.heard.append(bytearray())
        self._number[sock.fileno()] = number
        self._receive[sock.fileno()] = sock.recv_into
        self._poll.register(sock.fileno(), select.EPOLLIN)
        if self.dialect.hello:
            with self._naming(number):
                sock.send(self.dialect.hello)
        return number

    def settle(self) -> None:
        """Wait until every client is a member, and has received all notices about joins."""
        asked = self.dialect.asked
        if asked:
            waiting = set(range(len(self.sockets)))
            self.gather(waiting, lambda n: asked in self.heard[n], "waiting to be asked")
            for number in range(len(self.sockets)):
                self.say(number, self.dialect.answer)
        self.barrier(generation=0)

    def barrier(self, generation: int) -> None:
        """Have client 0 send a line, then client 1; wait each time until the others receive it.

        Drop everything that a client received before this line.
        """
        for speaker in (0, 1):
            line = payload.line(speaker, generation)
            self.say(speaker, self.dialect.say(line))
            waiting = set(payload.audible(speaker, range(len(self.sockets)), self.dialect))
            skip = self._skip_past(line + self.dialect.tail)
            self.gather(waiting, skip, f"waiting for the line of client {speaker}")

    def _skip_past(self, token: bytes) -> Callable[[int], bool]:
        def skip(number: int) -> bool:
            heard = self.heard[number]
            place = heard.find(token)
            if place < 0:
                return False
            del heard[: place + len(token)]
            return True

        return skip

    # -- keeping all input -------------------------------------------------------------

    def verify(self, generation: int) -> Heads:
        """Have every client send a line; check all received data; return the head of each line."""
        everyone = range(len(self.sockets))
        ending = payload.ending(self.dialect)
        expected = [len(payload.audible(n, everyone, self.dialect)) for n in everyone]
        for number in everyone:
            self.say(number, self.dialect.say(payload.line(number, generation)))

        def complete(number: int) -> bool:
            heard = self.heard[number]
            return heard.endswith(ending) and heard.count(ending) >= expected[number]

        self.gather(set(everyone), complete, "waiting for every client's line")
        heads = []
        for number in everyone:
            heard = bytes(self.heard[number])
            self.heard[number].clear()
            heads.append(payload.check(heard, number, everyone, generation, self.dialect))
        return payload.agree(heads)

    def quiet(self, seconds: float) -> None:
        """Raise `ArrivalError` if a client receives any more data within `seconds`."""
        for descriptor, _ in self._poll.poll(seconds):
            self._read(self._number[descriptor])
        for number, heard in enumerate(self.heard):
            if heard:
                raise ArrivalError(f"client {number} received {len(heard)} bytes too many")

    def gather(self, waiting: set[int], done: Callable[[int], bool], what: str) -> None:
        """Read and keep all input until `done` is true of each client in `waiting`."""
        waiting -= {number for number in waiting if done(number)}
        while waiting:
            self._gather_some(waiting, done, what)

    def _gather_some(
        self, waiting: set[int], done: Callable[[int], bool], what: str, keep: int = 0
    ) -> None:
        events = self._poll.poll(self.patience)
        if not events:
            raise ArrivalError(
                f"{len(waiting)} of {len(self.sockets)} clients, such as client {min(waiting)}, "
                f"received nothing for {self.patience:g} s, {what}"
            )
        for descriptor, _ in events:
            number = self._number[descriptor]
            self._read(number)
            if number in waiting and done(number):
                waiting.discard(number)
            if keep:
                del self.heard[number][:-keep]

    def _read(self, number: int) -> None:
        with self._naming(number):
            count = self.sockets[number].recv_into(self._scratch)
        if not count:
            raise ArrivalError(f"client {number} was disconnected")
        self.heard[number] += self._scratch[:count]

    # -- only counting bytes -------------------------------------------------------------

    def due_bytes(self, speakers: Sequence[int], heads: Heads) -> list[int]:
        """Return the number of bytes that each client must receive in a round, by descriptor."""
        by_descriptor = [0] * (max(self._number) + 1)
        for descriptor, number in self._number.items():
            by_descriptor[descriptor] = payload.due(number, speakers, self.dialect, heads)
        return by_descriptor

    def play(
        self, speakers: Iterable[int], words: Sequence[bytes], due_bytes: list[int], witness: int
    ) -> bytearray:
        """Play one timed round: `speakers` send `words`; then each client receives its bytes.

        `due_bytes`: number of bytes that each client must receive, by descriptor. `witness`: number
        of the client whose data to return; the data of the other clients is only counted. The load
        generator spends nearly all its time in this loop, so the loop does only what is necessary.
        """
        left = due_bytes.copy()
        waiting = len(left) - left.count(0)
        number, sockets, patience = self._number, self.sockets, self.patience
        poll, scratch = self._poll.poll, self._scratch
        receive = self._receive
        watched = sockets[witness].fileno()
        kept = bytearray()
        descriptor = -1
        try:
            for speaker in speakers:
                descriptor = sockets[speaker].fileno()
                sockets[speaker].send(words[speaker])
            while waiting:
                events = poll(patience)
                if not events:
                    raise self._silence(left)
                for descriptor, _ in events:
                    count = receive[descriptor](scratch)
                    left[descriptor] = rest = left[descriptor] - count
                    if descriptor == watched:
                        kept += scratch[:count]
                    if rest <= 0 or not count:
                        if rest < 0:
                            raise ArrivalError(
                                f"client {number[descriptor]} received {-rest} bytes too many"
                            )
                        if not count:
                            raise ArrivalError(f"client {number[descriptor]} was disconnected")
                        waiting -= 1
        except OSError as error:
            raise ArrivalError(f"client {number[descriptor]} was disconnected: {error}") from None
        return kept

    def pour(self, speaker: int, data: bytes, due_bytes: Sequence[int], witness: int) -> bytearray:
        """Play one timed round in which one client sends `data`, as fast as the server reads it.

        `due_bytes`, `witness`: as in `play`. Return all data that the witness received.
        """
        left = list(due_bytes)
        waiting = len(left) - left.count(0)
        source = self.sockets[speaker].fileno()
        watched = self.sockets[witness].fileno()
        unsent, kept = memoryview(data), bytearray()
        self._poll.modify(source, select.EPOLLIN | select.EPOLLOUT)
        while waiting:
            events = self._poll.poll(self.patience)
            if not events:
                raise self._silence(left)
            for descriptor, event in events:
                number = self._number[descriptor]
                if event & select.EPOLLOUT:
                    with self._naming(number):
                        unsent = unsent[self.sockets[number].send(unsent) :]
                    if not unsent:
                        self._poll.modify(source, select.EPOLLIN)
                if event & ~select.EPOLLOUT:
                    with self._naming(number):
                        count = self._receive[descriptor](self._scratch)
                    if not count:
                        raise ArrivalError(f"client {number} was disconnected")
                    left[descriptor] -= count
                    if descriptor == watched:
                        kept += self._scratch[:count]
                    if left[descriptor] < 0:
                        raise ArrivalError(
                            f"client {number} received {-left[descriptor]} bytes too many"
                        )
                    waiting -= not left[descriptor]
        return kept

    def take(self, seconds: float) -> list[tuple[int, bytes]]:
        """Wait at most `seconds` for data, and read from each client that has received data.

        Return the number of each such client, with its data. Read from at most AT_ONCE clients, so
        that the caller checks the clock often.
        """
        events = self._poll.poll(0, AT_ONCE)
        if not events:
            # The timeout of epoll itself has a resolution of only a millisecond.
            select.select((self._poll,), (), (), seconds)
            events = self._poll.poll(0, AT_ONCE)
        came = []
        for descriptor, _ in events:
            number = self._number[descriptor]
            with self._naming(number):
                count = self._receive[descriptor](self._scratch)
            if not count:
                raise ArrivalError(f"client {number} was disconnected")
            came.append((number, bytes(self._scratch[:count])))
        return came

    def _silence(self, left: Sequence[int]) -> ArrivalError:
        lacking = sorted(n for descriptor, n in self._number.items() if left[descriptor])
        first = lacking[0]
        return ArrivalError(
            f"{len(lacking)} of {len(self.sockets)} clients received nothing for "
            f"{self.patience:g} s: client {first}, for example, still lacks "
            f"{left[self.sockets[first].fileno()]} bytes"
        )

    # -- one client ----------------------------------------------------------------------

    def say(self, number: int, data: bytes) -> None:
        with self._naming(number):
            self.sockets[number].send(data)

    @contextmanager
    def _naming(self, number: int) -> Iterator[None]:
        """Turn a socket's error into an `ArrivalError` that names the client."""
        try:
            yield
        except OSError as error:
            raise ArrivalError(f"client {number} was disconnected: {error}") from None
