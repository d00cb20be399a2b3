"""Roles of a server's processes, as far as their TCP sockets show the roles."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Mapping, Sequence

import psutil

from harness.target.listeners import TcpSocket, sockets_of, tcp_sockets


class Roles:
    """The processes of a server by their roles. A process may have none of them.

    mains: the main process of the server. If the server consists of several nodes, also the main
    process of each node, which listens at an address of the server and has a child.
    workers: other processes that hold connections of clients.
    engines: other processes that listen, but not at the server's addresses. They serve processes of
    the server, like the broker that connects its nodes.
    bridges: other processes that are connected to an engine.
    sockets: the TCP sockets of each process, by its id.
    """

    def __init__(self, processes: Sequence[psutil.Process], ports: Iterable[int]) -> None:
        """processes: all processes of the server, the main process first. ports: ports at which the
        server listens."""
        self.sockets = _sockets(processes)
        self.mains = [*processes[:1]]
        self.workers: list[psutil.Process] = []
        self.engines: list[psutil.Process] = []
        self.bridges: list[psutil.Process] = []
        own, internal = {*ports}, set()
        parents = _parents(processes)
        others = []
        for process in processes[1:]:
            sockets = self.sockets[process.pid]
            listens = {each.port for each in sockets if not each.peer}
            if listens & own and process.pid in parents:
                self.mains.append(process)
            elif any(each.peer and each.port in own for each in sockets):
                self.workers.append(process)
            elif listens and not listens & own:
                self.engines.append(process)
                internal |= listens
            else:
                others.append(process)
        for process in others:
            if any(each.peer in internal for each in self.sockets[process.pid]):
                self.bridges.append(process)


def _sockets(processes: Iterable[psutil.Process]) -> Mapping[int, list[TcpSocket]]:
    table = tcp_sockets()
    if table is None:  # not Linux
        return {process.pid: _ask_psutil(process) for process in processes}
    return {
        process.pid: [table[inode] for inode in sockets_of(process.pid) if inode in table]
        for process in processes
    }


def _ask_psutil(process: psutil.Process) -> list[TcpSocket]:
    with contextlib.suppress(psutil.Error):
        return [
            TcpSocket(0, each.laddr.port, peer)
            for each in process.net_connections("tcp")
            if (peer := getattr(each.raddr, "port", 0)) or each.status == psutil.CONN_LISTEN
        ]
    return []


def _parents(processes: Iterable[psutil.Process]) -> set[int]:
    found = set()
    for process in processes:
        with contextlib.suppress(psutil.Error):
            found.add(process.ppid())
    return found
