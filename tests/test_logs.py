"""Tests of the room's log: one line per event, and no text of a client can forge a line."""

import json
import logging
import re
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis.strategies import characters, integers, text

from chatroom.logs import Event, Formatter, format_value

ROOT = Path(__file__).parent.parent
AT = 1795600800.1239
ANYTHING = text(characters(codec=None))


def record(message: object, level: int = logging.WARNING, **more: Any) -> logging.LogRecord:
    options = {"name": "chatroom.x", "pathname": "", "lineno": 0, "args": (), "exc_info": None}
    made = logging.LogRecord(**{**options, "level": level, "msg": message, **more})
    made.created = AT
    return made


def text_of(message: object, **more: Any) -> str:
    return Formatter("text").format(record(message, **more))


def json_of(message: object, **more: Any) -> Any:
    return json.loads(Formatter("json").format(record(message, **more)))


def read(line: str) -> dict[str, str]:
    """Parse a line of key=value pairs."""
    found = re.findall(r'(?:^| )(\w+)=("(?:[^"\\]|\\.)*"|[^\s"=]*)(?= |$)', line)
    assert " ".join(f"{key}={value}" for key, value in found) == line
    assert len(dict(found)) == len(found)
    return {key: json.loads(value) if value[:1] == '"' else value for key, value in found}


def joined(text: str) -> str:
    """Join the surrogate pairs of a text, as JSON does."""
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "surrogatepass")


def test_an_event_is_a_line_of_fields() -> None:
    event = Event("worker-died", "another is started", worker=1, exit=-9)
    said = 'event=worker-died worker=1 exit=-9 says="another is started"'
    assert str(event) == said
    assert text_of(event) == f"2026-11-25T10:00:00.123Z level=warning {said}"


def test_an_event_is_an_object_of_json() -> None:
    event = Event("reloaded", restart=["log-size"], seconds=0.5, at=Path("/x"))
    assert json_of(event, level=logging.INFO) == {
        "time": "2026-11-25T10:00:00.123Z",
        "level": "info",
        "event": "reloaded",
        "restart": ["log-size"],
        "seconds": 0.5,
        "at": "/x",
    }


@pytest.mark.parametrize(
    ("value", "formatted"),
    [
        ("", '""'),
        ("plain-text", "plain-text"),
        ("[::1]:4000", "[::1]:4000"),
        ("wörld", "wörld"),
        ("two words", '"two words"'),
        ('say "no"', r'"say \"no\""'),
        ("a=b", '"a=b"'),
        ("back\\slash", r'"back\\slash"'),
        ("a\nlevel=error", r'"a\nlevel=error"'),
        ("\x1b[2J\x7f", r'"\u001b[2J\u007f"'),
        ("\x85\u2028\u202e\udcff", r'"\u0085\u2028\u202e\udcff"'),
        ("\U000e0001", r'"\udb40\udc01"'),
        ("no\N{NO-BREAK SPACE}break", r'"no\u00a0break"'),
        (7, "7"),
        (0.2, "0.2"),
        (10.0, "10"),
        (True, "true"),
        (False, "false"),
        (None, "-"),
        (["log-size", "listen"], "log-size,listen"),
        (("one of", "two"), '"one of,two"'),
    ],
)
def test_a_value_is_quoted_if_it_is_not_plain(value: object, formatted: str) -> None:
    assert format_value(value) == formatted


@given(ANYTHING, ANYTHING, integers())
def test_no_value_can_forge_a_line_or_a_field(reason: str, says: str, number: int) -> None:
    reason, says = joined(reason), joined(says)
    event = Event("refused", says, reason=reason, member=number)
    fields = {"event": "refused", "reason": reason, "member": str(number)}
    fields |= {"says": says} if says else {}
    line = text_of(event)
    assert line.isprintable()
    assert line.splitlines() == [line]
    line.encode()
    assert read(line.partition(" ")[2]) == {"level": "warning", **fields}
    whole = Formatter("json").format(record(event))
    assert whole.isascii()
    assert whole.splitlines() == [whole]
    found = json.loads(whole)
    assert found.pop("time").startswith("2026-")
    assert found == {"level": "warning", **fields, "member": number}


@pytest.mark.parametrize("form", ["text", "json"])
def test_records_of_other_modules_become_events(form: str) -> None:
    """For example, a record of the standard library becomes an event with the traceback of an
    error."""
    try:
        raise ZeroDivisionError("out of luck")
    except ZeroDivisionError:
        failed = record("100 %% of %s\n", args=("it",), exc_info=sys.exc_info())
    said = Formatter(form).format(failed)
    assert said.splitlines() == [said]
    found = json.loads(said) if form == "json" else read(said.partition(" ")[2])
    assert found["event"] == "other"
    assert found["logger"] == "chatroom.x"
    assert found["says"] == "100 % of it\n"
    assert found["exception"].startswith("Traceback (most recent call last):\n")
    assert found["exception"].endswith("ZeroDivisionError: out of luck")


def test_every_log_call_of_the_room_logs_an_event() -> None:
    """With an event, each log line has a name, and each value has a key."""
    calls = []
    for path in (ROOT / "chatroom").rglob("*.py"):
        calls += re.findall(r"logger\.(?!getLogger)\w+\(\s*(\w+)", path.read_text())
    assert len(calls) > 10
    assert set(calls) == {"Event"}
