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
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

FOLDER = Path(__file__).parents[2] / "scenarios"
"""Those that ship."""

ALPHABETS = ("ascii", "cjk", "emoji", "rtl", "hostile")
LEAVINGS = ("close", "reset", "half-close")
LINK_FAULTS = ("slow", "stall", "drip", "delay", "cut-off", "reset", "half-close")
TARGET_FAULTS = ("kill-worker", "kill-workers", "stop-worker", "stop", "hangup", "restart")

MOST_CLIENTS = 20_000
MOST_SECONDS = 86_400.0

Range = tuple[float, float]
"""From the first to the second, both included, drawn evenly; written as a number or a pair."""


class ScenarioError(ValueError):
    """A scenario is not there, or is not one; the message names the key, in one line."""


@dataclass(frozen=True)
class Link:
    """A bad network between a population and the target: one fault for each connection.

    after: seconds from the connection's beginning to the fault's.
    seconds: how long `slow`, `stall`, `drip` and `delay` last; absent: to the end.
    bytes_per_second: of `slow`. pause: seconds between two bytes of a `drip`.
    held: seconds for which a `delay` holds what goes either way.
    """

    fault: str
    after: Range = (0.0, 0.0)
    seconds: Range | None = None
    bytes_per_second: float = 1024.0
    pause: Range = (0.01, 0.01)
    held: Range = (0.05, 0.05)


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

    name: str
    clients: int
    addresses: int = 0
    phase: str = ""
    arrives: Range = (0.0, 0.0)
    rate: float = 0.0
    timing: str = "at-random"
    burst: int = 1
    size: Range = (20.0, 80.0)
    alphabets: tuple[str, ...] = ("ascii",)
    pieces: Range = (1.0, 1.0)
    pause: Range = (0.0, 0.02)
    stays: Range | None = None
    leaves: tuple[str, ...] = ("close",)
    returns: bool = False
    away: Range = (0.5, 2.0)
    link: Link | None = None


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

    kind: str
    at: tuple[float, ...] = ()
    every: Range | None = None
    seconds: Range = (1.0, 1.0)


@dataclass(frozen=True)
class Phase:
    """A part of the run. rate: by which all rates are multiplied in it."""

    name: str
    seconds: float
    rate: float = 1.0


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
            raise ScenarioError(
                f"{self.name}: needs {len(shares)} clients or more, one for each population"
            )
        populations = tuple(
            dataclasses.replace(population, clients=share)
            for population, share in zip(self.populations, shares, strict=True)
        )
        return dataclasses.replace(self, populations=populations)


def names() -> list[str]:
    """The scenarios that ship."""
    return sorted(path.stem for path in FOLDER.glob("*.toml"))


def load(name: str) -> Scenario:
    """A scenario that ships, by name, or one in a file. Raises ScenarioError."""
    path = FOLDER / f"{name}.toml" if name in names() else Path(name)
    if not path.is_file():
        raise ScenarioError(f"{name!r} is neither a file nor one of {', '.join(names())}")
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ScenarioError(f"{name}: can't be read: {error}") from None
    return parse(text, path.stem)


