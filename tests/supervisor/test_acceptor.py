"""Tests of the acceptor, which admits or refuses connections."""

import contextlib
import errno
import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from chatroom.config.settings import Settings
from chatroom.control.bans import Bans
from chatroom.log.ring import Log
from chatroom.log.slots import Checkpoint, Slots
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.supervisor import members, pending
from chatroom.supervisor.acceptor import LINGER, MAX_LINGERING, Acceptor
from chatroom.supervisor.counters import Counters
from chatroom.supervisor.members import Client, Members
from chatroom.supervisor.registry import Registry
from chatroom.supervisor.registry_process import RegistryProcess
from chatroom.supervisor.sources import Sources
from chatroom.system.accepting import PAUSE
from chatroom.system.endpoint import Endpoint
from chatroom.system.listening import listen
from chatroom.system.memory import anonymous_file
from chatroom.system.networks import parse_network
from tests.integration.waiting import PATIENCE
from tests.system.ends import Reluctant, receive_all
from tests.system.loops import ManualLoop


class AcceptorDriver:
    """An acceptor, the parts that it uses, and an event loop that the test runs by hand."""

    def __init__(self, *, host: str = "127.0.0.1", **limits: int) -> None:
        self.loop = ManualLoop()
        self.failures: list[int] = []
        listener = listen(Endpoint(host), 300)
        self.where = listener.getsockname()[:2]
        self.registry = Registry(limits.get("clients", 1000), limits.get("per_address", 0), 1)
        self.registry.enroll(0)
        settings = Settings(
            max_clients=1000,
            max_clients_per_address=1000,
            proxy_protocol=True,
            proxy_from=(parse_network("127.0.0.9"),),
        )
        size = Slots.file_size(settings.limits)
        self.slots = Slots(anonymous_file("a test's slots", size), settings.limits)
        self.admitted: list[int] = []
        self.peers: list[socket.socket] = []
        self.counters, self.bans = Counters(), Bans()
        self.shown: list[str] = []
        registry = cast(RegistryProcess, self.registry)
        log = cast(Log, None)  # The log is needed only to disconnect a member.
        sources = Sources(settings.sources)
        self.members = Members(
            self.loop, log, self.slots, sources, registry, self.counters, self._reserve_line
        )
        self.acceptor = Acceptor(
            self.loop,
            settings,
            [cast(socket.socket, Reluctant(listener, self.failures))],
            registry,
            self.members,
            self.counters,
            self.bans,
            self._hand_over,
            log,
        )

    def _reserve_line(self) -> Callable[[str | None], None]:
        return lambda line: None if line is None else self.shown.append(line)

    def _hand_over(self, id: int, client: Client) -> None:
        assert self.members.by_id[id] is client
        self.admitted.append(id)

    def connect(self, host: str | None = None, source: str = "") -> socket.socket:
        """Return a client's connection, which waits in the kernel's queue to be accepted."""
        where, by = (host or self.where[0], self.where[1]), (source, 0) if source else None
        peer = socket.create_connection(where, PATIENCE, by)
        self.peers.append(peer)
        return peer

    def turn(self) -> float | None:
        """Do one turn of the event loop; return the timeout (s) of the next turn."""
        return self.loop.step()

    def leave(self, *ids: int) -> None:
        self.members.leave(dict.fromkeys(ids, LeaveReason.CLOSED))

    def close(self) -> None:
        self.acceptor.close()
        self.leave(*self.members.by_id)
        self.loop.close()
        os.close(self.slots.fd)
        for peer in self.peers:
            peer.close()


@pytest.fixture(autouse=True)
def _members_are_announced_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(members, "ANNOUNCE_AFTER", 0.0)


@pytest.fixture(name="driver")
def fixture_driver() -> Iterator[AcceptorDriver]:
    driver = AcceptorDriver()
    driver.acceptor.accept(True)
    yield driver
    driver.close()


@pytest.fixture(name="full_driver")
def fixture_full_driver() -> Iterator[AcceptorDriver]:
    """Yield an acceptor whose room is full: its maximum is one member."""
    driver = AcceptorDriver(clients=1)
    driver.acceptor.accept(True)
    driver.connect()
    driver.turn()
    yield driver
    driver.close()


