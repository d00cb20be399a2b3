"""Numbers, names and bytes in sentences. Bytes that a server has sent are escaped."""

import pytest

from harness.wording import as_text, counted, listed, quoted, visible


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("grüße 😀 \u200b", "grüße 😀 \\u200b"),
        ("\x00\x85\x1b[1m\n", "\\x00\\x85\\x1b[1m\\n"),
        ("\udc80", "\\udc80"),
    ],
)
def test_unprintable_characters_are_escaped(text: str, shown: str) -> None:
    assert visible(text) == shown


def test_bytes_that_are_no_text_are_escaped() -> None:
    assert as_text(b"a\xff\xc3\xa9\r") == "a\\xffé\\r"


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ("", ""),
        ("A", "A"),
        ("AB", "A and B"),
        ("ABCD", "A, B, C and D"),
        ("ABCDE", "A, B, C and 2 more"),
    ],
)
def test_names_are_listed(names: str, sentence: str) -> None:
    assert listed([*names]) == sentence


def test_numbers_have_a_noun() -> None:
    assert [counted(number, "line") for number in (0, 1, 1200)] == [
        "0 lines",
        "1 line",
        "1,200 lines",
    ]


def test_a_long_text_is_quoted_without_its_end() -> None:
    assert quoted(b"a\n") == '"a\\n"'
    assert quoted(b"a" * 99, most=4) == '"aaaa…" (99 bytes)'
    assert quoted("aé€".encode(), most=4) == '"aé…" (6 bytes)'  # the cut is between two characters
    assert quoted(b"begin", 2048) == '"begin…" (2,048 bytes)'
