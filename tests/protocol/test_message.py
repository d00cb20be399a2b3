"""Tests of messages as they are delivered: the sender's prefix, then the text."""

import pytest
from hypothesis import given
from hypothesis.strategies import binary, integers, lists, sampled_from

from chatroom.protocol.framing import LF, Framer
from chatroom.protocol.message import count, render
from chatroom.protocol.text import sanitize

ALICE = b"<192.0.2.1>"
BLOCKS = [
    pytest.param(b"hello\n", b"<192.0.2.1>hello\n", 1, id="PREFIX-1: nothing between"),
    pytest.param(b"a\nb\n", b"<192.0.2.1>a\n<192.0.2.1>b\n", 2, id="LINE-3: each its own"),
    pytest.param(b"\n", b"<192.0.2.1>\n", 1, id="LINE-4: an empty line"),
    pytest.param(b"\n\n", b"<192.0.2.1>\n<192.0.2.1>\n", 2, id="LINE-4: empty lines"),
    pytest.param(b"hel", b"<192.0.2.1>hel", 1, id="LINE-5: nothing is added"),
    pytest.param(b"\nhel", b"<192.0.2.1>\n<192.0.2.1>hel", 2, id="an empty line, and text"),
    pytest.param(b"a\nhel", b"<192.0.2.1>a\n<192.0.2.1>hel", 2, id="a line, and text"),
    pytest.param(b"<::1>hi\n", b"<192.0.2.1><::1>hi\n", 1, id="PREFIX-4: a forged prefix"),
]


@pytest.mark.parametrize(("block", "rendered", "messages"), BLOCKS)
def test_every_message_of_a_block_has_the_prefix(
    block: bytes, rendered: bytes, messages: int
) -> None:
    assert render(ALICE, block) == rendered


@pytest.mark.parametrize(("block", "rendered", "messages"), BLOCKS)
def test_messages_are_counted(block: bytes, rendered: bytes, messages: int) -> None:
    assert count(block) == messages


@given(lists(binary() | sampled_from([b"\r", b"\n", b"\x1b", b"<::1>", b"\xe2"])), integers(4, 12))
def test_prefix_4_every_line_of_any_input_begins_with_the_true_prefix(
    pieces: list[bytes], limit: int
) -> None:
    framer = Framer(limit)
    blocks = [block for piece in pieces if (block := framer.feed(piece))]
    if last := framer.close():
        blocks.append(last)
    rendered = b"".join(render(ALICE, sanitize(block)) for block in blocks)
    lines = rendered.decode().splitlines()
    assert all(line.startswith(ALICE.decode()) for line in lines)
    assert len(lines) == sum(map(count, blocks)), "a line ends without LF"
    without = "".join(line.removeprefix(ALICE.decode()) + "\n" for line in lines)
    assert without.removesuffix("\n") == sanitize(b"".join(blocks)).decode().removesuffix("\n")
    assert rendered.endswith(LF) == (not last or last.endswith(LF)) or not rendered
