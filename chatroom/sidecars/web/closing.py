"""The reasons why a room disconnects a member, as its last line gives them. Pure."""

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
    """Return the reason, or None if the room has given none.

    `lines`: number of lines that the room has sent; `last`: the last one.
    """
    if last in _LAST_LINES or (lines == 1 and last in _REFUSALS):
        return last.removeprefix(ROOM_PREFIX)
    return None
