"""Tests of Follower: it reads every message or counts it as missed, and delays nobody."""

import os
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis.strategies import integers, lists, one_of, sampled_from, tuples

from chatroom.log.follower import CHUNK, Follower
from chatroom.log.ring import Geometry, Log
from tests.log.entries import Run, append, append_message, new_log

SMALL = Geometry(text=1024, entries=64, kept=512, kept_entries=32)


@pytest.fixture(name="log")
def fixture_log() -> Iterator[Log]:
    with new_log(SMALL) as log:
        yield log


class RecordingFollower:
    """A follower with the texts of all messages that it has read, and the numbers of those it
    missed."""

    def __init__(self, log: Log, number: int = 0) -> None:
        self.follower = Follower(log, number)
        self.found: dict[int, bytes] = {}
        self.missed: set[int] = set()
        self.next = number + 1

    def read(self, size: int = CHUNK) -> bool:
        """Read a chunk; return True if the follower advanced."""
        chunk = self.follower.read(size)
        assert chunk is not None
        if chunk.missed:
            assert chunk.missed[0] == self.next
            self.missed |= set(chunk.missed)
            self.next = chunk.missed[-1] + 1
        for run in chunk.runs(self.follower.number):
            texts = run.text.removesuffix(b"\n").split(b"\n")[run.skip :]
            assert run.first + run.skip == self.next
            self.found |= dict(enumerate(texts, self.next))
            self.next += len(texts)
        self.follower.advance(chunk)
        return chunk.begin != chunk.end

    def all(self, size: int = CHUNK) -> dict[int, bytes]:
        while self.read(size):
            pass
        return self.found


def test_a_follower_begins_at_the_first_message(log: Log) -> None:
    recording = RecordingFollower(log)
    assert recording.all() == {}
    append_message(log, b"one\n")
    append(log, Run(2, b"two\nthree\n", messages=2), Run(3, b"four"))
    assert recording.all() == {1: b"one", 2: b"two", 3: b"three", 4: b"four"}
    append_message(log, b"five\n")
    assert recording.all()[5] == b"five", "LINE-6: the LF that ends 'four' is not a message"
    assert recording.follower.number == 5


@pytest.mark.parametrize("number", range(6))
def test_a_follower_can_begin_after_any_message(log: Log, number: int) -> None:
    append_message(log, b"1\n")
    append(log, Run(2, b"2\n3\n4", messages=3))
    append_message(log, b"5\n")
    found = RecordingFollower(log, number).all()
    assert found == {n: b"%d" % n for n in range(number + 1, 6)}


def test_a_number_beyond_the_last_message_means_the_last_one(log: Log) -> None:
    append_message(log, b"1\n")
    follower = Follower(log, 99)
    chunk = follower.read()
    assert chunk is not None
    assert (chunk.entries, follower.number) == ([], 1)


