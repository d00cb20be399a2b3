"""Tests of the status report of a room."""

import os
import socket
from collections.abc import Iterator
from functools import partial
from types import SimpleNamespace
from typing import Any, cast

import pytest

from chatroom import __version__
from chatroom.build import BUILD
from chatroom.config.settings import Settings
from chatroom.log.ring import Geometry, Log
from chatroom.log.slots import Checkpoint, Slots
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.protocol.refusal_reason import RefusalReason
from chatroom.supervisor import status_report
from chatroom.supervisor.counters import Counters
from chatroom.supervisor.members import Client
from chatroom.supervisor.pool import WorkerPool
from chatroom.supervisor.status_report import StatusReport
from chatroom.system.memory import anonymous_file
from chatroom.system.networks import UNIX
from chatroom.system.tcp_counters import taken
from tests.log.entries import Run, append

SETTINGS = Settings(workers=2, max_clients=10, log_size=64 << 10, max_lag=8 << 10, max_line=1 << 10)


class Room:
    """Parts of a room's main process, with real connections and fake workers."""

    def __init__(self) -> None:
        geometry = Geometry.of(SETTINGS.limits)
        self.log = Log(anonymous_file("a test's log", geometry.file_size), geometry)
        self.log.format()
        size = Slots.file_size(SETTINGS.limits)
        self.slots = Slots(anonymous_file("a test's slots", size), SETTINGS.limits)
        self.counters = Counters(started_at=40.0)
        self.clients: dict[int, Client] = {}
        self.peers: list[socket.socket] = []
        self.workers = {number: self._worker(number) for number in range(2)}
        pool = SimpleNamespace(workers=self.workers, wanted=2, seats=SETTINGS.seats)
        self.report = StatusReport(
            self.log,
            self.slots,
            cast(WorkerPool, pool),
            self.clients,
            self.counters,
            "127.0.0.1:1",
            10,
        )
        for number in self.workers:
            self.log.prepare_seat(number)

    def _worker(self, number: int) -> Any:
        return SimpleNamespace(pid=100 + number, ready=number == 0)

    def join(self, id: int, worker: int = 0) -> Client:
        """Add a member that has received ten bytes, and whose cursor is at the log's head."""
        with socket.create_server(("127.0.0.1", 0)) as listener:
            peer = socket.create_connection(listener.getsockname())
            connection, (address, port) = listener.accept()
        self.peers.append(peer)
        connection.sendall(b"x" * 10)
        client = Client(connection, address, port, "", worker, slot=id, joined_at=70.0)
        self.clients[id] = client
        self.note(client)
        return client

    def note(self, client: Client) -> None:
        head = self.log.head
        gone = taken(client.connection)
        assert gone is not None, "the kernel does not count bytes"
        self.slots.note(client.slot, Checkpoint(self.log.offset(head), head, gone, 0))

    def append(self, sender: int, text: bytes) -> None:
        assert append(self.log, Run(sender, text, 1)) is not None

    def lags(self) -> list[int | None]:
        return [member["lag"] for member in self.report.full()["members"]]

    def close(self) -> None:
        for client in self.clients.values():
            client.connection.close()
        for peer in self.peers:
            peer.close()
        os.close(self.log.fd)
        os.close(self.slots.fd)


@pytest.fixture(name="clocks", autouse=True)
def fixture_clocks(monkeypatch: pytest.MonkeyPatch) -> dict[str, float]:
    """Return the times of the monotonic clock and of the system's clock, which a test can
    change."""
    clocks = {"monotonic": 100.0, "time": 1060.0}
    for name in clocks:
        monkeypatch.setattr(status_report, name, partial(clocks.__getitem__, name))
    return clocks


@pytest.fixture(name="room")
def fixture_room() -> Iterator[Room]:
    room = Room()
    yield room
    room.close()


def test_an_empty_room(room: Room) -> None:
    assert room.report.full() == {
        "room": {
            "version": __version__,
            "build": BUILD,
            "listening": "127.0.0.1:1",
            "pid": os.getpid(),
            "up": 60.0,
            "since": 1000.0,
            "members": 0,
            "capacity": 10,
            "workers": 2,
            "joins": 0,
            "leaves": {},
            "refusals": {},
            "probes": 0,
            "messages": 0,
            "bytes": 0,
            "deliveries": 0,
            "append_waits": 0,
            "worker_deaths": 0,
            "recoveries": 0,
            "recovery_seconds": 0.0,
            "longest_recovery": 0.0,
            "lag": 0,
        },
        "workers": [
            {
                "worker": number,
                "pid": 100 + number,
                "ready": number == 0,
                "members": 0,
                "messages": 0,
                "deliveries": 0,
                "restarts": 0,
                "lag": 0,
            }
            for number in range(2)
        ],
        "members": [],
    }


