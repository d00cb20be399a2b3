"""Tests of child processes: start, records, timeout, reaping, and restart."""

import errno
import gc
import os
import socket
from collections.abc import Iterator
from functools import partial

import pytest

from chatroom.supervisor.child import (
    FIRST_PAUSE,
    LONGEST_PAUSE,
    READY_WITHIN,
    RETRY_AFTER,
    STEADY_AFTER,
    Child,
    RestartedChild,
    pause_after,
)
from chatroom.system.channel import Record
from chatroom.system.event_loop import EventLoop
from tests.supervisor.children import Children


@pytest.fixture(name="children")
def fixture_children(monkeypatch: pytest.MonkeyPatch) -> Iterator[Children]:
    children = Children(monkeypatch)
    yield children
    children.close()


class RecordingChild:
    """A child, the records that it has sent, and the number of its reported ends."""

    def __init__(self, children: Children) -> None:
        self.records: list[Record] = []
        self.ended = 0
        self.child = Child(
            children.loop,
            (print, ("an argument",)),
            lambda record, _: self.records.append(record),
            self._on_exit,
        )

    def _on_exit(self) -> None:
        self.ended += 1


def test_records_are_exchanged_with_a_child(children: Children) -> None:
    recording = RecordingChild(children)
    assert children.last.arguments == ("an argument",)
    recording.child.tell({"do": 1})
    assert children.last.records() == [{"do": 1}]
    children.last.channel.send({"done": 1})
    children.loop.turn()
    assert recording.records == [{"done": 1}]
    recording.child.end()
    assert recording.ended == 0
    recording.child.tell({"do": 2})


def test_the_end_of_a_child_is_reported_after_its_last_record(children: Children) -> None:
    recording = RecordingChild(children)
    children.last.channel.send({"last": True})
    children.last.die(3)
    while not recording.ended:
        children.loop.turn()
        assert recording.records == [{"last": True}]
    children.loop.turn()
    assert recording.ended == 1
    assert recording.child.exitcode == 3
    assert children.loop.sources == 0
    assert children.loop.idle() is None


def test_the_channel_of_a_child_may_end_before_its_process(children: Children) -> None:
    recording = RecordingChild(children)
    children.last.channel.close()
    children.loop.turn()
    recording.child.tell({"do": 1})
    assert recording.ended == 0
    children.last.die(1)
    children.loop.turn()
    assert recording.ended == 1


def test_a_child_that_is_not_ready_in_time_is_killed(children: Children) -> None:
    recording = RecordingChild(children)
    children.loop.time += READY_WITHIN
    children.loop.turn()
    children.loop.turn()
    assert recording.ended == 1
    assert recording.child.failure == "not ready within 30 s"


def test_a_ready_child_has_no_timeout(children: Children) -> None:
    recording = RecordingChild(children)
    recording.child.ready()
    assert children.loop.step() is None
    recording.child.end()


def test_records_for_a_full_channel_are_sent_later(children: Children) -> None:
    recording = RecordingChild(children)
    recording.child.ready()
    count = 2000
    for number in range(count):
        recording.child.tell({"number": number, "padding": "x" * 1000})
    received: list[Record] = []
    while len(received) < count:
        received += children.last.records()
        children.loop.turn()
    assert [record["number"] for record in received] == list(range(count))
    children.loop.turn()
    assert children.loop.ready == 0, "the channel is no longer watched for writing"
    recording.child.end()


def test_records_that_the_system_refuses_are_sent_later(
    children: Children, monkeypatch: pytest.MonkeyPatch
) -> None:
    recording = RecordingChild(children)
    recording.child.ready()

    def refuse(*arguments: object) -> int:
        raise OSError(errno.ENOBUFS, os.strerror(errno.ENOBUFS))

    with monkeypatch.context() as full:
        full.setattr(socket, "send_fds", refuse)
        recording.child.tell({"do": 1}, [0])
        assert children.loop.step() == pytest.approx(RETRY_AFTER)
        children.loop.time += RETRY_AFTER
        assert children.loop.step() == pytest.approx(RETRY_AFTER)
    children.loop.time += RETRY_AFTER
    assert children.loop.step() is None
    assert children.last.records() == [{"do": 1}]
    recording.child.end()


def test_wait_handles_records_and_the_end_without_the_event_loop(children: Children) -> None:
    recording = RecordingChild(children)
    children.last.channel.send({"done": 1})
    recording.child.wait(10)
    assert recording.records == [{"done": 1}]
    children.last.die(0)
    while not recording.ended:
        recording.child.wait(10)
    assert children.loop.sources == 0


def test_a_child_that_cannot_be_started_leaves_nothing(children: Children) -> None:
    children.error = OSError(errno.EAGAIN, "no more processes")
    with pytest.raises(OSError, match="no more processes"):
        RecordingChild(children)
    assert children.loop.sources == 0


