"""The random plan of a run: joins, messages, leaves and faults. Pure.

A plan is made from a scenario and a seed. The same scenario and seed give exactly the same plan.
All times are in seconds since the run's start. They do not depend on the target's behaviour.

A *session* is one connection. A client that leaves and comes back has another session from
the same address. Sessions are numbered from 0 in the order of their arrival.
"""

from __future__ import annotations

import random
from collections.abc import Iterator
from dataclasses import dataclass, field, replace

from harness.simulation.scenario import names
from harness.simulation.scenario.scenario import Fault, Link, Phase, Population, Range, Scenario
from harness.simulation.scenario.vocabulary import name_of, payload, token

FINALS = 20
"""Maximum number of sessions that send a final message. When a client has received the final
message of a session, all earlier messages of this session have arrived or are lost."""

CALM = 0.5
"""Seconds between the last message or fault and the final messages."""


@dataclass(frozen=True)
class Say:
    """A message that a session sends.

    due: time at which to send its first byte. number: number of the message in its session. text:
    without its LF. cuts: offsets in bytes at which the text is cut into pieces. pauses: seconds to
    wait after each piece except the last. final: true for the final message of a session.
    """

    due: float
    number: int
    text: bytes
    cuts: tuple[int, ...] = ()
    pauses: tuple[float, ...] = ()
    final: bool = False


@dataclass
class Session:
    """A connection of a client.

    arrives: time at which the client connects. leaves: time at which the client leaves; None if it
    stays. how: way to leave. link: index in the plan's `links`; None if the client connects to the
    target directly. name: name of the client, a different one at each of its visits.
    """

    number: int
    population: str
    address: str
    arrives: float
    leaves: float | None
    how: str
    link: int | None
    name: str = ""
    says: list[Say] = field(default_factory=list)

    def name_of(self, say: Say) -> str:
        """Return the name of a message, as used in its token and in the history."""
        return name_of(self.number, say.number)


@dataclass(frozen=True)
class ScheduledFault:
    """A fault of the target at a certain time. seconds: duration of a stop; 0 for other kinds."""

    due: float
    kind: str
    seconds: float


@dataclass(frozen=True)
class Plan:
    scenario: Scenario
    seed: int
    sessions: list[Session]
    faults: list[ScheduledFault]
    links: list[Link]
    talk: float
    """Time by which all messages except the final messages should have been sent."""


def plan(scenario: Scenario, seed: int) -> Plan:
    """Return the plan for a scenario and a seed.

    Each client and each fault has its own random generator, so that a change of one client does not
    change the others.
    """
    sessions: list[Session] = []
    links: list[Link] = []
    hosts = _addresses()
    clients: list[list[Session]] = []
    for population in scenario.populations:
        link = None
        if population.link is not None:
            link = len(links)
            links.append(population.link)
        shared = [next(hosts) for _ in range(population.addresses or population.clients)]
        for person in range(population.clients):
            chance = random.Random(f"{seed} {population.name} {person}")
            address = shared[person % len(shared)]
            if visits := [*_visits(scenario, population, chance, address, link)]:
                clients.append(visits)
    clients.sort(key=lambda visits: visits[0].arrives)
    for person, visits in enumerate(clients):
        for visit, session in enumerate(visits, 1):
            session.name = names.name_of(person, visit)
        sessions += visits
    sessions.sort(key=lambda session: session.arrives)
    for number, session in enumerate(sessions):
        session.number = number
        session.says = [
            replace(say, text=token(number, say.number) + say.text) for say in session.says
        ]
    faults = sorted(
        (
            scheduled
            for number, fault in enumerate(scenario.faults)
            for scheduled in _schedule(
                fault, scenario.seconds, random.Random(f"{seed} fault {number}")
            )
        ),
        key=lambda scheduled: scheduled.due,
    )
    talk = max(
        [
            scenario.seconds,
            *(say.due + sum(say.pauses) for session in sessions for say in session.says[-1:]),
            *(scheduled.due + scheduled.seconds for scheduled in faults),
        ]
    )
    _add_final_messages(sessions, talk + CALM)
    return Plan(scenario, seed, sessions, faults, links, talk)


