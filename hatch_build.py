"""Build hook of the wheel: it adds the manual pages and the compiled modules.

The pages are generated from the argument parsers, so their options are always up to date. SECTIONS
contains the sections for which a parser has no text. When the wheel is installed, the pages are
copied to share/man/man1 of the environment.
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

sys.path.insert(0, str(Path(__file__).parent))  # hatchling loads this file by its path

import hatch_compile

PAGES = {
    "chatroom": "chatroom.cli.server:parser",
    "chatroom-client": "chatroom.client.command:parser",
    "chatroom-status": "chatroom.cli.status:parser",
    "chatroom-admin": "chatroom.cli.admin:parser",
    "chatroom-web": "chatroom.cli.web:parser",
    "chatroom-harness": "harness.cli.main:build_parser",
}

#: Names of the commands in the parsers' texts, and their names when they are installed. They are
#: replaced in this order.
NAMES = {
    "python -m chatroom.": "chatroom-",
    "python -m chatroom": "chatroom",
    "python -m harness": "chatroom-harness",
}

DATA = {"project_name": "chatroom", "manual_title": "User Commands"}

#: Items about a room's folder, for the pages of the commands that use it.
RUN_DIR = {
    "$XDG_RUNTIME_DIR/chatroom, or else $TMPDIR/chatroom-UID, or else /tmp/chatroom-UID": "The"
    " run-dir, unless --run-dir names another folder. Only this user may have access to it.",
    "RUN-DIR/ADDRESS.sock": "The control socket of the room whose first address is ADDRESS.",
}

#: Items about the variables for --cluster.
CLUSTER = {
    "CHATROOM_CLUSTER": "The URL, if none of --cluster, --room and --run-dir is given. All users of"
    " the machine can read a password on the command line.",
    "CHATROOM_CLUSTER_CREDENTIALS, CHATROOM_CLUSTER_CA": "Files, as for --cluster-credentials and"
    " --cluster-ca.",
}

#: Content of a section: a dict of items with their texts, a list of commands, or a text.
Section = dict[str, str] | list[str] | str

#: Sections to add to each page, by command. Keep signals and exit codes equal to those in
#: docs/configuration.md.
SECTIONS: dict[str, dict[str, Section]] = {
    "chatroom": {
        "signals": {
            "SIGINT, SIGTERM": "Stop the room: deliver pending messages, and exit within five"
            " seconds, or eight if one of its processes hangs.",
            "SIGHUP": "Reload the configuration and replace all workers, one by one. No member is"
            " disconnected.",
            "SIGTTIN, SIGTTOU": "Add a worker (at most eight more than at the start), or remove a"
            " worker.",
            "SIGUSR1": "Reopen the transcript.",
        },
        "exit status": {
            "0": "The room was stopped by SIGINT or SIGTERM.",
            "1": "The room can't run, for example because the port is in use. One line on standard"
            " error says why.",
            "2": "An argument, a variable or the configuration file is wrong.",
        },
        "files": {
            **RUN_DIR,
            "RUN-DIR/ADDRESS.bans": "The bans, with --keep-bans.",
            "FILE of --config": "Options in TOML, such as: max-clients = 100.",
            "FILE of --transcript": "The conversation: a JSON object on each line.",
            "FILE.1": "The transcript before the last rotation, with --transcript-size.",
        },
        "environment": {
            "CHATROOM_OPTION": "Value of an option, such as CHATROOM_MAX_CLIENTS.",
            "CHATROOM_CONFIG": "Path of the configuration file, if --config names none.",
        },
        "examples": [
            "chatroom 0.0.0.0 4000",
            "chatroom --workers 2 --welcome 'Hello' 127.0.0.1 4000",
            "chatroom --quiet --transcript room.jsonl --listen '[::]:4000' --listen unix:/run/room",
        ],
        "see also": "chatroom-client(1), chatroom-status(1), chatroom-admin(1), chatroom-web(1),"
        " chatroom-harness(1)",
    },
    "chatroom-client": {
        "signals": {"SIGINT, SIGTERM, SIGHUP, SIGQUIT": "Leave the room."},
        "exit status": {
            "0": "You left.",
            "1": "The connection failed or was lost.",
            "2": "An argument is wrong.",
        },
        "files": {"FILE of --cafile": "Certificates to trust, in PEM."},
        "examples": [
            "chatroom-client 127.0.0.1 4000",
            "chatroom-client --tls chat.example.org 4000",
            "echo hello | chatroom-client 127.0.0.1 4000",
        ],
        "see also": "chatroom(1)",
    },
    "chatroom-status": {
        "signals": {"SIGINT": "End --watch, with exit status 0."},
        "exit status": {
            "0": "The status was shown.",
            "1": "No such room is running, or it has ended, or a node of the cluster does not"
            " answer.",
            "2": "An argument is wrong.",
        },
        "files": RUN_DIR,
        "environment": CLUSTER,
        "examples": [
            "chatroom-status",
            "chatroom-status --watch 5 --room 4000",
            "chatroom-status --json --run-dir /run/chatroom",
            "chatroom-status --cluster nats://192.0.2.1:4222/office",
        ],
        "see also": "chatroom(1), chatroom-admin(1)",
    },
    "chatroom-admin": {
        "signals": {"SIGINT": "Stop waiting for the answer."},
        "exit status": {
            "0": "The command succeeded.",
            "1": "The command failed; in a cluster, on at least one node. A line on standard error"
            " says why.",
            "2": "An argument is wrong.",
        },
        "files": RUN_DIR,
        "environment": CLUSTER,
        "examples": [
            "chatroom-admin list",
            "chatroom-admin kick 7",
            "chatroom-admin ban 192.0.2.0/24",
            "chatroom-admin --run-dir /run/chatroom say 'ten minutes to go'",
            "chatroom-admin --cluster nats://192.0.2.1:4222/office kick 7@192.0.2.2:4000",
        ],
        "see also": "chatroom(1), chatroom-status(1)",
    },
    "chatroom-web": {
        "signals": {
            "SIGINT, SIGTERM": "Stop the gateway.",
            "SIGHUP": "Read the certificate again. No browser is disconnected.",
        },
        "exit status": {
            "0": "The gateway was stopped by SIGINT or SIGTERM.",
            "1": "The gateway can't run, for example because no room answers. One line on standard"
            " error says why.",
            "2": "An argument is wrong.",
        },
        "files": {"FILE of --cert, --key": "Certificate and private key, in PEM."},
        "examples": [
            "chatroom-web --room 127.0.0.1:4000 --listen 0.0.0.0:8000",
            "chatroom-web --room a.example:4000,b.example:4000 --proxy-protocol"
            " --cert cert.pem --key key.pem --listen 0.0.0.0:443",
        ],
        "see also": "chatroom(1)",
    },
    "chatroom-harness": {
        "signals": {"SIGINT, SIGTERM": "Stop the server under test, and exit with status 130."},
        "exit status": {
            "0": "The server passed.",
            "1": "The server broke a clause, failed, or lost a message.",
            "2": "An argument is wrong, or the harness could not judge.",
            "3": "The server did not start.",
            "4": "The server passed, but a clause took another form in the profile's dialect.",
        },
        "files": {"DIR of --report": "results.json, report.html, and other files of the command."},
        "examples": [
            "chatroom-harness conform --target 127.0.0.1:4000",
            "chatroom-harness simulate classroom --command 'chatroom --quiet {host} {port}'",
            "chatroom-harness explain CAST-1",
        ],
        "see also": "chatroom(1)",
    },
}

#: Part of a help text that depends on the machine. It is removed from the pages.
HERE = re.compile(r", here \d+")


class WheelHook(BuildHookInterface[Any]):
    """Adds the manual pages and the compiled modules to a wheel."""

    PLUGIN_NAME = "custom"

    def dependencies(self) -> list[str]:
        wanted = hatch_compile.mode() != "0" and hatch_compile.missing() is None
        return hatch_compile.REQUIRED if wanted else []

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        # In an editable installation, the pages and the compiled modules would soon be out of date.
        if version == "editable":
            return
        self._folder = tempfile.TemporaryDirectory()
        for name, text in pages(Path(self.root), self.metadata.version).items():
            file = Path(self._folder.name, f"{name}.1")
            file.write_text(text, encoding="utf-8")
            build_data["shared_data"][str(file)] = f"share/man/man1/{file.name}"
        self._compile(build_data)

    def _compile(self, build_data: dict[str, Any]) -> None:
        mode = hatch_compile.mode()
        if mode not in ("0", "1", "auto"):
            self.app.abort(f"{hatch_compile.VARIABLE} must be 0, 1 or auto, not {mode!r}")
        if mode == "0":
            return
        try:
            made = hatch_compile.compile_modules(Path(self.root), Path(self._folder.name))
        except hatch_compile.CompileError as error:
            if mode == "1":
                self.app.abort(f"chatroom can't be compiled: {error}")
            self.app.display_warning(f"chatroom is built in pure Python: {error}")
        else:
            build_data["force_include"] |= made
            build_data |= {"pure_python": False, "infer_tag": True}

    def finalize(self, version: str, *_: Any) -> None:
        if version != "editable":
            self._folder.cleanup()


def pages(root: Path, version: str) -> dict[str, str]:
    """Return the text of each page, by the name of its command."""
    sys.path.insert(0, str(root))
    # Some defaults in the help texts contain the value of this variable. On the pages, they contain
    # its name instead.
    os.environ["XDG_RUNTIME_DIR"] = "$XDG_RUNTIME_DIR"
    os.environ["COLUMNS"] = "80"
    return {name: _page(name, where, version) for name, where in PAGES.items()}


def _page(name: str, where: str, version: str) -> str:
    module, _, function = where.partition(":")
    parser = getattr(importlib.import_module(module), function)()
    _rename(parser)
    parser.prog = name
    parser.man_short_description = parser.description.partition("\n")[0].rstrip(".")
    sections = dict(SECTIONS[name])
    if parser.epilog:
        also = sections.pop("see also")
        sections |= {"notes": parser.epilog, "see also": also}
        parser.epilog = None
    page = Manpage(parser, _data=DATA | {"version": version})
    for heading, content in sections.items():
        page.add_section(heading, "=", _roff(content))
    # In the notation of manual pages, a quote at the beginning of a line begins a request.
    return re.sub(r"^'", r"\\&'", str(page), flags=re.MULTILINE)


def _roff(content: Section) -> str:
    """Return a section in the notation of manual pages. Keep the line breaks of indented lines."""
    if isinstance(content, dict):
        items = content.items()
        return "\n".join(f".TP\n\\fB{_escaped(item)}\\fR\n{_escaped(text)}" for item, text in items)
    if isinstance(content, list):
        return "\n".join([".EX", *map(_escaped, content), ".EE"])
    lines, kept = [], False
    for line in [*content.rstrip().split("\n"), ""]:
        if line.startswith(" ") != kept:
            kept = not kept
            lines.append(".EX" if kept else ".EE\n.PP")
        lines.append(_escaped(line) or ".PP")
    return "\n".join(lines[:-1])


def _escaped(text: str) -> str:
    text = text.replace("\\", "\\e").replace("-", "\\-")
    return re.sub(r"^(?=\.)", r"\\&", text)


def _rename(parser: argparse.ArgumentParser) -> None:
    """Replace the names of commands in all texts of a parser, as in NAMES."""
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
