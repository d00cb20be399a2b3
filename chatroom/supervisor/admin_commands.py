"""Commands of a room's owner while the room runs: kick, ban, unban, say."""

from collections.abc import Callable, Mapping
from typing import Any

from chatroom.config.sizes import KIB
from chatroom.control.bans import Bans
from chatroom.errors import BansError
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.supervisor.members import Members
from chatroom.supervisor.room_voice import RoomVoice
from chatroom.system.networks import Network, format_network, parse_network, within

MAX_TEXT = 4 * KIB
"""Maximum size of a `say` text (bytes)."""


class AdminCommands:
    """Runs the commands.

    `end_input(ids)` makes the workers read nothing more from members.
    """

    def __init__(
        self,
        members: Members,
        bans: Bans,
        voice: RoomVoice,
        end_input: Callable[[list[int]], None],
    ) -> None:
        self._members = members
        self._bans = bans
        self._voice = voice
        self._end_input = end_input

    def run(self, command: Mapping[str, Any]) -> dict[str, Any] | None:
        """Run a command and return its result, or {"error": reason}; None for an unknown command.

        A command is {"do": name}. kick and ban take "who": a member's id, or an address or network
        (system/networks.py); unban takes an address or network. say takes "text". bans takes
        nothing.
        """
        who, text = str(command.get("who", "")), command.get("text")
        try:
            match command.get("do"):
                case "kick":
                    return {"kicked": self._kick(self._matching(who), LeaveReason.KICKED)}
                case "ban":
                    return self._ban(who)
                case "unban":
                    return {
                        "unbanned": self._bans.remove(parse_network(who)),
                        "bans": self._bans.all(),
                    }
                case "bans":
                    return {"bans": self._bans.all()}
                case "say" if isinstance(text, str):
                    return self._say(text)
                case _:
                    return None
        except (ValueError, BansError) as error:
            return {"error": str(error)}

    def _matching(self, who: str) -> list[int]:
        """Return the ids of the members that `who` matches. Raises ValueError."""
        if who.isascii() and who.isdigit():
            return [id for id in self._members.by_id if str(id) == who.lstrip("0")]
        return self._within(parse_network(who))

    def _within(self, network: Network) -> list[int]:
        members = self._members.by_id.items()
        return [id for id, client in members if within(client.address, [network])]

    def _kick(self, members: list[int], why: LeaveReason) -> list[int]:
        self._members.disconnect(members, why)
        self._end_input(members)
        return members

    def _ban(self, who: str) -> dict[str, Any]:
        found = self._network_of(who)
        try:
            self._bans.add(found)
        finally:  # the ban is in effect, even if its file could not be written
            kicked = self._kick(self._within(found), LeaveReason.BANNED)
        return {"banned": format_network(found), "kicked": kicked, "bans": self._bans.all()}

    def _network_of(self, who: str) -> Network:
        """Parse a network; for a member's id, return its address. Raises ValueError."""
        if who.isascii() and who.isdigit():
            for id in self._matching(who):
                return parse_network(self._members.by_id[id].address)
            raise ValueError(f"no member with id {who}")
        return parse_network(who)

    def _say(self, text: str) -> dict[str, Any]:
        block = text.encode("utf-8", "replace").replace(b"\r\n", b"\n").rstrip(b"\n")
        if not 0 < len(block) <= MAX_TEXT:
            return {"error": f"the text must have 1 to {MAX_TEXT} bytes"}
        block += b"\n"
        if not self._voice.say(block):
            return {"error": "the room is too busy; try again"}
        return {"said": block.count(b"\n"), "members": len(self._members.by_id)}
