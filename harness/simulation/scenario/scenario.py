"""A scenario: the clients, their actions, and the faults. Pure.

A scenario is a TOML file with these keys. `about`: a description. `seconds`: the length of the run;
or `[[phase]]` tables, each with its own length. `[[population]]`: a table for each kind of client,
with the fields of `Population`; its table `link` has the fields of `Link`. `[[fault]]`: a table for
each fault of the target. `reach`: a list of pairs `FAULT while MOMENT` that a run must reach; FAULT
is one of STRIKES, and MOMENT is one of MOMENTS. All keys are checked; an error message names the
key and its valid values.

The keys `arrives` and `at` are fractions from 0 to 1: `at` of the run's length, `arrives` of the
length of the population's phase, or of the run if no phase is given. All other times are in
seconds, and do not change when the length of the run is changed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from harness.toml_reader import (
    TomlFiles,
    interval,
    number,
    numbers,
    one_of,
    parser,
    some_of,
    table,
    tables,
    text,
    truth,
    whole,
)

FOLDER = Path(__file__).parents[2] / "scenarios"
"""Folder of the scenarios of the harness."""

_FILES = TomlFiles("scenario", FOLDER)

names = _FILES.names

ALPHABETS = ("ascii", "cjk", "emoji", "rtl", "hostile")
LEAVINGS = ("close", "reset", "half-close")
LINK_FAULTS = ("slow", "stall", "drip", "delay", "cut-off", "reset", "half-close")
TARGET_FAULTS = (
    "kill-worker",
    "kill-workers",
    "stop-worker",
    "kill-engine",
    "stop-engine",
    "kill-bridge",
    "stop",
    "hangup",
    "restart",
)

WORKER_FAULTS = (
    "kill-worker",
    "kill-workers",
    "kill-engine",
    "stop-engine",
    "kill-bridge",
    "hangup",
)
"""Faults of the target that a server survives only if it can replace its workers (LOAD-4), and its
engine and bridges."""

STRIKES = (*LEAVINGS, "cut-off", *TARGET_FAULTS)
"""Faults whose moment is recorded: ways to leave, and faults of links and of the target."""

MOMENTS = ("joining", "sending", "delivering", "lagging")
"""States of a client. joining: it has connected, but has not received the welcome. sending: it has
sent only a part of a line. delivering: its message has not reached all members. lagging: its link
is slow or stalled."""

MOST_CLIENTS = 20_000
MOST_SECONDS = 86_400.0

USUAL_SECONDS = 10.0
"""Length of a run, in seconds, if the file gives no length."""

Range = tuple[float, float]
"""Lowest and highest value of a uniform random choice. In a file, it is a number or a pair."""

_places = numbers("a fraction of the run from 0 to 1, or a list of them", 0, 1)


@dataclass(frozen=True)
class Pair:
    """A fault, and a moment at which it should strike."""

    fault: str
    moment: str

    def __str__(self) -> str:
        return f"{self.fault} while {self.moment}"

    @classmethod
    def parse(cls, text: str) -> Pair:
        """Parse a text `FAULT while MOMENT`. Raise ValueError if it is not such a pair."""
        fault, _, moment = text.partition(" while ")
        if fault not in STRIKES:
            raise ValueError(f"{fault!r} is not one of {', '.join(STRIKES)}")
        if moment not in MOMENTS:
            raise ValueError(f"{moment!r} is not one of {', '.join(MOMENTS)}")
        return cls(fault, moment)


def _parse_pairs(texts: Any) -> tuple[Pair, ...]:
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        raise ValueError
    return tuple(map(Pair.parse, texts))


_pairs = parser("a list of 'FAULT while MOMENT'", _parse_pairs)


@dataclass(frozen=True)
class Link:
    """A faulty network between a population and the target. Each connection has one fault.

    fault: kind of the fault (see gates.py).
    after: seconds from the beginning of a connection to the beginning of its fault.
    seconds: duration of a `slow`, `stall`, `drip` or `delay`; without it, the fault lasts until the
    end of the connection.
    bytes_per_second: rate of a `slow`.
    pause: seconds between two bytes of a `drip`.
    held: seconds by which a `delay` delays bytes, in both directions.
    """

    fault: Annotated[str, one_of(LINK_FAULTS)]
    after: Annotated[Range, interval(0, MOST_SECONDS)] = (0.0, 0.0)
    seconds: Annotated[Range | None, interval(0, MOST_SECONDS)] = None
    bytes_per_second: Annotated[float, number(1, 1e9)] = 1024.0
    pause: Annotated[Range, interval(0, 60)] = (0.01, 0.01)
    held: Annotated[Range, interval(0, 60)] = (0.05, 0.05)


@dataclass(frozen=True)
class Population:
    """Clients of one kind.

    clients: number of clients.
    addresses: number of addresses that the clients share; 0 if each client has its own.
    phase: phase in which the clients arrive; without it, they arrive during the whole run.
    arrives: time at which a client arrives, as a fraction of this phase: [0, 0.5] is its first
    half.
    rate: bursts per second of each client, on a fixed schedule; 0 if the clients only receive.
    timing: `evenly` for equal intervals between bursts, `at-random` for a Poisson process.
    burst: number of messages in a burst; they are sent at once.
    size: number of characters in a message.
    alphabets: kinds of characters; a random one is chosen for each message.
    pieces: number of pieces in which a message is sent.
    pause: seconds between two pieces.
    stays: seconds after which a client leaves; without it, the client stays until the end.
    leaves: ways to leave; a random one is chosen for each session.
    returns: true if a client comes back after it has left.
    away: seconds until it comes back.
    link: faulty network between these clients and the target.
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
    """A fault of the target, which must be a command.

    kind: one of these. A worker is a process with connections of clients; an engine is a process
    that listens, but not at the target's addresses; a bridge is connected to an engine.
        kill-worker: SIGKILL to one worker.
        kill-workers: SIGKILL to all workers.
        stop-worker: SIGSTOP to one worker; SIGCONT after `seconds`.
        kill-engine: SIGKILL to one engine.
        stop-engine: SIGSTOP to one engine; SIGCONT after `seconds`.
        kill-bridge: SIGKILL to one bridge.
        stop: SIGSTOP to all processes; SIGCONT after `seconds`.
        hangup: SIGHUP to the main process.
        restart: the target is stopped, and started again on the same port.
    at: times of the faults, as fractions of the run, from 0 to 1. Either `at` or `every` is needed.
    every: seconds before the first fault, and between two faults; chosen at random each time.
    seconds: duration of a stop.
    """

    kind: Annotated[str, one_of(TARGET_FAULTS)]
    at: Annotated[tuple[float, ...], _places] = ()
    every: Annotated[Range | None, interval(0.05, MOST_SECONDS)] = None
    seconds: Annotated[Range, interval(0, MOST_SECONDS)] = (1.0, 1.0)

    def __post_init__(self) -> None:
        if bool(self.at) == (self.every is not None):
            raise ValueError("exactly one of at and every is needed")


