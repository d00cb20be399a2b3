"""A worker's seat: its number, and the resources that all workers share."""

from typing import NamedTuple

from chatroom.config.limits import Limits
from chatroom.log.ring import Log
from chatroom.log.room_rate import RoomRate
from chatroom.log.slots import Slots
from chatroom.log.uplink import Uplink
from chatroom.system.doorbell import Doorbell


class Seat(NamedTuple):
    """The number and the resources of a worker, except its channel to the main process."""

    number: int
    """Number of the worker that has the seat."""
    limits: Limits
    log: Log
    slots: Slots
    room_rate: RoomRate
    doorbells: list[Doorbell]
    """Doorbells of all seats, by number; after them, the doorbells of other readers of the log. In
    a cluster, the first of the readers is the bridge."""
    uplink: Uplink | None = None
    """Log to which workers append the members' messages in a cluster; None without a cluster."""
