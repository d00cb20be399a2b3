"""The manual pages of a wheel are written when it is built, from the parsers themselves.

So none can be out of date. A wheel brings them to share/man/man1, where `man` finds them.
"""

import argparse
import importlib
import os
import re
import sys
import tempfile
from pathlib import Path
from typing import Any

from argparse_manpage.manpage import Manpage
from hatchling.builders.hooks.plugin.interface import BuildHookInterface

PAGES = {
    "chatroom": "chatroom.cli.server:parser",
    "chatroom-client": "chatroom.client.command:parser",
    "chatroom-status": "chatroom.cli.status:parser",
    "chatroom-admin": "chatroom.cli.admin:parser",
    "chatroom-harness": "harness.cli.main:build_parser",
}

#: How the texts call the commands, and what they are called when they are installed. In this order.
NAMES = {
    "python -m chatroom.": "chatroom-",
    "python -m chatroom": "chatroom",
    "python -m harness": "chatroom-harness",
    "chatroom.client": "chatroom-client",
}

DATA = {"project_name": "chatroom", "manual_title": "User Commands"}

#: What the help says of the machine that it is asked on.
HERE = re.compile(r", here \d+")


class ManualPages(BuildHookInterface[Any]):
    PLUGIN_NAME = "custom"

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        if version == "editable":  # Its pages would not follow the code.
            return
        self._folder = tempfile.TemporaryDirectory()
        for name, text in pages(Path(self.root), self.metadata.version).items():
            file = Path(self._folder.name, f"{name}.1")
            file.write_text(text, encoding="utf-8")
            build_data["shared_data"][str(file)] = f"share/man/man1/{file.name}"

    def finalize(self, version: str, *_: Any) -> None:
        if version != "editable":
            self._folder.cleanup()


def pages(root: Path, version: str) -> dict[str, str]:
    """The text of each page, by the name of its command."""
    sys.path.insert(0, str(root))
    # Defaults that come of it are told as what they come of.
    os.environ["XDG_RUNTIME_DIR"] = "$XDG_RUNTIME_DIR"
    os.environ["COLUMNS"] = "80"
    return {name: _page(name, where, version) for name, where in PAGES.items()}


def _page(name: str, where: str, version: str) -> str:
    module, _, function = where.partition(":")
    parser = getattr(importlib.import_module(module), function)()
    _rename(parser)
    parser.prog = name
    parser.man_short_description = parser.description.partition("\n")[0].rstrip(".")
    return str(Manpage(parser, _data=DATA | {"version": version}))


def _rename(parser: argparse.ArgumentParser) -> None:
    """Call the commands what they are called when they are installed, all through a parser."""
    for name in ("prog", "usage", "description", "epilog"):
        setattr(parser, name, _renamed(getattr(parser, name)))
    for action in parser._actions:
        action.help = _renamed(action.help)
        if isinstance(action, argparse._SubParsersAction):
            for sub in action.choices.values():
                _rename(sub)


def _renamed(text: str | None) -> str | None:
    for old, new in NAMES.items():
        text = text and text.replace(old, new)
    return text and HERE.sub("", text)
