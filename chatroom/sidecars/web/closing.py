"""The reasons why a room disconnects a member, found in the room's last line. Pure."""

from chatroom.protocol.leave_reason import CLOSING_MESSAGES
from chatroom.protocol.message import ROOM_PREFIX
from chatroom.protocol.refusal_reason import RefusalReason

_REFUSALS = {RefusalReason.FULL, RefusalReason.TOO_MANY, RefusalReason.BANNED}
_LAST_LINES = {
    message.decode().rstrip("\n").rpartition("\n")[2] for message in CLOSING_MESSAGES.values()
}

TOO_SLOW = "Your browser was too slow to keep up with the room"
TAKEN_OVER = "The conversation continues in another window"
GATEWAY_FULL = RefusalReason.FULL.value


def closing_reason(lines: int, last: str) -> str | None:
    """Return the reason for the end of a connection, or None if the room has given no reason.

    `lines`: number of lines that the room has sent; `last`: the last of them.
    """
    if last in _LAST_LINES or (lines == 1 and last in _REFUSALS):
        return last.removeprefix(ROOM_PREFIX)
    return None
