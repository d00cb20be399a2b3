"""A correct server with two ports. With --apart, each port has its own room, which is a defect.

Usage: python3 two_ports.py HOST PORT PORT2 [--apart]
"""

from __future__ import annotations

import dataclasses
import selectors
import sys
from typing import NoReturn

from harness.reference.server import Member, Options, Server


class TwoPorts(Server):
    def __init__(self, options: Options, port: int) -> None:
        super().__init__(options)
        self.second = Server(dataclasses.replace(options, port=port)).listen()

    def serve(self) -> NoReturn:
        self.selector = selectors.DefaultSelector()
        self.listeners = [self.listener, self.second]
        for listener in self.listeners:
            self.selector.register(listener, selectors.EVENT_READ)
        while True:
            self.turn()

    def accept(self) -> None:
        for listener in self.listeners:
            self.listener = listener
            super().accept()


class Apart(TwoPorts):
    def recipients(self, sender: Member) -> list[Member]:
        def port(member: Member) -> int:
            found: int = member.socket.getsockname()[1]
            return found

        others = super().recipients(sender)
        return [member for member in others if port(member) == port(sender)]


if __name__ == "__main__":
    host, port, second, *more = sys.argv[1:]
    kind = Apart if "--apart" in more else TwoPorts
    kind(Options(host, int(port)), int(second)).run()
