"""The history of a run, as JSON lines: writing, merging, reading.

The first line is the header: `history` (the format's version), and a description of the
run. Each other line is an event; `t` is its time, in seconds since the run's start, on one
monotonic clock for all processes. The last line has the key `end`, which says how the run ended.
A history without this line was cut short. `who` is the number of a session, the connection of a
client. The name of a message is `msgSESSION.NUMBER`; the token in its text contains this name. Data
is recorded as UTF-8 text; invalid bytes are escaped with the error handler "surrogateescape".

    {"t", "who", "what": "connects", "name", "population", "address", "link"}
                                            a client begins to connect; name: of the client
    {"t", "who", "what": "connected", "port"}
                                            the connection is established; port: of the client
    {"t", "who", "what": "refused", "why"}  the client could not connect
    {"t", "who", "what": "welcomed"}        the client has received the whole welcome
    {"t", "who", "what": "unwelcomed", "rest"}
                                            the client received other text before the welcome
    {"t", "who", "says": MESSAGE, "due", "lag", "text", "final"}
                                            the client sends the first byte of a message; due: time
                                            at which the last byte is to be sent; lag: seconds by
                                            which the harness is late; text: without the LF; final:
                                            true for a message at the end of the run
    {"t", "who", "sent": MESSAGE, "gap"}    the kernel has accepted the whole message; gap: the
                                            longest pause between two of its pieces, in seconds
    {"t", "who", "hears": [...]}            the client has received lines, in this order: a name
                                            for the expected line of a message, {"line"} for others
    {"t", "who", "what": "leaves", "how"}   the client ends the connection: close, reset, half-close
    {"t", "who", "what": "ended", "how", "rest"}
                                            the target ended the connection: closed, reset
    {"t", "fault", "what": "begins" | "ends", ...}
                                            a fault of the target, or, with `who`, of a link
    {"t", "fault", "what": "misses"}        the target had no process for this fault
    {"t", "costs": {"memory", "descriptors", "cpu"}}
                                            usage of the target: bytes, number, seconds
    {"t", "end"}
"""

from __future__ import annotations

import heapq
import json
import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import NoneType
from typing import Any, TextIO

VERSION = 2

COMPLETE = "complete"
"""Value of `end` for a complete run."""

CANNOT_JUDGE = "the harness could not judge"
"""Beginning of the value of `end` for a run that the harness could not complete or judge."""

HISTORY = "history.jsonl"
"""Name of the history file in a run's folder."""

Event = dict[str, Any]


class HistoryError(ValueError):
    """A file is missing or is not a history. The message names file and line, and the reason."""


@dataclass
class History:
    header: Event
    events: list[Event] = field(default_factory=list)
    """Events in order of time."""
    end: str = ""
    """End of the run: "complete", or the reason; empty if the file was cut short."""


def as_text(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def as_bytes(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def read(path: Path) -> History:
    """Read a history; raise HistoryError if it is missing or invalid.

    A file that was cut short is valid: an incomplete last line is left out, and `end` is empty.
    """
    try:
        with path.open(encoding="utf-8") as file:
            return parse(file, str(path))
    except OSError as error:
        raise HistoryError(f"{path}: can't be read: {error.strerror}") from None
    except UnicodeDecodeError:
        raise HistoryError(f"{path}: is not a history: it is not UTF-8") from None


def parse(lines: Iterable[str], name: str) -> History:
    """Return the history in these lines. Raise HistoryError if it is invalid.

    name: name of the file, for error messages. Lines that were cut short are valid, as in `read`.
    """
    history: History | None = None
    for number, line in enumerate(lines, 1):
        try:
            event = json.loads(line)
        except (json.JSONDecodeError, RecursionError):
            if history is not None and not line.endswith("\n"):
                return history  # the file was cut short here
            raise HistoryError(f"{name}: line {number} is not JSON") from None
        if history is None:
            if not isinstance(event, dict) or event.get("history") != VERSION:
                raise HistoryError(
                    f'{name}: is not a history: its first line must have "history": {VERSION}'
                )
            history = History(event)
        elif trouble := _trouble(event):
            raise HistoryError(f"{name}: line {number} is not an event: {trouble}")
        elif history.end:
            raise HistoryError(f'{name}: line {number} follows the line with "end"')
        elif "end" in event:
            history.end = str(event["end"])
        else:
            history.events.append(event)
    if history is None:
        raise HistoryError(f"{name}: is empty")
    return history


def _trouble(event: Any) -> str:
    """Return the reason why a value is not an event; empty if it is an event."""
    if not isinstance(event, dict) or not _is_number(event.get("t")):
        return "it has no time `t`"
    return "" if _is_whole(event) else "it lacks a field, or a field has a wrong type"


def _is_whole(event: Event) -> bool:
    """Return whether an event has the fields of its kind. An unknown kind needs no fields."""
    keys = (key for key in ("says", "sent", "hears", "fault", "costs") if key in event)
    kind: Any = next(keys, event.get("what", ""))
    return isinstance(kind, str) and all(
        key in event and is_right(event[key]) for key, is_right in _FIELDS.get(kind, {}).items()
    )


Check = Callable[[Any], bool]
"""Function that returns whether a value is valid."""


def _is_a(*kinds: type) -> Check:
    return lambda value: isinstance(value, kinds)


_is_number = _is_a(int, float)
_is_text = _is_a(str)


def _is_name(value: Any) -> bool:
    return isinstance(value, str) and re.fullmatch(r"msg\d+\.\d+", value) is not None


def _are_heard(value: Any) -> bool:
    return isinstance(value, list) and all(
        isinstance(heard, str) or (isinstance(heard, dict) and _is_text(heard.get("line")))
        for heard in value
    )


def _are_costs(value: Any) -> bool:
    return isinstance(value, dict) and all(
        _is_number(value.get(key)) for key in ("memory", "descriptors", "cpu")
    )


_WHO = {"who": _is_a(int)}
_FIELDS: dict[str, dict[str, Check]] = {
    "says": {**_WHO, "says": _is_name, "due": _is_number, "lag": _is_number, "text": _is_text},
    "sent": {**_WHO, "sent": _is_name, "gap": _is_number},
    "hears": {**_WHO, "hears": _are_heard},
    "fault": {"fault": _is_text, "what": _is_text},
    "costs": {"costs": _are_costs},
    "connects": {**_WHO, "population": _is_text, "address": _is_text, "link": _is_a(str, NoneType)},
    "refused": {**_WHO, "why": _is_text},
    "leaves": {**_WHO, "how": _is_text},
    "ended": _WHO,
    "connected": _WHO,
    "welcomed": _WHO,
    "unwelcomed": _WHO,
}
"""Required fields of each kind of event, with a check of each value. The kind of an event is one of
its keys, such as "says", or the value of "what"."""


def write(event: Event, file: TextIO) -> None:
    file.write(line_of(event))


def line_of(event: Event) -> str:
    return json.dumps(event, separators=(",", ":")) + "\n"


def time_of(line: str) -> float:
    """Return the time of an event from its line, which begins with the time."""
    return float(line[len('{"t":') : line.index(",")])


def merge(parts: Iterable[Iterable[str]]) -> Iterator[str]:
    """Merge the lines of several parts in order of time. Each part must be in order.

    Read the lines lazily, because there may be millions of them.
    """
    return heapq.merge(*parts, key=time_of)


def lines_of(path: Path) -> Iterator[str]:
    """Yield the complete lines of one part of a history, a file without header and end."""
    with path.open(encoding="utf-8") as file:
        for line in file:
            if line.endswith("\n"):
                yield line