def test_the_backoff_grows_up_to_its_maximum() -> None:
    pauses = [pause_after(failures) for failures in range(2000)]
    assert pauses[:4] == [0, FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE]
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE


def end_at_once(end: socket.socket) -> None:
    end.close()


def test_a_child_that_was_reaped_leaves_no_descriptor() -> None:
    """The descriptors are closed without the garbage collector, which may not run for a long
    time."""
    loop = EventLoop()
    gc.collect()
    gc.disable()
    try:
        counts = []
        for _ in range(2):
            ended: list[bool] = []
            child = Child(loop, (end_at_once, ()), lambda *_: None, partial(ended.append, True))
            while not ended:
                loop.turn()
            assert child.exitcode == 0
            counts.append(len(os.listdir("/dev/fd")))
    finally:
        gc.enable()
    assert counts[0] == counts[1]
    loop.close()


# --- restarted -----------------------------------------------------------------------------------


class Restarted:
    """A RestartedChild whose processes are fakes."""

    def __init__(self, children: Children) -> None:
        self.records: list[Record] = []
        self.child = RestartedChild(
            children.loop,
            (print, ()),
            lambda record, _: self.records.append(record),
            lambda child: child.tell({"begin": True}),
            "thing",
            file="a.txt",
        )


def test_the_backoff_grows_with_each_death_of_a_process(
    children: Children, caplog: pytest.LogCaptureFixture
) -> None:
    restarted = Restarted(children)
    restarted.child.start()
    for failures in range(12):
        assert children.last.records() == [{"begin": True}]
        children.last.die(failures)
        children.loop.turn()
        count, pause = len(children.started), pause_after(failures)
        if pause:
            assert children.loop.idle() == pytest.approx(pause)
            children.loop.time += pause
            assert len(children.started) == count
            children.loop.turn()
        children.loop.turn()
        assert len(children.started) == failures + 2
    assert caplog.messages[0] == (
        "event=thing-died file=a.txt exit=0 again_in=0"
        ' says="the process ended; it is started again"'
    )
    assert " again_in=0.1 " in caplog.messages[1]
    restarted.child.end()


@pytest.mark.parametrize("success", ["it reports success", "it lives long"])
def test_a_success_resets_the_backoff(success: str, children: Children) -> None:
    restarted = Restarted(children)
    restarted.child.start()
    for _ in range(3):
        children.last.die(1)
        children.loop.turn()
        children.loop.time += LONGEST_PAUSE
        children.loop.turn()
    if success == "it reports success":
        restarted.child.succeeded()
    else:
        children.loop.time += STEADY_AFTER
        assert restarted.child.child is not None
        restarted.child.child.ready()
    children.last.die(1)
    children.loop.turn()
    assert children.loop.idle() != pytest.approx(pause_after(3))
    children.loop.turn()
    assert len(children.started) == 5
    restarted.child.end()


def test_a_failed_start_is_tried_again(
    children: Children, caplog: pytest.LogCaptureFixture
) -> None:
    restarted = Restarted(children)
    children.error = OSError(errno.EAGAIN, "no more processes")
    restarted.child.start()
    [message] = caplog.messages
    assert message.startswith(
        'event=thing-failed file=a.txt error="no more processes" again_in=0 says='
    )
    assert restarted.child.child is None
    restarted.child.tell({"no process": "receives this"})
    children.error = None
    children.loop.turn()
    assert len(children.started) == 1
    assert children.last.records() == [{"begin": True}]
    restarted.child.end()


@pytest.mark.parametrize("exitcode", [0, 1])
def test_a_process_that_ends_after_stop_is_not_restarted(exitcode: int, children: Children) -> None:
    restarted = Restarted(children)
    restarted.child.start()
    restarted.child.stop()
    children.last.die(exitcode)
    while restarted.child.child is not None:
        children.loop.turn()
    assert children.loop.idle() is None
    assert restarted.child.done == (exitcode == 0)
    assert len(children.started) == 1


def test_a_restarted_child_can_end_before_its_start(children: Children) -> None:
    Restarted(children).child.end()
    assert children.started == []


def test_owned_descriptors_are_closed_even_if_no_process_runs(children: Children) -> None:
    """No process runs before the start, or after a process has closed its channel but is not reaped
    yet."""
    process = RestartedChild(children.loop, (print, ()), ignore, lambda _: None, "test")
    for started in (False, True):
        if started:
            process.start()
            children.last.channel.close()
            children.loop.turn()
        first, second = os.pipe()
        process.tell({"for": "nobody"}, [first, second], owned=True)
        for descriptor in (first, second):
            with pytest.raises(OSError, match="Bad file descriptor"):
                os.fstat(descriptor)
    process.end()


def ignore(_record: Record, _descriptors: list[int]) -> None:
    pass
