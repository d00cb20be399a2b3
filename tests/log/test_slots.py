"""Tests of slots: the state that another worker needs to continue with a member."""

import mmap
import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import binary, integers, lists, tuples

from chatroom.config.settings import Settings
from chatroom.config.sizes import KIB, PAGE
from chatroom.log.slots import Checkpoint, Slots
from chatroom.system.memory import anonymous_file

SETTINGS = Settings(max_clients=50, max_line=64, max_lag=8 * KIB, log_size=64 * KIB)
SIZE = SETTINGS.input_size


def make(fd: int | None = None) -> Slots:
    if fd is None:
        fd = anonymous_file("a test's slots", Slots.file_size(SETTINGS.limits))
    return Slots(fd, SETTINGS.limits)


@pytest.fixture(name="slots")
def fixture_slots() -> Iterator[Slots]:
    slots = make()
    yield slots
    os.close(slots.fd)


def checkpoint(number: int) -> Checkpoint:
    return Checkpoint(number, number + 1, number + 2, number + 3)


# --- checkpoints ---------------------------------------------------------------------------------


def test_a_new_slot_has_an_empty_checkpoint(slots: Slots) -> None:
    assert slots.checkpoint(49) == (0, 0, 0, 0)


def test_the_last_checkpoint_is_visible_through_every_mapping(slots: Slots) -> None:
    other = make(slots.fd)
    for round in range(3):
        for slot in range(50):
            slots.note(slot, checkpoint(1000 * round + 10 * slot))
        for slot in range(50):
            assert other.checkpoint(slot) == checkpoint(1000 * round + 10 * slot)


def test_load_3_an_allowance_is_visible_until_its_slot_is_cleared(slots: Slots) -> None:
    other = make(slots.fd)
    assert other.spent_until(49) == 0.0
    for slot in (5, 49):
        slots.note(slot, checkpoint(slot))
        slots.note_spent(slot, 1000.25 + slot)
        slots.note(slot, checkpoint(slot + 1))
    assert [other.spent_until(slot) for slot in (5, 6, 49)] == [1005.25, 0.0, 1049.25]
    assert other.checkpoint(5) == checkpoint(6)
    slots.clear(5)
    assert [other.spent_until(slot) for slot in (5, 49)] == [0.0, 1049.25]


class Killed(Exception):
    pass


class Stores:
    """Memory that accepts `left` stores of a word, and then raises Killed."""

    def __init__(self, words: memoryview, left: int) -> None:
        self._words = words
        self.left = left

    def __getitem__(self, index: Any) -> Any:
        return self._words[index]

    def __setitem__(self, index: int, value: int) -> None:
        if not self.left:
            raise Killed
        self.left -= 1
        self._words[index] = value


@pytest.mark.parametrize("noted", [1, 2])
def test_load_4_a_death_during_note_leaves_the_old_or_new_checkpoint(
    noted: int, slots: Slots
) -> None:
    other = make(slots.fd)
    words: Any = slots._words
    deaths = 0
    for stores in range(10):
        for number in range(noted):
            slots.note(3, checkpoint(10 * number))
        old = slots.checkpoint(3)
        slots._words = memory = Stores(words, stores)  # type: ignore[assignment]
        try:
            slots.note(3, checkpoint(500))
        except Killed:
            deaths += 1
            assert other.checkpoint(3) == old
        else:
            assert other.checkpoint(3) == checkpoint(500)
            assert memory.left == stores - 5
        slots._words = words
    assert deaths == 5


# --- input ---------------------------------------------------------------------------------------


@given(lists(tuples(binary(min_size=1, max_size=400), integers(1, 400)), max_size=60))
def test_load_4_the_last_input_is_found_by_its_offset(
    reads: list[tuple[bytes, int]],
) -> None:
    slots = make()
    try:
        other = make(slots.fd)
        stream = b""
        for data, most in reads:
            room = slots.input_buffer(7, len(stream), most)
            assert 0 < len(room) <= most
            piece = data[: len(room)]
            room[: len(piece)] = piece
            stream += piece
        begin = max(0, len(stream) - SIZE)
        for first in range(begin, len(stream), 97):
            assert other.input(7, first, len(stream)) == stream[first:]
        assert not any(other.input(slot, 0, SIZE).strip(b"\0") for slot in (6, 8))
    finally:
        os.close(slots.fd)


def test_input_wraps_at_the_end_of_a_slot(slots: Slots) -> None:
    assert len(slots.input_buffer(0, 2 * SIZE - 3, 10)) == 3
    for begin, data in ((2 * SIZE - 3, b"abc"), (2 * SIZE, b"defg")):
        slots.input_buffer(0, begin, 10)[: len(data)] = data
    assert slots.input(0, 2 * SIZE - 3, 2 * SIZE + 4) == b"abcdefg"
    assert slots.input(0, 2 * SIZE + 1, 2 * SIZE + 3) == b"ef"
    assert slots.input(0, 5, 5) == b""


# --- cleared -------------------------------------------------------------------------------------


def blocks(slots: Slots) -> int:
    return os.fstat(slots.fd).st_blocks * 512


def test_leave_3_a_cleared_slot_is_like_new_and_uses_no_memory(slots: Slots) -> None:
    for slot in (4, 5, 6):
        slots.note(slot, checkpoint(slot))
        slots.note(slot, checkpoint(10 * slot))
        slots.input_buffer(slot, 0, SIZE)[:] = b"x" * SIZE
    before = blocks(slots)
    slots.clear(5)
    assert slots.checkpoint(5) == (0, 0, 0, 0)
    slots.note(5, checkpoint(1))
    assert slots.checkpoint(5) == checkpoint(1)
    if hasattr(mmap, "MADV_REMOVE"):
        assert slots.input(5, 0, SIZE) == bytes(SIZE)
        slots.clear(5)
        assert before - blocks(slots) >= SIZE - PAGE
    for slot in (4, 6):
        assert slots.checkpoint(slot) == checkpoint(10 * slot)
        assert slots.input(slot, 0, SIZE) == b"x" * SIZE


def test_a_slot_can_be_cleared_without_madv_remove(
    slots: Slots, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(mmap, "MADV_REMOVE", raising=False)
    slots.note(5, checkpoint(5))
    slots.clear(5)
    assert slots.checkpoint(5) == (0, 0, 0, 0)


def test_unused_slots_use_no_memory(slots: Slots) -> None:
    assert blocks(slots) <= 2 * PAGE
