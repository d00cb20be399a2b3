"""What a scenario says: who takes part, what they do, and what goes wrong. Pure.

A scenario is TOML: `about`, how long it lasts (`seconds`, or `[[phase]]`s), one
`[[population]]` for each kind of people, and `[[fault]]`s of the target. Every
key is checked; a complaint names the key and says what it may be. See
`Population`, `Link`, `Fault` and `Phase` for the keys: their names are the fields'.

Times that say *where* in the run something happens (`arrives`, `at`) stretch with
the run's length; times that say *how long* or *how often* do not.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from harness.toml_reader import (
    TomlFiles,
    interval,
    number,
    numbers,
    one_of,
    some_of,
    table,
    tables,
    text,
    truth,
    whole,
)

FOLDER = Path(__file__).parents[2] / "scenarios"
"""The folder of the scenarios that ship."""

_FILES = TomlFiles("scenario", FOLDER)

names = _FILES.names

ALPHABETS = ("ascii", "cjk", "emoji", "rtl", "hostile")
LEAVINGS = ("close", "reset", "half-close")
LINK_FAULTS = ("slow", "stall", "drip", "delay", "cut-off", "reset", "half-close")
TARGET_FAULTS = ("kill-worker", "kill-workers", "stop-worker", "stop", "hangup", "restart")

MOST_CLIENTS = 20_000
MOST_SECONDS = 86_400.0

USUAL_SECONDS = 10.0
"""The length of a run, in seconds, where the file says nothing of it."""

Range = tuple[float, float]
"""From the first to the second, both included, drawn evenly; written as a number or a pair."""

_places = numbers("a part of the run from 0 to 1, or a list of them", 0, 1)


@dataclass(frozen=True)
class Link:
    """A bad network between a population and the target: one fault for each connection.

    after: seconds from the connection's beginning to the fault's.
    seconds: how long `slow`, `stall`, `drip` and `delay` last; absent: to the end.
    bytes_per_second: of `slow`. pause: seconds between two bytes of a `drip`.
    held: seconds for which a `delay` holds what goes either way.
    """

    fault: Annotated[str, one_of(LINK_FAULTS)]
    after: Annotated[Range, interval(0, MOST_SECONDS)] = (0.0, 0.0)
    seconds: Annotated[Range | None, interval(0, MOST_SECONDS)] = None
    bytes_per_second: Annotated[float, number(1, 1e9)] = 1024.0
    pause: Annotated[Range, interval(0, 60)] = (0.01, 0.01)
    held: Annotated[Range, interval(0, 60)] = (0.05, 0.05)


@dataclass(frozen=True)
class Population:
    """People of one kind.

    clients: how many. addresses: of how many addresses they come: 0 is one each.
    phase: the phase in which they arrive; empty: the whole run.
    arrives: where in it each arrives, in parts of it: [0, 0.5] is its first half.
    rate: times a second that each of them says something, by a schedule that does
    not wait; 0: they listen. timing: `evenly`, or `at-random` (Poisson).
    burst: messages that are said at once, each such time.
    size: characters of a message. alphabets: of which one is drawn for each.
    pieces: how many segments a message is cut into, anywhere; pause: seconds
    between two of them.
    stays: seconds until one leaves; absent: to the end. leaves: how, one is drawn.
    returns: whether who has left comes back; away: seconds until then.
    """

    name: Annotated[str, text]
    clients: Annotated[int, whole(1, MOST_CLIENTS)]
    addresses: Annotated[int, whole(0, MOST_CLIENTS)] = 0
    phase: Annotated[str, text] = ""
    arrives: Annotated[Range, interval(0, 1)] = (0.0, 0.0)
    rate: Annotated[float, number(0, 10_000)] = 0.0
    timing: Annotated[str, one_of(("evenly", "at-random"))] = "at-random"
    burst: Annotated[int, whole(1, 10_000)] = 1
    size: Annotated[Range, interval(0, 2000)] = (20.0, 80.0)
    alphabets: Annotated[tuple[str, ...], some_of(ALPHABETS)] = ("ascii",)
    pieces: Annotated[Range, interval(1, 1000)] = (1.0, 1.0)
    pause: Annotated[Range, interval(0, 60)] = (0.0, 0.02)
    stays: Annotated[Range | None, interval(0, MOST_SECONDS)] = None
    leaves: Annotated[tuple[str, ...], some_of(LEAVINGS)] = ("close",)
    returns: Annotated[bool, truth] = False
    away: Annotated[Range, interval(0, MOST_SECONDS)] = (0.5, 2.0)
    link: Annotated[Link | None, table(Link)] = None


@dataclass(frozen=True)
class Fault:
    """Something that is done to the target, where it is a command.

    kind: `kill-worker` (SIGKILL of one process that holds clients), `kill-workers`
    (of all those at once), `stop-worker` (SIGSTOP of one, SIGCONT after `seconds`),
    `stop` (of all its processes), `hangup` (SIGHUP to its first process), `restart`
    (it is ended and started again on the same port).
    at: where in the run, in parts of it; every: or so many seconds apart, drawn anew
    each time, from the first such pause on. seconds: how long a stop lasts.
    """

    kind: Annotated[str, one_of(TARGET_FAULTS)]
    at: Annotated[tuple[float, ...], _places] = ()
    every: Annotated[Range | None, interval(0.05, MOST_SECONDS)] = None
    seconds: Annotated[Range, interval(0, MOST_SECONDS)] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if bool(self.at) == (self.every is not None):
            raise ValueError("at or `every` has to be there, and not both")


@dataclass(frozen=True)
class Phase:
    """A part of the run. rate: by which all rates are multiplied in it."""

    name: Annotated[str, text]
    seconds: Annotated[float, number(0.1, MOST_SECONDS)]
    rate: Annotated[float, number(0, 1000)] = 1.0


@dataclass(frozen=True)
class Scenario:
    name: str
    about: str
    phases: tuple[Phase, ...]
    populations: tuple[Population, ...]
    faults: tuple[Fault, ...] = ()

    @property
    def seconds(self) -> float:
        """How long people talk; then it is waited until all have heard all."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def clients(self) -> int:
        return sum(population.clients for population in self.populations)

    def lasting(self, seconds: float) -> Scenario:
        """The same, stretched or shortened to so many seconds."""
        factor = seconds / self.seconds
        phases = tuple(
            dataclasses.replace(phase, seconds=phase.seconds * factor) for phase in self.phases
        )
        return dataclasses.replace(self, phases=phases)

    def peopled(self, clients: int) -> Scenario:
        """The same with so many clients, each population its share, and at least one."""
        factor = clients / self.clients
        shares = [max(1, round(population.clients * factor)) for population in self.populations]
        shares[shares.index(max(shares))] += clients - sum(shares)
        if min(shares) < 1:
            raise ValueError(
                f"{self.name}: needs {len(shares)} clients or more, one for each population"
            )
        populations = tuple(
            dataclasses.replace(population, clients=share)
            for population, share in zip(self.populations, shares, strict=True)
        )
        return dataclasses.replace(self, populations=populations)


