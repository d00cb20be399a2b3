"""The owner of a room, who uses chatroom.status, chatroom.admin or the control socket."""

import contextlib
import json
import os
import socket
import sys
from collections.abc import Callable
from importlib import import_module
from io import BytesIO, TextIOWrapper
from pathlib import Path
from typing import Any

from chatroom.control.control_socket import ControlClient
from chatroom.control.run_dir import find
from tests.integration.clients import Client
from tests.integration.waiting import PATIENCE, until


class Owner:
    """The owner of the rooms whose run-dir is `folder`."""

    def __init__(self, folder: Path, room: str | None = None) -> None:
        self.folder = folder
        self._room = room

    def command(self, module: str, *arguments: object) -> list[str]:
        room = () if self._room is None else ("--room", self._room)
        words = (module, "--run-dir", self.folder, *room, *arguments)
        return [sys.executable, "-m", *map(str, words)]

    def run(self, module: str, *arguments: object) -> tuple[int, str, str]:
        """Run a command in this process; return its exit code, output and error output."""
        main = import_module(f"chatroom.cli.{module}").main
        words = self.command(module, *arguments)[3:]
        said, error = (TextIOWrapper(BytesIO(), encoding="utf-8") for _ in range(2))
        with contextlib.redirect_stdout(said), contextlib.redirect_stderr(error):
            try:
                main(words)
            except SystemExit as end:
                code = end.code
        for stream in (said, error):
            stream.seek(0)
        assert isinstance(code, int)
        return code, said.read(), error.read()

    def admin(self, *words: object) -> str:
        """Run a command of chatroom.admin, which must succeed; return its output."""
        code, said, error = self.run("admin", *words)
        assert (code, error) == (0, "")
        return said

    def ask(self, **request: object) -> Any:
        with contextlib.closing(ControlClient(find(self.folder, self._room))) as client:
            return client.ask(request)

    def status(self) -> Any:
        return self.ask(ask="status")

    def until(self, holds: Callable[[Any], Any], what: str) -> Any:
        """Wait until the condition holds for the room's status; return this status."""

        def look() -> Any:
            found = self.status()
            return found if holds(found) else None

        return until(look, what)

    def member(self, client: Client) -> Any:
        """Return the entry of a TCP client in the room's status."""
        ends = [member for member in self.status()["members"] if member["port"] == client.end[1]]
        (found,) = ends
        return found

    def connect(self, times: int = 1) -> list[socket.socket]:
        """Return raw connections to the room's control socket."""
        path = str(find(self.folder, self._room))
        ends = [socket.socket(socket.AF_UNIX) for _ in range(times)]
        for end in ends:
            end.settimeout(PATIENCE)
            end.connect(path)
        return ends


class UnixClient(Client):
    """A client of a Unix socket."""

    def __init__(self, path: Path) -> None:
        self.address = "unix"
        self.socket = socket.socket(socket.AF_UNIX)
        try:
            self.socket.settimeout(PATIENCE)
            self.socket.connect(str(path))
        except BaseException:
            self.socket.close()
            raise
        self.end = (str(path), self.socket.fileno())
        self.prefix = b"<unix>"
        self.unread = bytearray()
        self.ended = ""


def status_json(found: str) -> Any:
    """Parse the output of chatroom.status --json."""
    assert found.endswith("\n")
    return [json.loads(line) for line in found.splitlines()]


def is_root() -> bool:
    return os.getuid() == 0
