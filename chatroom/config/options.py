"""The table of options: a row holds everything about one option of the server.

The table defines the fields of `Settings` and, for sources.py, the command line, the file's keys
and the environment variables. The manual page and the table in docs/configuration.md come from it.
CONTRIBUTING.md says how to add a row. Sizes are in bytes, times in seconds.
"""

import argparse
import os
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from enum import Enum
from math import inf
from pathlib import Path
from typing import Any, TypeVar

from chatroom.arguments import argument_type, integer, path, seconds
from chatroom.config.cluster_url import ClusterURL
from chatroom.config.limits import MAX_WORKERS
from chatroom.config.sizes import KIB, MIB, format_size, size
from chatroom.protocol.prefix import FORM, check, longest
from chatroom.system.endpoint import Endpoint
from chatroom.system.networks import Network, parse_network
from chatroom.system.processors import processors
from chatroom.wording import shown

T = TypeVar("T")

VARIABLE = "CHATROOM_"
"""Beginning of the names of environment variables."""

MAX_PREFIX = 128
"""Maximum size of a prefix (bytes)."""
MAX_WELCOME = KIB
"""Maximum size of the welcome (bytes), with its LF. The send buffer of a new socket always has this
much space."""
MAX_GATEWAYS = 64
"""Maximum of `web_processes`."""
MIN_TRANSCRIPT = 4 * MIB
"""Minimum of `transcript_size` (bytes). Each line must fit into an empty file. The longest message
has 1 MiB, the maximum of --max-line. If each of its bytes becomes U+FFFD, it takes 3 MiB in the
file."""

NOUNS = {"N": "a number", "SIZE": "a size", "SECONDS": "seconds"}
"""Nouns for the description of an option's bounds, by its metavar."""


class SettingsError(ValueError):
    """A setting is out of range: `name` is the setting, `args[0]` says what it must be."""

    def __init__(self, name: str, demand: str) -> None:
        super().__init__(demand)
        self.name = name


class Reload(Enum):
    """Time at which a changed value takes effect after SIGHUP, in the words of the documentation.

    A restart is needed if the room uses the value only at its start, for example as the size of
    some shared memory.
    """

    RESTART = "restart"
    AT_ONCE = "at once"
    NEW_MEMBERS = "new members"
    LIMITED = "at once, with a limit"


@dataclass(frozen=True, eq=False)
class Option:
    """A row of the table."""

    name: str
    default: Any
    metavar: str
    convert: Callable[[str], Any]
    """Converter of an argument. It is called for each argument if the option is repeated."""
    help: str
    choices: tuple[str, ...] = ()
    least: float = -inf
    most: float = inf
    above: bool = False
    """True if a value must exceed `least`."""
    or_zero: bool = False
    """True if 0 is valid although it is below `least`."""
    validate: Callable[[Any], None] | None = None
    """Further check of a value. It raises ValueError with a message that says what the value must
    be."""
    reload: Reload = Reload.RESTART
    default_text: str = ""
    """Description of the default, if its value alone is not clear."""
    machine_dependent: bool = False
    """True if the default depends on the machine; --help shows the default for this machine."""

    @property
    def key(self) -> str:
        """Name of the option in a file, and on the command line after the two dashes."""
        return option_name(self.name)

    @property
    def variable(self) -> str:
        return VARIABLE + self.name.upper()

    @property
    def is_flag(self) -> bool:
        """True if the option takes no value on the command line."""
        return isinstance(self.default, bool)

    @property
    def is_number(self) -> bool:
        return isinstance(self.default, int | float) and not self.is_flag

    @property
    def repeats(self) -> bool:
        """True if the option may be repeated. A file then holds a list, and a variable separates
        the values by commas or blanks."""
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
        """Default as documentation shows it; empty if nothing is set by default."""
        if self.default_text or self.is_flag or self.repeats or self.default is None:
            return self.default_text
        return self.format(self.default)

    def format(self, value: Any) -> str:
        """Return a value in the notation of the command line."""
        if self.convert is size:
            return format_size(value)
        return f"{value:g}" if isinstance(value, float) else str(value)

    def parse(self, text: str) -> Any:
        """Convert an argument. Raises ValueError with a message that says what the argument must
        be."""
        if self.choices and text not in self.choices:
            raise ValueError(f"{' or '.join(self.choices)}, not {shown(text)}")
        return self.convert(text)

    def check(self, value: Any) -> None:
        """Check a value. Raises ValueError with a message that says what the value must be."""
        if self.is_number and not (
            (self.least <= value <= self.most and not (self.above and value == self.least))
            or (self.or_zero and value == 0)
        ):
            raise ValueError(self.range)
        if self.validate is not None:
            self.validate(value)

    def add_to(self, parser: argparse.ArgumentParser) -> None:
        """Add the option to a parser, without a default.

        If the option is not given, the parser's result does not contain it.
        """
        default = self.shown_default + (f", here {self.default}" if self.machine_dependent else "")
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
    """Return the name of a setting's option, without the leading dashes."""
    return name.replace("_", "-")


