"""Read dataclasses from TOML; report a mistake in one line that names the key.

A field that is `Annotated[type, parser]` is a key of the table. The key is required unless the
field has a default. A class checks conditions on several keys in `__post_init__`, which raises
ValueError. An error looks like this:

    scenario 'classroom': population 2 'late': rate must be a number from 0 to 10000, not -1

Alternatives are msgspec and pydantic. But their messages do not list the known keys, those of
pydantic take several lines, and the commands `check` and `scenarios` must need only Python.
"""

from __future__ import annotations

import dataclasses
import tomllib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar, get_type_hints

T = TypeVar("T")

Parser = Callable[[Any, str], Any]
"""Function that converts a TOML value. The second argument is the key's path, for error messages.
The function raises TomlError if the value is invalid."""


class TomlError(ValueError):
    """A file is missing or invalid; the message is one line."""


@dataclass(frozen=True)
class TomlFiles:
    """Files of one kind: those in a folder of the harness, and the user's own."""

    kind: str
    folder: Path

    def names(self) -> list[str]:
        """Return the names of the files in the folder."""
        return sorted(path.stem for path in self.folder.glob("*.toml"))

    def find(self, name: str) -> Path:
        """Return the path of the file with this name in the folder. If there is none, treat the
        name as a path."""
        return self.folder / f"{name}.toml" if name in self.names() else Path(name)

    def text(self, name: str) -> str:
        """Return the text of a file. Raise TomlError if it can't be read."""
        path = self.find(name)
        try:
            return path.read_text(encoding="utf-8")
        except FileNotFoundError:
            known = ", ".join(self.names())
            raise TomlError(f"{self.kind} {name!r} is neither a file nor one of {known}") from None
        except (OSError, UnicodeDecodeError) as error:
            reason = getattr(error, "strerror", None) or "it is not UTF-8"
            raise TomlError(f"{self.kind} {name!r} can't be read: {reason}") from None

    def parse(self, kind: type[T], text: str, name: str, /, **given: object) -> T:
        """Return the object that a text describes. Raise TomlError if the text is invalid.

        given: values of fields that are not keys of the table.
        """
        try:
            table = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise TomlError(f"{self.kind} {name!r} is not TOML: {error}") from None
        return read(kind, table, f"{self.kind} {name!r}", **given)


def _parsers(kind: type[Any]) -> dict[str, Parser]:
    """Return the parsers of a class's keys, in the order of its fields."""
    hints = get_type_hints(kind, include_extras=True)
    return {
        name: hint.__metadata__[0] for name, hint in hints.items() if hasattr(hint, "__metadata__")
    }


def read(kind: type[T], table: Mapping[str, Any], where: str, **given: object) -> T:
    """Return the dataclass object that a table describes. Raise TomlError if the table is invalid.

    where: the table's file and place in it, for error messages. given: values of fields that are
    not keys of the table.
    """
    parsers, values = _parsers(kind), dict(given)
    required = {
        field.name
        for field in dataclasses.fields(kind)  # type: ignore[arg-type]  # it is a dataclass
        if field.default is dataclasses.MISSING
    }
    for key, parser in parsers.items():
        if key in table:
            values[key] = parser(table[key], f"{where}: {key}")
            if key in ("name", "kind"):
                where += f" {values[key]!r}"
        elif key in required:
            raise TomlError(f"{where}: {key} is missing")
    for key in table:
        if key not in parsers:
            raise TomlError(f"{where}: {key} is unknown; the keys are {', '.join(parsers)}")
    try:
        return kind(**values)
    except ValueError as error:
        raise TomlError(f"{where}: {error}") from None


# --- parsers -------------------------------------------------------------------------------------


def parser(what: str, parse: Callable[[Any], Any]) -> Parser:
    """Return a parser that calls `parse`, a function that raises ValueError for an invalid value.

    `what` describes a valid value in the error message. The text of the ValueError, if any, follows
    in parentheses.
    """

    def parse_or_explain(value: Any, path: str) -> Any:
        try:
            return parse(value)
        except ValueError as error:
            more = f" ({error})" if error.args else ""
            raise TomlError(f"{path} must be {what}{more}, not {value!r}") from None

    return parse_or_explain


