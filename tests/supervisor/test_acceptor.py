"""The main process's way of letting people in."""

import contextlib
import errno
import os
import selectors
import socket
import struct
from collections.abc import Iterator
from typing import Any, cast

import pytest

from chatroom.config.settings import Settings
from chatroom.control.bans import Bans
from chatroom.log.slots import Checkpoint, Slots
from chatroom.supervisor import acceptor as module
from chatroom.supervisor import pending
from chatroom.supervisor.acceptor import (
    ACCEPTED_PER_TURN,
    LINGER,
    MAX_LINGERING,
    PAUSE,
    Acceptor,
    Client,
)
from chatroom.supervisor.counters import Counters
from chatroom.supervisor.registry import Registry, RegistryProcess
from chatroom.system.endpoint import Endpoint
from chatroom.system.listening import listen
from chatroom.system.memory import anonymous_file
from chatroom.system.networks import parse_network
from tests.integration.waiting import PATIENCE


class Listener:
    """A listening socket whose next accepts may fail."""

    def __init__(self, host: str) -> None:
        self.socket = listen(Endpoint(host), 300)
        self.failures: list[int] = []

    def accept(self) -> Any:
        if self.failures:
            number = self.failures.pop(0)
            raise OSError(number, errno.errorcode[number])
        return self.socket.accept()

    def fileno(self) -> int:
        return self.socket.fileno()

    def close(self) -> None:
        self.socket.close()


class Door:
    """An acceptor, all that it uses, and a loop that runs when it is told to."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, *, host: str = "127.0.0.1", **limits: int
    ) -> None:
        self.now = 1000.0
        monkeypatch.setattr(module, "monotonic", lambda: self.now)
        self.listener = Listener(host)
        self.where = self.listener.socket.getsockname()[:2]
        self.selector = selectors.DefaultSelector()
        self.registry = Registry(limits.get("clients", 1000), limits.get("per_address", 0))
        self.registry.enroll(0)
        settings = Settings(max_clients=1000)
        self.slots = Slots(anonymous_file("a test's slots", Slots.file_size(settings)), settings)
        self.admitted: list[int] = []
        self.peers: list[socket.socket] = []
        self.tally, self.bans = Counters(), Bans()
        monkeypatch.setattr(pending, "monotonic", lambda: self.now)
        self.acceptor = Acceptor(
            [cast(socket.socket, self.listener)],
            self.selector,
            cast(RegistryProcess, self.registry),
            self.slots,
            self._hand_over,
            self.tally,
            self.bans,
            [parse_network("127.0.0.9")],
        )

    def _hand_over(self, id: int, client: Client) -> None:
        assert self.acceptor.clients[id] is client
        self.admitted.append(id)

    def connect(self, host: str | None = None, source: str = "") -> socket.socket:
        """A newcomer, who waits in the kernel's queue."""
        where, by = (host or self.where[0], self.where[1]), (source, 0) if source else None
        peer = socket.create_connection(where, PATIENCE, by)
        self.peers.append(peer)
        return peer

    def turn(self) -> float | None:
        """One turn of the main process's loop; return for how long the next one may wait."""
        for key, _ in self.selector.select(0):
            key.data()
        return self.acceptor.tick()

    def close(self) -> None:
        self.acceptor.close()
        self.acceptor.leave(list(self.acceptor.clients))
        self.selector.close()
        os.close(self.slots.fd)
        for peer in self.peers:
            peer.close()


@pytest.fixture(name="door")
def fixture_door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    door = Door(monkeypatch)
    door.acceptor.open()
    yield door
    door.close()


@pytest.fixture(name="full_door")
def fixture_full_door(monkeypatch: pytest.MonkeyPatch) -> Iterator[Door]:
    """One room for one member, who is in."""
    door = Door(monkeypatch, clients=1)
    door.acceptor.open()
    door.connect()
    door.turn()
    yield door
    door.close()


def hear_all(peer: socket.socket) -> bytes:
    heard = b""
    while data := peer.recv(1000):
        heard += data
    return heard


# --- admitted ------------------------------------------------------------------------------------


def test_join_1_who_connects_is_admitted_and_handed_over(door: Door) -> None:
    peers = [door.connect() for _ in range(3)]
    assert door.turn() is None
    assert door.admitted == [1, 2, 3]
    assert door.registry.members() == dict.fromkeys([1, 2, 3], ("127.0.0.1", 0))
    for client in door.acceptor.clients.values():
        assert (client.address, client.worker) == ("127.0.0.1", 0)
        assert not client.connection.getblocking()
    names = {client.connection.getpeername() for client in door.acceptor.clients.values()}
    assert names == {peer.getsockname() for peer in peers}


