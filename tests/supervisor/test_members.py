"""Tests of the members of a room: which joins and leaves are announced, and when."""

import os
import socket
import struct
from collections.abc import Callable, Iterator
from typing import cast

import pytest

from chatroom.config.settings import Settings
from chatroom.log.ring import Geometry, Log
from chatroom.log.slots import Checkpoint, Slots
from chatroom.protocol.leave_reason import LeaveReason
from chatroom.supervisor.counters import Counters
from chatroom.supervisor.members import ANNOUNCE_AFTER, Client, Members
from chatroom.supervisor.registry import Registry
from chatroom.supervisor.registry_process import RegistryProcess
from chatroom.supervisor.sources import Sources
from chatroom.system.endpoint import Endpoint
from chatroom.system.listening import listen
from chatroom.system.memory import anonymous_file
from tests.log.entries import Run, append
from tests.system.ends import has_ended, receive_all
from tests.system.loops import ManualLoop

SETTINGS = Settings(max_clients=10)
GEOMETRY = Geometry.of(SETTINGS.limits)


class MembersDriver:
    """Members, and the other ends of their connections."""

    def __init__(self) -> None:
        self.loop = ManualLoop()
        self.counters = Counters()
        self.lines: list[str | None] = []
        """Lines for the console, in the order of the decisions; None for a line that is not
        printed."""
        file = anonymous_file("a test's slots", Slots.file_size(SETTINGS.limits))
        self.slots = Slots(file, SETTINGS.limits)
        self._listener = listen(Endpoint("127.0.0.1"), 0)
        self._peers: list[socket.socket] = []
        registry = cast(RegistryProcess, Registry(100, 0, 1))
        self.log = Log(anonymous_file("a test's log", GEOMETRY.file_size), GEOMETRY)
        self.log.format()
        self.log.prepare_seat(0)
        sources = Sources(SETTINGS.sources)
        self.members = Members(
            self.loop, self.log, self.slots, sources, registry, self.counters, self._reserve_line
        )

    def _reserve_line(self) -> Callable[[str | None], None]:
        return self.lines.append

    def join(self) -> socket.socket:
        """Add a member; return the other end of its connection. Ids count from 1."""
        peer = socket.create_connection(self._listener.getsockname())
        self._peers.append(peer)
        connection, (address, port) = self._listener.accept()
        id = len(self._peers)
        self.members.join(id, Client(connection, address, port, f"<{address}>", 0))
        return peer

    def wait(self, seconds: float) -> None:
        self.loop.time += seconds
        self.loop.turn()

    def leave(self, id: int = 1, reason: LeaveReason = LeaveReason.CLOSED) -> None:
        self.members.leave({id: reason})

    def close(self) -> None:
        self.members.leave(dict.fromkeys(self.members.by_id, LeaveReason.CLOSED))
        self._listener.close()
        self.loop.close()
        os.close(self.slots.fd)
        os.close(self.log.fd)
        for peer in self._peers:
            peer.close()


@pytest.fixture(name="driver")
def fixture_driver() -> Iterator[MembersDriver]:
    driver = MembersDriver()
    yield driver
    driver.close()


CONNECTED, DISCONNECTED = "127.0.0.1 connected", "127.0.0.1 disconnected"
RESET = struct.pack("ii", 1, 0)


def test_a_member_is_announced_after_a_moment_even_if_it_sends_nothing(
    driver: MembersDriver,
) -> None:
    driver.join()
    driver.wait(ANNOUNCE_AFTER / 2)
    driver.join()
    assert (driver.lines, driver.counters.joins) == ([], 0)
    driver.wait(ANNOUNCE_AFTER / 2)
    assert (driver.lines, driver.counters.joins) == ([CONNECTED], 1)
    driver.wait(ANNOUNCE_AFTER / 2)
    assert (driver.lines, driver.counters.joins) == ([CONNECTED] * 2, 2)
    assert driver.loop.idle() is None
    driver.leave()
    assert driver.lines[2:] == [DISCONNECTED]
    assert driver.counters.leaves == {LeaveReason.CLOSED: 1}