def default_workers() -> int:
    """Return the number of processors that this process may use, up to MAX_WORKERS."""
    return min(processors(), MAX_WORKERS)


def _check_welcome(text: str) -> None:
    if not text.isprintable():
        raise ValueError("text without control characters")
    if len(text.encode()) >= MAX_WELCOME:
        raise ValueError(f"text of fewer than {MAX_WELCOME} bytes")


def _check_prefix(form: str) -> None:
    check(form)
    if longest(form) > MAX_PREFIX:
        raise ValueError(f"at most {MAX_PREFIX} bytes long")


def _check_port(endpoint: Endpoint | None) -> None:
    if endpoint and endpoint.path:
        raise ValueError("HOST:PORT")


def _check_origins(origins: tuple[str, ...]) -> None:
    for origin in origins:
        if not re.fullmatch(r"https?://[a-z0-9.-]+(:\d+)?|https?://\[[0-9a-f:.]+\](:\d+)?", origin):
            raise ValueError(f"an origin such as https://example.org, not {shown(origin)}")


def _check_transcript(file: Path | None) -> None:
    if file and os.path.isdir(file):
        raise ValueError(f"a file, not a folder: {file / 'room.jsonl'}, for example")


def option(default: T, metavar: str = "", convert: Callable[[str], object] = str, **row: Any) -> T:
    """Define a row: a field with a default, and the fields of `Option` as its metadata."""
    return field(default=default, metadata={"metavar": metavar, "convert": convert, **row})


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The table: each field is an option. Raises SettingsError if a value is out of range."""

    # fmt: off
    listen: tuple[Endpoint, ...] = option((), "ADDRESS", Endpoint.parse,
        help="listen at this address: HOST:PORT, [IPV6]:PORT or unix:PATH; repeatable. HOST PORT"
        " may be left out if this option is given, or if a service manager passes sockets")
    workers: int = option(default_workers(), "N", integer, least=1, most=MAX_WORKERS,
        reload=Reload.LIMITED, default_text="one for each usable core", machine_dependent=True,
        help="number of processes that serve members")
    pack: int = option(256, "N", integer, least=1,
        help="number of members that a worker gets before the next worker gets any; when each"
        " worker has that many, further members are spread evenly; 1: always spread evenly")
    welcome: str = option("Welcome to socket practice", "TEXT", validate=_check_welcome,
        reload=Reload.AT_ONCE,
        help="line that a new member receives first")
    history: int = option(0, "N", integer, least=0, most=10_000, reload=Reload.NEW_MEMBERS,
        help="maximum number of earlier messages that a new member receives after the welcome; the"
        " log may hold fewer, and together they take at most a quarter of --max-lag; 0: none")
    announce: bool = option(False,
        help="tell the members, as <room>, when a member joins or leaves")
    prefix: str = option(FORM, "FORMAT", validate=_check_prefix,
        help="text before each message; {ip}, {port} and {id} are the sender's address, port and"
        " id")
    max_clients: int = option(10_000, "N", integer, least=1,
        help="maximum number of members, lowered if there are too few file descriptors; the room"
        " raises `ulimit -n` to its hard limit, if the system permits it")
    max_clients_per_address: int = option(0, "N", integer, least=0, reload=Reload.NEW_MEMBERS,
        default_text="0, no limit",
        help="maximum number of members from one address")
    max_line: int = option(8 * KIB, "SIZE", size, least=64, most=MIB,
        help="maximum length of a line; a longer line is split, and nothing is lost")
    flush_after: float = option(0.2, "SECONDS", seconds, least=0, above=True, most=60,
        reload=Reload.AT_ONCE,
        help="silence after which text without a line end is delivered")
    max_lag: int = option(4 * MIB, "SIZE", size,
        help="maximum lag of a member that reads slowly; a member with a larger lag is"
        " disconnected, and so is a member that lags by more than 40,960 log entries (with the"
        " default --log-size); an entry holds consecutive messages of one sender")
    log_size: int = option(16 * MIB, "SIZE", size,
        help="size of the log, the shared memory that holds messages until they are delivered")
    rate: int = option(64 * KIB, "SIZE", size, least=64, or_zero=True, reload=Reload.AT_ONCE,
        help="maximum average rate of a member: bytes per second that its messages add to the log,"
        " including prefixes; each message counts as at least 128 bytes; a faster member is"
        " throttled, and loses nothing; 0: no limit")
    burst: int = option(256 * KIB, "SIZE", size, least=KIB, reload=Reload.AT_ONCE,
        help="bytes that a member's messages may add to the log before --rate applies")
    room_rate: int = option(768 * KIB, "SIZE", size, least=KIB, or_zero=True,
        reload=Reload.AT_ONCE,
        help="maximum bytes per second that all members together may add to the log in the long"
        " run, counted as for --rate and shared fairly among their addresses; 0: no limit")
    room_burst: int = option(0, "SIZE", size, least=64 * KIB, or_zero=True,
        default_text="0, half of --max-lag",
        help="bytes that all members together may add to the log before --room-rate applies; at"
        " most half of --max-lag")
    peer_timeout: int = option(300, "SECONDS", integer, least=2, most=65535, or_zero=True,
        reload=Reload.NEW_MEMBERS,
        help="time after which a member is disconnected if its machine does not respond or its"
        " receive window stays full; 0: kernel default")
    watchdog: float = option(10.0, "SECONDS", seconds, least=0.5, most=3600, or_zero=True,
        reload=Reload.AT_ONCE,
        help="time without progress after which a worker, or the transcript's process, is"
        " replaced; 0: disabled")
    proxy_protocol: bool = option(False,
        help="expect a PROXY protocol header, version 1 or 2, on connections from the addresses of"
        " --proxy-from (HAProxy, nginx, stunnel)")
    proxy_from: tuple[Network, ...] = option((), "NETWORK", parse_network,
        help="trusted proxy: an address, a network such as 10.0.0.0/8, or unix for all connections"
        " to a Unix socket; repeatable")
    run_dir: Path | None = option(None, "FOLDER", path,
        default_text="a folder in $XDG_RUNTIME_DIR, or in the folder for temporary files",
        help="folder in which `python -m chatroom.status` and `.admin` find the room; only this"
        " user may have access to it")
    keep_bans: bool = option(False,
        help="save bans in the run-dir, and load them at the next start at the same address")
    transcript: Path | None = option(None, "FILE", path, validate=_check_transcript,
        help="append every message to FILE, as a line of JSON; SIGUSR1 reopens FILE")
    transcript_size: int = option(0, "SIZE", size, least=MIN_TRANSCRIPT, or_zero=True,
        default_text="0, no limit",
        help="maximum size of FILE; before FILE grows beyond this size, it is renamed to FILE.1,"
        " an older FILE.1 is replaced, and a new FILE is begun; 0: no limit")
    metrics: Endpoint | None = option(None, "HOST:PORT", Endpoint.parse, validate=_check_port,
        help="serve metrics for Prometheus over HTTP at this address; needs chatroom[metrics]")
    cluster: ClusterURL | None = option(None, "URL", ClusterURL.parse,
        help="make one room of all servers that have the same URL: nats://HOST:PORT/ROOM or"
        " tls://HOST:PORT/ROOM. HOST:PORT is a NATS server with JetStream, or several of them,"
        " separated by commas; USER:PASSWORD@ or TOKEN@ may precede it; ROOM is the room's name;"
        " needs chatroom[cluster]")
    cluster_credentials: Path | None = option(None, "FILE", path,
        help="credentials file for the NATS servers")
    cluster_ca: Path | None = option(None, "FILE", path,
        default_text="the system's certificate authorities",
        help="certificate authorities (PEM) for tls://")
    cluster_replicas: int = option(0, "N", integer, least=1, most=5, or_zero=True,
        default_text="0, which means three if there are three NATS servers or more, else one",
        help="number of copies of the messages that the NATS servers keep; used when the room's"
        " stream is created")
    web: Endpoint | None = option(None, "HOST:PORT", Endpoint.parse, validate=_check_port,
        help="serve a page on which browsers can join, at this address; needs chatroom[web]")
    web_processes: int = option(1, "N", integer, least=1, most=MAX_GATEWAYS,
        help="number of processes, the gateways, that serve the page and line clients over TLS")
    web_cert: Path | None = option(None, "FILE", path,
        help="certificate (PEM) for --web, which then serves https, and for --tls; SIGHUP reads"
        " FILE again")
    web_key: Path | None = option(None, "FILE", path,
        help="private key (PEM) of --web-cert")
    tls: Endpoint | None = option(None, "HOST:PORT", Endpoint.parse, validate=_check_port,
        help="serve line clients over TLS at this address, with the certificate of --web-cert;"
        " needs chatroom[web]")
    web_origin: tuple[str, ...] = option((), "ORIGIN", validate=_check_origins,
        help="another site whose pages may join, such as https://example.org; also allows its host"
        " name over plain HTTP; repeatable; by default only the page itself")
    web_proxy_from: tuple[Network, ...] = option((), "NETWORK", parse_network,
        help="address or network of a trusted reverse proxy in front of --web; the proxy names the"
        " browser's address in X-Forwarded-For or Forwarded; repeatable")
    web_keep: float = option(60.0, "SECONDS", seconds, least=0, most=86_400,
        help="time for which a browser without a connection remains a member, so that it can"
        " resume where it was")
    quiet: bool = option(False,
        help="do not print the conversation")
    verbose: bool = option(False, reload=Reload.AT_ONCE,
        help="log all events, not only warnings and errors")
    log_format: str = option("text", choices=("text", "json"),
        help="format of the log on standard error: a line of key=value pairs, or a JSON object,"
        " for each event")
    # fmt: on

    def __post_init__(self) -> None:
        for option in OPTIONS:
            try:
                option.check(getattr(self, option.name))
            except ValueError as error:
                raise SettingsError(option.name, str(error)) from None


OPTIONS = tuple(Option(field.name, field.default, **field.metadata) for field in fields(Options))
"""The rows of the table, in its order."""