@pytest.mark.parametrize("begin", [0, 3])
def test_a_slow_follower_counts_the_messages_that_it_missed(log: Log, begin: int) -> None:
    for number in range(1, 4):
        append_message(log, b"%d\n" % number)
    recording = RecordingFollower(log)
    if begin:
        recording.all()
    for number in range(4, 500):
        append_message(log, b"%d\n" % number)
    recording.all()
    assert recording.found == {n: b"%d" % n for n in range(1, 500) if n not in recording.missed}
    assert recording.missed == set(range(begin + 1, 500 - SMALL.kept_entries // 2))


def test_long_texts_lap_a_follower_too(log: Log) -> None:
    recording = RecordingFollower(log)
    for number in range(1, 9):
        append_message(log, b"%d" % number * 200 + b"\n")
    recording.all()
    assert recording.missed == {1, 2, 3, 4, 5, 6, 7}
    assert recording.found == {8: b"8" * 200}


@pytest.mark.pure
def test_a_follower_that_is_lapped_during_a_read_reads_nothing(
    log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`read` returns None, not text that was overwritten during the read."""
    append_message(log, b"1\n")
    recording = RecordingFollower(log)
    views = log.views

    def overtaken(start: int, end: int) -> list[memoryview]:
        monkeypatch.setattr(log, "views", views)
        for number in range(2, 300):
            append_message(log, b"%d\n" % number)
        return views(start, end)

    monkeypatch.setattr(log, "views", overtaken)
    assert recording.follower.read() is None
    recording.all()
    assert 1 in recording.missed
    assert recording.next == 300


def test_a_follower_never_takes_the_lock(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    """While another process holds the lock, `read` returns None at once."""

    def refuse(log: Log) -> Any:
        raise AssertionError("the follower takes the lock")

    append_message(log, b"1\n")
    ready, done = os.pipe(), os.pipe()
    child = os.fork()
    if not child:
        os.close(done[1])
        log.__enter__()
        os.write(ready[1], b"x")
        os.read(done[0], 1)
        os._exit(0)
    os.read(ready[0], 1)
    monkeypatch.setattr(Log, "__enter__", refuse)
    recording = RecordingFollower(log)
    try:
        assert recording.follower.read() is None
    finally:
        os.close(done[1])
        os.waitpid(child, 0)
    assert recording.all() == {1: b"1"}
    for fd in (*ready, done[0]):
        os.close(fd)


def test_a_follower_reads_up_to_a_given_position(log: Log) -> None:
    for number in range(1, 5):
        append_message(log, b"%d\n" % number)
    follower = Follower(log, 1)
    chunk = follower.read(stop=4)
    assert chunk is not None
    assert (chunk.text, chunk.more) == (b"2\n3\n", True)
    follower.advance(chunk)
    for stop in (1, 4):
        chunk = follower.read(stop=stop)
        assert chunk is not None
        assert (chunk.text, chunk.begin) == (b"", chunk.end)


def test_a_follower_too_far_behind_skips_to_the_given_place(log: Log) -> None:
    """A follower that is too far behind skips messages, even if the log still has them."""
    follower = Follower(log, 0, max_behind=10, skip_to=0)
    for number in range(5):
        append_message(log, b"%d\n" % number)
    chunk = follower.read(size=6)
    assert chunk is not None
    assert chunk.text == b"0\n1\n2\n", "5 messages behind: no skip"
    append_message(log, b"5\n")
    chunk = follower.read()
    assert chunk is not None
    assert (chunk.missed, chunk.text, chunk.end.position) == (range(1, 7), b"", log.head)


STEPS = lists(
    one_of(
        tuples(sampled_from(["say"]), lists(integers(0, 60), min_size=1, max_size=6)),
        tuples(sampled_from(["open"]), integers(1, 60)),
        tuples(sampled_from(["read"]), sampled_from([1, 64, 1 << 20])),
        tuples(sampled_from(["another"]), integers(0, 0)),
    ),
    max_size=80,
)


@settings(deadline=None)
@given(STEPS)
def test_any_sequence_yields_each_message_once_or_counts_it_as_missed(
    steps: list[tuple[str, Any]],
) -> None:
    with new_log(SMALL) as log:
        recording = RecordingFollower(log)
        appended: list[bytes] = []
        for what, how in steps:
            match what:
                case "say":
                    texts = [
                        b"%d." % (len(appended) + n) + b"x" * size for n, size in enumerate(how)
                    ]
                    appended += texts
                    append(log, Run(1, b"".join(t + b"\n" for t in texts), messages=len(texts)))
                case "open":
                    appended.append(b"%d" % len(appended) + b"y" * how)
                    append(log, Run(2, appended[-1]))
                case "read":
                    recording.read(how)
                case "another":
                    recording.follower = Follower(log, recording.next - 1)
        recording.all()
        assert recording.next == len(appended) + 1
        assert recording.missed.isdisjoint(recording.found)
        assert {n: appended[n - 1] for n in recording.found} == recording.found
        assert len(recording.missed) + len(recording.found) == len(appended)
