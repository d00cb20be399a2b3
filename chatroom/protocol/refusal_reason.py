"""The reasons for which connections are refused."""

from enum import StrEnum


class RefusalReason(StrEnum):
    """A reason. Its value is a label of a metric, and a field of the event `refused`."""

    # The client receives each of these values as a line (JOIN-5).
    FULL = "The room is full"
    TOO_MANY = "Too many connections from your address"
    BANNED = "You are banned from this room"
    # The values of LeaveReason for connections that speak another protocol.
    HTTP = "spoke HTTP"
    TLS = "spoke TLS"
    STUN = "spoke STUN"
