"""Random sequences of clients' actions in a real room, in which the judge must find no violation.

Hypothesis draws the steps. Clients join, send messages in one or two parts, and leave in several
ways. In one test, workers are killed. The events are recorded and judged as in a simulation.
"""

import contextlib
import random
import select
import signal
import socket
import struct
from collections.abc import Collection, Iterator
from itertools import count
from time import monotonic
from typing import ClassVar

import psutil
import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    multiple,
    rule,
    run_state_machine_as_test,
)
from hypothesis.strategies import integers, sampled_from

from harness import profile
from harness.simulation.history import VERSION, Event, History, as_text
from harness.simulation.judge import judge
from harness.simulation.judge.facts import MAY_FLUSH
from harness.simulation.scenario.scenario import ALPHABETS
from harness.simulation.scenario.vocabulary import harmless, name_of, payload, token
from harness.target.target import Command
from tests.harness.simulation.recording import CHATROOM, REFERENCE

pytestmark = pytest.mark.timeout(240)  # each example connects clients to a real server

WELCOME = b"Welcome to socket practice\n"
PATIENCE = 20.0
_HOSTS = count()
"""Numbers of the clients' addresses. No address is used twice."""
PEOPLE = 12
"""Maximum number of clients at the same time."""


class Person:
    """A client's connection, whose events are recorded."""

    def __init__(self, visit: "Visit", number: int) -> None:
        self.number = number
        host = next(_HOSTS)
        self.address = f"127.{host // 62_500 + 2}.{host // 250 % 250}.{host % 250 + 2}"
        visit.prefixes.add(b"<%s>" % self.address.encode())
        self._visit = visit
        self._said = 0
        self._heard = b""
        self._rest: tuple[str, bytes, float] | None = None
        """Message that is partly sent: its name, the rest, and the time of the first part."""
        self.here = True
        self.heard: set[str] = set()
        self.sent: list[tuple[float, str]] = []
        """Messages that were sent without a long pause between their parts: time and name."""
        self._record(what="connects", population="people", address=self.address, link=None)
        self.socket = socket.socket()
        self.socket.settimeout(PATIENCE)
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.socket.bind((self.address, 0))
        self.socket.connect(visit.target.address)
        self._record(what="connected", port=self.socket.getsockname()[1])
        while len(self._heard) < len(WELCOME):
            self._heard += self.socket.recv(len(WELCOME) - len(self._heard))
        assert self._heard == WELCOME
        self._heard = b""
        self._record(what="welcomed")
        self.since = visit.now()
        self.socket.setblocking(False)

    def _record(self, **event: object) -> None:
        self._visit.record({"who": self.number, **event})

    def begin(self, text: bytes, part: int, *, final: bool = False) -> str:
        """Send the first `part` bytes of a message; return the message's name."""
        text = token(self.number, self._said) + text
        name = name_of(self.number, self._said)
        self._said += 1
        self._visit.names[b"<%s>%s" % (self.address.encode(), harmless(text))] = name
        now = self._visit.now()
        more = {"final": True} if final else {}
        self._record(says=name, due=now, lag=0.0, text=as_text(text), **more)
        line = text + b"\n"
        cut = min(part, len(line))
        self._send(line[:cut])
        self._rest = name, line[cut:], now
        if cut == len(line):
            self.end()
        return name

    def end(self) -> None:
        """Send the rest of a message that is partly sent, if there is one."""
        if self._rest is None:
            return
        name, rest, begun = self._rest
        self._rest = None
        self._send(rest)
        gap = self._visit.now() - begun if rest else 0.0
        self._record(sent=name, gap=gap)
        if gap < MAY_FLUSH / 2:
            self.sent.append((begun, name))

    def _send(self, data: bytes) -> None:
        with contextlib.suppress(ConnectionError):
            self.socket.sendall(data)

    def hear(self) -> None:
        """Record the lines that have arrived."""
        data = b""
        with contextlib.suppress(BlockingIOError, ConnectionError):
            while more := self.socket.recv(1 << 16):
                data += more
            self._record(what="ended", how="closed")
            self.here = False
        *lines, self._heard = (self._heard + data).split(b"\n")
        # Messages of an earlier example may arrive late. Their prefixes are not in `prefixes`.
        lines = [line for line in lines if line[: line.find(b">") + 1] in self._visit.prefixes]
        if not lines:
            return
        heard = [self._visit.names.get(line, {"line": as_text(line)}) for line in lines]
        self._record(hears=heard)
        self.heard |= {name for name in heard if isinstance(name, str)}

    def leave(self, how: str) -> None:
        self.hear()
        self._record(what="leaves", how=how)
        if how == "half-close":
            with contextlib.suppress(OSError):
                self.socket.shutdown(socket.SHUT_WR)
            deadline = monotonic() + PATIENCE
            while self.here:
                assert monotonic() < deadline, "the room does not close its side"
                select.select([self.socket], [], [], 0.1)
                self.hear()
        if how == "reset":
            linger = struct.pack("ii", 1, 0)
            self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        else:
            self._visit.owed += self.sent
        self.here = False
        self.socket.close()


