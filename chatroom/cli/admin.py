"""`python -m chatroom.admin`: put members out of a room that runs here, keep them out, speak in it.

Exit codes: 0 done, 1 it could not be done, 2 wrong arguments.
"""

import argparse
import contextlib
import sys
from collections.abc import Sequence

from chatroom.arguments import Parser
from chatroom.cli.status import add_room, ask, connect, table, tell

WHO = "a member's id, an address, a network such as 10.0.0.0/8, or unix"


def parser() -> argparse.ArgumentParser:
    made = Parser(
        prog="python -m chatroom.admin",
        description="Put members out of a room that runs on this machine, keep them out, speak.",
        allow_abbrev=False,
    )
    add_room(made)
    orders = made.add_subparsers(dest="do", metavar="ORDER", required=True)
    for name, about in (
        ("kick", "put members out; they may come again"),
        ("ban", "put members out, and let nobody in from there"),
        ("unban", "let in again whom a ban keeps out"),
    ):
        order = orders.add_parser(name, help=about, description=about)
        order.add_argument("who", metavar="WHO", help=WHO)
    orders.add_parser("list", help="the members, and the bans", description="List both.")
    order = orders.add_parser("say", help="say something to all", description="Say it, as <room>.")
    order.add_argument("text", metavar="TEXT")
    return made


def main(arguments: Sequence[str] | None = None) -> None:
    command = parser()
    options = command.parse_args(arguments)
    with (
        contextlib.suppress(KeyboardInterrupt),
        contextlib.closing(connect(options, command)) as asker,
    ):
        if options.do == "list":
            members = ask(asker, {"ask": "status"}, command)["members"]
            bans = ask(asker, {"do": "bans"}, command)["bans"]
            rows = table(("id", "address", "port", "worker"), members)
            tell("\n".join([*rows, f"bans: {_listed(bans)}"]), command)
        else:
            asked = {name: getattr(options, name, None) for name in ("do", "who", "text")}
            done = ask(asker, asked, command)
            bans, kicked = _listed(done.get("bans", ())), _listed(done.get("kicked", ()))
            match options.do:
                case "kick" if not done["kicked"]:
                    command.exit(1, f"{command.prog}: nobody here is {options.who}\n")
                case "kick":
                    tell(f"put out: {kicked}", command)
                case "ban":
                    tell(f"banned {done['banned']}; put out: {kicked}", command)
                case "unban" if not done["unbanned"]:
                    why = f"there is no ban of {options.who}; bans are: {bans}"
                    command.exit(1, f"{command.prog}: {why}\n")
                case "unban":
                    tell(f"bans are: {bans}", command)
    sys.exit(0)


def _listed(items: Sequence[object]) -> str:
    return ", ".join(map(str, items)) or "none"
