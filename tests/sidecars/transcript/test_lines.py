"""What a transcript's lines look like."""

import json

import pytest
from hypothesis import given
from hypothesis.strategies import lists, text

from chatroom.protocol.message import render
from chatroom.protocol.text import sanitize
from chatroom.sidecars.transcript.lines import (
    Sender,
    accounted,
    begins_like_ours,
    header,
    missed,
    said,
)

ANNA = Sender("192.0.2.1", "<192.0.2.1>")
TIME = "2026-01-31T12:00:00.000Z"


def test_a_run_is_as_many_lines_as_messages() -> None:
    block = b"<192.0.2.1>one\n<192.0.2.1>\n<192.0.2.1>not fini"
    assert said(block, 7, ANNA, 3, 0, TIME) == [
        f'{{"n": {number}, "time": "{TIME}", "id": 7, "address": "192.0.2.1", "text": "{text}"}}\n'
        for number, text in ((3, "one"), (4, ""), (5, "not fini"))
    ]
    assert said(block, 7, ANNA, 3, 2, TIME) == said(block, 7, ANNA, 3, 0, TIME)[2:]


@given(lists(text(), min_size=1), text(min_size=1))
def test_whatever_is_said_is_read_again(texts: list[str], form: str) -> None:
    prefix = form.replace("\n", " ").encode("utf-8", "replace").decode()
    block = "".join(one.replace("\n", " ") + "\n" for one in texts).encode("utf-8", "replace")
    safe = sanitize(block)
    found = said(render(prefix.encode(), safe), 1, Sender("a", prefix), 1, 0, TIME)
    assert all(line.endswith("\n") and line.count("\n") == 1 for line in found)
    assert [json.loads(line)["text"] for line in found] == safe.decode().split("\n")[:-1]


def test_only_its_own_prefix_is_stripped() -> None:
    (line,) = said(b"<192.0.2.1><192.0.2.1>x\n", 7, ANNA, 1, 0, TIME)
    assert json.loads(line)["text"] == "<192.0.2.1>x"
    (line,) = said(b"<192.0.2.9>x\n", 7, Sender(None, ""), 1, 0, TIME)
    assert (json.loads(line)["text"], json.loads(line)["address"]) == ("<192.0.2.9>x", None)


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (said(b"<192.0.2.1>x\n", 7, ANNA, 3, 0, TIME)[0].encode(), 3),
        (missed(range(4, 10), TIME), 9),
        (header("here", "run", 5, TIME), 5),
        (b'{"text": "x"}\n', None),
        (b"[1]\n", None),
        (b"\xff\n", None),
        (b"no JSON\n", None),
        (b"[" * 100_000 + b"\n", None),
    ],
)
def test_what_a_line_accounts_for(line: bytes, number: int | None) -> None:
    assert accounted(line) == number


@pytest.mark.parametrize(
    ("torn", "ours"),
    [
        (b"{", True),
        (b'{"n": 1', True),
        (b'{"missed": ', True),
        (b'{"room": "127', True),
        (b'{"name": 1', False),
        (b"root:x:0:0", False),
    ],
)
def test_a_torn_line_may_be_ours(torn: bytes, ours: bool) -> None:
    assert begins_like_ours(torn) == ours