class Visit:
    """The clients of one Hypothesis example, and its history."""

    def __init__(self, target: Command) -> None:
        self.target = target
        self.names: dict[bytes, str] = {}
        self.prefixes: set[bytes] = set()
        self.people: list[Person] = []
        self.owed: list[tuple[float, str]] = []
        """Messages of clients that have closed. They must still be delivered (LEAVE-2)."""
        self._start = monotonic()
        self._events: list[Event] = []

    def now(self) -> float:
        return monotonic() - self._start

    def record(self, event: Event) -> None:
        self._events.append({"t": self.now(), **event})

    def join(self) -> Person:
        person = Person(self, len(self.people))
        self.people.append(person)
        return person

    def present(self) -> list[Person]:
        return [person for person in self.people if person.here]

    def finish(self) -> History:
        """Send a final message of each client, and close all connections.

        Before that, each client must have received the final messages of the other clients, and
        the messages of clients that have left.
        """
        for person in self.present():
            person.end()
        here = self.present()
        last = {person: person.begin(b"that was all", 99, final=True) for person in here}

        def lacking() -> bool:
            return any(
                {*last.values(), *(name for t, name in self.owed if t > person.since)}
                - {last[person]}
                - person.heard
                for person in here
                if person.here
            )

        deadline = monotonic() + PATIENCE
        while lacking() and monotonic() < deadline:
            select.select([person.socket for person in here if person.here], [], [], 0.1)
            for person in here:
                if person.here:
                    person.hear()
        for person in here:
            person.socket.close()
        header = {"history": VERSION, "scenario": "random steps"}
        return History(header, self._events, "complete")


@pytest.fixture(scope="module", name="room")
def fixture_room() -> Iterator[Command]:
    target = Command(f"{CHATROOM} --rate 0 --room-rate 0")
    target.start()
    yield target
    target.stop()


class Steps(RuleBasedStateMachine):
    """The steps that Hypothesis may draw. `people` are the clients that have not left."""

    target: ClassVar[Command]
    people = Bundle("people")

    def __init__(self) -> None:
        super().__init__()
        self.visit = Visit(self.target)
        self._seeds = count()

    @rule(target=people)
    def join(self) -> object:
        if len(self.visit.present()) == PEOPLE:
            return multiple()
        return self.visit.join()

    @rule(
        person=people,
        alphabet=sampled_from(ALPHABETS),
        size=integers(0, 300),
        part=integers(1, 300),
    )
    def say(self, person: Person, alphabet: str, size: int, part: int) -> None:
        """Send a message, or only its first `part` bytes."""
        person.end()
        person.begin(payload(random.Random(next(self._seeds)), alphabet, size), part)

    @rule(person=people)
    def say_the_rest(self, person: Person) -> None:
        person.end()

    @rule(person=people)
    def hear(self, person: Person) -> None:
        person.hear()

    @rule(person=consumes(people), how=sampled_from(["close", "reset", "half-close"]))
    def leave(self, person: Person, how: str) -> None:
        person.leave(how)

    def teardown(self) -> None:
        history = self.visit.finish()
        judgement = judge(history, profile.load(profile.DEFAULT))
        assert judgement.violations == []


class DeadlySteps(Steps):
    """The steps of `Steps`, and a step that kills a worker."""

    @rule(which=integers(0, 3))
    def kill(self, which: int) -> None:
        workers = self.target.roles().workers
        if workers:
            with contextlib.suppress(psutil.Error):
                workers[which % len(workers)].send_signal(signal.SIGKILL)


def visits(
    steps: type[Steps], target: Command, examples: int, phases: Collection[Phase] = (*Phase,)
) -> None:
    steps.target = target
    run_state_machine_as_test(
        steps,
        settings=settings(
            max_examples=examples,
            stateful_step_count=25,
            deadline=None,
            suppress_health_check=[*HealthCheck],
            print_blob=False,
            phases=phases,
        ),
    )


def test_any_sequence_of_steps_delivers_every_message(room: Command) -> None:
    visits(Steps, room, 20)


def test_load_4_deaths_of_workers_lose_nothing_in_any_sequence(room: Command) -> None:
    visits(DeadlySteps, room, 5)


def test_a_broken_server_is_found() -> None:
    target = Command(f"{REFERENCE} --broken echoes")
    target.start()
    try:
        with pytest.raises(AssertionError):
            visits(Steps, target, 20, [Phase.generate])  # no shrinking, to save time
    finally:
        target.stop()
