"""Tests of sizes in bytes: their units and their notation."""

import pytest
from hypothesis import given
from hypothesis.strategies import integers

from chatroom.config.sizes import KIB, MIB, format_size, size


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("65536", 65536),
        ("64K", 65536),
        ("64k", 65536),
        ("4M", 4 * MIB),
        ("1G", 1 << 30),
        ("007", 7),
    ],
)
def test_a_size_may_have_a_unit(text: str, number: int) -> None:
    assert size(text) == number


@pytest.mark.parametrize(
    "text",
    ["", "K", "4T", "4MB", "4.5M", "-1", "+1", " 1", "1 K", "1_000", "٣", "²", "4\N{KELVIN SIGN}"],
)
def test_an_invalid_size_is_an_error_that_quotes_it(text: str) -> None:
    with pytest.raises(ValueError, match="a size such as 65536, 64K or 4M, not ") as raised:
        size(text)
    assert repr(text) in str(raised.value)


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (0, "0"),
        (1000, "1000"),
        (KIB, "1K"),
        (1536, "1536"),
        (1536 * KIB, "1536K"),
        (1 << 40, "1024G"),
    ],
)
def test_a_size_is_formatted_as_short_as_possible(number: int, text: str) -> None:
    assert format_size(number) == text


@given(integers(0, 1 << 50), integers(0, 30))
def test_a_formatted_size_is_read_back(number: int, zeros: int) -> None:
    assert size(format_size(number << zeros)) == number << zeros
