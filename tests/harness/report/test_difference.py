"""The first difference of two texts, with a few bytes around it."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from harness.report.difference import AROUND, columns, difference


def test_the_difference_of_two_long_texts_is_shown_with_a_few_bytes_around_it() -> None:
    text = b"".join(b"%d," % number for number in range(500))
    found = difference(text, text[:1024] + b"\n<127.0.0.2>" + text[1024:])
    assert found
    assert found.at == 1024
    assert found.place == "from byte 1,025 on (1,890 bytes expected, 1,902 received)"
    assert found.expected.differs == ""
    assert (found.actual.differs, found.actual.hex) == (
        "\\n<127.0.0.2>",
        "0a 3c 31 32 37 2e 30 2e …",
    )
    assert found.expected.before == found.actual.before == "…" + text[1024 - AROUND : 1024].decode()
    assert found.expected.after == found.actual.after == text[1024 : 1024 + AROUND].decode() + "…"


def test_short_texts_are_shown_whole() -> None:
    found = difference("e\u0301 is é".encode(), "é is é".encode())
    assert found
    assert found.expected.text == '"e\u0301 is é"'
    assert (found.expected.hex, found.actual.hex) == ("65 cc 81", "c3 a9")
    assert found.place == "from byte 1 on (9 bytes expected, 8 received)"


def test_a_character_is_not_cut() -> None:
    found = difference("Grüße, ça va".encode(), "Grøße, ça va".encode())
    assert found
    assert (found.expected.differs, found.actual.differs) == ("ü", "ø")


@pytest.mark.parametrize(
    ("expected", "actual"),
    [
        (b"same", b"same"),
        (b"token", b""),
        (b"", b"more"),
        (b"", b""),
        (b"z0001", b"The room is full"),
    ],
)
def test_texts_without_much_in_common_have_no_difference(expected: bytes, actual: bytes) -> None:
    assert difference(expected, actual) is None


def test_the_columns_of_a_terminal() -> None:
    assert [columns(text) for text in ("abc", "你好", "e\u0301", "")] == [3, 4, 1, 0]


texts = st.binary(max_size=300) | st.text("aé€👋", max_size=150).map(str.encode)


@given(texts, texts, texts, texts)
def test_the_expected_and_the_actual_text_agree_before_the_difference(
    before: bytes, one: bytes, other: bytes, after: bytes
) -> None:
    expected, actual = before + one + after, before + other + after
    found = difference(expected, actual)
    if found:
        assert expected[: found.at] == actual[: found.at]
        assert found.expected.before == found.actual.before
        assert found.expected.text.isprintable()
