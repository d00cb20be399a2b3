"""A correct server that creates a file at each start, so that a test can find all its processes."""

import shlex
import sys
from pathlib import Path

import psutil

from tests.integration.waiting import PATIENCE, until

#: Command of the server. Each start creates the file `pid.PID` in the current folder.
NOTED = (
    f"sh -c 'touch pid.$$ && exec {shlex.quote(sys.executable)} "
    "-m harness.reference {host} {port}'"
)


def servers_are_there(folder: Path, count: int = 1) -> None:
    """Wait until a new process of the harness has started `count` servers."""
    patience = (1 + count) * PATIENCE
    until(lambda: len(pids(folder)) >= count, f"{count} servers are started", patience)


def no_server_is_left(folder: Path) -> None:
    """Wait until all servers that were started have ended."""
    assert pids(folder)
    until(lambda: not any(map(psutil.pid_exists, pids(folder))), "all servers have ended")


def pids(folder: Path) -> list[int]:
    return [int(path.suffix[1:]) for path in folder.glob("pid.*")]