@dataclass(frozen=True)
class Phase:
    """A part of the run. rate: factor of the rates of all populations during this phase."""

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
    reach: tuple[Pair, ...] = ()
    """Pairs that a run must reach. If it does not reach one of them, its verdict is "undecided"."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Kind of each fault that `without` has removed, and the reason."""

    @property
    def seconds(self) -> float:
        """Total length of all phases. The run ends later, when all messages have arrived."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def clients(self) -> int:
        return sum(population.clients for population in self.populations)

    def lasting(self, seconds: float) -> Scenario:
        """Return this scenario with a total length of `seconds`. Scale its phases."""
        factor = seconds / self.seconds
        phases = tuple(
            dataclasses.replace(phase, seconds=phase.seconds * factor) for phase in self.phases
        )
        return dataclasses.replace(self, phases=phases)

    def without(self, kinds: Sequence[str], why: str) -> Scenario:
        """Return this scenario without the target faults of these kinds. why: the reason.

        Pairs with such a fault are removed from `reach`.
        """
        absent = dict.fromkeys(fault.kind for fault in self.faults if fault.kind in kinds)
        return dataclasses.replace(
            self,
            faults=tuple(fault for fault in self.faults if fault.kind not in absent),
            reach=tuple(pair for pair in self.reach if pair.fault not in absent),
            left_out=(*self.left_out, *((kind, why) for kind in absent)),
        )

    def peopled(self, clients: int) -> Scenario:
        """Return this scenario with another total number of clients.

        Keep the proportions of the populations, but give each at least one client. Raise ValueError
        if there are fewer clients than populations.
        """
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
    """The content of a scenario's file, by its keys."""

    about: Annotated[str, text]
    phase: Annotated[tuple[Phase, ...], tables(Phase)] = ()
    seconds: Annotated[float | None, number(0.1, MOST_SECONDS)] = None
    population: Annotated[tuple[Population, ...], tables(Population)] = ()
    fault: Annotated[tuple[Fault, ...], tables(Fault)] = ()
    reach: Annotated[tuple[Pair, ...], _pairs] = ()

    def __post_init__(self) -> None:
        if self.phase and self.seconds is not None:
            raise ValueError("seconds is not allowed with phases, because each phase has a length")
        if not self.population:
            raise ValueError("population is missing: at least one [[population]] is needed")
        phases = [phase.name for phase in self.phase]
        for population in self.population:
            if population.phase and population.phase not in phases:
                listed = f"must be one of {', '.join(phases)}, not {population.phase!r}"
                why = listed if phases else "is not allowed without [[phase]] tables"
                raise ValueError(f"population {population.name!r}: phase {why}")
        for key, named in (("population", self.population), ("phase", self.phase)):
            if len({each.name for each in named}) < len(named):
                raise ValueError(f"{key} names must differ")
        if sum(population.clients for population in self.population) > MOST_CLIENTS:
            raise ValueError(f"populations have more than {MOST_CLIENTS} clients in all")
        for pair in self.reach:
            if pair.fault not in self._strikes():
                raise ValueError(f"reach: the scenario has no fault {pair.fault!r}")

    def _strikes(self) -> set[str]:
        """Return the faults of this scenario that may be in `reach`."""
        found = {fault.kind for fault in self.fault}
        for population in self.population:
            found |= {population.link.fault} if population.link else set()
            found |= {*population.leaves} if population.stays is not None else set()
        return found


def load(name: str) -> Scenario:
    """Return the scenario with this name or path. Raise TomlError if it is invalid."""
    return parse(_FILES.text(name), _FILES.find(name).stem)


def parse(text: str, name: str) -> Scenario:
    """Return the scenario that a text describes. Raise TomlError if it is invalid."""
    file = _FILES.parse(_File, text, name)
    phases = file.phase or (Phase("", file.seconds or USUAL_SECONDS),)
    return Scenario(name, file.about, phases, file.population, file.fault, file.reach)
