"""What a room is set to, and by whom: the command line, the environment, a file, or nobody.

All say it in the same words, those of the command line's options, whose own
converters read them: `--max-clients 50`, `CHATROOM_MAX_CLIENTS=50`, and in the
file, which is TOML, `max-clients = 50`. The command line comes before the
environment, the environment before the file. Whatever is wrong is an error that
says where it stands.

Others' variables may begin with CHATROOM_ too, those that an orchestrator makes
for each service among them: one that no option is meant by is none of ours, but
one that is nearly an option's is worth a word.
"""

import argparse
import difflib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from chatroom.arguments import shown
from chatroom.config.settings import Settings, SettingsError, option_name
from chatroom.errors import ConfigError
from chatroom.system import files

VARIABLE = "CHATROOM_"
"""How the variables begin."""
CONFIG = VARIABLE + "CONFIG"
"""The variable that names the file."""

YES, NO = ("1", "true", "yes", "on"), ("0", "false", "no", "off")
"""What the variable of an option may be that takes no value."""

NEARLY = 0.8
"""How much alike two names are of which one may be meant by the other."""

Options = Mapping[str, argparse.Action]
"""The options that settings have, by their names without dashes before them."""


class SourcedValue(NamedTuple):
    """A setting, and where it was found."""

    value: Any
    where: str


Layer = dict[str, SourcedValue]
"""What one of those who may say it has said, by the names of `Settings`."""


def options(parser: argparse.ArgumentParser) -> Options:
    """Those that a file and the environment may have, too: all by which a room is set."""
    names = Settings.__dataclass_fields__
    found = [action for action in parser._actions if action.dest in names]
    return {action.option_strings[-1].lstrip("-"): action for action in found}


def read(
    known: Options, given: Layer, environment: Mapping[str, str], path: Path | None
) -> Settings:
    """The settings, where `given` is what the command line says. Raises ConfigError."""
    file = from_file(path, known) if path else {}
    found = file | from_environment(environment, known) | given
    defaults = {action.dest: action.default for action in known.values()}
    values = defaults | {name: sourced.value for name, sourced in found.items()}
    lists = {action.dest: tuple(values[action.dest]) for action in known.values() if _many(action)}
    try:
        return Settings(**values | lists)
    except SettingsError as error:
        where = f"--{option_name(error.name)}"  # a default that does not go with the others
        if error.name in found:
            where = found[error.name].where
        raise ConfigError(f"{where}: must be {error}") from None


# --- a file --------------------------------------------------------------------------------------


def from_file(path: Path, known: Options) -> Layer:
    """What a file says. Raises ConfigError."""
    layer: Layer = {}
    for key, value in _parse(path).items():
        if key not in known:
            name = key if key.isprintable() else repr(key)
            raise ConfigError(f"{path}: {name} is no option{_nearest(key, known)}")
        where = f"{path}: {key}"
        layer[known[key].dest] = SourcedValue(_value(known[key], value, where), where)
    return layer


def _parse(path: Path) -> dict[str, Any]:
    import tomllib  # here, so that a room without a file starts without it

    try:
        text = files.read(path).decode() + "\n"  # or what is wrong at its end would have no line
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line} must be text in UTF-8") from None
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path}: {_locate(str(error), text)}") from None
    except RecursionError:
        raise ConfigError(f"{path}: its lists or tables are nested too deeply") from None


def _locate(problem: str, text: str) -> str:
    """What TOML has against a text, with the line in which that is, and its key, if it says so."""
    what, at, where = problem.rpartition(" (at line ")
    number = where.partition(",")[0]
    if not at:
        return problem
    line = text.split("\n")[int(number) - 1].strip()
    return f"line {number}, {shown(line)}: {what}"


# --- the environment -----------------------------------------------------------------------------


def from_environment(environment: Mapping[str, str], known: Options) -> Layer:
    """What variables say; one that is empty says nothing. Raises ConfigError."""
    layer: Layer = {}
    for key, action in known.items():
        where = variable(key)
        text = environment.get(where, "")
        if not text:
            continue
        value: object = text
        if action.nargs == 0:
            if text.lower() not in YES + NO:
                raise ConfigError(f"{where}: must be true or false, not {shown(text)}")
            value = text.lower() in YES
        elif _many(action):
            value = text.replace(",", " ").split()
        layer[action.dest] = SourcedValue(_value(action, value, where), where)
    return layer


def variable(key: str) -> str:
    return VARIABLE + key.replace("-", "_").upper()


def strange(environment: Mapping[str, str], known: Options) -> dict[str, str]:
    """The variables that are nearly those of an option, and which."""
    names = {name.removeprefix(VARIABLE): name for name in (CONFIG, *map(variable, known))}
    found = {}
    for name in sorted(environment):
        stem = name.removeprefix(VARIABLE)
        if stem != name and stem not in names:
            for near in difflib.get_close_matches(stem, names, 1, NEARLY):
                found[name] = names[near]
    return found


# --- a value -------------------------------------------------------------------------------------


def _many(action: argparse.Action) -> bool:
    """Whether it may be given again: a list in a file, commas or blanks in a variable."""
    return isinstance(action.default, list)


def _value(action: argparse.Action, value: object, where: str) -> object:
    """What an option makes of a value: of the text by which the command line would say it."""
    if action.nargs == 0:
        if not isinstance(value, bool):
            raise ConfigError(f"{where}: must be true or false, not {_spell(value)}")
        return value
    if not _many(action):
        return _converted(action, value, where)
    return [
        _converted(action, item, where) for item in (value if isinstance(value, list) else [value])
    ]


def _converted(action: argparse.Action, value: object, where: str) -> object:
    text = _text(value, isinstance(action.default, int | float), where)
    convert: Any = action.type or str
    try:
        made = convert(text)
    except argparse.ArgumentTypeError as error:
        raise ConfigError(f"{where}: {error}") from None
    if action.choices is not None and made not in action.choices:
        choices = " or ".join(action.choices)
        raise ConfigError(f"{where}: must be {choices}, not {_spell(value)}")
    return made


def _text(value: object, may_be_number: bool, where: str) -> str:
    if isinstance(value, str):
        return value
    if not may_be_number:
        raise ConfigError(f'{where}: must be text, in "quotes", not {_spell(value)}')
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f'{where}: must be a number, or text in "quotes", not {_spell(value)}')
    return _spell(value)


def _spell(value: object) -> str:
    match value:
        case str():
            return shown(value)
        case bool():
            return str(value).lower()
        case int() if value.bit_length() > 1000:
            return "so long a number"  # longer ones have no text
        case int() | float():
            return str(value)
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a time"


def _nearest(key: str, known: Options) -> str:
    near = difflib.get_close_matches(key, known, 1)
    return f"; {near[0]} is one" if near else "; --help shows them, less their dashes"
