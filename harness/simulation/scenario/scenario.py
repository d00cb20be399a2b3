"""A scenario: the clients, their actions, and the faults. Pure.

A scenario is TOML: `about`, its length (`seconds`, or `[[phase]]`s), one `[[population]]`
for each kind of client, `[[fault]]`s of the target, and `reach`, a list of `FAULT while MOMENT`:
what a run must have exercised. Every key is checked; an error names the key and its valid values.
The keys are the fields of `Population`, `Link`, `Fault` and `Phase`, and the members of STRIKES and
MOMENTS.

Times that are a *place* in the run (`arrives`, `at`) scale with its length; *durations* and
*intervals* do not.
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
"""Faults of the target that only a server which is made for them survives (LOAD-4)."""

STRIKES = (*LEAVINGS, "cut-off", *TARGET_FAULTS)
"""Faults that strike at a moment: ways to leave, and faults of links and of the target."""

MOMENTS = ("joining", "sending", "delivering", "lagging")
"""States of a client: it has connected, and not received the welcome yet; it has sent a part of a
line; its message has not reached all yet; its link is slow or stalled."""

MOST_CLIENTS = 20_000
MOST_SECONDS = 86_400.0

USUAL_SECONDS = 10.0
"""Length of a run, in seconds, if the file has none."""

Range = tuple[float, float]
"""Lowest and highest value of a uniform random choice; written as a number or a pair."""

_places = numbers("a part of the run from 0 to 1, or a list of them", 0, 1)


@dataclass(frozen=True)
class Pair:
    """A fault and a moment at which it should strike."""

    fault: str
    moment: str

    def __str__(self) -> str:
        return f"{self.fault} while {self.moment}"

    @classmethod
    def parse(cls, text: str) -> Pair:
        """Parse `FAULT while MOMENT`. Raise ValueError if it is not a pair."""
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
    """A faulty network between a population and the target: one fault for each connection.

    after: seconds from the beginning of the connection to that of the fault.
    seconds: duration of `slow`, `stall`, `drip` and `delay`; absent: to the end of the
    connection.
    bytes_per_second: rate of `slow`. pause: seconds between two bytes of a `drip`.
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

    clients: number of clients. addresses: number of addresses that they share; 0: one each.
    phase: phase in which the clients arrive; empty: the whole run.
    arrives: place in this phase, from 0 to 1, at which a client arrives; [0, 0.5]: in its
    first half.
    rate: bursts per second and client, on a fixed schedule; 0: the clients only receive.
    timing: intervals between bursts: equal (`evenly`), or random (`at-random`, Poisson).
    burst: number of messages that are sent at once.
    size: characters of a message. alphabets: one is drawn for each message.
    pieces: number of segments into which a message is cut. pause: seconds between them.
    stays: seconds until a client leaves; absent: to the end. leaves: ways to leave, of which
    one is drawn. returns: whether a client comes back. away: seconds until then.
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

    kind: `kill-worker` (SIGKILL to one process that holds clients), `kill-workers` (SIGKILL to
    all of them), `stop-worker` (SIGSTOP to one, SIGCONT after `seconds`), `kill-engine` and
    `stop-engine` (the same for one process that listens, but not at the target's addresses),
    `kill-bridge` (SIGKILL to one that is connected to an engine), `stop` (SIGSTOP to all processes,
    SIGCONT after `seconds`), `hangup` (SIGHUP to the main process), `restart` (the target is
    stopped, and started again on the same port).
    at: places in the run, from 0 to 1; or every: seconds before the first fault and between
    two faults, drawn each time. seconds: duration of a stop.
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
    """A part of the run. rate: factor for all rates during the phase."""

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
    """Pairs that a run must reach; otherwise, it is undecided."""
    left_out: tuple[tuple[str, str], ...] = ()
    """Kind of each fault that was left out, and the reason."""

    @property
    def seconds(self) -> float:
        """Length of all phases. The run ends later, when all messages have arrived."""
        return sum(phase.seconds for phase in self.phases)

    @property
    def clients(self) -> int:
        return sum(population.clients for population in self.populations)

    def lasting(self, seconds: float) -> Scenario:
        """Return the scenario with its phases scaled to a total of `seconds`."""
        factor = seconds / self.seconds
        phases = tuple(
            dataclasses.replace(phase, seconds=phase.seconds * factor) for phase in self.phases
        )
        return dataclasses.replace(self, phases=phases)

    def without(self, kinds: Sequence[str], why: str) -> Scenario:
        """Return the scenario without target faults of these kinds, which it need not reach."""
        absent = dict.fromkeys(fault.kind for fault in self.faults if fault.kind in kinds)
        return dataclasses.replace(
            self,
            faults=tuple(fault for fault in self.faults if fault.kind not in absent),
            reach=tuple(pair for pair in self.reach if pair.fault not in absent),
            left_out=(*self.left_out, *((kind, why) for kind in absent)),
        )

    def peopled(self, clients: int) -> Scenario:
        """Return the scenario with this number of clients, divided in proportion, at least 1 each.

        Raise ValueError if there are fewer clients than populations.
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
            raise ValueError("seconds is not allowed with phases, which have their own")
        if not self.population:
            raise ValueError("population is missing: at least one [[population]] is needed")
        phases = [phase.name for phase in self.phase]
        for population in self.population:
            if population.phase and population.phase not in phases:
                raise ValueError(
                    f"population {population.name!r}: phase must be one of "
                    f"{', '.join(phases) or 'none: there are no phases'}, not {population.phase!r}"
                )
        for key, named in (("population", self.population), ("phase", self.phase)):
            if len({each.name for each in named}) < len(named):
                raise ValueError(f"{key} names must differ")
        if sum(population.clients for population in self.population) > MOST_CLIENTS:
            raise ValueError(f"populations have more than {MOST_CLIENTS} clients in all")
        for pair in self.reach:
            if pair.fault not in self._strikes():
                raise ValueError(f"reach: the scenario has no fault {pair.fault!r}")

    def _strikes(self) -> set[str]:
        """Return the faults that may strike."""
        found = {fault.kind for fault in self.fault}
        for population in self.population:
            found |= {population.link.fault} if population.link else set()
            found |= {*population.leaves} if population.stays is not None else set()
        return found


def load(name: str) -> Scenario:
    """Return the scenario of this name, or from this file. Raise TomlError if it is invalid."""
    return parse(_FILES.text(name), _FILES.find(name).stem)


def parse(text: str, name: str) -> Scenario:
    """Return the scenario that a text describes. Raise TomlError if it is invalid."""
    file = _FILES.parse(_File, text, name)
    phases = file.phase or (Phase("", file.seconds or USUAL_SECONDS),)
    return Scenario(name, file.about, phases, file.population, file.fault, file.reach)
