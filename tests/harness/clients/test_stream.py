"""Lines, texts and words in the bytes that a client has received."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness import profile
from harness.clients.stream import Line, lines, sequence, squeezed, texts, without_notices
from harness.profile import Profile

PLAIN = Profile(name="plain")
NONE = profile.parse("prefix = ''", "none")
NCAT = profile.load("ncat-chat")


@pytest.mark.parametrize(
    ("heard", "found"),
    [
        (b"", []),
        (b"\n", [Line(None, b"\n")]),
        (b"<a>b\n", [Line(b"<a>", b"b\n")]),
        (b"<a>b\nc", [Line(b"<a>", b"b\n"), Line(None, b"c")]),
        (b"<a><b>c\r\n", [Line(b"<a>", b"<b>c\r\n")]),
        (b"<a", [Line(None, b"<a")]),
        (b"<a>", [Line(b"<a>", b"")]),  # the text may follow
        (b"a<b>\n\n", [Line(None, b"a<b>\n"), Line(None, b"\n")]),
    ],
)
def test_lines(heard: bytes, found: list[Line]) -> None:
    assert lines(heard, PLAIN) == found
    assert texts(heard, PLAIN) == [line.text for line in found]


def test_a_line_without_a_prefix_is_all_text() -> None:
    assert lines(b"<a>b\nc\n", NONE) == [Line(b"", b"<a>b\n"), Line(b"", b"c\n")]


def test_notices_are_left_out_only_as_whole_lines() -> None:
    heard = b"<announce> x is connected\n<user1> <announce> y\n<announce> bye\n<user1> z\n"
    assert without_notices(heard, NCAT) == b"<user1> <announce> y\n<user1> z\n"
    assert texts(heard, NCAT) == [b"<announce> y\n", b"z\n"]


def test_notices_count_only_at_the_beginning_of_a_line() -> None:
    made = profile.parse("notices = ['in\\n|out\\n']", "")
    assert without_notices(b"in\nout\n<a>in\n<a>out\n", made) == b"<a>in\n<a>out\n"


def test_squeezed_joins_a_text_that_arrived_in_pieces() -> None:
    assert squeezed(b"<a>on<a>e\r\n\n<a>two<b", PLAIN) == b"onetwo<b"
    assert squeezed(b"<announce> hm\n<user2> one\n", NCAT) == b"one"
    assert squeezed(b"one\ntwo", NONE) == b"onetwo"


def test_a_sequence_finds_words_anywhere_in_a_text() -> None:
    heard = b"<a>z.2\n<b>z.1zz.3 z+2\nz.2z.4"
    assert sequence(heard, {b"z.1", b"z.2", b"z.3"}) == [b"z.2", b"z.1", b"z.3", b"z.2"]


prefixes = st.sampled_from([b"<127.0.0.2>", b"<a>", b"<>", b""])
said = st.binary().map(lambda text: text.replace(b"\n", b"").replace(b"<", b""))


@given(st.lists(st.tuples(prefixes, said)))
def test_each_message_is_a_line(messages: list[tuple[bytes, bytes]]) -> None:
    heard = b"".join(prefix + text + b"\n" for prefix, text in messages)
    assert lines(heard, PLAIN) == [Line(prefix or None, text + b"\n") for prefix, text in messages]


@given(st.binary() | st.text("<>a\r\n").map(str.encode), st.sampled_from([PLAIN, NONE]))
def test_the_lines_add_up_to_all_received_bytes(heard: bytes, dialect: Profile) -> None:
    found = lines(heard, dialect)
    assert b"".join((line.prefix or b"") + line.text for line in found) == heard
    assert [line.text.endswith(b"\n") for line in found[:-1]] == [True] * (
        len(found) - 1 if found else 0
    )
    assert all(line.prefix or line.text for line in found)


@given(st.lists(said), st.lists(st.sampled_from([b"<a>", b"\n", b"\r\n"])))
def test_squeezed_is_free_of_prefixes_and_line_ends(words: list[bytes], ends: list[bytes]) -> None:
    words = [word.replace(b">", b"").replace(b"\r", b"") for word in words]
    ends = [*ends, *[b"\n"] * len(words)][: len(words)]
    heard = b"".join(word + end for word, end in zip(words, ends, strict=True))
    assert squeezed(heard, PLAIN) == b"".join(words)
