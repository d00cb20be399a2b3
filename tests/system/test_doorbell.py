"""Tests of a doorbell, with which one process wakes another."""

import contextlib
import os
import select
import subprocess
import sys
from collections.abc import Iterator

import pytest

from chatroom.system.doorbell import Doorbell


@pytest.fixture(params=["eventfd", "pipe"], name="doorbell")
def fixture_doorbell(
    request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Doorbell]:
    if request.param == "pipe":
        monkeypatch.delattr(os, "eventfd", raising=False)
    elif not hasattr(os, "eventfd"):
        pytest.skip("no eventfd on this system")
    doorbell = Doorbell.new()
    assert len(doorbell.fds) == (2 if request.param == "pipe" else 1)
    yield doorbell
    doorbell.close()


def rung(doorbell: Doorbell) -> bool:
    return bool(select.select([doorbell], [], [], 0)[0])


def test_a_doorbell_is_readable_until_it_is_cleared(doorbell: Doorbell) -> None:
    assert not rung(doorbell)
    doorbell.ring()
    assert rung(doorbell)
    assert rung(doorbell)
    doorbell.clear()
    assert not rung(doorbell)


def test_rings_before_a_clear_count_as_one(doorbell: Doorbell) -> None:
    for _ in range(100):
        doorbell.ring()
    doorbell.clear()
    assert not rung(doorbell)


def test_clear_does_not_wait_for_a_ring(doorbell: Doorbell) -> None:
    doorbell.clear()
    doorbell.ring()
    assert rung(doorbell)


def test_ring_does_not_block_when_the_doorbell_is_full(doorbell: Doorbell) -> None:
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(doorbell.fds[-1], (2**64 - 2).to_bytes(8, sys.byteorder))
    doorbell.ring()
    assert rung(doorbell)


def test_another_process_with_the_descriptors_can_ring(doorbell: Doorbell) -> None:
    code = "import sys; from chatroom.system.doorbell import Doorbell as D; " + (
        "D([int(fd) for fd in sys.argv[1:]]).ring()"
    )
    arguments = [str(fd) for fd in doorbell.fds]
    subprocess.run(
        [sys.executable, "-c", code, *arguments], pass_fds=doorbell.fds, check=True, timeout=30
    )
    assert rung(doorbell)


def test_a_doorbell_is_not_inherited(doorbell: Doorbell) -> None:
    assert not any(os.get_inheritable(fd) for fd in doorbell.fds)


def test_close_closes_the_descriptors() -> None:
    doorbell = Doorbell.new()
    doorbell.close()
    for fd in doorbell.fds:
        with pytest.raises(OSError, match="Bad file descriptor"):
            os.fstat(fd)