def test_prefix_3_an_ipv4_client_of_an_ipv6_listener_has_an_ipv4_address(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    try:
        door = Door(monkeypatch, host="::")
    except Exception:
        pytest.skip("this system has no IPv6")
    door.acceptor.open()
    with contextlib.closing(door):
        door.connect("127.0.0.1")
        door.connect("::1")
        door.turn()
        addresses = [client.address for client in door.acceptor.clients.values()]
        assert addresses == ["127.0.0.1", "::1"]


def test_a_crowd_is_let_in_bit_by_bit(door: Door) -> None:
    for _ in range(ACCEPTED_PER_TURN + 5):
        door.connect()
    door.turn()
    assert len(door.admitted) == ACCEPTED_PER_TURN
    door.turn()
    assert len(door.admitted) == ACCEPTED_PER_TURN + 5


def test_join_2_who_is_reset_before_it_was_accepted_harms_nobody(door: Door) -> None:
    reset = door.connect()
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reset.close()
    door.connect()
    door.turn()
    assert door.acceptor.clients[door.admitted[-1]].connection.getpeername()


@pytest.mark.parametrize("number", [errno.ECONNABORTED, errno.EPROTO, errno.EPERM])
def test_join_2_an_accept_that_fails_is_not_the_last(number: int, door: Door) -> None:
    door.listener.failures = [number]
    door.connect()
    assert door.turn() is None
    assert door.admitted == [1]


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENFILE, errno.ENOBUFS, errno.ENOMEM])
def test_without_descriptors_or_memory_it_accepts_nobody_for_a_while(
    number: int, door: Door
) -> None:
    door.listener.failures = [number]
    door.connect()
    assert door.turn() == pytest.approx(PAUSE)
    door.now += PAUSE / 2
    assert door.turn() == pytest.approx(PAUSE / 2)
    assert door.admitted == [], "and does not spin meanwhile"
    door.now += PAUSE
    assert door.turn() is None
    door.turn()
    assert door.admitted == [1]


def test_without_descriptors_the_time_goes_on_for_headers_that_proxies_owe(door: Door) -> None:
    """Or those who never send one would have the descriptors for ever."""
    silent, speaks = door.connect(source="127.0.0.9"), door.connect(source="127.0.0.9")
    door.turn()
    waited = 0.0
    while waited < pending.HEADER_WITHIN:
        door.listener.failures = [errno.EMFILE]
        door.connect()
        door.turn()
        door.now += PAUSE
        waited += PAUSE
        if waited == PAUSE:
            speaks.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n")
            door.turn()
            assert door.acceptor.clients[1].address == "192.0.2.7"
    door.turn()
    assert silent.recv(1) == b""


def test_that_it_can_not_accept_is_said_once_until_it_can(
    door: Door, caplog: pytest.LogCaptureFixture
) -> None:
    for times in (1, 2):
        door.listener.failures = [errno.ENFILE] * 3
        door.connect()
        while len(door.admitted) < times:
            door.turn()
            door.now += PAUSE
        assert [line.split(" says=")[0] for line in caplog.messages] == [
            "event=cant-accept error=ENFILE"
        ] * times


# --- who may come --------------------------------------------------------------------------------


