"""The reasons for which connections are refused."""

from enum import StrEnum


class RefusalReason(StrEnum):
    """A reason. Its value is the line that the client receives (JOIN-5), a label of a metric, and a
    field of the event `refused`."""

    FULL = "The room is full"
    TOO_MANY = "Too many connections from your address"
    BANNED = "You are banned from this room"
