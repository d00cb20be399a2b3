"""Latencies of messages that are sent on a fixed schedule, and the check of what was received."""

import dataclasses
import socket
from pathlib import Path

import pytest

from harness.bench import payload
from harness.bench.dialects import CHAT, REDIS
from harness.bench.open_loop import TRUSTED, Timetable, figures, play, punctual, trusted
from harness.bench.payload import ArrivalError
from tests.harness.bench.alone import alone

HEAD = b"<127.0.0.1>"
HEADS = dict.fromkeys(range(3), HEAD)
TABLE = Timetable(CHAT, HEADS, count=4, rate=10)
ZERO, ONE, TWO, THREE = (HEAD + payload.line(number, 0) for number in range(4))


def test_messages_are_due_at_even_intervals_from_clients_in_turn() -> None:
    assert TABLE.due == pytest.approx([0, 0.1, 0.2, 0.3])
    assert TABLE.speakers == [0, 1, 2, 0]
    assert TABLE.words == [payload.line(number, 0) for number in range(4)]


def test_all_messages_of_a_long_timetable_differ() -> None:
    assert len(set(Timetable(CHAT, HEADS, 200_001, 1.0).words)) == 200_001


def test_a_latency_lasts_from_the_due_time_to_the_last_byte() -> None:
    arrivals = [(0.5, ZERO + TWO[:-1]), (0.75, TWO[-1:]), (1.0, THREE)]
    assert [*TABLE.latencies(arrivals, 1)] == pytest.approx([0.5, 0.55, 0.7])


def test_messages_may_come_in_any_order() -> None:
    arrivals = [(0.5, THREE), (0.75, TWO), (1.0, ZERO)]
    assert [*TABLE.latencies(arrivals, 1)] == pytest.approx([0.2, 0.55, 1.0])


def test_an_echo_is_required_and_is_not_counted_as_a_delivery() -> None:
    table = Timetable(REDIS, {0: b"a", 1: b"b"}, count=2, rate=10)
    own, other = (b"ab"[n : n + 1] + payload.line(n, 0) + REDIS.tail for n in range(2))
    assert [*table.latencies([(1.0, own + other)], 0)] == pytest.approx([0.9])
    with pytest.raises(ArrivalError, match="client 0 has not received each message exactly once"):
        [*table.latencies([(1.0, other)], 0)]


@pytest.mark.parametrize(
    ("heard", "complaint"),
    [
        (ZERO + TWO, "has not received each message exactly once"),
        (ZERO + TWO + THREE + THREE, "has not received each message exactly once"),
        (ZERO + TWO + THREE + ONE, "has not received each message exactly once"),  # it sent ONE
        (ZERO + TWO + THREE[:-1], "received '<127.*, which no client sent"),
        (ZERO + TWO.replace(b"o", b"0") + THREE, "received '<127.*, which no client sent"),
        (ZERO + TWO + b"hm? " + THREE, r"received 'hm\? .*, which no client sent"),
        (ZERO + TWO + THREE.replace(b"127", b"128"), "received '<128.*, which no client sent"),
    ],
)
def test_any_other_output_is_a_violation(heard: bytes, complaint: str) -> None:
    assert [*TABLE.latencies([(1.0, ZERO + TWO + THREE)], 1)]
    with pytest.raises(ArrivalError, match=f"client 1 {complaint}"):
        [*TABLE.latencies([(1.0, heard)], 1)]


def test_percentiles_are_in_milliseconds() -> None:
    found = figures([number / 1000 for number in range(1, 1001)], [0.004, 0.001])
    assert found == pytest.approx(
        {"p50": 500, "p99": 990, "max": 1000, "late p50": 1, "late p99": 4, "late max": 4}
    )


def test_latencies_of_a_load_that_was_late_are_not_trusted() -> None:
    assert trusted(8.0, 8.0 * TRUSTED)
    assert not trusted(8.0, 8.1 * TRUSTED)


def test_the_timer_slack_is_reduced_and_restored(tmp_path: Path) -> None:
    slack = tmp_path / "timerslack_ns"
    with punctual(slack):  # the file does not exist
        assert not slack.exists()
    slack.write_text("50000")
    with punctual(slack):
        assert slack.read_text() == "1"
    assert slack.read_text() == "50000"


# -- one client; the test acts as the server ---------------------------------------------------


def test_play_returns_how_late_each_message_was_sent() -> None:
    # The server echoes, so that a single client receives messages.
    echoing = dataclasses.replace(CHAT, echo=True)
    with alone(echoing, patience=5) as (room, server):
        table = Timetable(echoing, {0: HEAD}, count=2, rate=1)
        table.due = [-5.0, -3.0]  # seconds; negative, so that both are sent late
        server.sendall(ZERO + ONE)
        ((came,), lateness) = play(room, table, room.due_bytes([0, 0], {0: HEAD}))
        said = b"".join(table.words)
        assert server.recv(len(said), socket.MSG_WAITALL) == said
    assert b"".join(data for _, data in came) == ZERO + ONE
    assert 5 <= lateness[0] < 9
    assert 3 <= lateness[1] < 7
    assert not trusted(5.0, max(lateness))


def test_a_due_message_does_not_wait_for_an_answer() -> None:
    echoing = dataclasses.replace(CHAT, echo=True)
    with alone(echoing, patience=0.05) as (room, server):
        table = Timetable(echoing, {0: HEAD}, count=3, rate=1000)
        with pytest.raises(ArrivalError, match=r"1 client received nothing for 0\.05 s"):
            play(room, table, room.due_bytes([0, 0, 0], {0: HEAD}))
        said = b"".join(table.words)
        assert server.recv(len(said), socket.MSG_WAITALL) == said
