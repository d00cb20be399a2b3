"""`python -m chatroom.admin`: kick and ban members of a local room, or of all nodes of a cluster,
and send messages as the room.

Exit codes: 0 done, 1 failed, 2 wrong arguments.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence

from chatroom.arguments import Parser
from chatroom.cli.cluster import add_cluster, chosen_cluster
from chatroom.cli.status import add_room, ask, connect, table, tell
from chatroom.wording import counted

MEMBERS = (
    "a member's id (ID@NODE in a cluster), an address, a network such as 10.0.0.0/8, or unix for"
    " Unix sockets"
)


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="python -m chatroom.admin",
        description="Kick and ban members of a local room, or of all nodes of a cluster, and send"
        " messages as the room.",
        allow_abbrev=False,
    )
    add_room(made)
    add_cluster(made)
    commands = made.add_subparsers(dest="do", metavar="COMMAND", required=True)
    refuse = "disconnect members, and refuse new ones from the same address or network"
    for name, about, metavar, who in (
        ("kick", "disconnect members; they may join again", "MEMBERS", MEMBERS),
        ("ban", refuse, "MEMBERS", MEMBERS),
        ("unban", "remove a ban", "ADDRESS", "banned address or network, as shown by `list`"),
    ):
        subparser = commands.add_parser(name, help=about, description=about)
        subparser.add_argument("who", metavar=metavar, help=who)
    listing = "list the members and the bans"
    commands.add_parser("list", help=listing, description=listing)
    saying = "send a message to all members, as <room>"
    subparser = commands.add_parser("say", help=saying, description=saying)
    subparser.add_argument("text", metavar="TEXT", help="text of the message")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    command = parser()
    options = command.parse_args(arguments)
    url = chosen_cluster(options, command)
    if url is not None:
        from chatroom.cli import cluster_admin

        cluster_admin.run(url, options, command)
        sys.exit(0)
    with contextlib.closing(connect(options, command)) as client:
        if options.do == "list":
            members = ask(client, {"ask": "status"}, command)["members"]
            bans = ask(client, {"do": "bans"}, command)["bans"]
            rows = table(("id", "address", "port", "worker"), members)
            tell("\n".join([*rows, f"bans: {listed(bans)}"]), command)
        else:
            asked = {name: getattr(options, name, None) for name in ("do", "who", "text")}
            done = ask(client, asked, command)
            bans, kicked = listed(done.get("bans", ())), listed(done.get("kicked", ()))
            match options.do:
                case "kick" if not done["kicked"]:
                    command.exit(1, f"{command.prog}: no member matches {options.who}\n")
                case "kick":
                    tell(f"kicked: {kicked}", command)
                case "ban":
                    tell(f"banned {done['banned']}; kicked: {kicked}", command)
                case "unban" if not done["unbanned"]:
                    why = f"{options.who} is not banned; bans: {bans}"
                    command.exit(1, f"{command.prog}: {why}\n")
                case "unban":
                    tell(f"bans: {bans}", command)
                case "say":
                    tell(f"said to {counted(done['members'], 'member')}", command)
    sys.exit(0)


def listed(items: Sequence[object]) -> str:
    """Return the items, separated by commas; "none" if there are none."""
    return ", ".join(map(str, items)) or "none"
