"""A simulation of a room: its workers, bridges and engine, and the load generator. Pure.

Each process does its work in the same order as the real process, one piece at a time. A piece of
work occupies a core of the machine for the time that `Costs` gives. The simulation contains:

- A worker's turns: the worker reads the lines of its members, appends them to the log, and sends
  each member all lines since the last turn. So in a busy room, a send contains more lines.
- The bridges: each has one publication under way. The next publication contains all lines that have
  arrived in the meantime, up to 256 KiB. In a crowd, a bridge waits until all members of the last
  round have sent, and wakes the workers when the publications of all nodes are there.
- The engine: it stores one publication after the other, and sends each to all nodes at once.
- The load generator of `harness bench`, on the same machine; or remote members, whose own work is
  not simulated.

It does not contain slow members, joins, packet loss, pauses of the machine, or other programs.
Members are only counted, so a node of 100,000 members is simulated as fast as a node of 100.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

from harness.scale.costs import Costs

LINE = 75
"""Bytes of a delivered line, with its prefix."""
PUBLICATION = 256 * 1024 // LINE
"""Maximum number of lines in a publication."""
LISTENING = 2
"""Number of workers whose deliveries are simulated if members are remote."""
CHUNKS = 8
"""Number of pieces into which the sends of a worker's turn are divided. Between two pieces, another
process may get the core."""
READ = 512
"""Maximum number of lines that a worker reads in a turn, and that the load generator sends in a
piece of work."""
GATHER, MAX_GATHER, RING_AFTER = 100e-6, 40e-3, 2e-3
"""Times (s) for which a bridge waits: see chatroom/sidecars/cluster/rounds.py."""
PACK = 256
"""Number of members of one worker before the next worker gets members (--pack)."""


@dataclass(frozen=True)
class Setup:
    """The size of a room, and its machine.

    `nodes`: number of nodes; 0 for a room without a cluster. `workers`: number of workers of each
    node. `cores`: number of cores of the machine on which all processes run; None if each process
    has a core of its own. `delay`: seconds from a node to the engine. `clocked`: if True, a node
    publishes again when it has received its own previous publication; if False, when the engine has
    acknowledged the previous publication.
    """

    members: int
    nodes: int = 0
    workers: int = 2
    cores: int | None = 2
    delay: float = 0.0
    clocked: bool = False


class Clock:
    """The simulated time, and the events that are scheduled."""

    def __init__(self) -> None:
        self.now = 0.0
        self._events: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()

    def after(self, delay: float, event: Callable[[], None]) -> None:
        heapq.heappush(self._events, (self.now + delay, next(self._number), event))

    def run(self, is_over: Callable[[], bool]) -> None:
        while self._events and not is_over():
            self.now, _, event = heapq.heappop(self._events)
            event()


class Cores:
    """The cores of a machine. Work that finds no free core waits in a queue."""

    def __init__(self, clock: Clock, count: int | None) -> None:
        self._clock = clock
        self._free = count if count is not None else 1 << 30
        self._waiting: deque[tuple[float, Callable[[], None]]] = deque()

    def run(self, seconds: float, then: Callable[[], None]) -> None:
        if not self._free:
            self._waiting.append((seconds, then))
            return
        self._free -= 1

        def end() -> None:
            self._free += 1
            if self._waiting:
                self.run(*self._waiting.popleft())
            then()

        self._clock.after(seconds, end)


class Member(NamedTuple):
    """A member. `worker`: number of its worker."""

    worker: int
    number: int


@dataclass(frozen=True)
class Line:
    """A line. `due`: time at which it was due; `sender`: the member that sends it."""

    due: float
    sender: Member


class Process:
    """A process that does one piece of work at a time, until no work is left."""

    def __init__(self, room: Room) -> None:
        self._room = room
        self._busy = False
        self.seconds = 0.0
        """Processor time."""

    def wake(self) -> None:
        if not self._busy:
            self._busy = True
            self._next()

    def _next(self) -> None:
        """Call `_work` with the next piece of work, or `_sleep` if there is none."""
        raise NotImplementedError

    def _sleep(self) -> None:
        self._busy = False

    def _work(self, then: Callable[[], None], **counts: float) -> None:
        """Do work that consists of `counts`; then call `then`, which continues."""
        done, seconds = self._room.counts, 0.0
        for name, count in counts.items():
            done[name] += count
            seconds += count * self._room.prices[name]
        self.seconds += seconds
        self._room.cores.run(seconds, then)


class Worker(Process):
    """A worker. `log`: the log of its node. `bridge`: None in a room without a cluster."""

    def __init__(self, room: Room, number: int, members: int, log: list[Line]) -> None:
        super().__init__(room)
        self.number = number
        self.members = members
        self.log = log
        self.peers: list[Worker] = []
        """All workers of the node."""
        self.bridge: Bridge | None = None
        self.inbox: list[Line] = []
        """Lines that members have sent, and that the worker has not read yet."""
        self.listens = True
        """False if the worker's deliveries are not simulated."""
        self._position = 0

    def _next(self) -> None:
        if not self.inbox and (self._position == len(self.log) or not self.listens):
            self._sleep()
            return
        lines, self.inbox = self.inbox[:READ], self.inbox[READ:]
        # In a cluster, the cost `follow` includes the turns in which a worker only delivers.
        turns = 0 if self.bridge is not None and not lines else 1
        self._work(lambda: self._append(lines), turn=turns, read=len(lines))

    def _append(self, lines: list[Line]) -> None:
        if self.bridge is not None:
            self.bridge.uplink += lines
            self.bridge.wake()
        elif lines:
            self.log += lines
            for peer in self.peers:
                peer.wake()
        new = self.log[self._position :] if self.listens else []
        self._position = len(self.log)
        own = sum(line.sender.worker == self.number for line in new)
        # If there is only one new line, its sender receives nothing.
        alone = len(new) == own == 1
        sizes = shares(self.members - alone, CHUNKS) if new else []
        self._send(deque(size for size in sizes if size), new, 0 if alone else own)

    def _send(self, sizes: deque[int], new: list[Line], own: int) -> None:
        """Send the lines `new` to the next chunk of members.

        own: number of the new lines whose senders are members of this worker. A sender does not
        receive its own line, so these deliveries are subtracted from those of the last chunk.
        """
        if not sizes:
            self._next()
            return
        count = sizes.popleft()
        deliveries = len(new) * count
        if not sizes:
            deliveries -= own
        self._work(
            lambda: self._sent(sizes, new, own, count, deliveries),
            send=count,
            byte=LINE * deliveries,
        )

    def _sent(
        self, sizes: deque[int], new: list[Line], own: int, count: int, deliveries: int
    ) -> None:
        self._room.deliver(count, deliveries, new)
        self._send(sizes, new, own)


