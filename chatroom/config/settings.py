"""The settings of a room, and the sizes that follow from them.

The fields of `Settings` and the check of each are in options.py; here are the checks that hold
between them. sources.py reads the settings from the command line, the environment and a file.
"""

from dataclasses import replace

from chatroom.config.options import MAX_WORKERS, OPTIONS, Options, Reload, SettingsError
from chatroom.config.sizes import KIB, whole_pages
from chatroom.protocol.prefix import longest

MAX_READ = 32 * KIB
"""Bytes read from a connection in one call, so that nobody has a whole turn for himself."""
MAX_BATCH = 256 * KIB
"""Bytes of rendered messages that a worker appends at once; then it delivers."""
BYTES_PER_ENTRY = 256
"""Bytes of the log for each of its entries: what a run of messages has, at a guess."""
SPARE_SEATS = 10
"""Seats for workers beyond those that a room begins with: one is a dead worker's until others serve
its members, one is for the new one while an old one is replaced, the rest is for SIGTTIN."""
SEATS = MAX_WORKERS + SPARE_SEATS


class Settings(Options):
    """The settings of one room. Raises SettingsError where it could not work."""

    __slots__ = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.proxy_protocol != bool(self.proxy_from):
            demand = "given together with --proxy-from: whose headers are believed"
            raise SettingsError("proxy_protocol", demand)
        if self.max_lag < self.max_line:
            raise SettingsError("max_lag", "a size not below --max-line")
        # A batch has to fit into what the slowest worker leaves free: see `batch`.
        least = max(self.max_lag + 16 * self.max_line, 64 * KIB)
        if self.log_size < least:
            demand = f"at least {least}: --max-lag and 16 times --max-line, and never less than 64K"
            raise SettingsError("log_size", demand)

    def renewed(self, wanted: "Settings") -> "tuple[Settings, list[str], list[str]]":
        """Apply other settings to a running room, as far as that is possible.

        Return the settings that it has then, the names of those that were applied, and the names
        of those that need a restart. The number of workers is changed elsewhere: the seats for
        them are made at the start.
        """
        changed = [row for row in OPTIONS if getattr(self, row.name) != getattr(wanted, row.name)]
        applied = [
            row.name for row in changed if row.reload in (Reload.AT_ONCE, Reload.NEW_MEMBERS)
        ]
        need_restart = [row.name for row in changed if row.reload is Reload.RESTART]
        settings = replace(self, **{name: getattr(wanted, name) for name in applied})
        return settings, applied, need_restart

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
