"""The table of options: a row holds all that is known of one option of the server.

The command line, the keys of the file and the variables (sources.py), `Settings`, the manual page
and the table in docs/configuration.md come from it. docs/architecture.md says how to add a row.
Sizes are in bytes, times in seconds.
"""

import argparse
import os
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import Enum
from math import inf
from pathlib import Path
from typing import Any, TypeVar

from chatroom.arguments import argument_type, integer, path, seconds, shown
from chatroom.config.sizes import KIB, MIB, format_size, size
from chatroom.protocol.prefix import FORM, check, longest
from chatroom.system.endpoint import Endpoint
from chatroom.system.networks import Network, parse_network

T = TypeVar("T")

VARIABLE = "CHATROOM_"
"""Beginning of the names of variables."""

MAX_WORKERS = 64
MAX_PREFIX = 128
"""Bytes."""
MAX_WELCOME = KIB
"""Bytes, with the LF: few enough for an empty socket to take them all."""

NOUNS = {"N": "a number", "SIZE": "a size", "SECONDS": "seconds"}
"""Names of a value that has bounds, by its metavar."""


class SettingsError(ValueError):
    """A setting is out of range: `name` is the setting, `args[0]` says what it must be."""

    def __init__(self, name: str, demand: str) -> None:
        super().__init__(demand)
        self.name = name


class Reload(Enum):
    """When a value that has changed takes effect after SIGHUP, in the words of the documentation.

    Whatever processes share is made from the settings at the start: such a value needs a restart.
    """

    RESTART = "restart"
    AT_ONCE = "at once"
    NEW_MEMBERS = "new members"
    FREE_SEATS = "where there are seats"


@dataclass(frozen=True, eq=False)
class Option:
    """A row of the table."""

    name: str
    default: Any
    metavar: str
    convert: Callable[[str], Any]
    """Converter of an argument, or of one item where the option may be repeated."""
    help: str
    choices: tuple[str, ...] = ()
    least: float = -inf
    most: float = inf
    above: bool = False
    """Whether a value must exceed `least`."""
    or_zero: bool = False
    """Whether 0 is valid, too."""
    validate: Callable[[Any], None] | None = None
    """Check of what bounds can't express; raises ValueError, saying what a value must be."""
    reload: Reload = Reload.RESTART
    default_text: str = ""
    """Description of the default, where its value says too little."""
    here: bool = False
    """Whether the default depends on the machine; --help adds its value."""

    @property
    def key(self) -> str:
        """Name in a file, and on the command line after its two dashes."""
        return option_name(self.name)

    @property
    def variable(self) -> str:
        return VARIABLE + self.name.upper()

    @property
    def is_flag(self) -> bool:
        """Whether it takes no value on the command line."""
        return isinstance(self.default, bool)

    @property
    def is_number(self) -> bool:
        return isinstance(self.default, int | float) and not self.is_flag

    @property
    def repeats(self) -> bool:
        """Whether it may be given again: a list in a file, commas or blanks in a variable."""
        return isinstance(self.default, tuple)

    @property
    def range(self) -> str:
        """Description of the bounds, such as `0, or a size from 64`; empty if there are none."""
        if self.least == -inf:
            return ""
        from_, to = (", above", " and up to") if self.above else (" from", " to")
        text = f"{NOUNS[self.metavar]}{from_} {self.format(self.least)}"
        text += f"{to} {self.format(self.most)}" if self.most < inf else ""
        return f"0, or {text}" if self.or_zero else text

    @property
    def shown_default(self) -> str:
        """Default as documentation shows it; empty if it is that nothing is set."""
        if self.default_text or self.is_flag or self.repeats or self.default is None:
            return self.default_text
        return self.format(self.default)

    def format(self, value: Any) -> str:
        """Write a value as the command line takes it."""
        if self.convert is size:
            return format_size(value)
        return f"{value:g}" if isinstance(value, float) else str(value)

    def parse(self, text: str) -> Any:
        """Convert an argument. Raise ValueError, saying what it must be."""
        if self.choices and text not in self.choices:
            raise ValueError(f"{' or '.join(self.choices)}, not {shown(text)}")
        return self.convert(text)

    def check(self, value: Any) -> None:
        """Raise ValueError, saying what a value must be, where it is out of range."""
        if self.is_number and not (
            (self.least <= value <= self.most and not (self.above and value == self.least))
            or (self.or_zero and value == 0)
        ):
            raise ValueError(self.range)
        if self.validate is not None:
            self.validate(value)

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add it to a command line, without a default: only what is given is in the result."""
        default = self.shown_default + (f", here {self.default}" if self.here else "")
        text = self.help + (f" (default: {default})" if default else "")
        more: dict[str, Any] = {"action": "store_true"}
        if not self.is_flag:
            more = {
                "action": "append" if self.repeats else "store",
                "type": argument_type(self.parse),
                "metavar": self.metavar or None,
                "choices": self.choices or None,
            }
        parser.add_argument(
            f"--{self.key}", default=argparse.SUPPRESS, help=text.replace("%", "%%"), **more
        )


def option_name(name: str) -> str:
    """Return the name of a setting as its option has it, without the dashes before it."""
    return name.replace("_", "-")


def default_workers() -> int:
    """Return one worker for each processor that this process may use, up to MAX_WORKERS."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(cores, MAX_WORKERS)


