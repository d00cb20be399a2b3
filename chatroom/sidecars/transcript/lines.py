"""What is written: lines of JSON, each a message, or what there is to know about those around it.

    {"room": "0.0.0.0:4000", "run": "5f0c…", "after": 0, "time": "2026-01-31T12:00:00.000Z"}
    {"n": 1, "time": "2026-01-31T12:00:07.123Z", "id": 3, "address": "192.0.2.10", "text": "hello"}
    {"missed": 17, "first": 2, "last": 18, "time": "2026-01-31T12:00:09.456Z"}

The first begins a file, and whatever a room writes into one that is there already: `run` names the
room's run, whose messages are numbered from 1; `after` of them came before. A message is what
members receive as one: a text that was delivered unfinished is one, and so is its rest (LINE-5).
`time` is when it was written down: as a rule, some milliseconds after it was said.
"""

import json
from typing import Any

from chatroom.log.follower import Run
from chatroom.log.origin import Origin

Line = dict[str, Any]

_encode = json.JSONEncoder(ensure_ascii=False).encode

KINDS = ("room", "n", "missed")
"""The first key of each kind of line."""


def header(where: str, run: str, after: int, time: str) -> bytes:
    return _line({"room": where, "run": run, "after": after, "time": time})


def missed(numbers: range, time: str) -> bytes:
    """The messages of these numbers are not in the transcript."""
    first, last = numbers[0], numbers[-1]
    return _line({"missed": len(numbers), "first": first, "last": last, "time": time})


def said(run: Run, time: str) -> str:
    """The messages of a run, each less its prefix and the end of its line."""
    address, size = Origin.unpack(run.origin)
    prefix = run.text[:size].decode("utf-8", "replace")
    block = run.text[size:].decode("utf-8", "replace").removesuffix("\n")
    texts = block.split("\n" + prefix)
    middle = f', "time": "{time}", "id": {run.sender}, "address": {_encode(address)}, "text": '
    return "".join(
        f'{{"n": {number}{middle}{_encode(text)}}}\n'
        for number, text in enumerate(texts[run.skip :], run.first + run.skip)
    )


def accounted(line: bytes) -> int | None:
    """The number of the last message that a line, and those before it, account for.

    None: it is none of ours.
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


def begins_like_ours(torn: bytes) -> bool:
    """Whether a line without its end may be one of ours, so that it may go."""
    return any(
        torn.startswith(begin) or begin.startswith(torn)
        for begin in (b'{"%s": ' % kind.encode() for kind in KINDS)
    )


def _line(line: Line) -> bytes:
    return (_encode(line) + "\n").encode()
