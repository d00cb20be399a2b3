"""A correct server that notes each of its starts, so that a test can see that all of them end."""

import shlex
import sys
from pathlib import Path

import psutil

from tests.integration.waiting import PATIENCE, until

#: Each start leaves a file in the current folder, named after the pid.
NOTED = (
    f"sh -c 'touch pid.$$ && exec {shlex.quote(sys.executable)} "
    "-m harness.reference {host} {port}'"
)


def servers_are_there(folder: Path, count: int = 1) -> None:
    """Wait until `count` servers were started, by a harness that must start first."""
    patience = (1 + count) * PATIENCE
    until(lambda: len(pids(folder)) >= count, f"{count} servers are started", patience)


def no_server_is_left(folder: Path) -> None:
    """Wait until all servers that were started are gone."""
    assert pids(folder)
    until(lambda: not any(map(psutil.pid_exists, pids(folder))), "all of them end")


def pids(folder: Path) -> list[int]:
    return [int(path.suffix[1:]) for path in folder.glob("pid.*")]