def test_who_comes_too_early_waits(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door(monkeypatch)
    with contextlib.closing(door):
        door.connect()
        door.turn()
        assert door.admitted == []
        door.acceptor.open()
        door.acceptor.open()
        door.turn()
        assert door.admitted == [1]


def test_while_it_holds_newcomers_wait(door: Door) -> None:
    door.acceptor.hold()
    door.acceptor.hold()
    door.connect()
    assert door.turn() is None
    assert door.admitted == []
    door.acceptor.open()
    door.turn()
    assert door.admitted == [1]


def test_to_hold_is_to_hold_until_it_is_told_otherwise(door: Door) -> None:
    door.listener.failures = [errno.EMFILE]
    door.connect()
    door.turn()
    door.acceptor.hold()
    door.now += PAUSE
    assert door.turn() is None
    assert door.turn() is None
    assert door.admitted == []


def test_who_comes_just_when_it_begins_to_hold_waits(door: Door) -> None:
    """No worker is left, say: the one that died, and the newcomer, were seen in the same turn."""
    door.connect()
    ((key, _),) = door.selector.select(0)
    door.registry.dismiss(0)
    door.acceptor.hold()
    key.data()
    assert door.admitted == []
    door.registry.enroll(0)
    door.acceptor.open()
    door.turn()
    assert door.admitted == [1]


def test_when_it_has_closed_nobody_can_connect(door: Door) -> None:
    door.acceptor.close()
    door.acceptor.close()
    with pytest.raises(ConnectionRefusedError):
        door.connect()
    assert door.turn() is None


# --- refused -------------------------------------------------------------------------------------


def test_join_5_a_newcomer_to_a_full_room_is_told_and_the_room_goes_on(full_door: Door) -> None:
    refused = full_door.connect()
    assert full_door.turn() == pytest.approx(LINGER)
    assert hear_all(refused) == b"The room is full\n"
    refused.close()
    assert full_door.turn() is None
    assert full_door.admitted == [1]
    full_door.acceptor.leave([1])
    full_door.connect()
    full_door.turn()
    assert full_door.admitted == [1, 2]


def test_join_5_a_newcomer_from_a_crowded_address_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    door = Door(monkeypatch, per_address=1)
    door.acceptor.open()
    with contextlib.closing(door):
        _, refused = door.connect(), door.connect()
        door.turn()
        assert hear_all(refused) == b"Too many connections from your address\n"


def test_join_5_who_speaks_at_once_is_told_too(full_door: Door) -> None:
    refused = full_door.connect()
    refused.sendall(b"hello, is this\nthe room?\n")
    full_door.turn()
    assert hear_all(refused) == b"The room is full\n"
    refused.sendall(b"really?\n")
    full_door.turn()
    assert full_door.turn() == pytest.approx(LINGER), "it is not reset while it may still read"


def test_the_refused_cost_something_for_a_while_only(full_door: Door) -> None:
    refused = full_door.connect()
    full_door.turn()
    full_door.now += LINGER / 2
    later = full_door.connect()
    assert full_door.turn() == pytest.approx(LINGER / 2)
    full_door.now += LINGER / 2
    assert full_door.turn() == pytest.approx(LINGER / 2), "the later one has its time too"
    full_door.now += LINGER / 2
    assert full_door.turn() is None
    for peer in (refused, later):
        assert hear_all(peer) == b"The room is full\n"


def test_the_refused_are_bounded_and_the_oldest_goes_first(full_door: Door) -> None:
    crowd = [full_door.connect() for _ in range(MAX_LINGERING + 3)]
    full_door.turn()
    assert len(full_door.selector.get_map()) == 1 + MAX_LINGERING
    for peer in crowd:
        assert hear_all(peer) == b"The room is full\n"


def test_a_refused_one_that_is_reset_harms_nobody(full_door: Door) -> None:
    refused = full_door.connect()
    full_door.turn()
    refused.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    refused.close()
    assert full_door.turn() is None


def test_a_refused_one_that_went_before_it_was_told_harms_nobody(full_door: Door) -> None:
    refused = full_door.connect()
    refused.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    refused.close()
    full_door.turn()
    assert full_door.turn() is None


def test_a_refused_one_that_is_heard_when_it_was_dropped_harms_nobody(full_door: Door) -> None:
    refused = full_door.connect()
    full_door.turn()
    refused.close()
    ((key, _),) = full_door.selector.select(0)
    full_door.now += LINGER
    full_door.acceptor.tick()
    key.data()
    assert full_door.turn() is None


def test_a_refused_one_that_is_heard_without_a_word_stays(full_door: Door) -> None:
    refused = full_door.connect()
    full_door.turn()
    refused.sendall(b"x")
    ((key, _),) = full_door.selector.select(PATIENCE)
    key.data()
    key.data()
    assert full_door.turn() == pytest.approx(LINGER)


def test_closing_the_door_closes_on_the_refused(full_door: Door) -> None:
    refused = full_door.connect()
    full_door.turn()
    full_door.acceptor.close()
    assert hear_all(refused) == b"The room is full\n"
    assert full_door.acceptor.tick() is None


# --- gone ----------------------------------------------------------------------------------------


def test_leave_3_what_a_member_cost_is_given_back(door: Door) -> None:
    peers = [door.connect() for _ in range(3)]
    door.turn()
    client = door.acceptor.clients[2]
    door.slots.note(client.slot, Checkpoint(1, 2, 3, 4))
    assert door.acceptor.leave([2]) == {2: client}
    assert client.connection.fileno() == -1
    assert hear_all(peers[1]) == b""
    assert set(door.acceptor.clients) == set(door.registry.members()) == {1, 3}
    assert door.slots.checkpoint(client.slot) == (0, 0, 0, 0), "as its slot is another's one day"


def test_leave_4_a_connection_ends_though_a_worker_holds_it_too(door: Door) -> None:
    peer = door.connect()
    door.turn()
    with door.acceptor.clients[1].connection.dup():
        door.acceptor.leave([1])
        assert hear_all(peer) == b""


def test_to_leave_twice_is_to_leave_once(door: Door) -> None:
    for _ in range(2):
        door.connect()
    door.turn()
    assert set(door.acceptor.leave([1, 99])) == {1}
    assert door.acceptor.leave([1]) == {}
    assert door.registry.members() == {2: ("127.0.0.1", 0)}


def test_leave_1_who_was_reset_can_leave(door: Door) -> None:
    reset = door.connect()
    door.turn()
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reset.close()
    assert set(door.acceptor.leave([1])) == {1}


# --- slots ---------------------------------------------------------------------------------------


def test_load_4_each_member_has_a_slot_of_its_own_and_a_slot_is_used_again(door: Door) -> None:
    for _ in range(4):
        door.connect()
    door.turn()
    slots = {id: client.slot for id, client in door.acceptor.clients.items()}
    assert sorted(slots.values()) == [0, 1, 2, 3]
    door.acceptor.leave([2, 3])
    door.acceptor.leave([3])
    for _ in range(3):
        door.connect()
    door.turn()
    again = {id: client.slot for id, client in door.acceptor.clients.items()}
    assert again[1] == slots[1]
    assert again[4] == slots[4]
    assert sorted(again.values()) == [0, 1, 2, 3, 4], "no more than there are members"
