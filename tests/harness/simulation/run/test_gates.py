"""Gates, which hold bytes back and pass them on later. The tests set the time."""

from itertools import pairwise
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.simulation.run.gates import (
    CHUNK,
    CLOSED,
    HELD,
    HELD_BY_DELAY,
    RESET,
    Course,
    DelayGate,
    DripGate,
    Gate,
    SlowGate,
    draw,
    gates,
)
from harness.simulation.scenario.scenario import LINK_FAULTS, Link


def course(fault: str = "slow", begins: float = 10.0, ends: float = 20.0, **more: float) -> Course:
    found = {"bytes_per_second": 1000.0, "pause": 0.5, "held": 3.0} | more
    return Course(fault, begins, ends, **found)


def at(gate: Gate, now: float) -> Gate:
    gate.now = now
    return gate


def passed(gate: Gate, now: float) -> bytes:
    """Take all bytes that are due at this time, and return them."""
    gate.now = now
    taken = b""
    while data := gate.due():
        gate.took(len(data))
        taken += data
    return taken


def every_gate() -> list[Gate]:
    return [gate for fault in LINK_FAULTS for gate in gates(course(fault))]


# --- courses, which are drawn at random -----------------------------------------------------------


def test_a_course_depends_on_the_seed_and_the_numbers_only() -> None:
    link = Link("stall", (1.0, 3.0), (4.0, 6.0), pause=(0.0, 1.0), held=(0.0, 1.0))
    first = draw(link, 100.0, 7, 0, 0)
    assert first == draw(link, 100.0, 7, 0, 0)
    assert 101 <= first.begins <= 103
    assert 4 <= first.ends - first.begins <= 6
    others = [draw(link, 100.0, *rest) for rest in ((8, 0, 0), (7, 1, 0), (7, 0, 1), (7, 0, 11))]
    assert len({drawn.begins for drawn in [first, *others]}) == 5
    assert draw(link, 200.0, 7, 0, 0).begins == pytest.approx(first.begins + 100)


def test_a_fault_without_seconds_has_no_end() -> None:
    assert draw(Link("stall"), 100.0, 1, 0, 0).ends == inf
    assert draw(Link("stall", seconds=(0.0, 0.0)), 100.0, 1, 0, 0).ends == 100


def test_each_fault_has_a_gate_for_each_direction() -> None:
    kinds = {fault: tuple(type(gate) for gate in gates(course(fault))) for fault in LINK_FAULTS}
    assert kinds == {
        "slow": (Gate, SlowGate),
        "stall": (Gate, SlowGate),
        "drip": (DripGate, Gate),
        "delay": (DelayGate, DelayGate),
        "cut-off": (Gate, Gate),
        "reset": (Gate, Gate),
        "half-close": (Gate, Gate),
    }


# --- all gates -----------------------------------------------------------------------------------


@given(
    st.sampled_from(range(2 * len(LINK_FAULTS))),
    st.lists(st.tuples(st.floats(0, 3), st.integers(0, 5000), st.integers(1, 5000)), max_size=30),
)
def test_all_bytes_leave_a_gate_in_order_and_before_the_end(
    which: int, steps: list[tuple[float, int, int]]
) -> None:
    gate = every_gate()[which]
    put, taken, now = b"", b"", 0.0
    for pause, offered, wanted in steps:
        now += pause
        gate.now = now
        data = bytes((len(put) + n) % 251 for n in range(min(offered, max(0, gate.room()))))
        gate.put(data)
        put += data
        due = gate.due()[:wanted]
        gate.took(len(due))
        taken += due
        assert gate.ending() == ""
        assert put.startswith(taken)
    gate.end(CLOSED)
    taken += passed(gate, max(now, 30.0))  # all faults are over by then
    assert taken == put
    assert gate.ending() == CLOSED


@pytest.mark.parametrize("which", range(2 * len(LINK_FAULTS)))
def test_the_room_of_a_gate_is_limited(which: int) -> None:
    gate = at(every_gate()[which], 0.0)
    most = HELD_BY_DELAY if isinstance(gate, DelayGate) else HELD
    assert gate.room() == most
    gate.put(bytes(most - 1))
    assert gate.room() == 1
    gate.put(bytes(1))
    assert gate.room() == 0
    assert len(gate.due()) == CHUNK
    gate.took(5)
    assert gate.room() == 5


@pytest.mark.parametrize("which", range(2 * len(LINK_FAULTS)))
def test_bytes_pass_at_once_before_and_after_a_fault(which: int) -> None:
    gate = every_gate()[which]
    for now in (9.9, 20.0):
        at(gate, now).put(b"hello")
        assert passed(gate, now) == b"hello"
        assert gate.wake() == inf
    gate.end(CLOSED)
    assert gate.ending() == CLOSED


@pytest.mark.parametrize("which", range(2 * len(LINK_FAULTS)))
def test_a_reset_overtakes_held_bytes(which: int) -> None:
    gate = at(every_gate()[which], 0.0)
    gate.put(b"hello")
    gate.end(CLOSED)
    assert gate.due()
    assert gate.ending() == ""
    gate.end(RESET)
    assert gate.ending() == RESET


# --- each fault ----------------------------------------------------------------------------------


