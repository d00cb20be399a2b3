"""The roles of a server's processes."""

from dataclasses import dataclass
from typing import Any, cast

import psutil
import pytest

from harness.target import roles
from harness.target.listeners import TcpSocket
from harness.target.roles import Roles


@dataclass(frozen=True)
class FakeProcess:
    pid: int
    parent: int = 1

    def ppid(self) -> int:
        return self.parent


ROOM, ROOM2, ENGINE, ADMIN = 4000, 4001, 4222, 9000
"""Ports of two nodes, of the engine, and of a listener that is not for clients."""


def roles_of(
    monkeypatch: pytest.MonkeyPatch, sockets: dict[FakeProcess, list[tuple[int, int]]]
) -> Roles:
    """Return the roles of processes with these sockets: port and the peer's port of each."""
    table: dict[int, TcpSocket] = {}
    held: dict[int, set[int]] = {}
    for process, pairs in sockets.items():
        for pair in pairs:
            table[len(table)] = TcpSocket(len(table), *pair)
            held.setdefault(process.pid, set()).add(len(table) - 1)
    monkeypatch.setattr(roles, "tcp_sockets", lambda: table)
    monkeypatch.setattr(roles, "sockets_of", lambda pid: held.get(pid, set()))
    return Roles(cast(Any, [*sockets]), [ROOM, ROOM2])


def pids(processes: list[psutil.Process]) -> list[int]:
    return [process.pid for process in processes]


def test_the_nodes_the_engine_and_the_bridges_of_a_cluster_are_found(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = roles_of(
        monkeypatch,
        {
            FakeProcess(10): [],
            FakeProcess(11, 10): [(ENGINE, 0), (ENGINE, 50001), (ENGINE, 50002)],
            FakeProcess(20, 10): [(ROOM, 0), (ROOM, 60001)],
            FakeProcess(21, 20): [(ROOM, 60001)],
            FakeProcess(22, 20): [(50001, ENGINE)],
            FakeProcess(30, 10): [(ROOM2, 0)],
            FakeProcess(31, 30): [(ROOM2, 60002)],
            FakeProcess(32, 30): [(50002, ENGINE)],
            FakeProcess(33, 30): [],
        },
    )
    assert pids(found.mains) == [10, 20, 30]
    assert pids(found.workers) == [21, 31]
    assert pids(found.engines) == [11]
    assert pids(found.bridges) == [22, 32]


def test_a_worker_may_listen_and_the_first_process_has_no_other_role(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = roles_of(
        monkeypatch,
        {
            FakeProcess(10): [(ROOM, 0), (ROOM, 60001), (ADMIN, 0)],
            FakeProcess(11, 10): [(ROOM, 0), (ROOM, 60001)],
        },
    )
    assert pids(found.mains) == [10]
    assert pids(found.workers) == [11]
    assert found.engines == found.bridges == []
