"""The servers that can be timed, and how to start each in a comparable way.

All servers listen only on 127.0.0.1, and have a sufficient limit on clients. They write nothing to
disk, except that the engine of a cluster keeps its stream in a temporary folder. Their other
settings are the defaults, except that the chatroom runs with --quiet and without rate limits.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from harness.target.processes import environment

SPARE_CLIENTS = 16
"""Difference between the limit on clients that a server is given and the number of clients."""

# The pattern includes the end of the line, because the port may arrive in two pieces.
_ANNOUNCED = re.compile(rb"listening on (?P<endpoints>\S+:\d+(?:, \S+:\d+)*)\s")


class NotInstalledError(Exception):
    """The server's program is not on this machine."""


@dataclass(frozen=True)
class Recipe:
    """The way to start a server.

    `command` is split into words as a shell does. These placeholders are filled in, in `command`
    and in `files`: {python}, {host}, {port} (a free port), {workers}, {nodes} (number of nodes of a
    cluster), {clients}, {speakers} (number of clients that send in a round) and {dir} (a directory
    for this server). `files`: text of each file to write to this directory, by name.

    `ready`: pattern that the server's output matches once the server listens. Its group
    ``endpoints``, if it has one, contains HOST:PORT for each of the server's addresses. Without
    `ready`, the server is ready once it listens at {port}.

    `module`: the Python module that the command runs, if the module is a part of this project. It
    is imported from the folder that contains the harness, in any working directory. A command
    without a module runs in the user's own environment.

    `at_once`: number of clients that connect at the same time when joins are timed. It is high
    enough to keep the server busy, and lower than the server's backlog: a client that finds the
    backlog full tries again only after a second.

    `engine`: the program that connects the nodes of a cluster, which must be installed as well.
    """

    name: str
    dialect: str
    command: str
    ready: re.Pattern[bytes] | None
    version: str = ""
    module: str = ""
    files: Mapping[str, str] = field(default_factory=dict)
    at_once: int = 32
    engine: str = ""

    def check_installed(self) -> None:
        if self.module and importlib.util.find_spec(self.module) is None:
            raise NotInstalledError(f"no Python module {self.module}")
        for program in (shlex.split(self.command)[0], self.engine):
            if program not in ("", "{python}") and find_program(program) is None:
                raise NotInstalledError(f"no program {program}")

    def environment(self) -> dict[str, str]:
        """Return the environment in which the server's commands run."""
        return environment() if self.module else dict(os.environ)

    def fill(
        self, directory: Path, port: int, workers: int, clients: int, speakers: int, nodes: int = 2
    ) -> list[str]:
        """Write the server's files, and return its command."""
        values = {
            "python": sys.executable,
            "host": "127.0.0.1",
            "port": str(port),
            "workers": str(workers),
            "nodes": str(nodes),
            "clients": str(clients + SPARE_CLIENTS),
            "speakers": str(speakers),
            "dir": str(directory),
        }
        for name, text in self.files.items():
            (directory / name).write_text(_fill(text, values))
        return _command(self.command, values)


CHATROOM = Recipe(
    "chatroom",
    "chat",
    "{python} -P -m chatroom --quiet --rate 0 --room-rate 0 --workers {workers} {host} 0",
    _ANNOUNCED,
    version="{python} -P -m chatroom --version",
    module="chatroom",
)

# With -v, ncat prints that it listens. It also prints a line per connection, but none per
# message.
NCAT = Recipe(
    "ncat",
    "ncat",
    "ncat -v -n --chat -l -m {clients} {host} {port}",
    re.compile(rb"Listening on "),
    version="ncat --version",
    at_once=4,  # ncat's backlog is 5
)

REDIS = Recipe(
    "redis",
    "redis",
    "redis-server --bind {host} --port {port} --dir {dir} --save '' --appendonly no "
    "--maxclients {clients}",
    re.compile(rb"Ready to accept connections"),
    version="redis-server --version",
)