@pytest.mark.parametrize("how", ["closed", "reset"])
def test_a_connection_that_is_closed_at_once_is_a_probe(driver: MembersDriver, how: str) -> None:
    peer = driver.join()
    if how == "reset":
        peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    peer.close()
    driver.leave(reason=LeaveReason(how))
    assert driver.lines == [None]
    counters = driver.counters
    assert (counters.probes, counters.joins, counters.leaves.total()) == (1, 0, 0)
    driver.wait(ANNOUNCE_AFTER)
    assert driver.lines == [None]


def test_a_short_visit_with_a_message_is_announced(driver: MembersDriver) -> None:
    peer = driver.join()
    peer.sendall(b"hi")
    peer.close()
    driver.leave()
    assert driver.lines == [CONNECTED, DISCONNECTED]
    assert (driver.counters.probes, driver.counters.joins) == (0, 1)


def test_a_member_that_is_kicked_at_once_is_announced(driver: MembersDriver) -> None:
    peer = driver.join()
    driver.members.disconnect([1], LeaveReason.KICKED)
    assert has_ended(peer)
    driver.leave()
    assert driver.lines == [CONNECTED, f"{DISCONNECTED}: kicked"]


@pytest.mark.parametrize("silence", [0.0, ANNOUNCE_AFTER])
def test_another_protocol_is_refused_and_its_connection_is_no_member(
    driver: MembersDriver, silence: float
) -> None:
    """A browser may connect before it has a request to send. Such a connection counts as a member
    until its request arrives."""
    driver.join()
    driver.wait(silence)
    driver.leave(reason=LeaveReason.HTTP)
    was_member = bool(silence)
    assert driver.counters.refusals == {"spoke HTTP": 1}
    assert driver.counters.joins == driver.counters.leaves.total() == was_member
    expected = [CONNECTED, f"{DISCONNECTED}: spoke HTTP"] if was_member else [None]
    assert driver.lines == expected


# --- the line with the reason -------------------------------------------------------------------

KICKED = b"<room>You were kicked\n"


def served(driver: MembersDriver) -> tuple[socket.socket, Client]:
    """Add a member that has received only the welcome; return the other end and the client."""
    peer = driver.join()
    client = driver.members.by_id[1]
    client.connection.setblocking(False)
    client.greeting = b"hi\n"
    client.connection.send(client.greeting)
    head = driver.log.head
    checkpoint = Checkpoint(driver.log.offset(head), head, len(client.greeting), 0)
    driver.slots.note(client.slot, checkpoint)
    return peer, client


def test_a_member_receives_the_reason_of_its_disconnection(driver: MembersDriver) -> None:
    peer, client = served(driver)
    append(driver.log, Run(2, b"<b>hello\n"))
    client.connection.send(b"<b>hello\n")
    driver.members.disconnect([1], LeaveReason.KICKED)
    assert receive_all(peer) == b"hi\n<b>hello\n" + KICKED


@pytest.mark.parametrize(("sender", "begin"), [(2, b"\n"), (1, b"")], ids=["another's", "its own"])
def test_prefix_4_the_reason_begins_a_line(
    driver: MembersDriver, sender: int, begin: bytes
) -> None:
    peer, client = served(driver)
    append(driver.log, Run(sender, b"<x>half"))
    if sender != 1:
        client.connection.send(b"<x>half")
    driver.members.disconnect([1], LeaveReason.KICKED)
    assert receive_all(peer).removesuffix(KICKED).endswith(begin or b"hi\n")


def test_a_member_that_lags_receives_no_reason(driver: MembersDriver) -> None:
    """The line with the reason could arrive in the middle of a message."""
    peer, client = served(driver)
    append(driver.log, Run(2, b"<b>hello\n"))
    client.connection.send(b"<b>he")
    driver.members.disconnect([1], LeaveReason.KICKED)
    assert receive_all(peer) == b"hi\n<b>he"


@pytest.mark.parametrize("sent", [b"", b"h"])
def test_welcome_1_a_connection_without_the_welcome_receives_no_reason(
    driver: MembersDriver, sent: bytes
) -> None:
    peer = driver.join()
    client = driver.members.by_id[1]
    client.greeting = b"hi\n"
    if sent:
        driver.slots.note(client.slot, Checkpoint(0, driver.log.head, len(client.greeting), 0))
        client.connection.send(sent)
    driver.members.disconnect([1], LeaveReason.KICKED)
    assert receive_all(peer) == sent