# --- admitted ------------------------------------------------------------------------------------


def test_join_1_a_client_is_admitted_and_handed_over(driver: AcceptorDriver) -> None:
    peers = [driver.connect() for _ in range(3)]
    assert driver.turn() is None
    assert driver.admitted == [1, 2, 3]
    assert driver.registry.members() == dict.fromkeys([1, 2, 3], ("127.0.0.1", 0))
    for client in driver.members.by_id.values():
        assert (client.address, client.worker) == ("127.0.0.1", 0)
        assert not client.connection.getblocking()
    names = {client.connection.getpeername() for client in driver.members.by_id.values()}
    assert names == {peer.getsockname() for peer in peers}


def test_prefix_3_an_ipv4_client_of_an_ipv6_listener_has_an_ipv4_address() -> None:
    try:
        driver = AcceptorDriver(host="::")
    except Exception:
        pytest.skip("no IPv6 on this system")
    driver.acceptor.accept(True)
    with contextlib.closing(driver):
        driver.connect("127.0.0.1")
        driver.connect("::1")
        driver.turn()
        addresses = [client.address for client in driver.members.by_id.values()]
        assert addresses == ["127.0.0.1", "::1"]


def test_a_missing_header_times_out_even_without_free_descriptors(driver: AcceptorDriver) -> None:
    """Otherwise, connections that never send a header would keep their descriptors."""
    silent, sender = driver.connect(source="127.0.0.9"), driver.connect(source="127.0.0.9")
    driver.turn()
    waited = 0.0
    while waited < pending.HEADER_WITHIN:
        driver.failures[:] = [errno.EMFILE]
        driver.connect()
        driver.turn()
        driver.loop.time += PAUSE
        waited += PAUSE
        if waited == PAUSE:
            sender.sendall(b"PROXY TCP4 192.0.2.7 192.0.2.8 1 2\r\n")
            driver.turn()
            assert driver.members.by_id[1].address == "192.0.2.7"
    driver.turn()
    assert silent.recv(1) == b""


def test_a_failing_accept_is_logged_once_until_it_succeeds(
    driver: AcceptorDriver, caplog: pytest.LogCaptureFixture
) -> None:
    for times in (1, 2):
        driver.failures[:] = [errno.ENFILE] * 3
        driver.connect()
        while len(driver.admitted) < times:
            driver.turn()
            driver.loop.time += PAUSE
        assert [line.split(" says=")[0] for line in caplog.messages] == [
            "event=cant-accept error=no"
        ] * times


# --- closed --------------------------------------------------------------------------------------


def test_a_closed_acceptor_accepts_no_connection(driver: AcceptorDriver) -> None:
    driver.acceptor.close()
    driver.acceptor.close()
    with pytest.raises(ConnectionRefusedError):
        driver.connect()
    assert driver.turn() is None


# --- refused -------------------------------------------------------------------------------------


def test_join_5_a_full_room_refuses_a_newcomer_and_continues(full_driver: AcceptorDriver) -> None:
    refused = full_driver.connect()
    assert full_driver.turn() == pytest.approx(LINGER)
    assert receive_all(refused) == b"The room is full\n"
    refused.close()
    assert full_driver.turn() is None
    assert full_driver.admitted == [1]
    full_driver.leave(1)
    full_driver.connect()
    full_driver.turn()
    assert full_driver.admitted == [1, 2]


def test_join_5_an_address_at_its_limit_is_refused() -> None:
    driver = AcceptorDriver(per_address=1)
    driver.acceptor.accept(True)
    with contextlib.closing(driver):
        _, refused = driver.connect(), driver.connect()
        driver.turn()
        assert receive_all(refused) == b"Too many connections from your address\n"


def test_join_5_a_client_that_sends_at_once_is_also_refused(full_driver: AcceptorDriver) -> None:
    refused = full_driver.connect()
    refused.sendall(b"hello, is this\nthe room?\n")
    full_driver.turn()
    assert receive_all(refused) == b"The room is full\n"
    refused.sendall(b"really?\n")
    full_driver.turn()
    assert full_driver.turn() == pytest.approx(LINGER), "the connection lingers"


