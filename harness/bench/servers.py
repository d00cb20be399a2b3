"""The servers that can be timed, and how to start each in a comparable way.

All listen only on 127.0.0.1, write nothing to disk, and have a sufficient limit on clients; only
the engine of a cluster keeps its stream in a temporary folder. Otherwise, they run with their
defaults; the chatroom also with --quiet, and without rate limits.
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
"""Number of clients that a server is configured for, in addition to those that connect."""

# It includes the end of the line, because the number may arrive in two pieces.
_ANNOUNCED = re.compile(rb"listening on (?P<endpoints>\S+:\d+(?:, \S+:\d+)*)\s")


class NotInstalledError(Exception):
    """The server's program is not on this machine."""


@dataclass(frozen=True)
class Recipe:
    """A way to start a server.

    In `command`, which is split as by a shell, and in `files`, {python}, {host}, {port} (a
    free port), {workers}, {nodes} (of a cluster), {clients}, {speakers} (in a round) and {dir} (a
    directory for this server) are filled in. `ready` matches the server's output when it listens;
    its group ``endpoints``, if any, holds HOST:PORT of each address of the server. Without `ready`,
    the server listens at {port} once it accepts a connection.

    `module`: the Python module that the command runs, if it is a part of this project. It is
    imported from beside the harness, whatever the working directory is. A command without a
    module runs in the user's own environment.

    `at_once`: number of clients that connect at the same time when joins are timed. It is
    enough to keep the server busy, and below its backlog: a client that meets a full backlog
    retries after a second.

    `engine`: another program that the command needs, to connect the nodes of a cluster.
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
        """Return the environment in which its commands run."""
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
    at_once=4,  # its backlog is 5
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
"""One room of several nodes: see nodes.py."""

PLAIN_REDIS = Recipe(
    "plain-redis",
    "chat",
    f"{_NODES} {_REDIS_ENGINE} -- {{python}} -P -m harness.bench.pubsub redis {{host}} {{port}}",
    _ANNOUNCED,
    version=REDIS.version,
    module="harness",
    engine="redis-server",
)
"""The script that a user would write for several nodes, with Redis' pub/sub: see pubsub.py."""

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
"""The same script with NATS' pub/sub."""

ALONE = (CHATROOM, NCAT, REDIS, NATS, PLAIN, FLOOR)
"""The servers to compare by default."""

CLUSTERED = (CLUSTER, CHATROOM, PLAIN_REDIS, PLAIN_NATS, REDIS, NATS)
"""The servers to compare with a cluster by default."""

RECIPES = {recipe.name: recipe for recipe in (*ALONE, *CLUSTERED)}


def custom(name: str, command: str) -> Recipe:
    """Return a recipe for any server of the chatroom's protocol, from a shell command."""
    if not shlex.split(command):
        raise ValueError("the command is empty")
    return Recipe(name, "chat", command, None if "{port}" in command else _ANNOUNCED)


def ports_of(endpoints: bytes) -> list[int]:
    """Return the ports of `HOST:PORT, HOST:PORT`."""
    return [int(endpoint.rpartition(b":")[2]) for endpoint in endpoints.split(b", ")]


def find_program(name: str) -> str | None:
    """Return a program's path; servers are often outside an ordinary user's PATH."""
    path = os.environ.get("PATH", os.defpath)
    return shutil.which(name, path=os.pathsep.join((path, "/usr/local/sbin", "/usr/sbin")))


def version_of(recipe: Recipe) -> str:
    """Return the first line of the server's version output; empty if there is none."""
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
    """Return a command, split and filled in, with the program's path."""
    program, *rest = [_fill(part, values) for part in shlex.split(text)]
    return [find_program(program) or program, *rest]


def _fill(text: str, values: Mapping[str, str]) -> str:
    """Fill in {names}; keep other braces, as in shell and JSON."""
    return re.sub(r"\{(\w+)\}", lambda found: values.get(found[1], found[0]), text)
