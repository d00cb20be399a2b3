"""Tests of the uplink: its unpublished messages, and the append of a worker that dies."""

import os
from collections.abc import Iterator

import pytest

from chatroom.config.cluster_url import ClusterURL
from chatroom.config.settings import Settings
from chatroom.config.sizes import MIB
from chatroom.log.ring import IDLE
from chatroom.log.slots import Slots
from chatroom.log.uplink import Uplink, geometry
from chatroom.system.memory import anonymous_file
from tests.log.entries import Run, batch_of

SETTINGS = Settings(
    workers=2, max_clients=10, cluster=ClusterURL.parse("nats://localhost/room"), log_size=8 * MIB
)
LIMITS = SETTINGS.limits


@pytest.fixture(name="uplink")
def fixture_uplink() -> Iterator[Uplink]:
    fd = anonymous_file("a test's uplink", geometry(LIMITS).file_size)
    uplink = Uplink(fd, LIMITS)
    uplink.format()
    for worker in range(2):
        uplink.prepare_seat(worker)
    yield uplink
    os.close(fd)


@pytest.fixture(name="slots")
def fixture_slots() -> Iterator[Slots]:
    fd = anonymous_file("a test's slots", Slots.file_size(LIMITS))
    yield Slots(fd, LIMITS)
    os.close(fd)


def test_an_append_notes_the_reaches_of_its_senders(uplink: Uplink, slots: Slots) -> None:
    batch = batch_of(Run(1, b"<a>x\n", 2), Run(2, b"<b>y\n", 7), Run(1, b"<a>z\n", 4))
    with uplink:
        assert uplink.append_from(0, batch, [5, 6, 5], slots) == 0
    assert (slots.uplink_reach(5), slots.uplink_reach(6)) == (4, 7)
    assert uplink.interrupted() == {}, "no append was interrupted"
    assert uplink.worker_position(0) == IDLE


def test_unpublished_messages_are_not_overwritten(uplink: Uplink, slots: Slots) -> None:
    """The worker waits. The bridge wakes it after it has published some messages."""
    full = batch_of(Run(1, b"<a>" + b"x" * MIB + b"\n"))
    with uplink:
        appended = 0
        while uplink.append_from(0, full, [0], slots) is not None:
            appended += 1
        uplink.wait_for_space(0)
        assert appended == SETTINGS.log_size // (MIB + 4)
        assert uplink.worker_position(0) == IDLE, "a failed append pins no position"
        assert uplink.yet_to_deliver() == [uplink.bridge]
        assert uplink.note_published(uplink.published) == []
        assert uplink.note_published(uplink.published + 1) == [0]
        assert uplink.append_from(0, full, [0], slots) is not None


@pytest.mark.pure
@pytest.mark.parametrize("noted", [0, 1])
def test_an_interrupted_append_is_found_until_it_is_settled(
    noted: int, uplink: Uplink, slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The worker dies after the append, but before all reaches are in the slots."""
    left = noted

    def die(*_: object) -> None:
        nonlocal left
        left -= 1
        if left < 0:
            raise KeyboardInterrupt

    with uplink:
        uplink.append_from(0, batch_of(Run(1, b"<a>before\n", 3)), [0], slots)
    monkeypatch.setattr(slots, "note_uplink_reach", die)
    with uplink, pytest.raises(KeyboardInterrupt):
        uplink.append_from(0, batch_of(Run(1, b"<a>x\n", 5), Run(2, b"<b>y\n", 6)), [0, 1], slots)
    monkeypatch.undo()
    with uplink:
        uplink.append_from(1, batch_of(Run(3, b"<c>later\n", 9)), [2], slots)
    assert uplink.interrupted() == {1: 5, 2: 6, 3: 9}
    uplink.retire(0)
    assert uplink.interrupted() == {}


def test_the_lower_position_of_two_dead_workers_stays_pinned(uplink: Uplink) -> None:
    uplink.serve(0, 7)
    uplink.serve(1, 3)
    uplink.pin([0, 1], 0)
    assert (uplink.worker_position(0), uplink.worker_position(1)) == (3, IDLE)
    uplink.pin([0], 0)
    assert uplink.worker_position(0) == 3
