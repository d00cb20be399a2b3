"""The settings of a room, and the sizes that follow from them.

options.py defines the fields of `Settings` and checks each value; this module checks that the
values fit together. sources.py reads the settings from the command line, the environment and a
file.
"""

from dataclasses import replace

from chatroom.config.limits import BYTES_PER_ENTRY, MAX_READ, MIN_COST, SPARE_SEATS, Limits
from chatroom.config.options import OPTIONS, Options, Reload, SettingsError
from chatroom.config.sizes import KIB, MIB, whole_pages
from chatroom.protocol.framing import MAX_COMMANDS
from chatroom.protocol.prefix import longest

MAX_BATCH = 256 * KIB
"""Maximum of `Settings.batch` (bytes)."""
MAX_CLUSTER_LINE = 64 * KIB
"""Maximum of `max_line` in a cluster (bytes): a line may triple in size, and NATS accepts messages
up to 1 MB."""
MAX_RUN = 256 * KIB
"""Maximum size (bytes) of the messages that one read adds to the log in a cluster, without the
unfinished line before them."""
MIN_CLUSTER_WINDOW = 2 * MIB
"""Minimum of `Settings.window` in a cluster (bytes): any node's publication must fit into it."""
MIN_DEBT = 64 * KIB
"""Minimum (bytes) of `Settings.max_debt`, for rooms with a small --max-lag."""


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
        self._check_certificate()
        if self.max_lag < self.max_line:
            raise SettingsError("max_lag", "a size not below --max-line")
        if self.room_burst > self._half_lag:
            demand = f"0, or a size up to {self._half_lag}, half of --max-lag"
            raise SettingsError("room_burst", demand)
        if self.cluster:
            if self.max_line > MAX_CLUSTER_LINE:
                raise SettingsError("max_line", f"at most {MAX_CLUSTER_LINE} in a cluster")
            if self.window < MIN_CLUSTER_WINDOW:
                demand = f"at least {MIN_CLUSTER_WINDOW} more than --max-lag in a cluster"
                raise SettingsError("log_size", demand)
        # A batch must fit into the part of the log that the slowest worker leaves free: see
        # `batch`.
        least = max(self.max_lag + 16 * self.max_line, 64 * KIB)
        if self.log_size < least:
            demand = f"at least {least}: --max-lag plus 16 times --max-line, and 64K or more"
            raise SettingsError("log_size", demand)

    def _check_certificate(self) -> None:
        if bool(self.web_cert) != bool(self.web_key):
            given, lacks = ("cert", "key") if self.web_cert else ("key", "cert")
            raise SettingsError(f"web_{given}", f"given together with --web-{lacks}")
        if self.tls and not self.web_cert:
            raise SettingsError("tls", "given together with --web-cert and --web-key")

    def renewed(self, wanted: "Settings") -> "tuple[Settings, list[str], list[str]]":
        """Apply other settings to a running room, as far as possible.

        Return the new settings, the names of the applied options, and the names of the options that
        need a restart. The number of workers is not applied here: the pool applies it, within its
        fixed number of seats.
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
        """Maximum number of workers at once. A dead worker counts until other workers serve its
        members."""
        return self.workers + SPARE_SEATS

    @property
    def max_workers(self) -> int:
        """Maximum number of workers that SIGTTIN or a reload can set."""
        return self.seats - 2

    @property
    def sources(self) -> int:
        """Maximum number of sources that have a number at once (supervisor/sources.py)."""
        return 2 * self.max_clients

    @property
    def greeting(self) -> bytes:
        """First bytes that a member receives (WELCOME-1, WELCOME-4)."""
        return self.welcome.encode() + b"\n"

    @property
    def window(self) -> int:
        """Maximum size of the text that the slowest worker has yet to deliver (bytes).

        The rest of the log (`kept`) holds older messages, for lagging members and for recovery.
        """
        return self.log_size - self.kept

    @property
    def kept(self) -> int:
        """Bytes of the log that are kept behind the slowest worker's position.

        That worker's members may lag by `max_lag`, and their checkpoints by `checkpoint_every`
        more.
        """
        return self.max_lag + self.checkpoint_every

    @property
    def checkpoint_every(self) -> int:
        """Bytes of the log between two checkpoints of a worker's members (LOAD-4)."""
        return (self.log_size - self.max_lag) // 8

    @property
    def log_entries(self) -> int:
        """Number of entries in the log: enough if an entry has BYTES_PER_ENTRY bytes of text on
        average."""
        return self.log_size // BYTES_PER_ENTRY

    @property
    def max_lag_entries(self) -> int:
        """Lag limit in entries: short messages fill the ring of entries before the ring of text."""
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
        """Maximum number of bytes to read from one member in one turn.

        In the worst case, each byte is an empty line, which becomes a prefix and a LF. In addition,
        there may be an unfinished line from earlier reads (`max_line`), which triples in size if
        each of its bytes becomes a control picture. Even in this case, one read fills less than two
        thirds of the window, and costs an eighth of the room's burst.
        """
        if self.room_rate:
            return min(self._max_read, self.max_debt // (8 * self._max_byte_cost))
        return self._max_read

    @property
    def max_cost(self) -> int:
        """Maximum cost of one read in bytes, without the unfinished line before it."""
        return self.read_size * self._max_byte_cost

    @property
    def _max_read(self) -> int:
        """Maximum of `read_size` for all room rates: a reload may change the rate."""
        largest = self.window // 3
        if self.cluster:
            largest = min(largest, MAX_RUN)
        return min(MAX_READ, largest // (longest(self.prefix) + 2))

    @property
    def uplink_size(self) -> int:
        """Size of a cluster's uplink in bytes (log/uplink.py); 0 without a cluster."""
        return self.log_size if self.cluster else 0

    @property
    def _max_byte_cost(self) -> int:
        """Cost (bytes) of an empty line: the maximum cost of one byte of input."""
        return max(longest(self.prefix) + 1, MIN_COST)

    @property
    def batch(self) -> int:
        """Size (bytes of rendered messages) at which a batch is full, and a worker appends it.

        The last read of a batch may exceed this size. Even then, the batch is smaller than the
        window, so it fits into the log once the other workers have caught up.
        """
        return min(MAX_BATCH, self.window // 4)

    @property
    def batch_cost(self) -> int:
        """Limit of a batch in bytes of cost. A batch and one more read cost at most a quarter of
        the room's burst."""
        return self.max_debt // 8

    @property
    def fair_batch(self) -> int:
        """Replacement for `batch_cost` while members wait for their turns (worker/fair_queue.py).

        The batches of all workers together cost an eighth of the room's burst. So they do not use
        up the part of the burst that is reserved for sources that send little.
        """
        return self.max_debt // (8 * self.seats)

    @property
    def max_debt(self) -> int:
        """Bytes that the room may append before --room-rate applies (log/room_rate.py)."""
        return self.room_burst or self._half_lag

    @property
    def _half_lag(self) -> int:
        """Half of the lag limit, in bytes of cost. The lag is limited in bytes and in entries; the
        lower limit counts."""
        return max(MIN_DEBT, min(self.max_lag, self.max_lag_entries * MIN_COST) // 2)

    @property
    def batch_entries(self) -> int:
        """Limit of a batch in entries."""
        return (self.log_entries - self.kept_entries) // 4

    @property
    def input_size(self) -> int:
        """Size of a slot's input buffer (bytes), which another worker needs for recovery.

        It holds all input that was read and not appended: an unfinished line and one read. The line
        may end with a CR, and contain telnet commands.
        """
        return whole_pages(self.max_line + 1 + MAX_COMMANDS + self._max_read)