def test_a_stall_reads_nothing_and_passes_nothing_on() -> None:
    gate = at(SlowGate(course("stall"), 0), 9.9)
    gate.put(b"hello")
    for now in (10.0, 15.0, 19.9):
        assert at(gate, now).room() == 0
        assert gate.due() == b""
        assert gate.wake() == 20.0
    assert at(gate, 20.0).due() == b"hello"
    assert gate.room() == HELD - 5


@pytest.mark.parametrize("rate", [0.5, 3.0, 19.0, 1000.0, 1234.5, 1e6, 1e8])
def test_a_slow_gate_keeps_its_rate_when_it_is_woken_late(rate: float) -> None:
    gate = at(SlowGate(course(ends=inf), rate), 10.0)
    assert gate.room() == 0
    carried, times = 0, 0
    while times < 400:
        times += 1
        grain = gate.wake() - gate.now
        assert 0 < grain < inf
        gate.now = gate.wake() + grain * (times % 3) / 3
        room = gate.room()
        assert 0 < room <= HELD
        gate.put(bytes(room))
        assert gate.room() == 0  # the gate reads no more than its rate permits
        carried += len(passed(gate, gate.now))
    assert carried / (gate.now - 10) == pytest.approx(rate, rel=0.02)


def test_a_slow_gate_passes_bytes_twenty_times_a_second() -> None:
    gate = at(SlowGate(course(ends=inf), 1000), 10.0)
    assert gate.wake() == pytest.approx(10.05)
    assert at(gate, 10.0501).room() == 50


def test_a_slow_gate_saves_up_bytes_of_at_most_a_tenth_of_a_second() -> None:
    gate = at(SlowGate(course(ends=inf), 1000), 5000.0)
    assert gate.room() == 100
    gate.put(bytes(100))
    assert len(passed(gate, 5000.0)) == 100
    assert gate.room() == 0
    assert gate.wake() == pytest.approx(5000.05)


def test_bytes_held_at_the_start_of_a_fault_are_slowed_too() -> None:
    gate = at(SlowGate(course(), 1000), 9.0)
    gate.put(bytes(1000))
    assert at(gate, 10.0501).room() == 0
    assert len(passed(gate, 10.0501)) == 50
    assert at(gate, 19.99).wake() == 20.0
    assert len(passed(gate, 20.0)) == 950


def test_a_drip_passes_a_byte_at_a_time() -> None:
    gate = at(DripGate(course("drip")), 10.0)
    assert gate.wake() == inf
    gate.put(b"hello")
    assert passed(gate, 10.0) == b"h"
    assert gate.wake() == 10.5
    assert passed(gate, 10.4) == b""
    assert passed(gate, 10.6) == b"e"
    gate.end(CLOSED)
    assert gate.wake() == pytest.approx(11.1)
    assert passed(gate, 19.9) == b"l"
    assert gate.wake() == 20.0
    assert gate.ending() == ""
    assert passed(gate, 20.0) == b"lo"
    assert gate.ending() == CLOSED


def test_a_drip_without_a_pause_still_passes_a_byte_at_a_time() -> None:
    gate = at(DripGate(course("drip", pause=0.0)), 10.0)
    gate.put(b"hi")
    assert gate.due() == b"h"
    gate.took(1)
    assert gate.due() == b"i"


def test_a_delay_holds_all_bytes_for_the_same_time() -> None:
    gate = at(DelayGate(course("delay")), 10.0)
    gate.put(b"one ")
    at(gate, 11.0).put(b"two ")
    assert gate.wake() == 13.0
    assert passed(gate, 12.9) == b""
    assert passed(gate, 13.0) == b"one "
    assert gate.wake() == 14.0
    assert at(gate, 13.5).due() == b""
    gate.end(CLOSED)
    assert passed(gate, 14.5) == b"two "
    assert gate.ending() == ""
    assert gate.wake() == 16.5
    assert at(gate, 16.5).ending() == CLOSED
    assert gate.wake() == inf


def test_bytes_that_arrive_after_a_delay_wait_for_held_bytes() -> None:
    gate = at(DelayGate(course("delay")), 19.0)
    gate.put(b"one ")
    at(gate, 20.0).put(b"two ")
    gate.end(CLOSED)
    assert gate.ending() == ""
    assert passed(gate, 21.9) == b""
    assert passed(gate, 22.0) == b"one two "
    assert gate.ending() == CLOSED


def test_a_delay_holds_a_reset_too() -> None:
    gate = at(DelayGate(course("delay")), 10.0)
    gate.end(RESET)
    assert gate.ending() == ""
    assert at(gate, gate.wake()).ending() == RESET
    assert gate.now == 13.0


def test_the_number_of_bytes_that_a_delay_holds_is_limited() -> None:
    gate = at(DelayGate(course("delay")), 10.0)
    gate.put(bytes(1000))
    gate.now = 13.0
    assert len(gate.due()) == 1000
    gate.put(bytes(500))
    assert gate.room() == HELD_BY_DELAY - 1500
    gate.took(1000)
    assert gate.room() == HELD_BY_DELAY - 500


def test_repeated_calls_of_room_and_due_change_nothing() -> None:
    asked, unasked = (SlowGate(course(ends=inf), 1000) for _ in range(2))
    for before, now in pairwise([10.0, 10.03, 10.04, 10.06, 12.0]):
        at(asked, before).room()
        asked.due()
        assert at(asked, now).room() == at(unasked, now).room()