def _addresses() -> Iterator[str]:
    """Yield the loopback addresses of this machine, from 127.0.0.2 on."""
    for number in range(2, 1 << 22):
        yield f"127.{number >> 16 & 255}.{number >> 8 & 255}.{number & 255}"


def _visits(
    scenario: Scenario,
    population: Population,
    chance: random.Random,
    address: str,
    link: int | None,
) -> Iterator[Session]:
    """Yield the sessions of one client, in order of time."""
    begin, end = 0.0, scenario.seconds
    for phase in scenario.phases:
        if phase.name == population.phase:
            end = begin + phase.seconds
            break
        begin += phase.seconds
    if not population.phase:
        begin = 0.0
    arrives = begin + (end - begin) * chance.uniform(*population.arrives)
    while arrives < scenario.seconds or arrives == 0:
        leaves = None
        if population.stays is not None:
            leaves = arrives + chance.uniform(*population.stays)
            if leaves >= scenario.seconds:
                leaves = None
        session = Session(
            0, population.name, address, arrives, leaves, chance.choice(population.leaves), link
        )
        until = scenario.seconds if leaves is None else leaves
        session.says = [*_says(scenario.phases, population, chance, arrives, until)]
        yield session
        if leaves is None or not population.returns:
            return
        arrives = leaves + chance.uniform(*population.away)


def _says(
    phases: tuple[Phase, ...],
    population: Population,
    chance: random.Random,
    arrives: float,
    until: float,
) -> Iterator[Say]:
    """Yield the messages of a session.

    They have no tokens yet, because a token contains the session's number, which is not known yet.
    """
    number = 0
    begin = free = 0.0  # free: time at which the last piece of the previous message is sent
    for phase in phases:
        end = begin + phase.seconds
        rate = population.rate * phase.rate
        due = max(begin, arrives)
        if rate:
            # Clients with a fixed interval do not all begin at the same time.
            due += chance.random() / rate if population.timing == "evenly" else _gap(chance, rate)
        while rate and due < min(end, until):
            for _ in range(population.burst):
                say = _say(population, chance, max(due, free), number)
                free = say.due + sum(say.pauses)
                if free < until:
                    yield say
                    number += 1
            due += 1 / rate if population.timing == "evenly" else _gap(chance, rate)
        begin = end


def _gap(chance: random.Random, rate: float) -> float:
    return chance.expovariate(rate)


def _say(population: Population, chance: random.Random, due: float, number: int) -> Say:
    size = _whole(chance, population.size)
    text = payload(chance, chance.choice(population.alphabets), size)
    pieces = _whole(chance, population.pieces)
    cuts = sorted({chance.randint(1, len(text) + 4) for _ in range(pieces - 1)})
    return Say(
        due,
        number,
        text,
        tuple(cuts),
        tuple(chance.uniform(*population.pause) for _ in cuts),
    )


def _whole(chance: random.Random, bounds: Range) -> int:
    return chance.randint(round(bounds[0]), round(bounds[1]))


def _schedule(fault: Fault, seconds: float, chance: random.Random) -> Iterator[ScheduledFault]:
    if fault.every is None:
        times = [place * seconds for place in fault.at]
    else:
        times = []
        due = chance.uniform(*fault.every)
        while due < seconds:
            times.append(due)
            due += chance.uniform(*fault.every)
    for due in times:
        lasts = chance.uniform(*fault.seconds) if fault.kind.startswith("stop") else 0.0
        yield ScheduledFault(due, fault.kind, lasts)


def _add_final_messages(sessions: list[Session], due: float) -> None:
    """Add a final message to some sessions that stay until the end.

    These are the sessions that send most bytes, because their last messages may arrive latest.
    """
    stay = [session for session in sessions if session.leaves is None and session.link is None]
    stay.sort(key=lambda session: -sum(len(say.text) for say in session.says))
    for session in stay[:FINALS]:
        number = len(session.says)
        text = token(session.number, number) + b"that was all"
        session.says.append(Say(due, number, text, final=True))