@pytest.mark.parametrize("step", [400 * 86400.0, -86400.0])
def test_durations_do_not_depend_on_the_system_s_clock(
    step: float, room: Room, clocks: dict[str, float]
) -> None:
    """`since` is a time of the system's clock. So a reader may also compute the duration from the
    current time and `since`."""
    room.join(3)
    clocks["monotonic"] += 5
    clocks["time"] += 5 + step
    found = room.report.full()
    assert (found["room"]["up"], found["room"]["since"]) == (65.0, 1000.0 + step)
    [member] = found["members"]
    assert (member["here"], member["since"]) == (35.0, 1030.0 + step)


def test_the_report_contains_all_counters(room: Room) -> None:
    counters = room.counters
    counters.joins = 7
    counters.leaves[LeaveReason.CLOSED] += 2
    counters.refusals[RefusalReason.FULL] += 1
    counters.deaths[1] += 3
    counters.deaths[5] += 1
    counters.recovered(0.25)
    counters.recovered(0.75)
    counters.recovered(0.5)
    for seat, waits in ((0, 1), (5, 2)):  # Seat 5 has no worker any more.
        room.log.count_work(seat, 10 * waits, 100 * waits)
        for _ in range(waits):
            room.log.wait_for_space(seat)
    room.append(1, b"<a>x\n")
    found = room.report.full()
    assert (
        found["room"]
        | {
            "joins": 7,
            "leaves": {"closed": 2},
            "refusals": {"The room is full": 1},
            "probes": 0,
            "worker_deaths": 4,
            "recoveries": 3,
            "recovery_seconds": 1.5,
            "longest_recovery": 0.75,
            "messages": 1,
            "bytes": 5,
            "deliveries": 300,
            "append_waits": 3,
        }
        == found["room"]
    )
    work = [
        (worker["messages"], worker["deliveries"], worker["restarts"])
        for worker in found["workers"]
    ]
    assert work == [
        (10, 100, 0),
        (0, 0, 3),
    ]


def test_the_report_describes_a_member(room: Room) -> None:
    client = room.join(3, worker=1)
    room.peers[0].sendall(b"hello\n")
    assert client.connection.recv(2) == b"he", "both read and unread bytes count as said"
    (found,) = room.report.full()["members"]
    assert found == {
        "id": 3,
        "address": "127.0.0.1",
        "port": room.peers[0].getsockname()[1],
        "here": 30.0,
        "since": 1030.0,
        "worker": 1,
        "said": 6,
        "heard": 10,
        "lag": 0,
    }
    assert [worker["members"] for worker in room.report.full()["workers"]] == [0, 1]


def test_the_lag_counts_unsent_bytes_without_a_member_s_own(room: Room) -> None:
    client, _ = room.join(1), room.join(2, worker=1)
    room.append(1, b"<a>12\n")
    room.append(2, b"<b>3\n")
    room.append(1, b"<a>456\n")
    room.append(2, b"<b>78\n")
    assert room.lags() == [18, 24], "own text after unsent text counts"
    assert [worker["lag"] for worker in room.report.full()["workers"]] == [18, 24]
    assert room.report.full()["room"]["lag"] == 24
    client.connection.sendall(b"<b>3\n")
    assert room.lags()[0] == 6, "own text before the cursor does not count"
    client.connection.sendall(b"<b>")
    assert room.lags()[0] == 3
    client.connection.sendall(b"78\n")
    assert room.lags()[0] == 0
    room.note(client)
    assert room.lags()[0] == 0


def test_the_lag_without_a_checkpoint_is_unknown(room: Room) -> None:
    room.join(1)
    room.slots.clear(1)
    room.append(2, b"<b>3\n")
    assert room.lags() == [None]
    assert room.report.full()["room"]["lag"] == 0


def test_the_lag_is_unknown_after_the_checkpoint_is_overwritten(room: Room) -> None:
    """A served member gets new checkpoints in time, so this happens only to a broken connection."""
    room.join(1)
    room.join(2)
    for _ in range(SETTINGS.log_entries - 1):
        room.append(5, b"<c>\n")
    assert room.lags()[0] == 4 * (SETTINGS.log_entries - 1)
    room.note(room.clients[2])
    room.append(5, b"<c>\n")
    assert room.lags() == [None, 4]


def test_bytes_and_lag_of_a_unix_socket_s_client_are_unknown(room: Room) -> None:
    ours, theirs = socket.socketpair()
    room.peers.append(theirs)
    room.clients[1] = Client(ours, UNIX, 0, "", 0, 1)
    (found,) = room.report.full()["members"]
    assert (found["address"], found["port"]) == ("unix", 0)
    assert found["said"] is found["heard"] is found["lag"] is None


def test_totals_are_the_same_without_a_list_of_members(room: Room) -> None:
    for id in range(1, 4):
        room.join(id, worker=id % 2)
    room.append(9, b"<a>12\n")
    room.clients[3].connection.sendall(b"<a>")
    whole = room.report.full()
    assert [member["lag"] for member in whole.pop("members")] == [6, 6, 3]
    assert [worker["lag"] for worker in whole["workers"]] == [6, 6], (
        "a worker's lag is that of its slowest member"
    )
    assert room.report.totals() == whole
