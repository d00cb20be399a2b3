"""The reasons for which members leave."""

from enum import StrEnum


class LeaveReason(StrEnum):
    """A reason. Its value is a label of a metric, and a field of the event `left`."""

    CLOSED = "closed"
    RESET = "reset"
    LAGGED = "lagged"
    KICKED = "kicked"
    BANNED = "banned"
    WORKER_DIED = "its worker died"
    WORKERS_KEPT_DYING = "its workers kept dying"
