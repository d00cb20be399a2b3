"""Read the settings of a room from the command line, the environment and a file.

All sources use the names of the options (options.py) and the same converters: `--max-clients 50`,
`CHATROOM_MAX_CLIENTS=50`, and in the TOML file `max-clients = 50`. The command line overrides the
environment, which overrides the file. Every error names the source of the wrong value.

Unknown variables that begin with CHATROOM_ are ignored, because orchestrators set such variables
for a service named chatroom. If such a variable is probably a misspelt option, the room logs a
warning.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from chatroom.arguments import nearest
from chatroom.config.options import OPTIONS, VARIABLE, Option, SettingsError, option_name
from chatroom.config.settings import Settings
from chatroom.errors import ConfigError
from chatroom.system import files
from chatroom.wording import shown

CONFIG = VARIABLE + "CONFIG"
"""Variable that names the file."""

BOOLEANS = {"1": True, "true": True, "yes": True, "on": True}
BOOLEANS |= {"0": False, "false": False, "no": False, "off": False}
"""Values of a flag's variable."""

NEARLY = 0.8
"""Minimum similarity (difflib's ratio) of a misspelled name to the right name."""


class SourcedValue(NamedTuple):
    """A value of a setting, and the name of its source in errors."""

    value: Any
    where: str


Layer = dict[str, SourcedValue]
"""Settings of one source, by their names in `Settings`."""


def read(given: Layer, environment: Mapping[str, str], path: Path | None) -> Settings:
    """Return the settings. `given`: settings of the command line. Raises ConfigError."""
    found = (from_file(path) if path else {}) | from_environment(environment) | given
    try:
        return Settings(**{name: sourced.value for name, sourced in found.items()})
    except SettingsError as error:
        where = f"--{option_name(error.name)}"  # the default conflicts with other settings
        if error.name in found:
            where = found[error.name].where
        raise ConfigError(f"{where}: must be {error}") from None


def from_arguments(parsed: Mapping[str, Any]) -> Layer:
    """Return the settings in a parser's result."""
    layer: Layer = {}
    for option in OPTIONS:
        if option.name in parsed:
            value = parsed[option.name]
            value = tuple(value) if option.repeats else value
            layer[option.name] = SourcedValue(value, f"argument --{option.key}")
    return layer


# --- a file --------------------------------------------------------------------------------------


def from_file(path: Path) -> Layer:
    """Return the settings of a file. Raises ConfigError."""
    options = {option.key: option for option in OPTIONS}
    layer: Layer = {}
    for key, value in _parse(path).items():
        if key not in options:
            name = key if key.isprintable() else repr(key)
            near = nearest(key, options)
            hint = f"did you mean {near}?" if near else "--help lists the options"
            raise ConfigError(f"{path}: unknown option {name}; {hint}")
        where = f"{path}: {key}"
        layer[options[key].name] = SourcedValue(_value(options[key], value, where), where)
    return layer


def _parse(path: Path) -> dict[str, Any]:
    import tomllib  # here, because a room without a file does not need it

    try:
        text = files.read(path).decode() + "\n"  # tomllib gives no line for an error at the end
    except OSError as error:
        raise ConfigError(f"{path} can't be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        line = error.object.count(b"\n", 0, error.start) + 1
        raise ConfigError(f"{path}: line {line} must be UTF-8 text") from None
    try:
        return tomllib.loads(text)
    except ValueError as error:
        raise ConfigError(f"{path}: {_locate(str(error), text)}") from None
    except RecursionError:
        raise ConfigError(f"{path}: lists or tables are nested too deeply") from None


def _locate(problem: str, text: str) -> str:
    """Return a TOML error with the text of its line, if the error names a line."""
    what, at, where = problem.rpartition(" (at line ")
    number = where.partition(",")[0]
    if not at:
        return problem
    line = text.split("\n")[int(number) - 1].strip()
    return f"line {number}, {shown(line)}: {what}"


# --- the environment -----------------------------------------------------------------------------


def from_environment(environment: Mapping[str, str]) -> Layer:
    """Return the settings of the variables; empty variables are ignored. Raises ConfigError."""
    layer: Layer = {}
    for option in OPTIONS:
        where = option.variable
        text = environment.get(where, "")
        if not text:
            continue
        value: object = text
        if option.is_flag:
            value = BOOLEANS.get(text.lower(), text)
        elif option.repeats:
            value = text.replace(",", " ").split()
        layer[option.name] = SourcedValue(_value(option, value, where), where)
    return layer


def misspelled_variables(environment: Mapping[str, str]) -> dict[str, str]:
    """Return likely misspellings of options' variables, each with the right name."""
    known = (CONFIG, *(option.variable for option in OPTIONS))
    names = {name.removeprefix(VARIABLE): name for name in known}
    found = {}
    for name in sorted(environment):
        stem = name.removeprefix(VARIABLE)
        if stem != name and stem not in names and (near := nearest(stem, names, NEARLY)):
            found[name] = names[near]
    return found


# --- a value -------------------------------------------------------------------------------------


def _value(option: Option, value: object, where: str) -> object:
    """Convert a TOML value with the option's converter, which takes command-line text."""
    if option.is_flag:
        if not isinstance(value, bool):
            raise ConfigError(f"{where}: must be true or false, not {_format(value)}")
        return value
    if option.repeats:
        items = value if isinstance(value, list) else [value]
        return tuple(_item(option, item, where) for item in items)
    return _item(option, value, where)


def _item(option: Option, value: object, where: str) -> object:
    if isinstance(value, str):
        text = value
    elif not option.is_number:
        raise ConfigError(f'{where}: must be text, in "quotes", not {_format(value)}')
    elif isinstance(value, bool) or not isinstance(value, int | float):
        raise ConfigError(f'{where}: must be a number, or text in "quotes", not {_format(value)}')
    else:
        text = _format(value)
    try:
        return option.parse(text)
    except ValueError as error:
        raise ConfigError(f"{where}: must be {error}") from None


def _format(value: object) -> str:
    match value:
        case str():
            return shown(value)
        case bool():
            return str(value).lower()
        case int() if value.bit_length() > 1000:
            return "so long a number"  # Python can't convert it to text
        case int() | float():
            return str(value)
        case list():
            return "a list"
        case dict():
            return "a table"
        case _:
            return "a time"
