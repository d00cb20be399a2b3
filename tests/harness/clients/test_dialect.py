"""The translation between a server's dialect and the form that the harness uses."""

import itertools
import re
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.clients.dialect import Echoes, Login, Reader, to_server
from harness.profile import CRLF, WRITTEN, LoginStep


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[begin:end] for begin, end in itertools.pairwise(places)]


def test_without_a_dialect_nothing_changes() -> None:
    data = b"a\r\n\x1b[31mb\x07\n\r"
    assert to_server(data, WRITTEN) == data
    assert Reader(WRITTEN).feed(data) == data


def test_line_ends_become_those_that_the_server_expects() -> None:
    profile = replace(WRITTEN, input_line_end=CRLF)
    assert to_server(b"a\nb\r\n\n", profile) == b"a\r\nb\r\n\r\n"


@given(st.lists(st.integers(0, 99)))
def test_output_is_canonical_wherever_a_read_ends(cuts: list[int]) -> None:
    profile = replace(WRITTEN, output_line_end=CRLF, colours=True, suffix=re.compile(b"\x07"))
    reader = Reader(profile)
    data = b"\x1b[1;31mann\x1b[0m: a\rb \x1bc\x07\r\n\x1b[0mbob: \x07d\r\n\x07"
    read = b"".join(reader.feed(piece) for piece in pieces(data, []))
    assert read == b"ann: a\rb \x1bc\nbob: \x07d\n"
    again = Reader(replace(profile, suffix=None))
    cut = b"".join(again.feed(piece) for piece in pieces(data, cuts))
    assert cut == b"ann: a\rb \x1bc\x07\nbob: \x07d\n\x07"


def test_line_ends_without_cr_are_counted_wherever_a_read_ends() -> None:
    for profile, count in ((replace(WRITTEN, output_line_end=CRLF), 2), (WRITTEN, 0)):
        reader = Reader(profile)
        for piece in (b"\na\r", b"\nb\r\nc\rd", b"\ne\r\n"):
            reader.feed(piece)
        assert reader.bare_line_ends == count


def test_a_suffix_may_come_before_the_line_end_or_after_it() -> None:
    for data in (b"a\x07\nb\n", b"a\n\x07b\n"):
        assert Reader(replace(WRITTEN, suffix=re.compile(b"\x07"))).feed(data) == b"a\nb\n"


def test_echoes_are_removed_and_counted() -> None:
    echoes = Echoes(re.compile(b"You: "))
    for text in (b"on", b"e\ntwo\n", b"three\n"):
        echoes.say(text)
    heard = bytearray(b"ann: one\nYou: one\nYou: two\nann: You: three\nYou: th")
    echoes.remove(heard, len(heard))
    assert heard == b"ann: one\nann: You: three\nYou: th"
    heard += b"ree\nYou: two\n"
    echoes.remove(heard, len(b"ree\nYou: two\n"))
    assert heard == b"ann: one\nann: You: three\nYou: two\n"  # `two` was echoed twice
    assert echoes.returned == {b"one": 1, b"two": 1, b"three": 1}


def test_the_pattern_of_an_echo_s_prefix_may_also_match_text() -> None:
    echoes = Echoes(re.compile(b".*: "))
    echoes.say(b"note: one\n")
    heard = bytearray(b"You: note: one\n")
    echoes.remove(heard, len(heard))
    assert heard == b""


def test_an_echo_may_lack_a_prefix() -> None:
    echoes = Echoes(re.compile(b""))
    echoes.say(b"one\n\n")
    heard = bytearray(b"\nann: x\none\n")
    echoes.remove(heard, len(heard))
    assert heard == b"ann: x\n"


def test_a_line_that_arrived_before_the_message_was_sent_is_no_echo() -> None:
    echoes = Echoes(re.compile(b""))
    heard = bytearray(b"one\nan")  # from another member
    echoes.say(b"one\n")
    heard += b"n: x\n"
    echoes.remove(heard, len(b"n: x\n"))
    assert heard == b"one\nann: x\n"
    assert not echoes.returned


def test_a_login_answers_each_question_once() -> None:
    steps = (
        LoginStep("{name}", re.compile(b"name\\? ")),
        LoginStep("secret", re.compile(b"word: ")),
        LoginStep("/join"),
    )
    login = Login(replace(WRITTEN, login=steps), "ann")
    heard = bytearray(b"Hello!\nYour na")
    assert login.answer(heard) is None
    assert login.awaited == b"name\\? "
    heard += b"me? Pass"
    assert login.answer(heard) == b"ann\n"
    assert login.answer(heard) is None
    assert bytes(heard) == b"Pass"
    heard += b"word: Welcome"
    assert login.answer(heard) == b"secret\n"
    assert login.answer(heard) == b"/join\n"
    assert login.done
    assert login.answer(heard) is None
    assert bytes(heard) == b"Welcome"


@pytest.mark.parametrize("name", ["ann", ""])
def test_a_login_without_a_question_answers_at_once(name: str) -> None:
    login = Login(replace(WRITTEN, login=(LoginStep("/nick {name}"),)), name)
    assert login.answer(bytearray()) == f"/nick {name}\n".encode()
