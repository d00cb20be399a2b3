"""What the processes of a server do, as far as their TCP sockets show it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import psutil


class Roles:
    """The processes of a server by their roles. A process may have none of them.

    mains: the first process; and each that listens at an address of the server, and has a child: a
    node of a server that consists of several.
    workers: other processes that hold connections of clients.
    engines: other processes that listen, but not at the server's addresses. They serve processes of
    the server, like the broker that connects its nodes.
    bridges: other processes that are connected to an engine.
    """

    def __init__(self, processes: Sequence[psutil.Process], ports: Iterable[int]) -> None:
        """processes: all of them, the main one first. ports: at which the server listens."""
        self.mains = [*processes[:1]]
        self.workers: list[psutil.Process] = []
        self.engines: list[psutil.Process] = []
        self.bridges: list[psutil.Process] = []
        own, internal = {*ports}, set()
        parents = _parents(processes)
        others = []
        for process in processes[1:]:
            sockets = sockets_of(process)
            listens = {each.laddr.port for each in sockets if each.status == psutil.CONN_LISTEN}
            if listens & own and process.pid in parents:
                self.mains.append(process)
            elif any(each.raddr and each.laddr.port in own for each in sockets):
                self.workers.append(process)
            elif listens and not listens & own:
                self.engines.append(process)
                internal |= listens
            else:
                others.append((process, sockets))
        for process, sockets in others:
            if any(each.raddr and each.raddr.port in internal for each in sockets):
                self.bridges.append(process)


def sockets_of(process: psutil.Process) -> list[Any]:
    """Return the TCP sockets of a process; none if it has ended."""
    with contextlib.suppress(psutil.Error):
        return [each for each in process.net_connections("tcp") if each.laddr]
    return []


def _parents(processes: Iterable[psutil.Process]) -> set[int]:
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found.add(process.ppid())
    return found
