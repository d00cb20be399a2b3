"""Tests of the lines of a transcript."""

import json

import pytest
from hypothesis import given
from hypothesis.strategies import lists, text

from chatroom.config.options import MIN_TRANSCRIPT
from chatroom.config.sizes import KIB, MIB
from chatroom.log.follower import Run
from chatroom.log.origin import Origin
from chatroom.protocol.message import count, render
from chatroom.protocol.text import sanitize
from chatroom.sidecars.transcript.lines import (
    begins_like_a_line,
    header,
    last_number,
    message_lines,
    missed,
)

ANNA = Origin("192.0.2.1", len("<192.0.2.1>")).pack()
TIME = "2026-01-31T12:00:00.000Z"


def test_a_run_becomes_one_line_for_each_message() -> None:
    block = b"<192.0.2.1>one\n<192.0.2.1>\n<192.0.2.1>not fini"
    lines = [
        f'{{"n": {number}, "time": "{TIME}", "id": 7, "address": "192.0.2.1", "text": "{text}"}}\n'
        for number, text in ((3, "one"), (4, ""), (5, "not fini"))
    ]
    for skip in range(4):
        assert message_lines(Run(7, ANNA, 3, skip, block), TIME) == "".join(lines[skip:])


@given(lists(text(), min_size=1), text(min_size=1))
def test_any_text_is_read_back_from_its_lines(texts: list[str], form: str) -> None:
    prefix = form.replace("\n", " ").encode("utf-8", "replace").decode()
    block = "".join(text.replace("\n", " ") + "\n" for text in texts).encode("utf-8", "replace")
    safe = sanitize(block)
    origin = Origin("192.0.2.1", len(prefix.encode())).pack()
    *lines, end = message_lines(Run(1, origin, 1, 0, render(prefix.encode(), safe)), TIME).split(
        "\n"
    )
    assert (len(lines), end) == (count(safe), "")
    assert [json.loads(line)["text"] for line in lines] == safe.decode().split("\n")[:-1]


def test_a_line_of_any_length_fits_into_a_file_of_the_smallest_size() -> None:
    """In the worst case, each byte becomes a character of 3 bytes, or is escaped as 2 bytes."""
    for byte in (b"\xff", b"\x1b", b'"', b"\t"):
        block = render(b"<192.0.2.1>", sanitize(byte * (MIB // 16) + b"\n"))
        line = message_lines(Run(10**9, ANNA, 10**12, 0, block), TIME).encode()
        assert line.count(b"\n") == 1
        assert 16 * len(line) + 10 * KIB <= MIN_TRANSCRIPT


def test_only_the_sender_s_own_prefix_is_stripped() -> None:
    line = message_lines(Run(7, ANNA, 1, 0, b"<192.0.2.1><192.0.2.1>x\n"), TIME)
    assert json.loads(line)["text"] == "<192.0.2.1>x"


@pytest.mark.parametrize(
    ("line", "number"),
    [
        (message_lines(Run(7, ANNA, 3, 0, b"<192.0.2.1>x\n"), TIME).encode(), 3),
        (missed(range(4, 10), TIME), 9),
        (header("here", "run", 5, TIME), 5),
        (b'{"text": "x"}\n', None),
        (b"[1]\n", None),
        (b"\xff\n", None),
        (b"no JSON\n", None),
        (b"[" * 100_000 + b"\n", None),
    ],
)
def test_a_line_accounts_for_a_message_number(line: bytes, number: int | None) -> None:
    assert last_number(line) == number


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
def test_an_incomplete_line_of_a_transcript_is_recognised(torn: bytes, ours: bool) -> None:
    assert begins_like_a_line(torn) == ours
