"""The lines of a transcript, in JSON: a header, a message, or a note of missed messages.

    {"room": "0.0.0.0:4000", "run": "5f0c…", "after": 0, "time": "2026-01-31T12:00:00.000Z"}
    {"n": 1, "time": "2026-01-31T12:00:07.123Z", "id": 3, "address": "192.0.2.10", "text": "hello"}
    {"missed": 17, "first": 2, "last": 18, "time": "2026-01-31T12:00:09.456Z"}

A header begins a file, and also the lines that a room appends to an existing file. `run` is the id
of the room's run. The messages of a run are numbered from 1; `after` is the number of the last
message before the header. If a text arrives in two parts (LINE-5), members receive two messages, so
the transcript has two lines. `time` is the time of writing, usually some milliseconds after the
message was sent.
"""

import json
from typing import Any

from chatroom.log.follower import Run
from chatroom.log.origin import Origin

Line = dict[str, Any]

_encode = json.JSONEncoder(ensure_ascii=False).encode

KINDS = ("room", "n", "missed")
"""First key of each kind of line."""


def header(where: str, run: str, after: int, time: str) -> bytes:
    """Return the line that begins a run of the room `where`, after message number `after`."""
    return _line({"room": where, "run": run, "after": after, "time": time})


def missed(numbers: range, time: str) -> bytes:
    """Return the line that reports the messages with these numbers as missed."""
    first, last = numbers[0], numbers[-1]
    return _line({"missed": len(numbers), "first": first, "last": last, "time": time})


def message_lines(run: Run, time: str) -> str:
    """Return the lines for the messages of a run, without prefixes and line ends."""
    address, size = Origin.unpack(run.origin)
    prefix = run.text[:size].decode("utf-8", "replace")
    block = run.text[size:].decode("utf-8", "replace").removesuffix("\n")
    texts = block.split("\n" + prefix)
    middle = f', "time": "{time}", "id": {run.sender}, "address": {_encode(address)}, "text": '
    return "".join(
        f'{{"n": {number}{middle}{_encode(text)}}}\n'
        for number, text in enumerate(texts[run.skip :], run.first + run.skip)
    )


def last_number(line: bytes) -> int | None:
    """Return the number of the last message that this or an earlier line holds or reports.

    Return None if the line is not a line of a transcript.
    """
    try:
        match json.loads(line):
            case {"n": int(number)} | {"missed": int(_), "last": int(number)}:
                return number
            case {"room": str(_), "after": int(number)}:
                return number
    except (ValueError, RecursionError):
        pass
    return None


def begins_like_a_line(incomplete: bytes) -> bool:
    """Return True if an incomplete line may be the beginning of a transcript's line."""
    return any(
        incomplete.startswith(begin) or begin.startswith(incomplete)
        for begin in (b'{"%s": ' % kind.encode() for kind in KINDS)
    )


def _line(line: Line) -> bytes:
    return (_encode(line) + "\n").encode()
