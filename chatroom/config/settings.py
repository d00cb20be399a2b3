"""What a room can be set to, and what those settings make necessary.

Sizes are in bytes, times in seconds. `Settings` checks what holds between
them; `sources.py` reads one from the command line, the environment and a file.
"""

import re
from dataclasses import dataclass, fields, replace
from pathlib import Path

from chatroom.arguments import shown
from chatroom.protocol.prefix import FORM, check, longest
from chatroom.system.endpoint import Endpoint
from chatroom.system.networks import Network

KIB = 1024
MIB = 1024 * KIB

MAX_READ = 32 * KIB
"""Bytes read from a connection in one call, so that nobody has a whole turn for himself."""
MAX_BATCH = 256 * KIB
"""Bytes of rendered messages that a worker appends at once; then it delivers."""
BYTES_PER_ENTRY = 256
"""Bytes of the log for each of its entries: what a run of messages has, at a guess."""
MAX_WORKERS = 64
SPARE_SEATS = 10
"""Seats for workers beyond those that a room begins with: one is a dead worker's until others serve
its members, one is for the new one while an old one is replaced, the rest is for SIGTTIN."""
SEATS = MAX_WORKERS + SPARE_SEATS
PAGE = 4 * KIB
MAX_PREFIX = 128
"""Bytes."""
MAX_WELCOME = KIB
"""Bytes, with the LF: few enough for an empty socket to take them whole."""


LIVE = frozenset(
    {
        "welcome",
        "max_clients_per_address",
        "flush_after",
        "rate",
        "burst",
        "watchdog",
        "peer_timeout",
        "verbose",
    }
)
"""Settings that a room can take while it runs: nothing that processes share is made by them."""


def size(text: str) -> int:
    """Bytes written as `65536`, `64K`, `4M` or `1G`. Raises ValueError."""
    number, unit = (text[:-1], text[-1:].upper()) if text[-1:].isalpha() else (text, "")
    # Thirty digits are enough, and thousands are more than `int` takes.
    if not re.fullmatch("[0-9]{1,30}", number) or unit not in ("", "K", "M", "G"):
        raise ValueError(f"a size such as 65536, 64K or 4M, not {shown(text)}")
    return int(number) << 10 * " KMG".index(unit or " ")


def format_size(number: int) -> str:
    """The shortest way to write a number of bytes so that `size` understands it."""
    for shift, unit in ((30, "G"), (20, "M"), (10, "K")):
        if number and number % (1 << shift) == 0:
            return f"{number >> shift}{unit}"
    return str(number)


def option_name(name: str) -> str:
    """A setting's name as its option has it, without dashes before it."""
    return name.replace("_", "-")


