"""The reasons for which members leave."""

from enum import StrEnum

from chatroom.protocol.message import ROOM_PREFIX


class LeaveReason(StrEnum):
    """A reason. Its value is a label of a metric, and a field of the event `left`."""

    CLOSED = "closed"
    RESET = "reset"
    LAGGED = "lagged"
    KICKED = "kicked"
    BANNED = "banned"
    HTTP = "spoke HTTP"
    TLS = "spoke TLS"
    STUN = "spoke STUN"
    WORKER_DIED = "its worker died"
    WORKERS_KEPT_DYING = "its workers kept dying"


OTHER_PROTOCOLS = {LeaveReason.HTTP, LeaveReason.TLS, LeaveReason.STUN}
"""Reasons for connections that are not members: they speak another protocol (opening.py)."""

_TO_HTTP = b"This is a chat room, not a web server.\n"


def _line(text: str) -> bytes:
    return f"{ROOM_PREFIX}{text}\n".encode()


CLOSING_MESSAGES = {
    LeaveReason.KICKED: _line("You were kicked"),
    LeaveReason.BANNED: _line("You were banned"),
    LeaveReason.WORKERS_KEPT_DYING: _line(
        "Your connection is suspected of stopping worker processes"
    ),
    LeaveReason.HTTP: (
        b"HTTP/1.1 400 Bad Request\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n"
        b"Connection: close\r\n\r\n" % len(_TO_HTTP)
    )
    + _TO_HTTP,
}
"""Bytes to send before a connection is closed, by reason. They are dropped if the socket does not
accept them at once. There are none for a member that lags, because its send buffer is full."""