def parse(text: str, name: str) -> Scenario:
    """The scenario of that name that the text describes. Raises ScenarioError."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ScenarioError(f"{name}: is not TOML: {error}") from None
    return _scenario(_Table(name, table))


def _scenario(table: _Table) -> Scenario:
    about = table.take("about", _text)
    phases = table.tables("phase", _phase)
    if phases:
        table.forbid("seconds", "where there are phases, which have their own")
    else:
        phases = (Phase("", table.take("seconds", _number(0.1, MOST_SECONDS), 10.0)),)
    populations = table.tables("population", _population)
    faults = table.tables("fault", _fault)
    if not populations:
        table.fail("population", "has to be there, once at least: [[population]]")
    known = [phase.name for phase in phases]
    for population in populations:
        if population.phase and population.phase not in known:
            table.fail(
                f"population {population.name!r}: phase",
                f"has to be one of {', '.join(known) or 'none: there are no phases'}, "
                f"not {population.phase!r}",
            )
    for what, those in (
        ("population", [population.name for population in populations]),
        ("phase", known),
    ):
        if len(set(those)) < len(those):
            table.fail(what, "has to have names that differ")
    if sum(population.clients for population in populations) > MOST_CLIENTS:
        table.fail("population", f"there may be {MOST_CLIENTS} clients in all")
    table.done()
    return Scenario(table.where, about, phases, populations, faults)


def _phase(table: _Table) -> Phase:
    return Phase(
        table.take("name", _text),
        table.take("seconds", _number(0.1, MOST_SECONDS)),
        table.take("rate", _number(0, 1000), 1.0),
    )


def _population(table: _Table) -> Population:
    fallback = Population("", 1)
    link = table.table("link", _link)
    name = table.take("name", _text)
    table.where += f" {name!r}"
    return Population(
        name,
        table.take("clients", _whole(1, MOST_CLIENTS)),
        table.take("addresses", _whole(0, MOST_CLIENTS), fallback.addresses),
        table.take("phase", _text, fallback.phase),
        table.take("arrives", _range(0, 1), fallback.arrives),
        table.take("rate", _number(0, 10_000), fallback.rate),
        table.take("timing", _one_of(("evenly", "at-random")), fallback.timing),
        table.take("burst", _whole(1, 10_000), fallback.burst),
        table.take("size", _range(0, 2000), fallback.size),
        table.take("alphabets", _some_of(ALPHABETS), fallback.alphabets),
        table.take("pieces", _range(1, 1000), fallback.pieces),
        table.take("pause", _range(0, 60), fallback.pause),
        table.take("stays", _range(0, MOST_SECONDS), None),
        table.take("leaves", _some_of(LEAVINGS), fallback.leaves),
        table.take("returns", _yes_or_no, fallback.returns),
        table.take("away", _range(0, MOST_SECONDS), fallback.away),
        link,
    )


def _link(table: _Table) -> Link:
    fault = table.take("fault", _one_of(LINK_FAULTS))
    fallback = Link(fault)
    return Link(
        fault,
        table.take("after", _range(0, MOST_SECONDS), fallback.after),
        table.take("seconds", _range(0, MOST_SECONDS), None),
        table.take("bytes_per_second", _number(1, 1e9), fallback.bytes_per_second),
        table.take("pause", _range(0, 60), fallback.pause),
        table.take("held", _range(0, 60), fallback.held),
    )


def _fault(table: _Table) -> Fault:
    kind = table.take("kind", _one_of(TARGET_FAULTS))
    table.where += f" {kind!r}"
    at = table.take("at", _places, ())
    every = table.take("every", _range(0.05, MOST_SECONDS), None)
    if bool(at) == (every is not None):
        table.fail("at", "or `every` has to be there, and not both")
    return Fault(kind, at, every, table.take("seconds", _range(0, MOST_SECONDS), (1.0, 1.0)))


# --- what a value may be -------------------------------------------------------------------------

Parser = Callable[[Any], Any]
"""From a value of TOML to ours. Raises ValueError with what it has to be."""

_REQUIRED = object()


def _text(value: Any) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ValueError("text")
    return value


def _yes_or_no(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError("true or false")
    return value


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _whole(lowest: int, highest: int) -> Parser:
    def parse(value: Any) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not lowest <= value <= highest:
            raise ValueError(f"a whole number from {lowest} to {highest}")
        return value

    return parse


def _number(lowest: float, highest: float) -> Parser:
    def parse(value: Any) -> float:
        if not _is_number(value) or not lowest <= value <= highest:
            raise ValueError(f"a number from {lowest:g} to {highest:g}")
        return float(value)

    return parse


def _range(lowest: float, highest: float) -> Parser:
    def parse(value: Any) -> Range:
        pair = value if isinstance(value, list) else [value, value]
        if (
            len(pair) != 2
            or not all(_is_number(bound) for bound in pair)
            or not lowest <= pair[0] <= pair[1] <= highest
        ):
            raise ValueError(f"a number from {lowest:g} to {highest:g}, or a pair of them, [a, b]")
        return float(pair[0]), float(pair[1])

    return parse


def _places(value: Any) -> tuple[float, ...]:
    places = value if isinstance(value, list) else [value]
    if not places or not all(_is_number(place) and 0 <= place <= 1 for place in places):
        raise ValueError("a part of the run from 0 to 1, or a list of them")
    return tuple(float(place) for place in places)


def _one_of(choice: Sequence[str]) -> Parser:
    def parse(value: Any) -> str:
        if not isinstance(value, str) or value not in choice:
            raise ValueError(f"one of {', '.join(choice)}")
        return value

    return parse


def _some_of(choice: Sequence[str]) -> Parser:
    def parse(value: Any) -> tuple[str, ...]:
        some = value if isinstance(value, list) else [value]
        if not some or any(name not in choice for name in some):
            raise ValueError(f"some of {', '.join(choice)}")
        return tuple(some)

    return parse


class _Table:
    """A table of TOML, of which every key has to be taken."""

    def __init__(self, where: str, table: Mapping[str, Any]) -> None:
        self.where = where
        self._left = dict(table)
        self._known: list[str] = []

    def take(self, key: str, parser: Parser, otherwise: Any = _REQUIRED) -> Any:
        self._known.append(key)
        if key not in self._left:
            if otherwise is _REQUIRED:
                self.fail(key, "has to be there")
            return otherwise
        value = self._left.pop(key)
        try:
            return parser(value)
        except ValueError as error:
            self.fail(key, f"has to be {error}, not {value!r}")

    def table(self, key: str, read: Callable[[_Table], Any]) -> Any:
        """What a table within this one says; None where there is none."""
        self._known.append(key)
        if key not in self._left:
            return None
        value = self._left.pop(key)
        if not isinstance(value, dict):
            self.fail(key, f"has to be a table, not {value!r}")
        inner = _Table(f"{self.where}: {key}", value)
        found = read(inner)
        inner.done()
        return found

    def tables(self, key: str, read: Callable[[_Table], Any]) -> tuple[Any, ...]:
        """What each of an array of tables says."""
        self._known.append(key)
        values = self._left.pop(key, [])
        if not isinstance(values, list) or not all(isinstance(value, dict) for value in values):
            self.fail(key, f"has to be tables: [[{key}]]")
        found = []
        for number, value in enumerate(values, 1):
            inner = _Table(f"{self.where}: {key} {number}", value)
            found.append(read(inner))
            inner.done()
        return tuple(found)

    def forbid(self, key: str, why: str) -> None:
        if key in self._left:
            self.fail(key, f"can't be there {why}")

    def done(self) -> None:
        for key in self._left:
            self.fail(key, f"is not known; there are {', '.join(self._known)}")

    def fail(self, key: str, what: str) -> NoReturn:
        raise ScenarioError(f"{self.where}: {key} {what}")
