"""Tests of the output of chatroom.status."""

import socket
import tempfile
from typing import Any

import pytest

from chatroom.cli.status import format_time, lines, main, table
from chatroom.control import control_socket


def room(**changes: Any) -> dict[str, Any]:
    return {
        "version": "1",
        "build": "compiled",
        "listening": "0.0.0.0:4000",
        "pid": 12,
        "up": 60.0,
        "since": 1e9,
        "members": 2,
        "capacity": 10_000,
        "joins": 5,
        "leaves": {},
        "refusals": {},
        "probes": 0,
        "messages": 30,
        "bytes": 6000,
        "deliveries": 1500,
        "lag": 0,
        "worker_deaths": 0,
        "longest_recovery": 0.0,
    } | changes


def found(members: int = 0, **changes: Any) -> dict[str, Any]:
    worker = {
        "worker": 0,
        "pid": 13,
        "members": members,
        "messages": 30,
        "deliveries": 1500,
        "restarts": 0,
        "lag": 7,
    }
    member = {
        "id": 3,
        "address": "192.0.2.7",
        "port": 5555,
        "here": 60.0,
        "since": 1e9,
        "worker": 0,
        "said": 10,
        "heard": 99,
        "lag": None,
    }
    return {
        "room": room(members=members, **changes),
        "workers": [worker],
        "members": [member | {"id": 3 + number} for number in range(members)],
    }


def test_status_shows_totals_and_a_table_of_workers() -> None:
    assert list(lines(found(), None)) == [
        "0.0.0.0:4000, pid 12, up 0:01:00, compiled",
        "0 members of 10,000; 5 joined, 0 left, 0 refused",
        "30 messages (0.5/s), 1,500 deliveries (25.0/s), 6,000 bytes (100.0/s); lag 0 bytes",
        "",
        "worker  pid  members  messages  deliveries  restarts  lag",
        "     0   13        0        30        1500         0    7",
    ]


def test_rates_cover_the_time_since_the_previous_status() -> None:
    before = found(up=58.0, messages=20, deliveries=500, bytes=0)
    assert [*lines(found(), before)][2] == (
        "30 messages (5.0/s), 1,500 deliveries (500.0/s), 6,000 bytes (3,000.0/s); lag 0 bytes"
    )
    assert "(10,000.0/s), " in [*lines(found(up=58.0), before)][2], "rates if no time has passed"


def test_a_count_of_one_has_a_singular_noun() -> None:
    now = found(messages=1, deliveries=1, bytes=1, lag=1, worker_deaths=1)
    now["room"] |= {"members": 1}
    assert [*lines(now, None)][1:4] == [
        "1 member of 10,000; 5 joined, 0 left, 0 refused",
        "1 message (0.0/s), 1 delivery (0.0/s), 1 byte (0.0/s); lag 1 byte",
        "1 worker replaced; the members waited 0 ms at most",
    ]


def test_leaves_and_refusals_are_listed_by_reason() -> None:
    now = found(
        leaves={"lagged": 1, "closed": 1200},
        refusals={"The room is full": 2},
        worker_deaths=3,
        longest_recovery=0.0123,
    )
    assert [*lines(now, None)][1:4:2] == [
        "0 members of 10,000; 5 joined, 1,201 left (1,200 closed, 1 lagged), "
        "2 refused (2 The room is full)",
        "3 workers replaced; the members waited 12 ms at most",
    ]


CLUSTER = {
    "url": "nats://192.0.2.1:4222/office",
    "up": True,
    "reason": "",
    "round_trip": 0.0004,
    "unchanged": 61.0,
    "pending": 0,
    "pending_bytes": 0,
    "lost": 0,
    "missed": 0,
}


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        (
            {},
            "in reach for 0:01:01, round trip 0.4 ms; 0 messages (0 bytes) pending, 0 lost; 0"
            " publications missed",
        ),
        (
            {"round_trip": 0.0},
            "in reach for 0:01:01; 0 messages (0 bytes) pending, 0 lost; 0 publications missed",
        ),
        (
            {
                "up": False,
                "reason": "Connection refused",
                "pending": 1200,
                "pending_bytes": 1,
                "lost": 1000,
                "missed": 1,
            },
            "out of reach for 0:01:01 (Connection refused), round trip 0.4 ms; 1,200 messages"
            " (1 byte) pending, 1,000 lost; 1 publication missed",
        ),
    ],
)
def test_a_room_in_a_cluster_has_a_line_about_the_engine(
    changes: dict[str, Any], line: str
) -> None:
    now = found() | {"cluster": CLUSTER | changes}
    assert [*lines(now, None)][3] == f"nats://192.0.2.1:4222/office: {line}"


def test_gateways_are_listed_in_a_table() -> None:
    gateways = [
        {"gateway": 0, "pid": 4711, "ready": True, "restarts": 0},
        {"gateway": 1, "pid": None, "ready": False, "restarts": 12},
    ]
    assert [*lines(found() | {"gateways": gateways}, None)][-4:] == [
        "",
        "gateway   pid  restarts",
        "      0  4711         0",
        "      1     -        12",
    ]


def test_members_are_listed_in_a_table() -> None:
    now = found(members=2)
    now["members"][0] |= {"address": "2001:db8::1", "lag": 1234}
    now["members"][1] |= {"id": 10, "address": "unix", "port": 0, "said": None, "heard": None}
    assert [*lines(now, None)][-4:] == [
        "",
        "id                from     here  worker  said  heard   lag",
        " 3  [2001:db8::1]:5555  0:01:00       0    10     99  1234",
        "10                unix  0:01:00       0     -      -     -",
    ]


def test_an_ipv4_member_is_shown_with_its_port() -> None:
    assert "192.0.2.7:5555" in [*lines(found(members=1), None)][-1]


def test_a_table_without_rows_is_its_heading() -> None:
    assert [*table(("a", "bc"), [])] == ["a  bc"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-1.0, "0:00:00"),
        (59.9, "0:00:59"),
        (3723, "1:02:03"),
        (86399, "23:59:59"),
        (86400, "1d 0:00:00"),
        (2 * 86400 + 3723, "2d 1:02:03"),
    ],
)
def test_a_time_is_shown_as_hours_minutes_and_seconds(seconds: float, text: str) -> None:
    assert format_time(seconds) == text


@pytest.mark.parametrize("seconds", ["0", "0.09", "3601", "-1", "nan", "inf", "x"])
def test_watch_refuses_an_invalid_interval(
    seconds: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as end:
        main([f"--watch={seconds}"])
    assert end.value.code == 2
    assert "--watch" in capsys.readouterr().err


def test_a_room_that_hangs_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(control_socket, "ANSWER_WITHIN", 0.01)
    with (
        tempfile.TemporaryDirectory(prefix="run-") as folder,
        socket.socket(socket.AF_UNIX) as listener,
    ):
        listener.bind(f"{folder}/h:1.sock")
        listener.listen()
        with pytest.raises(SystemExit) as end:
            main(["--run-dir", folder])
    assert end.value.code == 1
    assert capsys.readouterr().err == "python -m chatroom.status: the room does not answer\n"
