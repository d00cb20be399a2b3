"""The limits of a room: the numbers that its shared memory and its other processes need.

Workers get `Limits` instead of `Settings`: importing the table of options, argparse and dataclasses
would take as long as all other imports of a worker together. settings.py explains the numbers.
"""

from typing import NamedTuple

from chatroom.config.sizes import KIB

MAX_WORKERS = 64
SPARE_SEATS = 10
"""Number of seats in addition to `--workers`. One is for a dead worker, until other workers serve
its members. One is for a new worker that replaces an old worker. The rest are for workers that
SIGTTIN adds."""
BRIDGE_SEATS = 1
"""Number of seats of a cluster's bridge (sidecars/cluster/). They come after the workers' seats."""
SEATS = MAX_WORKERS + SPARE_SEATS + BRIDGE_SEATS

MAX_READ = 32 * KIB
"""Maximum number of bytes to read from a connection in one call, so that no member takes a whole
turn."""
BYTES_PER_ENTRY = 256
"""Bytes of text in the log for each entry: an estimate of the average size of an entry's
messages."""
MIN_COST = BYTES_PER_ENTRY // 2
"""Minimum cost (bytes) of a message, such as an empty line, for --rate and --room-rate. This
minimum limits the number of log entries and of transcript lines per second."""


class Limits(NamedTuple):
    """Values of fields and properties of `Settings`, under the same names."""

    # The log, the slots and the room's rate.
    log_size: int
    log_entries: int
    kept: int
    kept_entries: int
    seats: int
    max_clients: int
    sources: int
    input_size: int
    room_rate: int
    max_debt: int
    # What a worker reads and appends.
    max_line: int
    flush_after: float
    read_size: int
    max_cost: int
    rate: int
    burst: int
    batch: int
    batch_entries: int
    batch_cost: int
    fair_batch: int
    # What a worker delivers.
    max_lag: int
    max_lag_entries: int
    checkpoint_every: int
    checkpoint_every_entries: int
    # What the transcript's process writes.
    transcript_size: int
    # The uplink of a room in a cluster; 0 without one.
    uplink_size: int = 0