def test_refused_connections_linger_for_a_limited_time(full_driver: AcceptorDriver) -> None:
    refused = full_driver.connect()
    full_driver.turn()
    full_driver.loop.time += LINGER / 2
    later = full_driver.connect()
    assert full_driver.turn() == pytest.approx(LINGER / 2)
    full_driver.loop.time += LINGER / 2
    assert full_driver.turn() == pytest.approx(LINGER / 2), "the later connection lingers as long"
    full_driver.loop.time += LINGER / 2
    assert full_driver.turn() is None
    for peer in (refused, later):
        assert receive_all(peer) == b"The room is full\n"


def test_refused_connections_are_limited_and_the_oldest_is_closed(
    full_driver: AcceptorDriver,
) -> None:
    crowd = [full_driver.connect() for _ in range(MAX_LINGERING + 3)]
    full_driver.turn()
    assert full_driver.loop.sources == 1 + MAX_LINGERING
    for peer in crowd:
        assert receive_all(peer) == b"The room is full\n"


def test_a_refused_connection_that_is_reset_is_removed(full_driver: AcceptorDriver) -> None:
    refused = full_driver.connect()
    full_driver.turn()
    refused.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    refused.close()
    assert full_driver.turn() is None


def test_a_refused_connection_reset_before_its_answer_is_removed(
    full_driver: AcceptorDriver,
) -> None:
    refused = full_driver.connect()
    refused.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    refused.close()
    full_driver.turn()
    assert full_driver.turn() is None


def test_close_closes_refused_connections(full_driver: AcceptorDriver) -> None:
    refused = full_driver.connect()
    full_driver.turn()
    full_driver.acceptor.close()
    assert receive_all(refused) == b"The room is full\n"
    assert full_driver.loop.idle() is None


# --- leave ---------------------------------------------------------------------------------------


def test_leave_3_the_resources_of_a_member_that_left_are_released(driver: AcceptorDriver) -> None:
    peers = [driver.connect() for _ in range(3)]
    driver.turn()
    client = driver.members.by_id[2]
    driver.slots.note(client.slot, Checkpoint(1, 2, 3, 4))
    driver.leave(2)
    assert client.connection.fileno() == -1
    assert receive_all(peers[1]) == b""
    assert set(driver.members.by_id) == set(driver.registry.members()) == {1, 3}
    assert driver.slots.checkpoint(client.slot) == (0, 0, 0, 0), "the member's slot was cleared"


def test_leave_4_a_connection_ends_while_a_worker_has_a_duplicate_of_it(
    driver: AcceptorDriver,
) -> None:
    peer = driver.connect()
    driver.turn()
    with driver.members.by_id[1].connection.dup():
        driver.leave(1)
        assert receive_all(peer) == b""


def test_a_second_leave_has_no_effect(driver: AcceptorDriver) -> None:
    for _ in range(2):
        driver.connect()
    driver.turn()
    driver.leave(1, 99)
    driver.leave(1)
    assert driver.counters.leaves.total() == 1
    assert driver.shown[2:] == ["127.0.0.1 disconnected"]
    assert driver.registry.members() == {2: ("127.0.0.1", 0)}


def test_leave_1_a_member_that_was_reset_can_leave(driver: AcceptorDriver) -> None:
    reset = driver.connect()
    driver.turn()
    reset.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    reset.close()
    driver.leave(1)
    assert driver.members.by_id == {}


# --- slots ---------------------------------------------------------------------------------------


def test_load_4_each_member_has_its_own_slot_and_free_slots_are_reused(
    driver: AcceptorDriver,
) -> None:
    for _ in range(4):
        driver.connect()
    driver.turn()
    slots = {id: client.slot for id, client in driver.members.by_id.items()}
    assert sorted(slots.values()) == [0, 1, 2, 3]
    driver.leave(2, 3)
    driver.leave(3)
    for _ in range(3):
        driver.connect()
    driver.turn()
    again = {id: client.slot for id, client in driver.members.by_id.items()}
    assert again[1] == slots[1]
    assert again[4] == slots[4]
    assert sorted(again.values()) == [0, 1, 2, 3, 4], "no more slots than members"
