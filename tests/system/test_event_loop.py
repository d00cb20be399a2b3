"""Tests of the event loop: sources and timers."""

import socket
from collections.abc import Iterator

import pytest

from chatroom.system.event_loop import READ, WRITE, EventLoop
from tests.system.loops import ManualLoop

Pair = tuple[socket.socket, socket.socket]


@pytest.fixture(name="loop")
def fixture_loop() -> Iterator[ManualLoop]:
    loop = ManualLoop()
    yield loop
    loop.close()


@pytest.fixture(name="pair")
def fixture_pair() -> Iterator[Pair]:
    ends = socket.socketpair()
    yield ends
    for end in ends:
        end.close()


def test_a_ready_source_is_called_until_it_is_forgotten(loop: ManualLoop, pair: Pair) -> None:
    called: list[int] = []
    loop.watch(pair[0], lambda: called.append(1))
    loop.turn()
    assert called == []
    pair[1].send(b"x")
    loop.turn()
    loop.turn()
    assert called == [1, 1]
    assert loop.sources == 1
    loop.forget(pair[0])
    loop.forget(pair[0])
    loop.turn()
    assert called == [1, 1]
    assert loop.sources == 0


def test_a_source_may_be_watched_for_other_events(loop: ManualLoop, pair: Pair) -> None:
    called: list[int] = []
    loop.watch(pair[0], lambda: called.append(1))
    loop.change(pair[0], READ | WRITE)
    loop.turn()
    assert called == [1]
    loop.change(pair[0], READ)
    loop.turn()
    assert called == [1]


def test_a_source_forgotten_in_the_same_turn_is_not_called(loop: ManualLoop) -> None:
    pairs = [socket.socketpair() for _ in range(2)]
    called: list[int] = []

    def first_to_be_called(number: int) -> None:
        called.append(number)
        for ours, _ in pairs:
            loop.forget(ours)
            ours.close()

    for number, (ours, theirs) in enumerate(pairs):
        theirs.send(b"x")
        loop.watch(ours, lambda number=number: first_to_be_called(number))  # type: ignore[misc]
    loop.turn()
    assert len(called) == 1
    for _, theirs in pairs:
        theirs.close()


def test_a_timer_is_called_once_when_it_is_due(loop: ManualLoop) -> None:
    called: list[float] = []
    timer = loop.timer(lambda: called.append(loop.time))
    assert loop.step() is None
    timer.set_after(2)
    assert timer.due == loop.time + 2
    assert loop.step() == 2
    loop.time += 1.5
    assert loop.step() == 0.5
    loop.time += 0.5
    assert loop.step() is None
    assert called == [loop.time]
    assert timer.due is None


def test_a_timer_can_be_set_again_or_cancelled(loop: ManualLoop) -> None:
    called: list[int] = []
    timer = loop.timer(lambda: called.append(1))
    timer.set_after(1)
    timer.set(loop.time + 3)
    loop.time += 2
    assert loop.step() == 1
    timer.cancel()
    timer.cancel()
    loop.time += 2
    assert loop.step() is None
    assert called == []


@pytest.mark.parametrize("what", ["cancels", "sets again"])
def test_a_timer_can_change_another_one_that_is_due(what: str, loop: ManualLoop) -> None:
    called: list[str] = []

    def act() -> None:
        called.append("first")
        second.cancel() if what == "cancels" else second.set_after(1)

    first, second = loop.timer(act), loop.timer(lambda: called.append("second"))
    first.set_after(1)
    second.set_after(1)
    loop.time += 1
    loop.turn()
    assert called == ["first"]
    loop.time += 1
    loop.turn()
    assert called == (["first"] if what == "cancels" else ["first", "second"])


def test_a_timer_may_set_itself_again(loop: ManualLoop) -> None:
    called: list[int] = []

    def again() -> None:
        called.append(1)
        timer.set_after(0)

    timer = loop.timer(again)
    timer.set_after(0)
    loop.turn()
    assert called == [1], "one call per turn, so that sources are also called"
    loop.turn()
    assert called == [1, 1]


def test_an_exception_of_a_callback_leaves_the_turn(loop: ManualLoop) -> None:
    loop.timer(lambda: 1 / 0).set_after(0)  # type: ignore[arg-type]
    with pytest.raises(ZeroDivisionError):
        loop.turn()


def test_turn_waits_for_a_source_or_the_first_timer(pair: Pair) -> None:
    loop = EventLoop()
    called: list[int] = []
    loop.watch(pair[0], lambda: called.append(1))
    timer = loop.timer(lambda: called.append(2))
    timer.set_after(0.01)
    while called != [2]:
        loop.turn()
    pair[1].send(b"x")
    loop.turn()
    assert called == [2, 1]
    loop.close()