class Round:
    """The number of members, or of nodes, that send at the same time. As in the bridge, the size is
    the number of senders before the first one of them sends again; a line alone halves it."""

    def __init__(self) -> None:
        self.size = 1
        self._senders: set[int] = set()

    def note(self, senders: set[int], alone: bool) -> None:
        if alone:
            self.size = max(1, self.size // 2)
        elif self._senders.isdisjoint(senders):
            self._senders |= senders
        else:
            self.size = len(self._senders)
            self._senders = senders


class Bridge(Process):
    """The bridge of a node."""

    def __init__(self, room: Room, number: int, workers: list[Worker], log: list[Line]) -> None:
        super().__init__(room)
        self.number = number
        self.uplink: list[Line] = []
        self.arrived: deque[tuple[Bridge, list[Line]]] = deque()
        self._workers = workers
        self._log = log
        self._under_way = False
        self._follow_next = True
        """True if an arrived publication comes before a publication of this node."""
        self._members, self._nodes = Round(), Round()
        self._gather_until: float | None = None
        """Time at which the bridge publishes, even if the round is not complete; None if it does
        not wait for a round."""
        self._unrung = 0
        """Number of publications in the log since the workers were woken."""

    def receive(self, publisher: Bridge, lines: list[Line]) -> None:
        """Receive a publication from the engine."""
        self.arrived.append((publisher, lines))
        self.wake()

    def acknowledged(self) -> None:
        if not self._room.setup.clocked:
            self._under_way = False
            self.wake()

    def _next(self) -> None:
        can_publish = bool(self.uplink) and not self._under_way and self._has_gathered()
        if self.arrived and (self._follow_next or not can_publish):
            self._follow_next = False
            publisher, lines = self.arrived.popleft()
            self._work(lambda: self._append(publisher, lines), follow=1, relay=len(lines))
        elif can_publish:
            self._follow_next = True
            self._under_way = True
            self._gather_until = None
            lines, self.uplink = self.uplink[:PUBLICATION], self.uplink[PUBLICATION:]
            senders = {line.sender.number for line in lines}
            self._members.note(senders, len(senders) < 2)
            self._work(lambda: self._publish(lines), publish=1)
        else:
            self._sleep()

    def _has_gathered(self) -> bool:
        """Return True if a whole round waits in the uplink, or the time to wait for it is over."""
        clock, size = self._room.clock, self._members.size
        if len(self.uplink) >= size:
            return True
        if self._gather_until is None:
            within = min(GATHER * size, MAX_GATHER)
            self._gather_until = clock.now + within
            clock.after(within, self.wake)
        return clock.now >= self._gather_until

    def _publish(self, lines: list[Line]) -> None:
        self._room.clock.after(
            self._room.setup.delay, lambda: self._room.engine.receive(self, lines)
        )
        self._next()

    def _append(self, publisher: Bridge, lines: list[Line]) -> None:
        self._log += lines
        self._nodes.note({publisher.number}, len({line.sender.number for line in lines}) < 2)
        self._unrung += 1
        if self._unrung >= self._nodes.size:
            self._ring()
        elif self._unrung == 1:
            self._room.clock.after(RING_AFTER, self._ring)
        if publisher is self and self._room.setup.clocked:
            self._under_way = False
        self._next()

    def _ring(self) -> None:
        if self._unrung:
            self._unrung = 0
            for worker in self._workers:
                worker.wake()


class Engine(Process):
    """The engine."""

    def __init__(self, room: Room) -> None:
        super().__init__(room)
        self._queue: deque[tuple[Bridge, list[Line]]] = deque()

    def receive(self, publisher: Bridge, lines: list[Line]) -> None:
        self._queue.append((publisher, lines))
        self.wake()

    def _next(self) -> None:
        if not self._queue:
            self._sleep()
            return
        publisher, lines = self._queue.popleft()
        stored = partial(self._stored, publisher, lines)
        self._work(stored, store=1, engine_byte=LINE * len(lines))

    def _stored(self, publisher: Bridge, lines: list[Line]) -> None:
        """Acknowledge a publication and send it to each node, all at the same time."""
        room = self._room
        room.clock.after(room.setup.delay, publisher.acknowledged)
        for bridge in room.bridges:
            pushed = partial(self._pushed, bridge, publisher, lines)
            self._work(pushed, push=1, engine_byte=LINE * len(lines))
        self._next()

    def _pushed(self, bridge: Bridge, publisher: Bridge, lines: list[Line]) -> None:
        self._room.clock.after(self._room.setup.delay, partial(bridge.receive, publisher, lines))


class Load(Process):
    """The load generator of `harness bench`."""

    def __init__(self, room: Room) -> None:
        super().__init__(room)
        self._to_send: deque[Member] = deque()
        """Members that have a line to send."""
        self._received: deque[tuple[int, int, list[Line]]] = deque()
        """Number of reads, number of deliveries, and lines of each piece of data to receive."""
        self.lacking = 0
        """Number of deliveries until the end of the round."""
        self.blocks = False
        """True in a stream, in which a client sends many lines at once."""
        self.on_round: Callable[[], None] = lambda: None

    def say(self, members: list[Member]) -> None:
        self._to_send += members
        self.wake()

    def receive(self, count: int, deliveries: int, lines: list[Line]) -> None:
        self._received.append((count, deliveries, lines))
        self.wake()

    def _next(self) -> None:
        if self._to_send:
            count = min(READ, len(self._to_send))
            members = [self._to_send.popleft() for _ in range(count)]
            # A line is due when the load generator begins to send it.
            lines = [Line(self._room.clock.now, member) for member in members]
            # In a stream, one client sends a block of lines at once. Otherwise, a client sends one
            # line.
            sends = 1 if self.blocks else count
            self._work(lambda: self._said(lines), load_send=sends)
        elif self._received:
            count, deliveries, lines = self._received.popleft()
            work = {"load_receive": count, "load_byte": LINE * deliveries}
            self._work(lambda: self._got(deliveries, lines), **work)
        else:
            self._sleep()

    def _said(self, lines: list[Line]) -> None:
        for line in lines:
            self._room.say(line)
        self._next()

    def _got(self, deliveries: int, lines: list[Line]) -> None:
        self._room.note(deliveries, lines)
        self.lacking -= deliveries
        if self._room.in_rounds and not self.lacking:
            self.on_round()
        self._next()


class Room:
    """A room, with all its processes."""

    def __init__(self, setup: Setup, costs: Costs, is_bench: bool = True) -> None:
        """Set up all processes.

        is_bench: True if the members are those of a load generator on the same machine. Otherwise,
        the members are remote, and only the deliveries of LISTENING workers are simulated, because
        all workers do the same.
        """
        self.setup = setup
        self.clock = Clock()
        self.cores = Cores(self.clock, setup.cores)
        self.prices: dict[str, float] = vars(costs)
        self.counts: dict[str, float] = dict.fromkeys(self.prices, 0)
        self.latencies: Counter[int] = Counter()
        """Number of deliveries by latency in steps of 10 µs."""
        self.in_rounds = False
        self.engine = Engine(self)
        self.workers: list[Worker] = []
        self.bridges: list[Bridge] = []
        self.load = Load(self) if is_bench else None
        for members in shares(setup.members, max(1, setup.nodes)):
            self._add_node(members)
        if not is_bench:
            for worker in self.workers[LISTENING:]:
                worker.listens = False

    def _add_node(self, members: int) -> None:
        log: list[Line] = []
        workers = [
            Worker(self, len(self.workers) + number, share, log)
            for number, share in enumerate(spread(members, self.setup.workers))
        ]
        bridge = Bridge(self, len(self.bridges), workers, log) if self.setup.nodes else None
        for worker in workers:
            worker.peers, worker.bridge = workers, bridge
        self.workers += workers
        self.bridges += [bridge] if bridge else []

    def say(self, line: Line) -> None:
        worker = self.workers[line.sender.worker]
        worker.inbox.append(line)
        worker.wake()

    def deliver(self, count: int, deliveries: int, lines: list[Line]) -> None:
        """Deliver lines to `count` members. `deliveries` leaves out a member's own lines."""
        if self.load is None:
            self.note(deliveries, lines)
        else:
            self.load.receive(count, deliveries, lines)

    def note(self, deliveries: int, lines: list[Line]) -> None:
        """Count the latencies of deliveries, with the same number for each line. Do nothing in
        rounds."""
        if self.in_rounds:
            return
        for line in lines:
            step = round((self.clock.now - line.due) * 1e5)
            self.latencies[step] += max(1, deliveries // len(lines))

    def latency(self, part: float) -> float:
        """Return a percentile of the latencies, in seconds."""
        left = part * self.latencies.total()
        for step in sorted(self.latencies):
            left -= self.latencies[step]
            if left <= 0:
                return step / 1e5
        return 0.0

    def senders(self) -> list[Member]:
        """Return the members. In this order, the workers take turns."""
        each = [[worker.number] * worker.members for worker in self.workers]
        workers = [
            number for row in itertools.zip_longest(*each) for number in row if number is not None
        ]
        return [Member(worker, number) for number, worker in enumerate(workers)]


def shares(total: int, parts: int) -> list[int]:
    """Divide `total` into `parts` numbers that differ by at most 1."""
    return [total // parts + (number < total % parts) for number in range(parts)]


def spread(members: int, workers: int) -> list[int]:
    """Return the number of members of each worker of a node.

    In a small room, a worker gets PACK members before the next worker gets any. In a large room,
    the members are divided evenly.
    """
    if members > PACK * workers:
        return shares(members, workers)
    return [max(0, min(PACK, members - PACK * number)) for number in range(workers)]


def play_rounds(setup: Setup, costs: Costs, speakers: int, lines: int, rounds: int) -> Room:
    """Simulate rounds of `harness bench`: each of `speakers` members sends `lines` lines."""
    room = Room(setup, costs)
    load = room.load
    assert load is not None
    room.in_rounds = True
    load.blocks = lines > 1
    played = 0

    def begin() -> None:
        nonlocal played
        played += 1
        if played <= rounds:
            load.lacking += speakers * lines * (setup.members - 1)
            load.say(room.senders()[:speakers] * lines)

    load.on_round = begin
    begin()
    room.clock.run(lambda: played > rounds)
    return room


def play_schedule(
    setup: Setup, costs: Costs, rate: float, seconds: float, is_bench: bool, seed: int = 1
) -> Room:
    """Simulate `rate` lines per second, for `seconds`.

    The lines are sent at equal intervals if `is_bench`, otherwise at random times.
    """
    room = Room(setup, costs, is_bench)
    chance = random.Random(seed)
    senders = room.senders()

    def say(number: int = 0) -> None:
        sender = senders[number % len(senders)] if is_bench else chance.choice(senders)
        if room.load is not None:
            room.load.say([sender])
        else:
            room.say(Line(room.clock.now, sender))
        delay = 1 / rate if is_bench else chance.expovariate(rate)
        if room.clock.now + delay < seconds:
            room.clock.after(delay, lambda: say(number + 1))

    say()
    room.clock.run(lambda: room.clock.now >= seconds)
    return room
