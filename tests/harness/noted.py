"""A right server of which each start is noted: so it can be seen that all of them end."""

import shlex
import sys
from pathlib import Path

import psutil

from tests.integration.waiting import PATIENCE, until

#: Each server that is started leaves its pid in the current folder, as a file's name.
NOTED = (
    f"sh -c 'touch pid.$$ && exec {shlex.quote(sys.executable)} "
    "-m harness.reference {host} {port}'"
)


def servers_are_there(folder: Path, count: int = 1) -> None:
    """Return when so many have been started, each of them by a harness that has to start first."""
    patience = (1 + count) * PATIENCE
    until(lambda: len(pids(folder)) >= count, f"{count} servers are started", patience)


def no_server_is_left(folder: Path) -> None:
    """Return when all that were started are gone."""
    assert pids(folder)
    until(lambda: not any(map(psutil.pid_exists, pids(folder))), "all of them end")


def pids(folder: Path) -> list[int]:
    return [int(path.suffix[1:]) for path in folder.glob("pid.*")]
