"""Rows of a wire log: each row has both ends, and the rows of a failure are marked."""

from dataclasses import replace

import pytest

from harness.conformance.plugin import FAIL, Result
from harness.report.wire import ROWS, WireEvent, around, describe

WIRE: list[WireEvent] = [
    (0.1, "A", "connects", b"127.0.0.2".hex(), 9),
    (0.2, "B", "connects", b"127.0.0.3".hex(), 9),
    (0.3, "C", "connects", b"127.0.0.4".hex(), 9),
    (0.4, "D", "connects", b"127.0.0.5".hex(), 9),
    (0.5, "A", "sends", b"before\n".hex(), 7),
    (0.6, "D", "resets", "", 0),
    (0.7, "A", "sends", b"word\n".hex(), 5),
    (0.8, "B", "receives", b"word\n".hex(), 5),
    (0.8, "E", "receives", b"word\n".hex(), 5),
]
FAILED = Result("test_it", "LEAVE-1", "proved", FAIL, wire=WIRE, clients=("C", "A", "D"), around=6)


@pytest.mark.parametrize(
    ("event", "words"),
    [
        ((12.5, "A", "sends", b"a\xff".hex(), 2), '12.5000  A → server     "a\\xff"'),
        ((12.5, "A", "receives", b"a".hex(), 1), '12.5000  server → A     "a"'),
        ((0.5, "A", "connects", b"127.0.0.2".hex(), 9), "A → server     connects from 127.0.0.2"),
        ((0.5, "A", "closes its side", "", 0), "closes its side of the connection"),
        ((0.5, "A", "is reset by the server", "", 0), "server → A     resets the connection"),
        ((0.5, "A\x1b", "stops \x1b", "", 0), "0.5000  A\\x1b → server  stops \\x1b"),
    ],
)
def test_an_event_has_both_ends(event: WireEvent, words: str) -> None:
    assert words in describe(event)


def test_an_event_fits_into_a_line() -> None:
    shown = describe((12.5, "A", "receives", b"x".hex() * 999, 999))
    assert len(shown) < 110
    assert shown.endswith('x" … of 999 bytes')


def test_the_rows_around_a_failure_begin_before_it_and_mark_it() -> None:
    rows = around(FAILED)
    assert [(row.ends, row.text, row.marked) for row in rows] == [
        ("A → server", "connects from 127.0.0.2", False),
        ("B → server", "connects from 127.0.0.3", False),
        ("C → server", "connects from 127.0.0.4", False),
        ("D → server", "connects from 127.0.0.5", False),
        ("D → server", "resets the connection", False),
        ("A → server", '"word\\n"', True),
        ("server → B and E", '"word\\n"', False),
        ("server → C", "nothing", True),
    ]


def test_a_long_failure_is_cut_in_its_middle() -> None:
    more: list[WireEvent] = [(1 + n / 100, "E", "sends", f"{n:04}", 2) for n in range(99)]
    rows = around(replace(FAILED, wire=[*WIRE, *more, (9, "C", "receives", "00", 1)]))
    assert len(rows) <= ROWS + 1
    assert [row.ends for row in rows].count("…") == 1
    assert (rows[-1].ends, rows[-1].marked) == ("server → C", True)


@pytest.mark.parametrize("begin", [None, 99, -1])
def test_the_last_rows_are_shown_if_the_first_event_is_unknown(begin: int | None) -> None:
    rows = around(replace(FAILED, around=begin, wire=[*WIRE] * 3))
    assert len(rows) == ROWS
    assert not any(row.marked for row in rows)
    assert around(replace(FAILED, around=begin, wire=[])) == []