def _checked(fits: Callable[[Any], bool]) -> Callable[[Any], Any]:
    """Return a function that returns its argument, and raises ValueError if `fits` rejects it."""

    def parse(value: Any) -> Any:
        if not fits(value):
            raise ValueError
        return value

    return parse


def _is_number(value: Any, kind: Any = int | float) -> bool:
    return isinstance(value, kind) and not isinstance(value, bool)


def _listed(value: Any) -> list[Any]:
    """Return the value if it is a list, else a list with this one value."""
    return value if isinstance(value, list) else [value]


string = parser("text", _checked(lambda value: isinstance(value, str)))
text = parser("text", _checked(lambda value: isinstance(value, str) and bool(value.strip())))
truth = parser("true or false", _checked(lambda value: isinstance(value, bool)))


def whole(lowest: int, highest: int | None = None) -> Parser:
    """Return a parser of a whole number between these bounds."""

    def fits(value: Any) -> bool:
        in_bounds = _is_number(value, int) and value >= lowest
        return in_bounds and (highest is None or value <= highest)

    bounds = f", {lowest} or more" if highest is None else f" from {lowest} to {highest}"
    return parser(f"a whole number{bounds}", _checked(fits))


def number(lowest: float, highest: float) -> Parser:
    """Return a parser of a number between these bounds."""
    fits = _checked(lambda value: _is_number(value) and lowest <= value <= highest)
    return parser(f"a number from {lowest:g} to {highest:g}", lambda value: float(fits(value)))


def numbers(what: str, lowest: float, highest: float) -> Parser:
    """Return a parser of a number between these bounds, or of a list of such numbers."""

    def parse(value: Any) -> tuple[float, ...]:
        found = _listed(value)
        if not found or not all(_is_number(each) and lowest <= each <= highest for each in found):
            raise ValueError
        return tuple(map(float, found))

    return parser(what, parse)


def interval(lowest: float, highest: float) -> Parser:
    """Return a parser of a number, or of a pair of numbers, both between these bounds."""

    def parse(value: Any) -> tuple[float, float]:
        pair = value if isinstance(value, list) else [value, value]
        if (
            len(pair) != 2
            or not all(map(_is_number, pair))
            or not lowest <= pair[0] <= pair[1] <= highest
        ):
            raise ValueError
        return float(pair[0]), float(pair[1])

    what = f"a number from {lowest:g} to {highest:g}, or a pair of them, [a, b]"
    return parser(what, parse)


def one_of(choice: Sequence[str]) -> Parser:
    """Return a parser of one of these texts."""
    fits = _checked(lambda value: isinstance(value, str) and value in choice)
    return parser(f"one of {', '.join(choice)}", fits)


def some_of(choice: Sequence[str]) -> Parser:
    """Return a parser of one of these texts, or of a list of them."""
    fits = _checked(lambda found: bool(found) and all(name in choice for name in found))
    return parser(f"some of {', '.join(choice)}", lambda value: tuple(fits(_listed(value))))


def table(kind: type[Any]) -> Parser:
    """Return a parser of a table that describes an object of a dataclass."""

    def parse(value: Any, path: str) -> Any:
        if not isinstance(value, dict):
            raise TomlError(f"{path} must be a table, not {value!r}")
        return read(kind, value, path)

    return parse


def tables(kind: type[Any]) -> Parser:
    """Return a parser of an array of tables, each of which describes an object of a dataclass."""

    def parse(value: Any, path: str) -> tuple[Any, ...]:
        if not isinstance(value, list) or not all(isinstance(each, dict) for each in value):
            raise TomlError(f"{path} must be an array of tables: [[{path.rpartition(' ')[2]}]]")
        return tuple(read(kind, each, f"{path} {n}") for n, each in enumerate(value, 1))

    return parse