def whole_pages(number: int) -> int:
    """As many bytes, or more, as fill pages of memory."""
    return -(-number // PAGE) * PAGE


class SettingsError(ValueError):
    """A setting is out of range; `name` is the setting at fault, `args[0]` what it has to be."""

    def __init__(self, name: str, demand: str) -> None:
        super().__init__(demand)
        self.name = name


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How one room is run. Raises SettingsError where it could not work."""

    listen: tuple[Endpoint, ...] = ()
    """Where the room is reached, besides the sockets that a service manager hands to it."""
    workers: int = 1
    welcome: str = "Welcome to socket practice"
    prefix: str = FORM
    """What stands before each message: see protocol/prefix.py."""
    max_clients: int = 10_000
    max_clients_per_address: int = 0
    """0: as many as the room holds."""
    max_line: int = 8 * KIB
    flush_after: float = 0.2
    max_lag: int = 4 * MIB
    log_size: int = 16 * MIB
    rate: int = 64 * KIB
    """Bytes a second that are read from a member in the long run; 0: as many as it sends."""
    burst: int = 256 * KIB
    watchdog: float = 10.0
    """Seconds without progress after which a worker is replaced; 0: it is waited for."""
    peer_timeout: int = 300
    """Seconds after which a member is gone whose machine shows no sign of life; 0: the system's."""
    proxy_protocol: bool = False
    """Whether who comes from `proxy_from` has to say, in a PROXY header, for whom it comes."""
    proxy_from: tuple[Network, ...] = ()
    run_dir: Path | None = None
    """The private folder by which its owner finds it; None: the default, if that can be had."""
    keep_bans: bool = False
    """Whether they hold when the room starts again: in a file of `run_dir`."""
    transcript: Path | None = None
    """The file to which all that is said is written; None: to none."""
    metrics: Endpoint | None = None
    """Where Prometheus can read how it goes."""
    quiet: bool = False
    verbose: bool = False
    """Whether to log what happens, and not just what is wrong."""
    log_format: str = "text"
    """One of FORMATS in logs.py."""

    def __post_init__(self) -> None:
        def demand(name: str, holds: bool, words: str) -> None:
            if not holds:
                raise SettingsError(name, words)

        demand("workers", 1 <= self.workers <= MAX_WORKERS, f"a number from 1 to {MAX_WORKERS}")
        demand("welcome", self.welcome.isprintable(), "text without control characters")
        demand(
            "welcome",
            len(self.greeting) <= MAX_WELCOME,
            f"text of fewer than {MAX_WELCOME} bytes",
        )
        try:
            check(self.prefix)
        except ValueError as error:
            demand("prefix", False, str(error))
        demand("prefix", longest(self.prefix) <= MAX_PREFIX, f"at most {MAX_PREFIX} bytes long")
        demand(
            "proxy_protocol",
            self.proxy_protocol == bool(self.proxy_from),
            "given together with --proxy-from: whose headers are believed",
        )
        demand("metrics", not (self.metrics and self.metrics.path), "HOST:PORT")
        demand("max_clients", self.max_clients >= 1, "a number from 1")
        demand("max_clients_per_address", self.max_clients_per_address >= 0, "a number from 0")
        demand("max_line", 64 <= self.max_line <= MIB, "a size from 64 to 1M")
        demand("flush_after", 0 < self.flush_after <= 60, "seconds, above 0 and up to 60")
        demand("rate", self.rate == 0 or self.rate >= 64, "0, or a size from 64")
        demand("burst", self.burst >= KIB, "a size from 1K")
        demand("watchdog", self.watchdog == 0 or 0.5 <= self.watchdog <= 3600, "0, or 0.5 to 3600")
        demand(
            "peer_timeout",
            self.peer_timeout == 0 or 2 <= self.peer_timeout <= 65535,
            "0, or seconds from 2 to 65535",
        )
        demand("max_lag", self.max_lag >= self.max_line, "a size not below --max-line")
        # A batch has to fit into what the slowest worker leaves free: see `batch`.
        least = max(self.max_lag + 16 * self.max_line, 64 * KIB)
        demand(
            "log_size",
            self.log_size >= least,
            f"at least {least}: --max-lag and 16 times --max-line, and never less than 64K",
        )

    def renewed(self, wanted: "Settings") -> "tuple[Settings, list[str], list[str]]":
        """What a room that runs takes of other settings: what it has then, and the names of those
        that it has taken, and of those that it can only begin with.

        How many workers there are is said elsewhere: the seats for them are made when it begins.
        """
        names = [field.name for field in fields(self) if field.name != "workers"]
        changed = [name for name in names if getattr(self, name) != getattr(wanted, name)]
        live = {name: getattr(wanted, name) for name in changed if name in LIVE}
        return replace(self, **live), [*live], [name for name in changed if name not in LIVE]

    @property
    def seats(self) -> int:
        """Workers that there may be at once, a dead one that has left members included."""
        return self.workers + SPARE_SEATS

    @property
    def most_workers(self) -> int:
        """Workers that may be wanted."""
        return self.seats - 2

    @property
    def greeting(self) -> bytes:
        """The first bytes that a member receives (WELCOME-1, WELCOME-4)."""
        return self.welcome.encode() + b"\n"

    @property
    def window(self) -> int:
        """Bytes that may be appended before the slowest worker has delivered them.

        Behind that the log keeps what members have yet to get, and more.
        """
        return self.log_size - self.kept

    @property
    def kept(self) -> int:
        """Bytes of the log behind what the slowest worker has delivered.

        Its members may lag by `max_lag`, and where each of them stood was
        noted up to `checkpoint_every` before.
        """
        return self.max_lag + self.checkpoint_every

    @property
    def checkpoint_every(self) -> int:
        """Bytes of the log after which a worker notes anew where its members stand (LOAD-4)."""
        return (self.log_size - self.max_lag) // 8

    @property
    def log_entries(self) -> int:
        """Entries in the log: enough for messages of BYTES_PER_ENTRY on the average."""
        return self.log_size // BYTES_PER_ENTRY

    @property
    def max_lag_entries(self) -> int:
        """The lag limit in entries, for many short messages lap the entries before the text."""
        return self.log_entries * 5 // 8

    @property
    def kept_entries(self) -> int:
        """The same as `kept`, in entries."""
        return self.max_lag_entries + self.checkpoint_every_entries

    @property
    def checkpoint_every_entries(self) -> int:
        """The same as `checkpoint_every`, in entries."""
        return self.log_entries // 8

    @property
    def read_size(self) -> int:
        """Bytes read from one member in one turn.

        Each may be an empty line and so become a prefix and its LF, and what
        waited before it (`max_line`) may treble, by control pictures. In the
        worst case one read fills less than two thirds of the window.
        """
        return min(MAX_READ, self.window // (3 * (longest(self.prefix) + 2)))

    @property
    def batch(self) -> int:
        """Bytes of rendered messages after which a worker appends before it reads on.

        With the read that exceeds it, a batch is smaller than the window, so
        it always fits when the other workers have caught up.
        """
        return min(MAX_BATCH, self.window // 4)

    @property
    def batch_entries(self) -> int:
        """The same, in entries."""
        return (self.log_entries - self.kept_entries) // 4

    @property
    def input_size(self) -> int:
        """Bytes of a member's input that are kept where another worker finds them.

        What is read and not appended: an unfinished line, which may end in a
        CR, and one read.
        """
        return whole_pages(self.max_line + 1 + self.read_size)