NATS = Recipe(
    "nats",
    "nats",
    "nats-server -c {dir}/nats.conf",
    re.compile(rb"client connections on (?P<endpoints>\S+:\d+)(?s:.*)Server is ready"),
    version="nats-server --version",
    files={
        "nats.conf": 'host: "{host}"\nport: -1\nmax_connections: {clients}\nping_interval: "1h"\n'
    },
)

PLAIN = Recipe(
    "plain",
    "chat",
    "{python} -P -m harness.bench.plain {host} {port}",
    _ANNOUNCED,
    module="harness",
)
"""The script that a user would write: see plain.py."""

FLOOR = Recipe(
    "floor",
    "chat",
    "{python} -P -m harness.bench.floor {speakers}",
    _ANNOUNCED,
    module="harness",
)
"""A minimal server: see floor.py."""

_NODES = "{python} -P -m harness.bench.nodes {nodes} {host}:{port} "
_REDIS_ENGINE = REDIS.command.replace("{clients}", "64")

CLUSTER = Recipe(
    "cluster",
    "chat",
    f"{_NODES} nats-server -js -sd {{dir}} -a {{host}} -p {{port}} -- "
    f"{CHATROOM.command} --cluster nats://{{host}}:{{port}}/bench",
    _ANNOUNCED,
    version=CHATROOM.version,
    module="chatroom",
    engine="nats-server",
)
"""A room of several nodes: see nodes.py."""

PLAIN_REDIS = Recipe(
    "plain-redis",
    "chat",
    f"{_NODES} {_REDIS_ENGINE} -- {{python}} -P -m harness.bench.pubsub redis {{host}} {{port}}",
    _ANNOUNCED,
    version=REDIS.version,
    module="harness",
    engine="redis-server",
)
"""A short script that Redis' pub/sub connects, as a user would write it: see pubsub.py."""

PLAIN_NATS = Recipe(
    "plain-nats",
    "chat",
    f"{_NODES} nats-server -a {{host}} -p {{port}} -- "
    "{python} -P -m harness.bench.pubsub nats {host} {port}",
    _ANNOUNCED,
    version=NATS.version,
    module="harness",
    engine="nats-server",
)
"""The same script, connected by NATS' pub/sub."""

ALONE = (CHATROOM, NCAT, REDIS, NATS, PLAIN, FLOOR)
"""Servers to compare by default."""

CLUSTERED = (CLUSTER, CHATROOM, PLAIN_REDIS, PLAIN_NATS, REDIS, NATS)
"""Servers to compare by default with --cluster."""

RECIPES = {recipe.name: recipe for recipe in (*ALONE, *CLUSTERED)}


def custom(name: str, command: str) -> Recipe:
    """Return a recipe for the shell command of a server that speaks the chatroom's protocol."""
    if not shlex.split(command):
        raise ValueError("the command is empty")
    return Recipe(name, "chat", command, None if "{port}" in command else _ANNOUNCED)


def ports_of(endpoints: bytes) -> list[int]:
    """Return the ports of `HOST:PORT, HOST:PORT`."""
    return [int(endpoint.rpartition(b":")[2]) for endpoint in endpoints.split(b", ")]


def find_program(name: str) -> str | None:
    """Return a program's path. Also search the sbin folders, which a user's PATH often lacks."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which(name, path=os.pathsep.join((path, "/usr/local/sbin", "/usr/sbin")))


def version_of(recipe: Recipe) -> str:
    """Return the first line that the server's version command prints; empty if there is none."""
    if not recipe.version:
        return ""
    command = _command(recipe.version, {"python": sys.executable})
    try:
        done = subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            timeout=10,
            check=True,
            env=recipe.environment(),
        )
    except (OSError, subprocess.SubprocessError):
        return ""
    printed = done.stdout.decode(errors="replace").strip()
    return printed.splitlines()[0] if printed else ""


def _command(text: str, values: Mapping[str, str]) -> list[str]:
    """Split a command into words, fill in its placeholders, and find the program's path."""
    program, *rest = [_fill(part, values) for part in shlex.split(text)]
    return [find_program(program) or program, *rest]


def _fill(text: str, values: Mapping[str, str]) -> str:
    """Replace each {name} that is in `values`; keep other braces, which may be shell or JSON."""
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), text)