@dataclass(frozen=True)
class _File:
    """What a file says, by its keys."""

    about: Annotated[str, text]
    phase: Annotated[tuple[Phase, ...], tables(Phase)] = ()
    seconds: Annotated[float | None, number(0.1, MOST_SECONDS)] = None
    population: Annotated[tuple[Population, ...], tables(Population)] = ()
    fault: Annotated[tuple[Fault, ...], tables(Fault)] = ()

    def __post_init__(self) -> None:
        if self.phase and self.seconds is not None:
            raise ValueError("seconds can't be there where there are phases, which have their own")
        if not self.population:
            raise ValueError("population has to be there, once at least: [[population]]")
        phases = [phase.name for phase in self.phase]
        for population in self.population:
            if population.phase and population.phase not in phases:
                raise ValueError(
                    f"population {population.name!r}: phase has to be one of "
                    f"{', '.join(phases) or 'none: there are no phases'}, not {population.phase!r}"
                )
        for key, named in (("population", self.population), ("phase", self.phase)):
            if len({each.name for each in named}) < len(named):
                raise ValueError(f"{key} has to have names that differ")
        if sum(population.clients for population in self.population) > MOST_CLIENTS:
            raise ValueError(f"population there may be {MOST_CLIENTS} clients in all")


def load(name: str) -> Scenario:
    """Return a scenario that ships, by name, or one in a file. Raise TomlError."""
    return parse(_FILES.text(name), _FILES.find(name).stem)


def parse(text: str, name: str) -> Scenario:
    """Return the scenario of that name that the text describes. Raise TomlError."""
    file = _FILES.parse(_File, text, name)
    phases = file.phase or (Phase("", file.seconds or USUAL_SECONDS),)
    return Scenario(name, file.about, phases, file.population, file.fault)