def _check_welcome(text: str) -> None:
    if not text.isprintable():
        raise ValueError("text without control characters")
    if len(text.encode()) >= MAX_WELCOME:
        raise ValueError(f"text of fewer than {MAX_WELCOME} bytes")


def _check_prefix(form: str) -> None:
    check(form)
    if longest(form) > MAX_PREFIX:
        raise ValueError(f"at most {MAX_PREFIX} bytes long")


def _check_metrics(endpoint: Endpoint | None) -> None:
    if endpoint and endpoint.path:
        raise ValueError("HOST:PORT")


def option(default: T, metavar: str = "", convert: Callable[[str], object] = str, **row: Any) -> T:
    """Define a row: a field with a default, and the fields of `Option`."""
    return field(default=default, metadata={"metavar": metavar, "convert": convert, **row})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The table. A field of it is an option. Raises SettingsError where one is out of range."""

    # fmt: off
    listen: tuple[Endpoint, ...] = option((), "ADDRESS", Endpoint.parse,
        help="listen there, too: HOST:PORT, [IPV6]:PORT or unix:PATH; may be given again, and then"
        " HOST PORT may be left out, as where a service manager hands sockets over")
    workers: int = option(default_workers(), "N", integer, least=1, most=MAX_WORKERS,
        reload=Reload.FREE_SEATS, default_text="one for each usable core", here=True,
        help="processes that serve members")
    welcome: str = option("Welcome to socket practice", "TEXT", validate=_check_welcome,
        reload=Reload.AT_ONCE,
        help="the line that greets a new member")
    prefix: str = option(FORM, "FORMAT", validate=_check_prefix,
        help="what stands before each message; {ip}, {port} and {id} are the sender's")
    max_clients: int = option(10_000, "N", integer, least=1,
        help="members that the room holds, if descriptors allow (`ulimit -n`, which it raises to"
        " its hard limit itself, where the system lets it)")
    max_clients_per_address: int = option(0, "N", integer, least=0, reload=Reload.NEW_MEMBERS,
        default_text="0, as many as the room holds",
        help="of those, from one address")
    max_line: int = option(8 * KIB, "SIZE", size, least=64, most=MIB,
        help="longest line; a longer one is cut, and none of it is lost")
    flush_after: float = option(0.2, "SECONDS", seconds, least=0, above=True, most=60,
        reload=Reload.AT_ONCE,
        help="silence after which text without a line end is delivered")
    max_lag: int = option(4 * MIB, "SIZE", size,
        help="how far a slow reader may lag before it is disconnected; very many tiny messages"
        " count too: by default, 40,960 runs of messages")
    log_size: int = option(16 * MIB, "SIZE", size,
        help="memory for messages on their way")
    rate: int = option(64 * KIB, "SIZE", size, least=64, or_zero=True, reload=Reload.AT_ONCE,
        help="how much is read from a member in a second, in the long run; a member that sends"
        " more is read more slowly, and loses nothing; 0 is no limit")
    burst: int = option(256 * KIB, "SIZE", size, least=KIB, reload=Reload.AT_ONCE,
        help="how much a member may send before that counts")
    peer_timeout: int = option(300, "SECONDS", integer, least=2, most=65535, or_zero=True,
        reload=Reload.NEW_MEMBERS,
        help="a member whose machine shows no sign of life for so long, or whose window stays"
        " full, is disconnected; 0: as the system has it")
    watchdog: float = option(10.0, "SECONDS", seconds, least=0.5, most=3600, or_zero=True,
        reload=Reload.AT_ONCE,
        help="a worker, or the process that writes a transcript, that makes no progress for so"
        " long is replaced; 0: it is waited for")
    proxy_protocol: bool = option(False,
        help="connections from the addresses of --proxy-from come through a proxy (HAProxy,"
        " nginx, stunnel), which first sends the client's address by the PROXY protocol,"
        " version 1 or 2")
    proxy_from: tuple[Network, ...] = option((), "NETWORK", parse_network,
        help="an address, a network such as 10.0.0.0/8, or unix for all connections to a Unix"
        " socket; may be given again")
    run_dir: Path | None = option(None, "FOLDER", path,
        default_text="a folder of $XDG_RUNTIME_DIR, or of the one for temporary files",
        help="where `python -m chatroom.status` and `.admin` find the room; it must be this"
        " user's alone")
    keep_bans: bool = option(False,
        help="keep bans, in the run-dir, for the next start at the same address")
    transcript: Path | None = option(None, "FILE", path,
        help="append every message to FILE, a line of JSON each; SIGUSR1 opens it anew")
    metrics: Endpoint | None = option(None, "HOST:PORT", Endpoint.parse, validate=_check_metrics,
        help="serve there, by HTTP, what Prometheus reads; needs chatroom[metrics]")
    quiet: bool = option(False,
        help="do not print the conversation")
    verbose: bool = option(False, reload=Reload.AT_ONCE,
        help="log what happens, and not just what is wrong")
    log_format: str = option("text", choices=("text", "json"),
        help="of the log, on standard error: a line of key=value, or an object of JSON, for each"
        " event")
    # fmt: on

    def __post_init__(self) -> None:
        for option in OPTIONS:
            try:
                option.check(getattr(self, option.name))
            except ValueError as error:
                raise SettingsError(option.name, str(error)) from None


OPTIONS = tuple(Option(field.name, field.default, **field.metadata) for field in fields(Options))
"""The rows of the table, in its order."""
