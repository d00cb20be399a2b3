"""The settings of a room, and the sizes that follow from them.

options.py defines the fields of `Settings` and the check of each; this module checks them against
each other. sources.py reads the settings from the command line, the environment and a file.
"""

from dataclasses import replace

from chatroom.config.limits import BYTES_PER_ENTRY, LEAST_COST, MAX_READ, SPARE_SEATS, Limits
from chatroom.config.options import OPTIONS, Options, Reload, SettingsError
from chatroom.config.sizes import KIB, whole_pages
from chatroom.protocol.framing import MAX_COMMANDS
from chatroom.protocol.prefix import longest

MAX_BATCH = 256 * KIB
"""Maximum of `Settings.batch` (bytes)."""
LEAST_DEBT = 64 * KIB
"""Least value of `Settings.most_debt` in bytes, for rooms with a small --max-lag."""


class Settings(Options):
    """The settings of one room. Raises SettingsError if a room can't work with them."""

    __slots__ = ()

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.proxy_protocol and not self.proxy_from:
            demand = "given together with --proxy-from, the addresses of trusted proxies"
            raise SettingsError("proxy_protocol", demand)
        if self.proxy_from and not self.proxy_protocol:
            demand = "given together with --proxy-protocol: these proxies must send its header"
            raise SettingsError("proxy_from", demand)
        if self.max_lag < self.max_line:
            raise SettingsError("max_lag", "a size not below --max-line")
        if self.room_burst > self._half_lag:
            demand = f"0, or a size up to {self._half_lag}, half of --max-lag"
            raise SettingsError("room_burst", demand)
        # A batch must fit into what the slowest worker leaves free of the log: see `batch`.
        least = max(self.max_lag + 16 * self.max_line, 64 * KIB)
        if self.log_size < least:
            demand = f"at least {least}: --max-lag plus 16 times --max-line, and 64K or more"
            raise SettingsError("log_size", demand)

    def renewed(self, wanted: "Settings") -> "tuple[Settings, list[str], list[str]]":
        """Apply other settings to a running room, as far as possible.

        Return the new settings, the names of those applied, and the names of those that need a
        restart. The number of workers is not applied here, but by the pool, which has a fixed
        number of seats.
        """
        changed = [row for row in OPTIONS if getattr(self, row.name) != getattr(wanted, row.name)]
        applied = [
            row.name for row in changed if row.reload in (Reload.AT_ONCE, Reload.NEW_MEMBERS)
        ]
        need_restart = [row.name for row in changed if row.reload is Reload.RESTART]
        settings = replace(self, **{name: getattr(wanted, name) for name in applied})
        return settings, applied, need_restart

    @property
    def limits(self) -> Limits:
        """The numbers that the shared memory and the other processes need."""
        return Limits(*(getattr(self, name) for name in Limits._fields))

    @property
    def seats(self) -> int:
        """Maximum of workers at once, including a dead one whose members are not served yet."""
        return self.workers + SPARE_SEATS

    @property
    def most_workers(self) -> int:
        """Maximum for the wanted number of workers."""
        return self.seats - 2

    @property
    def sources(self) -> int:
        """Number of sources that are remembered (supervisor/sources.py)."""
        return 2 * self.max_clients

    @property
    def greeting(self) -> bytes:
        """First bytes that a member receives (WELCOME-1, WELCOME-4)."""
        return self.welcome.encode() + b"\n"

    @property
    def window(self) -> int:
        """Maximum size of the text that the slowest worker has yet to deliver (bytes).

        The rest of the log (`kept`) holds older messages, for members that lag and for recovery.
        """
        return self.log_size - self.kept

    @property
    def kept(self) -> int:
        """Bytes of the log that are kept behind the slowest worker's position.

        Its members may lag by `max_lag`, and their checkpoints by `checkpoint_every` more.
        """
        return self.max_lag + self.checkpoint_every

    @property
    def checkpoint_every(self) -> int:
        """Bytes of the log between two checkpoints of a worker's members (LOAD-4)."""
        return (self.log_size - self.max_lag) // 8

    @property
    def log_entries(self) -> int:
        """Entries in the log: enough if an entry has BYTES_PER_ENTRY on average."""
        return self.log_size // BYTES_PER_ENTRY

    @property
    def max_lag_entries(self) -> int:
        """Lag limit in entries: with short messages, the entries are lapped before the text."""
        return self.log_entries * 5 // 8

    @property
    def kept_entries(self) -> int:
        """`kept`, in entries."""
        return self.max_lag_entries + self.checkpoint_every_entries

    @property
    def checkpoint_every_entries(self) -> int:
        """`checkpoint_every`, in entries."""
        return self.log_entries // 8

    @property
    def read_size(self) -> int:
        """Maximum of bytes read from one member in one turn.

        In the worst case, each byte is an empty line, which becomes a prefix and a LF, and the
        unfinished line before them (`max_line`) trebles in size, by control pictures. Even then,
        one read fills less than two thirds of the window, and costs an eighth of the room's burst.
        """
        if self.room_rate:
            return min(self._most_read, self.most_debt // (8 * self._dearest_byte))
        return self._most_read

    @property
    def most_cost(self) -> int:
        """Maximum cost of one read in bytes, without the unfinished line before it."""
        return self.read_size * self._dearest_byte

    @property
    def _most_read(self) -> int:
        """`read_size` without a limit of the room's rate, which a reload may change."""
        return min(MAX_READ, self.window // (3 * (longest(self.prefix) + 2)))

    @property
    def _dearest_byte(self) -> int:
        """Cost in bytes of an empty line, the most that one byte of input can cost."""
        return max(longest(self.prefix) + 1, LEAST_COST)

    @property
    def batch(self) -> int:
        """Size of a batch (bytes of rendered messages) from which a worker appends it.

        Even with the read that exceeds this size, a batch is smaller than the window. So it fits
        into the log once the other workers have caught up.
        """
        return min(MAX_BATCH, self.window // 4)

    @property
    def batch_cost(self) -> int:
        """`batch`, in bytes of cost: with one more read, a quarter of the room's burst."""
        return self.most_debt // 8

    @property
    def fair_batch(self) -> int:
        """`batch_cost`, while members wait for their turns (worker/fair_queue.py).

        The batches of all workers are an eighth of the room's burst, so that they do not use up
        the part of it that is kept for members that send little.
        """
        return self.most_debt // (8 * self.seats)

    @property
    def most_debt(self) -> int:
        """Bytes that the room may append before --room-rate applies (log/room_rate.py)."""
        return self.room_burst or self._half_lag

    @property
    def _half_lag(self) -> int:
        """Half of the lag limit, in bytes of cost: of that in bytes or of that in entries."""
        return max(LEAST_DEBT, min(self.max_lag, self.max_lag_entries * LEAST_COST) // 2)

    @property
    def batch_entries(self) -> int:
        """`batch`, in entries."""
        return (self.log_entries - self.kept_entries) // 4

    @property
    def input_size(self) -> int:
        """Size of a slot's input buffer (bytes), from which another worker recovers.

        It holds all input that was read and not appended: an unfinished line, which may end in a
        CR and hold telnet commands, and one read.
        """
        return whole_pages(self.max_line + 1 + MAX_COMMANDS + self._most_read)
