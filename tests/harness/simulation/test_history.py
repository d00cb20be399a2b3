"""Files of histories: complete ones, incomplete ones, and files that are not histories."""

from pathlib import Path

import pytest

from harness.simulation.history import (
    Event,
    HistoryError,
    as_bytes,
    as_text,
    line_of,
    lines_of,
    merge,
    parse,
    read,
    write,
)

HEADER = '{"history":2}\n'


def test_bytes_become_text_and_the_same_bytes_again() -> None:
    every = bytes(range(256)) + "語🙂".encode()
    assert as_bytes(as_text(every)) == every


def test_a_written_history_is_read_back(tmp_path: Path) -> None:
    path = tmp_path / "h"
    events: list[Event] = [
        {"history": 2},
        {"t": 0.5, "text": as_text(b"\xff")},
        {"t": 1, "end": "x"},
    ]
    with path.open("w", encoding="utf-8") as file:
        for event in events:
            write(event, file)
    found = read(path)
    assert (found.header, found.events, found.end) == (events[0], [events[1]], "x")


def test_a_history_that_was_cut_short_is_read_as_far_as_it_goes() -> None:
    for torn in ("", '{"t":2,"wh', '{"t":2}'):
        found = parse([HEADER, '{"t":1}\n', torn] if torn else [HEADER, '{"t":1}\n'], "h")
        assert found.events[:1] == [{"t": 1}]
        assert found.end == ""


@pytest.mark.parametrize(
    ("lines", "complaint"),
    [
        ([], "h: is empty"),
        (["what\n"], "h: line 1 is not JSON"),
        (['{"history":1}\n'], 'h: is not a history: its first line must have "history": 2'),
        (["[]\n"], "h: is not a history"),
        ([HEADER, "{}\n"], "h: line 2 is not an event: it has no time `t`"),
        ([HEADER, '{"t":"now"}\n'], "h: line 2 is not an event: it has no time `t`"),
        ([HEADER, "what\n", '{"t":1}\n'], "h: line 2 is not JSON"),
        ([HEADER, "[" * 100_000 + "\n"], "h: line 2 is not JSON"),
        ([HEADER, '{"t":1,"end":"x"}\n', '{"t":2}\n'], 'h: line 3 follows the line with "end"'),
    ],
)
def test_an_error_names_the_line_and_the_reason(lines: list[str], complaint: str) -> None:
    with pytest.raises(HistoryError, match="^" + complaint.replace("`", "`")):
        parse(lines, "h")


@pytest.mark.parametrize(
    "event",
    [
        '"who":1,"says":"msg1.0"',
        '"who":1,"says":"one","due":1,"lag":0,"text":"x"',
        '"who":1,"says":7,"due":1,"lag":0,"text":"x"',
        '"who":"1","sent":"msg1.0","gap":0',
        '"who":1,"sent":"msg1.0"',
        '"who":1,"hears":"msg1.0"',
        '"who":1,"hears":[7]',
        '"who":1,"hears":[{}]',
        '"who":1,"what":"connects","link":null',
        '"who":1,"what":"connects","address":"127.0.0.2"',
        '"who":1,"what":"refused"',
        '"who":1,"what":7',
        '"what":"welcomed"',
        '"fault":["stop"],"what":"begins"',
        '"fault":"stop"',
        '"costs":{"memory":1}',
        '"costs":[]',
    ],
)
def test_an_event_must_have_the_fields_of_its_kind(event: str) -> None:
    """The judge reads these fields without checking them."""
    with pytest.raises(HistoryError, match="h: line 2 is not an event: it lacks a field"):
        parse([HEADER, f'{{"t":1,{event}}}\n'], "h")


def test_events_of_unknown_kinds_are_kept() -> None:
    found = parse([HEADER, '{"t":1,"who":1,"what":"sings"}\n', '{"t":1,"note":1}\n'], "h")
    assert len(found.events) == 2


def test_a_file_that_cannot_be_read_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(HistoryError, match="can't be read: No such file"):
        read(tmp_path / "none")
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    with pytest.raises(HistoryError, match="it is not UTF-8"):
        read(tmp_path / "bytes")


def test_parts_are_merged_in_order_of_time(tmp_path: Path) -> None:
    part = tmp_path / "part"
    part.write_text('{"t":1,"a":1}\n{"t":30.5,"a":1}\n{"t":40')
    ours = [line_of({"t": t, "b": 2}) for t in (-0.5, 2.25)]
    assert [*merge([lines_of(part), ours])] == [
        '{"t":-0.5,"b":2}\n',
        '{"t":1,"a":1}\n',
        '{"t":2.25,"b":2}\n',
        '{"t":30.5,"a":1}\n',
    ]
